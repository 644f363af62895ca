package operators_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

type sample struct {
	Device  string
	Seconds int64
	Celsius float64
}

func device(s sample) string   { return s.Device }
func at(s sample) time.Time    { return time.Unix(s.Seconds, 0) }
func celsius(s sample) float64 { return s.Celsius }

// samples is a topology over a few samples in memory.
func samples(vs ...sample) (*flow.Topology, flow.KeyedStream[string, sample]) {
	src := flowtest.NewSource[sample]()
	src.Feed(vs...)
	src.End()
	t := flow.New("example", flow.WithStore(state.InMemory()), flow.WithLogger(slog.New(slog.DiscardHandler)))
	timed := flow.AssignTime(flow.From(t, "samples", src), "time", at, watermark.BoundedOutOfOrderness(0))
	return t, flow.KeyBy(timed, device)
}

func printResult(r window.Result[string, float64]) {
	fmt.Printf("%s [%d,%d) %v\n", r.Key, r.Start.Time().Unix(), r.End.Time().Unix(), r.Value)
}

// [sliding]
func lastMinute(byDevice flow.KeyedStream[string, sample]) flow.Stream[window.Result[string, float64]] {
	return operators.Window(byDevice, "last-minute", window.Sliding(time.Minute, 10*time.Second),
		agg.Avg(celsius), window.AllowedLateness(30*time.Second))
}

// [end]

func ExampleWindow_sliding() {
	t, byDevice := samples(sample{"a", 5, 20}, sample{"a", 15, 30}, sample{"a", 65, 40})
	flow.To(lastMinute(byDevice), "out", flow.SinkFunc(func(_ context.Context, rs []flow.Record[window.Result[string, float64]]) error {
		for _, r := range rs {
			if end := r.Value.End.Time().Unix(); end == 10 || end == 60 || end == 70 {
				printResult(r.Value)
			}
		}
		return nil
	}))
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// a [-50,10) 20
	// a [0,60) 25
	// a [10,70) 35
}

func ExampleWindow_session() {
	t, byDevice := samples(sample{"a", 0, 20}, sample{"a", 8, 30}, sample{"a", 40, 10})
	uses := operators.Window(byDevice, "uses", window.Session(10*time.Second), agg.Max(celsius))
	flow.To(uses, "out", flow.SinkFunc(func(_ context.Context, rs []flow.Record[window.Result[string, float64]]) error {
		for _, r := range rs {
			printResult(r.Value)
		}
		return nil
	}))
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// a [0,18) 30
	// a [40,50) 10
}

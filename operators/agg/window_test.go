package agg_test

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// TestInWindows runs the aggregates of ranks, times and sketches in windows that merge, in every mode: batches, epochs, crashes, exchange. The small
// Reorder lets points be folded within a slice.
func TestInWindows(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	in := make([]reading, 120)
	for i := range in {
		in[i] = reading{
			Device: "d" + strconv.Itoa(rnd.IntN(3)), At: int64(i) - rnd.Int64N(3), Temperature: float64(rnd.IntN(400)) / 4, Level: int8(rnd.IntN(100)),
			Tags: []string{"x"},
		}
	}
	type both struct {
		More   more
		Folded float64
	}
	all := agg.Into(
		agg.To(func(b *both) *more { return &b.More }, moreOf()),
		agg.To(func(b *both) *float64 { return &b.Folded }, agg.TimeWeightedAvg(reading.temperature, agg.Reorder(3))),
	)
	for name, w := range map[string]window.Assigner[reading]{
		"tumbling": window.Tumbling(30 * time.Second),
		"sliding":  window.Sliding(40*time.Second, 10*time.Second),
		"session":  window.Session(2 * time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flowtest.CheckOperator(t, flowtest.OperatorCheck[reading, window.Result[string, both]]{
				Inputs: in,
				Key:    func(r window.Result[string, both]) string { return r.Key },
				Build: func(s flow.Stream[reading]) flow.Stream[window.Result[string, both]] {
					timed := flow.AssignTime(s, "time", func(r reading) time.Time { return time.Unix(r.At, 0) },
						watermark.BoundedOutOfOrderness(5*time.Second).Every(0))
					return operators.Window(flow.KeyBy(timed, reading.device), "window", w, all)
				},
			})
		})
	}
}

package stateful

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
)

var start = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func reading(device string, minute int) Reading {
	return Reading{device, start.Add(time.Duration(minute) * time.Minute), 20}
}

// run starts a topology whose watermark follows the latest reading.
func run[R any](t *testing.T, build func(flow.KeyedStream[string, Reading]) flow.Stream[R]) (*flowtest.Run, *flowtest.Source[Reading], *flowtest.Sink[R]) {
	src, out := flowtest.NewSource[Reading](), flowtest.NewSink[R]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("docs", opts...)
		in := flow.AssignTime(flow.From(top, "in", src), "time", Reading.at, watermark.Monotonous().Every(0))
		flow.To(build(flow.KeyBy(in, Reading.device)), "out", out)
		flow.To(top.DeadLetters(), "dead", flowtest.NewSink[flow.DeadLetter]())
		return top
	}, src)
	return r, src, out
}

func TestOffline(t *testing.T) {
	r, src, out := run(t, offline)
	src.Feed(reading("a", 0), reading("b", 1), reading("b", 6), reading("a", 7), reading("b", 30))
	r.Flush()
	minute := func(n int) flow.Timestamp { return flow.TimestampOf(start.Add(time.Duration(n) * time.Minute)) }
	var a, b []Alarm
	for _, v := range out.Values() {
		if v.Device == "a" {
			a = append(a, v)
		} else {
			b = append(b, v)
		}
	}
	require.Equal(t, []Alarm{{"a", minute(5), true}, {"a", minute(7), false}, {"a", minute(12), true}}, a)
	require.Equal(t, []Alarm{{"b", minute(6), true}, {"b", minute(6), false}, {"b", minute(11), true}, {"b", minute(30), false}}, b)
}

func TestOfflineByClock(t *testing.T) {
	r, src, out := run(t, offlineByClock)
	src.Feed(reading("a", 0))
	r.Epoch()
	r.Clock.Advance(5 * time.Minute)
	r.Epoch()
	require.Equal(t, []Alarm{{"a", flow.TimestampOf(start.Add(5 * time.Minute)), true}}, out.Values())
	r.Stop()
}

func TestFoldsSidesAndErrors(t *testing.T) {
	in := []Reading{reading("a", 0), reading("a", 5), reading("a", 3)}
	in[1].Celsius, in[2].Celsius = 30, -1

	r, src, hottest := run(t, hottestSoFar)
	src.Feed(in...)
	r.Flush()
	require.Equal(t, []Reading{in[0], in[1], in[1]}, hottest.Values())

	r, src, counts := run(t, readingsSoFar)
	src.Feed(in...)
	r.Flush()
	require.Equal(t, []int{1, 2, 3}, counts.Values())

	r, src, ordered := run(t, func(s flow.KeyedStream[string, Reading]) flow.Stream[Reading] {
		ordered, _ := inOrder(s)
		return ordered
	})
	src.Feed(in...)
	r.Flush()
	require.Equal(t, in[:2], ordered.Values())

	r, src, good := run(t, checked)
	src.Feed(in...)
	r.Flush()
	require.Equal(t, in[:2], good.Values())

	require.Equal(t, Tariffs{}, (&Tariffs{}).Clone())
}

package gapfill

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
)

var start = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func reading(second int, celsius float64) Reading {
	return Reading{"a", start.Add(time.Duration(second) * time.Second), celsius}
}

// run puts readings through a topology and returns what came out at its end.
func run[R any](t *testing.T, build func(flow.KeyedStream[string, Reading]) flow.Stream[R], in ...Reading) []R {
	src, out := flowtest.NewSource[Reading](), flowtest.NewSink[R]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("docs", opts...)
		times := flow.AssignTime(flow.From(top, "in", src), "time", Reading.at, watermark.BoundedOutOfOrderness(10*time.Second))
		flow.To(build(flow.KeyBy(times, Reading.device)), "out", out)
		return top
	}, src)
	src.Feed(in...)
	r.Flush()
	return out.Values()
}

// filled are the values that a GapFill of readings added.
func filled(t *testing.T, fill func(flow.KeyedStream[string, Reading]) operators.Gapless[string, Reading], in ...Reading) (added []float64) {
	steps := run(t, func(s flow.KeyedStream[string, Reading]) flow.Stream[operators.Step[string, Reading]] { return fill(s) }, in...)
	for _, s := range steps {
		if s.Kind == operators.Filled {
			added = append(added, s.Value.Celsius)
		}
	}
	return added
}

func TestGapFill(t *testing.T) {
	in := []Reading{reading(0, 20), reading(180, 26)}
	got := filled(t, everyMinute, in...)
	require.Len(t, got, 2)
	require.InDelta(t, 22, got[0], 1e-9)
	require.InDelta(t, 24, got[1], 1e-9)
	require.Equal(t, []float64{20, 20}, filled(t, lastKnown, in...))
	require.Equal(t, []float64{20, 26}, filled(t, nearest, in...))
	minutes := run(t, func(s flow.KeyedStream[string, Reading]) flow.Stream[operators.Step[string, Minute]] {
		return noMinuteMissing(s)
	}, in...)
	require.Len(t, minutes, 4)
	require.Equal(t, operators.Missing, minutes[2].Kind)
	require.Equal(t, "a", minutes[2].Key)
	require.EqualValues(t, 26, minutes[3].Value.Value)
}

func TestFilters(t *testing.T) {
	good := func(s flow.KeyedStream[string, Reading]) flow.Stream[Reading] {
		good, bad := plausible(s)
		flow.To(bad, "bad", flowtest.NewSink[operators.Outlier[Reading]]())
		return good.Unkeyed()
	}
	bad := func(s flow.KeyedStream[string, Reading]) flow.Stream[operators.Outlier[Reading]] {
		good, bad := plausible(s)
		flow.To(good.Unkeyed(), "good", flowtest.NewSink[Reading]())
		return bad
	}
	in := []Reading{reading(0, 20), reading(10, 500), reading(20, 60), reading(30, 21)}
	require.Equal(t, []Reading{in[0], in[3]}, run(t, good, in...))
	got := run(t, bad, in...)
	require.Len(t, got, 2)
	require.Equal(t, "above the range", got[0].Reason)
	require.Equal(t, "changes too fast", got[1].Reason)
}

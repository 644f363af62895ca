package operators_test

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// moment is a record of one key at any time at all.
type moment struct {
	N  int64
	At time.Time
}

func (m moment) n() int64        { return m.N }
func (m moment) time() time.Time { return m.At }

// moments runs moments through a window to the end of the stream: results as "[start,end) sum", and what came out at the side.
func moments(t *testing.T, wm flow.WatermarkStrategy, w window.Plain, in []moment, opts ...window.Option) (out []string, late, bad []flow.Late[moment]) {
	src, results := flowtest.NewSource[moment](), flowtest.NewSink[window.Result[struct{}, int64]]()
	lates, bads := flowtest.NewSink[flow.Late[moment]](), flowtest.NewSink[flow.Late[moment]]()
	r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("edges", append(o, flow.WithParallelism(1))...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", moment.time, wm)
		sums := operators.Window(flow.KeyBy(timed, flow.Whole), "win", w, agg.Sum(moment.n), opts...)
		flow.To(sums, "out", results)
		flow.To(sums.Late(), "late", lates)
		flow.To(timed.BadClock(), "bad", bads)
		return top
	}, src)
	src.Feed(in...)
	r.Flush()
	for _, v := range results.Values() {
		out = append(out, fmt.Sprintf("[%d,%d) %d", v.Start, v.End, v.Value))
	}
	return out, lates.Values(), bads.Values()
}

// Records without a time, or with one that int64 nanoseconds cannot hold, go to BadClock with the reason, and raise no watermark.
func TestTimesThatCannotBe(t *testing.T) {
	good := time.Unix(5, 0)
	for name, at := range map[string]time.Time{
		"none": {}, "the year 1000": time.Date(1000, 1, 1, 0, 0, 0, 0, time.UTC), "the year 3000": time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC),
		"the year 1677": time.Date(1677, 12, 31, 23, 59, 59, 999_999_999, time.UTC), "the year 2262": time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC),
		"beyond int64 seconds": time.Unix(math.MaxInt64, 0), "before int64 seconds": time.Unix(math.MinInt64, 0),
	} {
		t.Run(name, func(t *testing.T) {
			out, late, bad := moments(t, watermark.Monotonous().Every(0).Simulated(), tenSeconds, []moment{{1, good}, {2, at}, {4, good}})
			require.Equal(t, []string{"[0,10000000000) 5"}, out)
			require.Empty(t, late)
			require.Len(t, bad, 1)
			require.EqualValues(t, 2, bad[0].Value.N)
			require.Equal(t, "its time is missing or outside the years 1678 to 2261", bad[0].Reason)
		})
	}
}

// The first and the last moment that may be are like any other.
func TestFirstAndLastMoment(t *testing.T) {
	first, last := time.Date(1678, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2261, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	for name, w := range map[string]window.Plain{
		"tumbling": window.Tumbling(time.Hour), "sliding": window.Sliding(time.Hour, time.Hour), "days": window.Days(time.UTC), "session": window.Session(time.Second),
	} {
		for _, bound := range []time.Duration{0, time.Hour, math.MaxInt64} {
			t.Run(fmt.Sprint(name, " bound ", bound), func(t *testing.T) {
				out, late, bad := moments(t, watermark.BoundedOutOfOrderness(bound), w, []moment{{1, first}, {2, first.Add(1)}, {4, last.Add(-1)}, {8, last}}, window.AllowedLateness(math.MaxInt64))
				require.Empty(t, late)
				require.Empty(t, bad)
				require.Len(t, out, 2)
				require.Contains(t, out[0], fmt.Sprintf("[%d,", first.UnixNano()))
				require.Contains(t, out[0], " 3")
				require.Contains(t, out[1], " 12")
			})
		}
	}
}

// alignedWindows is the oracle of windows whose figures may overflow: it computes with integers of any size. Records one of whose windows has
// a bound that int64 does not hold, or holds as a mark, belong to none and are late.
func alignedWindows(in []moment, size, slide, offset int64) (lines []string, late int) {
	b := big.NewInt
	type bounds struct{ start, end string }
	sums := map[bounds]int64{}
	low, high := b(int64(flow.None)), b(int64(flow.EndOfTime))
	for _, m := range in {
		var of []bounds
		beyond := false
		ts := b(m.At.UnixNano())
		from := new(big.Int).Sub(ts, b(offset)) // the last start: ts - floorMod(ts - offset, slide)
		start := new(big.Int).Sub(ts, new(big.Int).Mod(from, b(slide)))
		for end := new(big.Int).Add(start, b(size)); end.Cmp(ts) > 0; end.Sub(end, b(slide)) {
			s := new(big.Int).Sub(end, b(size))
			beyond = beyond || s.Cmp(low) <= 0 || end.Cmp(high) >= 0
			of = append(of, bounds{s.String(), end.String()})
		}
		if beyond || start.Cmp(low) <= 0 {
			late++
			continue
		}
		for _, w := range of {
			sums[w] += m.N
		}
	}
	for w, n := range sums {
		lines = append(lines, fmt.Sprintf("[%s,%s) %d", w.start, w.end, n))
	}
	slices.Sort(lines)
	return lines, late
}

// Windows of any size, any slide and any offset, over any legal times: what computes in int64 ticks nowhere wraps.
func TestWindowFiguresDoNotOverflow(t *testing.T) {
	magnitude := func(rt *rapid.T, name string) int64 {
		return rapid.Int64Range(1, math.MaxInt64>>rapid.IntRange(0, 50).Draw(rt, name+": shift")).Draw(rt, name)
	}
	check := func(t *testing.T, early bool) {
		rapid.Check(t, func(rt *rapid.T) {
			size := magnitude(rt, "size")
			slide := max(size/rapid.Int64Range(1, 9).Draw(rt, "windows per record"), 1)
			if rapid.Bool().Draw(rt, "gaps") {
				slide = magnitude(rt, "slide")
				slide = max(slide, size/9)
			}
			offset := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, math.MinInt64, math.MaxInt64})).Draw(rt, "offset")
			seconds := rapid.OneOf(rapid.Int64Range(-9214560000, -9214500000), rapid.Int64Range(-100, 100), rapid.Int64Range(9214600000, 9214646399), rapid.Int64Range(-9214560000, 9214646399))
			var in []moment
			for i, s := range rapid.SliceOfN(seconds, 1, 5).Draw(rt, "seconds") {
				in = append(in, moment{1 << i, time.Unix(s, 0)})
			}
			slices.SortFunc(in, func(a, b moment) int { return a.At.Compare(b.At) }) // nothing is late
			var opts []window.Option
			if early { // the other operator: one accumulator per window
				opts = []window.Option{window.Discarding()}
			}
			out, late, bad := moments(t, watermark.Monotonous(), window.Sliding(time.Duration(size), time.Duration(slide), window.Offset(time.Duration(offset))), in, opts...)
			slices.Sort(out)
			want, beyond := alignedWindows(in, size, slide, offset)
			if len(late) != beyond || len(bad) > 0 || !slices.Equal(want, out) {
				rt.Fatalf("size %d slide %d offset %d: %v\nwant %v\ngot  %v, late %v, bad %v", size, slide, offset, in, want, out, late, bad)
			}
		})
	}
	t.Run("by slices", func(t *testing.T) { check(t, false) })
	t.Run("by windows", func(t *testing.T) { check(t, true) })
}

// Before 1970 windows begin below the time, as everywhere: the oracle counts from -1000.
func TestTimesBefore1970(t *testing.T) {
	in := []event{{"a", 1, -1}, {"a", 2, -10}, {"a", 4, -11}, {"a", 8, 0}, {"b", 16, -25}}
	for name, c := range map[string]struct {
		build func(flow.Stream[event]) flow.Stream[sum]
		want  []sum
	}{
		"tumbling": {sums(tenSeconds), aligned(10, 10)(in)},
		"sliding":  {sums(window.Sliding(10*time.Second, 4*time.Second)), aligned(10, 4)(in)},
		"gaps":     {sums(window.Sliding(4*time.Second, 10*time.Second)), aligned(4, 10)(in)},
		"session":  {sums(window.Session(3 * time.Second)), sessions(3)(in)},
	} {
		t.Run(name, func(t *testing.T) {
			slices.SortFunc(in, func(a, b event) int { return int(a.At - b.At) })
			flowtest.CheckOperator(t, flowtest.OperatorCheck[event, sum]{Inputs: in, Build: c.build, Want: c.want})
		})
	}
}

// Bounds, latenesses and gaps of the whole of time hold everything open until the stream ends, and no longer.
func TestBoundsOfTheWholeOfTime(t *testing.T) {
	in := []moment{{1, time.Unix(5, 0)}, {2, time.Unix(1_000_000, 0)}, {4, time.Unix(6, 0)}}
	out, late, _ := moments(t, watermark.BoundedOutOfOrderness(math.MaxInt64), tenSeconds, in)
	require.Equal(t, []string{"[0,10000000000) 5", "[1000000000000000,1000010000000000) 2"}, out)
	require.Empty(t, late)
	out, late, _ = moments(t, watermark.Monotonous(), tenSeconds, in, window.AllowedLateness(math.MaxInt64))
	require.Equal(t, []string{"[0,10000000000) 1", "[0,10000000000) 5", "[1000000000000000,1000010000000000) 2"}, out)
	require.Empty(t, late)
	out, late, _ = moments(t, watermark.Monotonous(), tenSeconds, in, window.AllowedLateness(math.MaxInt64), window.FinalOnly())
	require.Equal(t, []string{"[0,10000000000) 5", "[1000000000000000,1000010000000000) 2"}, out)
	require.Empty(t, late)
	_, late, _ = moments(t, watermark.Monotonous(), window.Session(math.MaxInt64), in[:1])
	require.Len(t, late, 1)
	require.Equal(t, "its window reaches beyond the years 1677 to 2262", late[0].Reason)
}

// What cannot be is refused when the topology is validated, with the figure in the text and the cure.
func TestWindowFiguresThatAreRefused(t *testing.T) {
	for want, c := range map[string]struct {
		w    window.Plain
		opts []window.Option
	}{
		"the window size 0s is not positive":                        {window.Tumbling(0), nil},
		"the window size -1m0s is not positive":                     {window.Tumbling(-time.Minute), nil},
		"the window size -2562047h47m16.854775808s is not positive": {window.Sliding(math.MinInt64, time.Second), nil},
		"the window slide 0s is not positive":                       {window.Sliding(time.Second, 0), nil},
		"the window slide -1ns is not positive":                     {window.Sliding(time.Second, -1), nil},
		"the session gap 0s is not positive":                        {window.Session(0), nil},
		"a window of -1 records":                                    {window.Count(-1), nil},
		"the last 0 records at every 1":                             {window.Last(0, 1), nil},
		"the allowed lateness -1ns is negative":                     {tenSeconds, []window.Option{window.AllowedLateness(-1)}},
		"early firings every -1ns":                                  {tenSeconds, []window.Option{window.Early(-1)}},
		"firings at every 0 records":                                {tenSeconds, []window.Option{window.OnCount(0)}},
	} {
		t.Run(want, func(t *testing.T) {
			top := flow.New("edges", flow.WithStore(flowtest.NewStore()))
			timed := flow.AssignTime(flow.From(top, "in", flowtest.NewSource[moment]()), "time", moment.time, watermark.Monotonous())
			flow.To(operators.Window(flow.KeyBy(timed, flow.Whole), "win", c.w, agg.Sum(moment.n), c.opts...), "out", flowtest.NewSink[window.Result[struct{}, int64]]())
			err := top.Validate()
			require.ErrorIs(t, err, flow.ErrInvalid)
			require.ErrorContains(t, err, `"win"`)
			require.ErrorContains(t, err, want)
		})
	}
}

// The gap of a session is a record's own figure: one that is not positive fails that record alone.
func TestSessionGapsOfRecordsThatCannotBe(t *testing.T) {
	call := func(at, gap int64) event { return event{At: at, N: gap} }
	src, dead := flowtest.NewSource[event](), flowtest.NewSink[flow.DeadLetter]()
	out := flowtest.NewSink[window.Result[struct{}, int64]]()
	r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("edges", o...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.Monotonous())
		w := window.SessionBy(func(e event) time.Duration { return time.Duration(e.N) })
		flow.To(operators.Window(flow.KeyBy(timed, flow.Whole), "win", w, agg.Count(event.n)), "out", out)
		flow.To(top.DeadLetters(), "dead", dead)
		return top
	}, src)
	src.Feed(call(1, 5), call(1, 0), call(1, -1), call(1, math.MinInt64), call(1, 7))
	r.Flush()
	require.Len(t, dead.Values(), 3)
	require.Len(t, out.Values(), 1)
	require.EqualValues(t, 2, out.Values()[0].Value)
}

// A window stands only behind an AssignTime: without a time nothing could close it.
func TestWindowOfAnUntimedStreamIsRefused(t *testing.T) {
	top := flow.New("edges", flow.WithStore(flowtest.NewStore()))
	in := operators.Map(flow.From(top, "in", flowtest.NewSource[moment]()), "map", func(_ context.Context, m moment) (moment, error) { return m, nil })
	flow.To(operators.Window(flow.KeyBy(in, flow.Whole), "win", tenSeconds, agg.Sum(moment.n)), "out", flowtest.NewSink[window.Result[struct{}, int64]]())
	require.ErrorIs(t, top.Validate(), flow.ErrInvalid)
	require.ErrorContains(t, top.Validate(), "AssignTime")
}

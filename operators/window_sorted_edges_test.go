package operators_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

func TestSortedWindowsRefuse(t *testing.T) {
	none := func(event) bool { return false }
	for _, c := range []struct {
		w    window.Assigner[event]
		opt  window.Option
		says string
	}{
		{window.While[event](nil), nil, "the condition of window.While is nil"},
		{window.Between(none, nil), nil, "a condition of window.Between is nil"},
		{window.Between(nil, none), nil, "a condition of window.Between is nil"},
		{window.Trailing(0), nil, "windows of the last 0s"},
		{window.Trailing(-time.Second), nil, "windows of the last -1s"},
		{window.While(none), window.AllowedLateness(time.Second), "AllowedLateness on windows over records in order of time"},
		{window.Between(none, none), window.Early(time.Second), "Early, OnCount, EarlyClock or FinalOnly on windows over records in order of time"},
		{window.Trailing(1), window.OnCount(3), "Early, OnCount, EarlyClock or FinalOnly on windows over records in order of time"},
		{window.Trailing(1), window.FinalOnly(), "Early, OnCount, EarlyClock or FinalOnly on windows over records in order of time"},
		{window.While(none), window.Discarding(), "Discarding on windows over records in order of time"},
		{window.While(none), window.EarlyClock(time.Second), "EarlyClock or FinalOnly on windows over records in order of time"},
		{window.While(none), window.MaxWait(time.Second), "MaxWait on windows that do not fire by count"},
		{window.Trailing(1), window.Stagger(time.Second), "Stagger on windows of this kind"},
		{window.While(none), window.MaxPerKey(0), "at most 0 records per key"},
		{window.Tumbling(1), window.MaxPerKey(5), "MaxPerKey on windows that keep no records"},
	} {
		top := flow.New("refused", flow.WithStore(state.InMemory()))
		timed := flow.AssignTime(flow.From(top, "in", flowtest.NewSource[event]()), "time", event.time, watermark.Monotonous())
		var opts []window.Option
		if c.opt != nil {
			opts = append(opts, c.opt)
		}
		w := operators.Window(flow.KeyBy(timed, event.key), "win", c.w, agg.Sum(event.n), opts...)
		flow.To(w, "out", flowtest.NewSink[window.Result[string, int64]]())
		require.ErrorContains(t, top.Validate(), c.says)
	}
}

// What comes behind the watermark, or above the limit, comes out at the side with the reason.
func TestSortedWindowsLate(t *testing.T) {
	out, late := ended(t, window.Trailing(10*time.Second), event{"a", 1, 5}, event{"a", 2, 8}, event{"a", 3, 4}, event{"a", 4, 9})
	require.Equal(t, []string{"[-5+1,5+1) 1 at 5", "[-2+1,8+1) 12 at 8", "[-1+1,9+1) 124 at 9"}, out)
	require.Len(t, late, 1)
	require.Equal(t, event{"a", 3, 4}, late[0].Value)
	require.Contains(t, late[0].Reason, "the watermark has reached its time")

	out, late = ended(t, window.Trailing(10*time.Second), event{"a", 1, 5}, event{"a", 2, 5}, event{"b", 3, 5})
	require.Len(t, out, 3, "a time that is the watermark's is not late before it")
	require.Empty(t, late)
}

func TestMaxPerKey(t *testing.T) {
	src, results, late := flowtest.NewSource[event](), flowtest.NewSink[window.Result[string, string]](), flowtest.NewSink[flow.Late[event]]()
	r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("limit", o...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.Monotonous().Every(0))
		win := operators.Window(flow.KeyBy(timed, event.key), "win", window.Trailing(10*time.Second), inOrder(), window.MaxPerKey(2))
		flow.To(win, "out", results)
		flow.To(win.Late(), "late", late)
		return top
	}, src)
	src.Feed(event{"a", 1, 1}, event{"a", 2, 2}, event{"a", 3, 3}, event{"b", 4, 4})
	r.Epoch()
	require.Len(t, late.Values(), 1)
	require.EqualValues(t, 3, late.Values()[0].Value.N)
	require.Contains(t, late.Values()[0].Reason, "2 records of its key are kept already (window.MaxPerKey)")
	src.Feed(event{"b", 4, 25}, event{"a", 5, 30}, event{"a", 6, 31}) // those of before are too old by then
	r.Crash()
	r.Flush()
	var got []string
	for _, r := range results.Values() {
		got = append(got, r.Key+r.Value)
	}
	require.ElementsMatch(t, []string{"a1", "a12", "b4", "b4", "a5", "a56"}, got)
}

// A condition or an aggregate that panics fails its record, and no other.
func TestSortedWindowsFailingRecord(t *testing.T) {
	src, results, dead := flowtest.NewSource[event](), flowtest.NewSink[window.Result[string, int64]](), flowtest.NewSink[flow.DeadLetter]()
	r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("failing", o...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.Monotonous().Every(0))
		bad := func(n int64) func(event) bool {
			return func(e event) bool {
				if e.N == n {
					panic("no such number")
				}
				return true
			}
		}
		sum := agg.Sum(func(e event) int64 { bad(5)(e); return e.N })
		flow.To(operators.Window(flow.KeyBy(timed, event.key), "win", window.While(bad(3)), sum), "out", results)
		flow.To(top.DeadLetters(), "dead", dead)
		return top
	}, src)
	src.Feed(event{"a", 1, 1}, event{"a", 3, 2}, event{"a", 7, 3}, event{"a", 5, 4}, event{"a", 9, 5})
	r.Flush()
	require.Len(t, dead.Values(), 2)
	require.Contains(t, dead.Values()[0].Cause, "no such number")
	require.Len(t, results.Values(), 1)
	require.EqualValues(t, 17, results.Values()[0].Value)
}

// The first and the last moment that may be are like any other, also for windows as long as time.
func TestTrailingAtTheEndsOfTime(t *testing.T) {
	first, last := time.Date(1678, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2261, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	in := []moment{{1, first}, {2, first.Add(1)}, {4, time.Unix(0, 0)}, {8, last.Add(-1)}, {16, last}}
	a, b, m, y, z := first.UnixNano(), first.UnixNano()+1, int64(0), last.UnixNano()-1, last.UnixNano()
	const low = math.MinInt64 + 1
	out, late, _ := moments(t, watermark.Monotonous().Simulated(), window.Trailing(2), in)
	require.Empty(t, late)
	require.Equal(t, []string{
		fmt.Sprintf("[%d,%d) 1", a-1, a+1), fmt.Sprintf("[%d,%d) 3", a, b+1), fmt.Sprintf("[%d,%d) 4", m-1, m+1), fmt.Sprintf("[%d,%d) 8", y-1, y+1), fmt.Sprintf("[%d,%d) 24", y, z+1),
	}, out)
	out, _, _ = moments(t, watermark.Monotonous().Simulated(), window.Trailing(math.MaxInt64), in)
	require.Equal(t, []string{
		fmt.Sprintf("[%d,%d) 1", int64(low), a+1), fmt.Sprintf("[%d,%d) 3", int64(low), b+1), fmt.Sprintf("[%d,%d) 7", m-math.MaxInt64+1, m+1),
		fmt.Sprintf("[%d,%d) 12", y-math.MaxInt64+1, y+1), fmt.Sprintf("[%d,%d) 28", z-math.MaxInt64+1, z+1),
	}, out)
}

// counted is an aggregate whose stores count what they do.
type counted[T, R any] struct {
	agg.Aggregate[T, R]
	n *counts
}

type counts struct{ blocks, merges, written int }

func (c counted[T, R]) NewStore() agg.Store[T, R] {
	return &countedStore[T, R]{c.Aggregate.NewStore(), c.n}
}

type countedStore[T, R any] struct {
	agg.Store[T, R]
	n *counts
}

func (s *countedStore[T, R]) AllocBlock() agg.Slot { s.n.blocks++; return s.Store.AllocBlock() }
func (s *countedStore[T, R]) Merge(into, from agg.Slot) {
	s.n.merges++
	s.Store.Merge(into, from)
}
func (s *countedStore[T, R]) Append(b []byte, slots []agg.Slot) []byte {
	s.n.written += len(slots)
	return s.Store.Append(b, slots)
}

// A window of 1,000 records costs as many merges per record as one of 10, a record is written once though there are many epochs, and the
// accumulators of records that are too old are used again.
func TestTrailingCost(t *testing.T) {
	for _, size := range []int64{10, 1000} {
		src, results := flowtest.NewSource[event](), flowtest.NewSink[window.Result[string, int64]]()
		var n counts
		r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
			top := flow.New("cost", append(o, flow.WithParallelism(1))...)
			timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.Monotonous().Every(0))
			sum := counted[event, int64]{agg.Sum(event.n), &n}
			flow.To(operators.Window(flow.KeyBy(timed, event.key), "win", window.Trailing(time.Duration(size)*time.Second), sum), "out", results)
			return top
		}, src)
		const records = 5000
		for i := range int64(records) {
			src.Feed(event{"a", i, i})
			if i%100 == 99 {
				r.Epoch()
			}
		}
		r.Flush()
		require.Len(t, results.Values(), records)
		for i, r := range results.Values() {
			k := min(int64(i)+1, size)
			require.EqualValues(t, k*int64(i)-k*(k-1)/2, r.Value)
		}
		require.LessOrEqual(t, n.merges, 4*records)
		require.Equal(t, records, n.written)
		require.LessOrEqual(t, n.blocks, int(size+size/8)/agg.BlockSize+3)
	}
}

// Per record there are no allocations, but for memory that is used again.
func TestSortedWindowsAllocateLittle(t *testing.T) {
	if race {
		return // it allocates for its own
	}
	for name, w := range map[string]window.Assigner[tick]{
		"trailing": window.Trailing(100 * time.Millisecond),
		"while":    window.While(func(v tick) bool { return v.X > 1 }),
	} {
		allocated := func(n int64) uint64 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			runSorted(t, n, w)
			runtime.ReadMemStats(&after)
			return after.Mallocs - before.Mallocs
		}
		few, many := allocated(60_000), allocated(160_000)
		require.Less(t, float64(many)-float64(few), 0.05*100_000, name)
	}
}

// runSorted runs n ticks of 100 keys through a window.
func runSorted(t testing.TB, n int64, w window.Assigner[tick]) {
	top := flow.New("cost", flow.WithStore(state.InMemory()), flow.WithParallelism(1), flow.WithLogger(slog.New(slog.DiscardHandler)))
	times := flow.AssignTime(flow.From(top, "in", tickSource{n}), "time", tick.time, watermark.Monotonous().Simulated())
	few := flow.KeyBy(times, func(v tick) int64 { return v.Key % 100 })
	flow.To(operators.Window(few, "op", w, agg.Sum(tick.x)), "out", flow.SinkFunc(func(context.Context, []flow.Record[window.Result[int64, float64]]) error { return nil }))
	require.NoError(t, top.Run(context.Background()))
}

func BenchmarkSortedWindows(b *testing.B) {
	for name, w := range map[string]window.Assigner[tick]{
		"trailing 100 ms": window.Trailing(100 * time.Millisecond), "trailing 10 s": window.Trailing(10 * time.Second),
		"while": window.While(func(v tick) bool { return v.X > 1 }), "tumbling 100 ms": window.Tumbling(100 * time.Millisecond),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			runSorted(b, int64(b.N), w)
		})
	}
}

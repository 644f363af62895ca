package operators_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// words are the numbers of records, in the order in which they were folded.
type words struct{ S string }

func (w *words) add(e event)     { w.S += fmt.Sprint(" ", e.N) }
func (w *words) merge(of *words) { w.S += of.S }
func (w *words) result() string  { return strings.Clone(w.S) }
func inWords(merges *atomic.Int64) agg.Aggregate[event, string] {
	return agg.Func((*words).add, func(into, from *words) { merges.Add(1); into.merge(from) }, (*words).result)
}

// slidingRun feeds a window and gives what came out as text: the results, and what was too late.
func slidingRun(t *testing.T, in []event, w window.Plain, merges *atomic.Int64, shake func(r *flowtest.Run), opts ...window.Option) []string {
	src, sink := flowtest.NewSource[event]("0"), flowtest.NewSink[string]()
	r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("sliding", append(o, flow.WithParallelism(1))...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.Monotonous().Every(0))
		win := operators.Window(flow.KeyBy(timed, event.key), "win", w, inWords(merges), opts...)
		flow.To(operators.Map(win, "print", func(_ context.Context, r window.Result[string, string]) (string, error) {
			return fmt.Sprint(r.Key, " ", inSeconds(r.Start), "-", inSeconds(r.End), ":", r.Value, " ", r.Pane.Kind), nil
		}), "out", sink)
		flow.To(operators.Map(win.Late(), "too-late", func(_ context.Context, l flow.Late[event]) (string, error) {
			return fmt.Sprint("late ", l.Value.Key, " ", l.Value.N), nil
		}), "late", sink)
		return top
	}, src)
	for i, e := range in {
		src.Feed(e)
		if shake != nil && i%7 == 0 {
			shake(r)
		}
	}
	src.End()
	require.NoError(t, r.Wait())
	return sink.Values()
}

// A window of 60 slices is not merged of 60.
func TestSlidingMergesFewSlices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		every int64 // seconds between records of a key
		most  float64
	}{"a record in each slice": {1, 4.2}, "one in seven": {7, 3}} {
		t.Run(name, func(t *testing.T) {
			var in []event
			for at := range int64(300) {
				for k := range int64(5) {
					if (at+k)%c.every == 0 {
						in = append(in, event{Key: fmt.Sprint("k", k), At: at, N: at})
					}
				}
			}
			var merges atomic.Int64
			out := slidingRun(t, in, window.Sliding(time.Minute, time.Second), &merges, nil)
			require.Greater(t, len(out), 5*350)
			require.LessOrEqual(t, float64(merges.Load())/float64(len(out)), c.most, "merges per firing")
			require.Greater(t, merges.Load(), int64(len(out)/2), "are counted at all")
		})
	}
}

// Late records change what windows share, in slices that have been merged and in those that have not, also of a firing that is cut by epochs and
// crashes. What comes out is what the rules say, in order of slices and within them of arrival.
func TestSlidingSharesWithLateRecords(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size, slide, slice, lateness int64
		final                        bool
	}{
		"ten slices":             {20, 2, 2, 13, false},
		"no lateness":            {20, 2, 2, 0, false},
		"a slide of two slices":  {21, 6, 3, 9, false},
		"a slide of four, final": {15, 4, 1, 7, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := time.Second
			w := window.Sliding(time.Duration(c.size)*s, time.Duration(c.slide)*s)
			opts := []window.Option{window.AllowedLateness(time.Duration(c.lateness) * s)}
			delay := int64(0)
			if c.final {
				opts, delay = append(opts, window.FinalOnly()), c.lateness
			}
			for seed := range uint64(8) {
				random := rand.New(rand.NewPCG(seed, 7))
				in := make([]event, 120)
				for i := range in {
					in[i] = event{fmt.Sprint("k", random.IntN(3)), int64(i), int64(i) - max(random.Int64N(60)-30, 0)}
				}
				want := slidingByHand(in, c.size, c.slide, c.slice, c.lateness, delay)
				var merges atomic.Int64
				var shake func(r *flowtest.Run)
				if seed > 1 {
					opts = append(opts, window.FireStep(1))
					shake = func(r *flowtest.Run) {
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
						defer cancel()
						require.NoError(t, r.Running().Epoch(ctx))
						if random.IntN(2) == 0 {
							r.Crash()
						}
					}
				}
				missing, more := difference(want, slidingRun(t, in, w, &merges, shake, opts...))
				require.Empty(t, missing, "missing, seed %d", seed)
				require.Empty(t, more, "too many, seed %d", seed)
			}
		})
	}
}

// slidingByHand is the same by the rules: all windows there could be are looked through at each record and each watermark.
func slidingByHand(in []event, size, slide, slice, lateness, delay int64) (out []string) {
	taken := map[string][]event{}
	wm := int64(-1 << 40) // the watermark has reached all ends up to this second
	give := func(key string, start int64, kind window.Kind) {
		var of []event
		for _, e := range taken[key] {
			if start <= e.At && e.At < start+size {
				of = append(of, e)
			}
		}
		slices.SortStableFunc(of, func(a, b event) int { return int(floor(a.At, slice) - floor(b.At, slice)) })
		var all words
		for _, e := range of {
			all.add(e)
		}
		if len(of) > 0 {
			out = append(out, fmt.Sprint(key, " ", start, "-", start+size, ":", all.S, " ", kind))
		}
	}
	advance := func(to int64) {
		for start := floor(-200, slide); start < 300; start += slide {
			if end := start + size; wm < end+delay && end+delay <= to {
				for key := range taken {
					give(key, start, window.OnTime)
				}
			}
		}
		wm = max(wm, to)
	}
	for _, e := range in {
		late := true
		for start := floor(e.At, slide); start > e.At-size; start -= slide {
			late = late && start+size+lateness <= wm
		}
		if late {
			out = append(out, fmt.Sprint("late ", e.Key, " ", e.N))
			continue
		}
		taken[e.Key] = append(taken[e.Key], e)
		for start := floor(e.At, slide); start > e.At-size; start -= slide {
			if end := start + size; end+delay <= wm && end+lateness > wm {
				give(e.Key, start, window.Refined)
			}
		}
		advance(e.At)
	}
	advance(1 << 40)
	return out
}

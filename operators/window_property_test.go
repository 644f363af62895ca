package operators_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	joins "github.com/millrace-stream/millrace/operators/join"
	"github.com/millrace-stream/millrace/operators/window"
)

// The properties that hold for operators whatever comes and however it runs. Another operator joins by a line in the table of
// TestOperatorProperties: how it is built, and what must come out, computed from the inputs by sorting and grouping.

// bound is the watermark's out-of-orderness, disorder what inputs of a property have at most: the rest is allowed lateness.
const (
	bound = 3 * time.Second
	// touching is so much more than the gap that sessions which just touch, of which the first may be gone, overlap.
	touching = time.Nanosecond
	lateness = 4 * time.Second
)

func drawEvents(rt *rapid.T) []event {
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) event {
		return event{
			Key: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "key"),
			N:   rapid.Int64Range(1, 9).Draw(rt, "n"),
			At:  rapid.Int64Range(-20, 40).Draw(rt, "at"),
		}
	}), 0, 25).Draw(rt, "events")
}

func inBound(s flow.Stream[event]) flow.KeyedStream[string, event] {
	return flow.KeyBy(flow.AssignTime(s, "time", event.time, watermark.BoundedOutOfOrderness(bound).Every(0)), event.key)
}

// sum is what a window of a key came to, in seconds.
type sum struct {
	Key        string
	Start, End int64
	Sum        int64
}

func (s sum) window() string { return fmt.Sprint(s.Key, s.Start) }

// sums puts a window over the events and keeps what can be compared with an oracle.
func sums(w window.Plain, opts ...window.Option) func(flow.Stream[event]) flow.Stream[sum] {
	return func(in flow.Stream[event]) flow.Stream[sum] {
		out := operators.Window(inBound(in), "win", w, agg.Sum(event.n), opts...)
		return operators.Map(out, "sum", func(_ context.Context, r window.Result[string, int64]) (sum, error) {
			return sum{r.Key, r.Start.Time().Unix(), r.End.Time().Unix(), r.Value}, nil
		})
	}
}

// aligned is the oracle of tumbling and sliding windows: every window there could be takes the events that lie in it.
func aligned(size, slide int64) func([]event) []sum {
	return func(in []event) (out []sum) {
		for start := int64(-1000) * slide; start < 1000*slide; start += slide {
			byKey := map[string]int64{}
			for _, e := range in {
				if start <= e.At && e.At < start+size {
					byKey[e.Key] += e.N
				}
			}
			for key, n := range byKey {
				out = append(out, sum{key, start, start + size, n})
			}
		}
		return out
	}
}

// sessions is the oracle of session windows: a key's events, sorted, cut where more than the gap lies between two.
func sessions(gap int64) func([]event) []sum {
	return func(in []event) (out []sum) {
		sorted := slices.Clone(in)
		slices.SortFunc(sorted, func(a, b event) int { return int(a.At - b.At) })
		byKey := map[string][]sum{}
		for _, e := range sorted {
			s := byKey[e.Key]
			if n := len(s); n > 0 && e.At <= s[n-1].End {
				s[n-1].End, s[n-1].Sum = e.At+gap, s[n-1].Sum+e.N
				continue
			}
			byKey[e.Key] = append(s, sum{e.Key, e.At, e.At + gap, e.N})
		}
		for _, s := range byKey {
			out = append(out, s...)
		}
		return out
	}
}

// fullCounts is the oracle of count windows over numbers that are all the same: how many of each key are full.
func fullCounts(n int64) func([]event) []sum {
	return func(in []event) (out []sum) {
		byKey := map[string]int64{}
		for _, e := range in {
			if byKey[e.Key]++; byKey[e.Key]%n == 0 {
				out = append(out, sum{e.Key, whole, whole, n})
			}
		}
		return out
	}
}

// trailing is the oracle of windows that end at each record.
func trailing(d int64) func([]event) []sum {
	return func(in []event) (out []sum) {
		for _, e := range in {
			s := sum{e.Key, e.At - d, e.At, 0}
			for _, o := range in {
				if o.Key == e.Key && e.At-d < o.At && o.At <= e.At {
					s.Sum += o.N
				}
			}
			out = append(out, s)
		}
		return out
	}
}

// whole is the second that stands for no time.
var whole = flow.None.Time().Unix()

func TestOperatorProperties(t *testing.T) {
	late := window.AllowedLateness(lateness)
	for name, p := range map[string]flowtest.Property[event, sum]{
		"tumbling":           {Build: sums(window.Tumbling(5 * time.Second)), Oracle: aligned(5, 5)},
		"tumbling late":      {Build: sums(window.Tumbling(5*time.Second), late), Oracle: aligned(5, 5), Disorder: bound + lateness, Identity: sum.window},
		"tumbling final":     {Build: sums(window.Tumbling(5*time.Second), late, window.FinalOnly()), Oracle: aligned(5, 5), Disorder: bound + lateness},
		"tumbling early":     {Build: sums(window.Tumbling(8*time.Second), window.Early(3*time.Second)), Oracle: aligned(8, 8), Identity: sum.window},
		"sliding":            {Build: sums(window.Sliding(9*time.Second, 3*time.Second)), Oracle: aligned(9, 3)},
		"sliding uneven":     {Build: sums(window.Sliding(10*time.Second, 4*time.Second)), Oracle: aligned(10, 4)},
		"sliding late":       {Build: sums(window.Sliding(9*time.Second, 3*time.Second), late), Oracle: aligned(9, 3), Disorder: bound + lateness, Identity: sum.window},
		"sliding much late":  {Build: sums(window.Sliding(24*time.Second, 2*time.Second), late), Oracle: aligned(24, 2), Disorder: bound + lateness, Identity: sum.window},
		"sliding final":      {Build: sums(window.Sliding(10*time.Second, 4*time.Second), late, window.FinalOnly()), Oracle: aligned(10, 4), Disorder: bound + lateness},
		"sliding with gaps":  {Build: sums(window.Sliding(2*time.Second, 6*time.Second)), Oracle: aligned(2, 6)},
		"session":            {Build: sums(window.Session(3*time.Second + touching)), Oracle: sessions(3)},
		"session final":      {Build: sums(window.Session(3*time.Second+touching), late, window.FinalOnly()), Oracle: sessions(3), Disorder: bound + lateness},
		"trailing":           {Build: sums(window.Trailing(5 * time.Second)), Oracle: trailing(5)},
		"interval join":      {Build: joined(intervalJoin), Oracle: pairs(func(l, r event) bool { return -2 <= r.At-l.At && r.At-l.At <= 4 })},
		"window join":        {Build: joined(windowJoin), Oracle: pairs(func(l, r event) bool { return floor(l.At, 5) == floor(r.At, 5) })},
		"as-of join":         {Build: joined(asOfJoin), Oracle: lastKnown},
		"reduce":             {Build: reduced, Oracle: totals, Identity: sum.window},
		"stateful":           {Build: stated, Oracle: totals, Identity: sum.window},
		"count, of one each": {Build: ones(sums(window.Count(3))), Oracle: fullCounts(3)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p.Inputs, p.Time = drawEvents, event.time
			p.Disorder = max(p.Disorder, bound)
			flowtest.CheckProperty(t, p)
		})
	}
}

// ones makes the numbers of all events 1, so that it does not matter which of them come together.
func ones(build func(flow.Stream[event]) flow.Stream[sum]) func(flow.Stream[event]) flow.Stream[sum] {
	return func(in flow.Stream[event]) flow.Stream[sum] {
		return build(operators.Update(in, "one", func(_ context.Context, e *event) error { e.N = 1; return nil }))
	}
}

// A join's left side are the events with an odd number; a pair is named by both times.
func joined(build func(left, right flow.KeyedStream[string, event]) flow.Stream[sum]) func(flow.Stream[event]) flow.Stream[sum] {
	return func(in flow.Stream[event]) flow.Stream[sum] {
		timed := flow.AssignTime(in, "time", event.time, watermark.BoundedOutOfOrderness(bound).Every(0))
		left, right := flow.Split[event](timed, "left", event.left)
		return build(flow.KeyBy(left, event.key), flow.KeyBy(right, event.key))
	}
}

func (e event) left() bool { return e.N%2 == 1 }

func matched(l, r event) sum { return sum{l.Key, l.At, r.At, 10*l.N + r.N} }

func intervalJoin(left, right flow.KeyedStream[string, event]) flow.Stream[sum] {
	return operators.Join(left, right, "join", joins.Between(-2*time.Second, 4*time.Second), matched)
}

func windowJoin(left, right flow.KeyedStream[string, event]) flow.Stream[sum] {
	return operators.WindowJoin(left, right, "join", window.Tumbling(5*time.Second), joins.Inner, func(l, r *event) sum { return matched(*l, *r) })
}

// pairs is the oracle of joins: all pairs of a key that meet.
func pairs(meet func(l, r event) bool) func([]event) []sum {
	return func(in []event) (out []sum) {
		for _, l := range in {
			for _, r := range in {
				if l.left() && !r.left() && l.Key == r.Key && meet(l, r) {
					out = append(out, matched(l, r))
				}
			}
		}
		return out
	}
}

func floor(n, by int64) int64 { return n - ((n%by)+by)%by }

// asOfJoin leaves the right number out, as of equal times the one that arrived last counts.
func asOfJoin(left, right flow.KeyedStream[string, event]) flow.Stream[sum] {
	return operators.AsOf(left, right, "join", func(l, r event, found bool) sum {
		if !found {
			return sum{l.Key, l.At, whole, l.N}
		}
		return sum{l.Key, l.At, r.At, l.N}
	})
}

// lastKnown is its oracle.
func lastKnown(in []event) (out []sum) {
	for _, l := range in {
		if !l.left() {
			continue
		}
		known := whole
		for _, r := range in {
			if !r.left() && r.Key == l.Key && r.At <= l.At {
				known = max(known, r.At)
			}
		}
		out = append(out, sum{l.Key, l.At, known, l.N})
	}
	return out
}

func reduced(in flow.Stream[event]) flow.Stream[sum] {
	folds := operators.Reduce(inBound(in), "reduce", func(acc, v event) event { return event{acc.Key, acc.N + v.N, 0} })
	return operators.Map(folds, "sum", func(_ context.Context, e event) (sum, error) { return sum{Key: e.Key, Sum: e.N}, nil })
}

func stated(in flow.Stream[event]) flow.Stream[sum] {
	return operators.Stateful(inBound(in), "state", 0, func(_ context.Context, c *operators.Cell[string, int64, sum], e event) error {
		*c.State += e.N
		c.Emit(sum{Key: e.Key, Sum: *c.State})
		return nil
	})
}

// totals is the oracle of what adds up.
func totals(in []event) (out []sum) {
	byKey := map[string]int64{}
	for _, e := range in {
		byKey[e.Key] += e.N
	}
	for key, n := range byKey {
		out = append(out, sum{Key: key, Sum: n})
	}
	return out
}

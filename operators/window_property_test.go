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
	"github.com/millrace-stream/millrace/operators/window"
)

// The properties that hold for operators whatever comes and however it runs. Another operator joins by a line in the table of
// TestOperatorProperties: how it is built, and what must come out, computed from the inputs by sorting and grouping.

// bound is the watermark's out-of-orderness, disorder what inputs of a property have at most: the rest is allowed lateness.
const (
	bound    = 3 * time.Second
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
		"sliding final":      {Build: sums(window.Sliding(10*time.Second, 4*time.Second), late, window.FinalOnly()), Oracle: aligned(10, 4), Disorder: bound + lateness},
		"sliding with gaps":  {Build: sums(window.Sliding(2*time.Second, 6*time.Second)), Oracle: aligned(2, 6)},
		"session":            {Build: sums(window.Session(3 * time.Second)), Oracle: sessions(3)},
		"session final":      {Build: sums(window.Session(3*time.Second), late, window.FinalOnly()), Oracle: sessions(3), Disorder: bound + lateness},
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

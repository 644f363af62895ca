package operators_test

import (
	"cmp"
	"context"
	"fmt"
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

// Of an event's number, evens are on, multiples of 3 open, multiples of 4 shut.
func isOn(e event) bool  { return e.N%2 == 0 }
func opens(e event) bool { return e.N%3 == 0 }
func shuts(e event) bool { return e.N%4 == 0 }

// stretch is a window with its records' numbers, in the order in which they were merged.
type stretch struct {
	Key        string
	Start, End flow.Timestamp
	Numbers    string
	Peer       int
}

// digits are numbers below 10 in a row, as a flat accumulator that can be stored.
type digits struct {
	Of [40]byte
	N  int64
}

func (d *digits) add(e event)      { d.Of[d.N] = '0' + byte(e.N); d.N++ }
func (d *digits) merge(of *digits) { d.N += int64(copy(d.Of[d.N:], of.Of[:of.N])) }
func (d *digits) result() string   { return string(d.Of[:d.N]) }
func (d *digits) any() string      { s := slices.Clone(d.Of[:d.N]); slices.Sort(s); return string(s) }
func inOrder() agg.Aggregate[event, string] {
	return agg.Func((*digits).add, (*digits).merge, (*digits).result)
}

// anyOrder forgets in which order records of equal times came.
func anyOrder() agg.Aggregate[event, string] {
	return agg.Func((*digits).add, (*digits).merge, (*digits).any)
}

// stretches puts a window over the events.
func stretches(w window.Assigner[event], a agg.Aggregate[event, string], opts ...window.Option) func(flow.Stream[event]) flow.Stream[stretch] {
	return func(in flow.Stream[event]) flow.Stream[stretch] {
		return operators.Map(operators.Window(inBound(in), "win", w, a, opts...), "stretch", toStretch)
	}
}

func toStretch(_ context.Context, r window.Result[string, string]) (stretch, error) {
	return stretch{r.Key, r.Start, r.End, r.Value, r.Pane.Index}, nil
}

// perKey sorts the events of each key by time and gives them to f.
func perKey(in []event, f func(key string, es []event)) {
	of := map[string][]event{}
	for _, e := range in {
		of[e.Key] = append(of[e.Key], e)
	}
	for key, es := range of {
		slices.SortStableFunc(es, func(a, b event) int { return cmp.Compare(a.At, b.At) })
		f(key, es)
	}
}

func seconds(at int64) flow.Timestamp { return flow.TimestampOf(time.Unix(at, 0)) }

// whiles is the oracle of While: runs of even numbers, up to the next odd one.
func whiles(in []event) (out []stretch) {
	perKey(in, func(key string, es []event) {
		for i := 0; i < len(es); i++ {
			if !isOn(es[i]) {
				continue
			}
			s := stretch{Key: key, Start: seconds(es[i].At)}
			for ; i < len(es) && isOn(es[i]); i++ {
				s.Numbers += fmt.Sprint(es[i].N)
				s.End = seconds(es[i].At) + 1
			}
			if i < len(es) {
				s.End = seconds(es[i].At)
			}
			out = append(out, s)
		}
	})
	return out
}

// betweens is the oracle of Between: from what opens to what shuts.
func betweens(in []event) (out []stretch) {
	perKey(in, func(key string, es []event) {
		for len(es) > 0 {
			if !opens(es[0]) {
				es = es[1:]
				continue
			}
			n := slices.IndexFunc(es, shuts) + 1
			if n == 0 {
				n = len(es)
			}
			s := stretch{Key: key, Start: seconds(es[0].At), End: seconds(es[n-1].At) + 1}
			for _, e := range es[:n] {
				s.Numbers += fmt.Sprint(e.N)
			}
			out, es = append(out, s), es[n:]
		}
	})
	return out
}

// trails is the oracle of Trailing: for each event, all of its key that are as old or less than d older.
func trails(d time.Duration) func(in []event) []stretch {
	return func(in []event) (out []stretch) {
		perKey(in, func(key string, es []event) {
			for i, e := range es {
				at := seconds(e.At)
				s := stretch{Key: key, Start: at - flow.Timestamp(d) + 1, End: at + 1}
				for k, o := range es {
					if o.At == e.At && k < i {
						s.Peer++
					}
					if o.At <= e.At && at-seconds(o.At) < flow.Timestamp(d) {
						s.Numbers += fmt.Sprint(o.N)
					}
				}
				out = append(out, s)
			}
		})
		return out
	}
}

// sortedDigits does to an oracle what anyOrder does.
func sortedDigits(oracle func([]event) []stretch) func([]event) []stretch {
	return func(in []event) []stretch {
		out := oracle(in)
		for i := range out {
			b := []byte(out[i].Numbers)
			slices.Sort(b)
			out[i].Numbers = string(b)
		}
		return out
	}
}

// drawMoments draws events whose times are different within a key.
func drawMoments(rt *rapid.T) []event {
	at := map[event]bool{}
	return slices.DeleteFunc(drawEvents(rt), func(e event) bool {
		e.N = 0
		seen := at[e]
		at[e] = true
		return seen
	})
}

func TestSortedWindowProperties(t *testing.T) {
	stepwise := window.FireStep(1)
	for name, p := range map[string]flowtest.Property[event, stretch]{
		"while":             {Build: stretches(window.While(isOn), inOrder()), Oracle: whiles, Inputs: drawMoments},
		"between":           {Build: stretches(window.Between(opens, shuts), inOrder(), stepwise), Oracle: betweens, Inputs: drawMoments},
		"trailing":          {Build: stretches(window.Trailing(7*time.Second), inOrder()), Oracle: trails(7 * time.Second), Inputs: drawMoments},
		"trailing peers":    {Build: stretches(window.Trailing(5*time.Second), anyOrder(), stepwise), Oracle: sortedDigits(trails(5 * time.Second))},
		"trailing all":      {Build: stretches(window.Trailing(24*time.Hour), inOrder()), Oracle: trails(24 * time.Hour), Inputs: drawMoments},
		"trailing a moment": {Build: stretches(window.Trailing(1), anyOrder()), Oracle: sortedDigits(trails(1))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if p.Inputs == nil {
				p.Inputs = drawEvents
			}
			p.Time, p.Disorder = event.time, bound
			flowtest.CheckProperty(t, p)
		})
	}
}

func TestSortedWindowsInAllModes(t *testing.T) {
	for name, w := range map[string]window.Assigner[event]{
		"while": window.While(isOn), "between": window.Between(opens, shuts), "trailing": window.Trailing(10 * time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flowtest.CheckOperator(t, flowtest.OperatorCheck[event, outcome]{
				Inputs: events(5, 60, 7), Key: func(o outcome) string { return o.Key },
				BuildMany: func(s flow.Stream[event]) []flow.Stream[outcome] {
					return outcomes(operators.Window(flow.KeyBy(timed(s), event.key), "win", w, countAndSum()))
				},
			})
		})
	}
}

// ended runs events of one key through a window to the end of the stream, and gives "[start,end) numbers at time", in seconds and
// nanoseconds where they are not whole, and what was late.
func ended(t *testing.T, w window.Assigner[event], in ...event) (out []string, late []flow.Late[event]) {
	t.Helper()
	src, results, lates := flowtest.NewSource[event](), flowtest.NewSink[window.Result[string, string]](), flowtest.NewSink[flow.Late[event]]()
	r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("ended", append(o, flow.WithParallelism(1))...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.Monotonous().Every(0))
		win := operators.Window(flow.KeyBy(timed, event.key), "win", w, inOrder())
		flow.To(win, "out", results)
		flow.To(win.Late(), "late", lates)
		return top
	}, src)
	src.Feed(in...)
	r.Flush()
	for _, r := range results.Records() {
		v := r.Value
		out = append(out, fmt.Sprintf("[%v,%v) %s at %v", inSeconds(v.Start), inSeconds(v.End), v.Value, inSeconds(r.Time)))
	}
	return out, lates.Values()
}

func inSeconds(at flow.Timestamp) string {
	s := at.Time().Unix()
	switch at - seconds(s) {
	case 0:
		return fmt.Sprint(s)
	case 1:
		return fmt.Sprint(s, "+1")
	}
	return fmt.Sprint(int64(at), "ns")
}

// The corner cases of state windows, which the documentation states.
func TestStateWindowCorners(t *testing.T) {
	between, while := window.Between(opens, shuts), window.While(isOn)
	for name, c := range map[string]struct {
		w    window.Assigner[event]
		in   []event
		want []string
	}{
		"while: closed by the first that is off":  {while, []event{{"a", 2, 1}, {"a", 4, 3}, {"a", 1, 7}, {"a", 1, 8}}, []string{"[1,7) 24 at 7"}},
		"while: never on":                         {while, []event{{"a", 1, 1}, {"a", 3, 3}}, nil},
		"while: off and on at one time":           {while, []event{{"a", 2, 1}, {"a", 1, 5}, {"a", 4, 5}, {"a", 1, 9}}, []string{"[1,5) 2 at 5", "[5,9) 4 at 9"}},
		"while: on and off at one time":           {while, []event{{"a", 2, 5}, {"a", 1, 5}}, []string{"[5,5+1) 2 at 5"}},
		"while: open at the end":                  {while, []event{{"a", 2, 1}, {"a", 4, 3}}, []string{"[1,3+1) 24 at 3"}},
		"while: long open at the end":             {while, []event{{"a", 2, 1}, {"b", 1, 50}}, []string{"[1,1+1) 2 at 50"}},
		"while: before 1970":                      {while, []event{{"a", 2, -9}, {"a", 4, -3}, {"a", 1, -2}}, []string{"[-9,-2) 24 at -2"}},
		"between: both ends are in it":            {between, []event{{"a", 1, 0}, {"a", 3, 1}, {"a", 1, 2}, {"a", 4, 3}, {"a", 1, 4}}, []string{"[1,3+1) 314 at 3"}},
		"between: what shuts with nothing open":   {between, []event{{"a", 4, 1}, {"a", 8, 2}}, nil},
		"between: opens again while open":         {between, []event{{"a", 3, 1}, {"a", 9, 2}, {"a", 4, 3}}, []string{"[1,3+1) 394 at 3"}},
		"between: opens and shuts with none open": {between, []event{{"a", 0, 1}, {"a", 4, 2}}, []string{"[1,1+1) 0 at 1"}},
		"between: opens and shuts while one is":   {between, []event{{"a", 3, 1}, {"a", 0, 2}, {"a", 4, 3}}, []string{"[1,2+1) 30 at 2"}},
		"between: shuts and opens at one time":    {between, []event{{"a", 3, 1}, {"a", 4, 2}, {"a", 3, 2}, {"a", 4, 5}}, []string{"[1,2+1) 34 at 2", "[2,5+1) 34 at 5"}},
		"between: several keys at the end":        {between, []event{{"b", 3, 1}, {"a", 3, 2}, {"c", 3, 3}}, []string{"[1,1+1) 3 at 3", "[2,2+1) 3 at 3", "[3,3+1) 3 at 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, late := ended(t, c.w, c.in...)
			require.ElementsMatch(t, c.want, out)
			require.Empty(t, late)
		})
	}
}

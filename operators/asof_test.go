package operators_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
	joins "github.com/millrace-stream/millrace/operators/join"
)

func latest(l, r one, found bool) two {
	if !found {
		if r != (one{}) {
			return two{"not found, and yet given", l.N, r.N}
		}
		return two{l.Key, l.N, -1}
	}
	return two{l.Key, l.N, r.N}
}

func asOf(b time.Duration, opts ...joins.Option) func(flow.Stream[one]) flow.Stream[two] {
	return func(s flow.Stream[one]) flow.Stream[two] {
		l, r := sides(s, b)
		return operators.AsOf(l, r, "as-of", latest, opts...)
	}
}

// lookingBack is the as-of join by trying all right records; the later one counts where times are equal.
func lookingBack(in []one, tolerance int64) (out []two) {
	for _, l := range in {
		if l.Right {
			continue
		}
		best := -1
		for i, r := range in {
			if r.Right && r.Key == l.Key && r.At <= l.At && (best < 0 || r.At >= in[best].At) {
				best = i
			}
		}
		if best < 0 || l.At-in[best].At > tolerance {
			out = append(out, two{l.Key, l.N, -1})
		} else {
			out = append(out, two{l.Key, l.N, in[best].N})
		}
	}
	return out
}

func TestAsOfProperties(t *testing.T) {
	for name, c := range map[string]struct {
		tolerance int64
		opts      []joins.Option
	}{
		"any age":       {1000, nil},
		"within 4 s":    {4, []joins.Option{joins.Within(4 * time.Second)}},
		"the same time": {0, []joins.Option{joins.Within(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flowtest.CheckProperty(t, flowtest.Property[one, two]{
				Inputs: func(rt *rapid.T) (in []one) {
					seen := map[one]bool{}
					for _, o := range drawOnes(rt) { // of equal times the last to arrive counts, so there are none
						if id := (one{Right: o.Right, Key: o.Key, At: o.At}); !o.Right || !seen[id] {
							seen[id] = true
							in = append(in, o)
						}
					}
					return in
				},
				Time: one.time, Disorder: bound, Build: asOf(bound, c.opts...),
				Oracle: func(in []one) []two { return lookingBack(in, c.tolerance) },
			})
		})
	}
}

func TestAsOfInAllModes(t *testing.T) {
	for _, tolerance := range []int64{6, 1000} {
		t.Run(fmt.Sprint("within ", tolerance), func(t *testing.T) {
			t.Parallel()
			in := script(5, 60, 3)
			flowtest.CheckOperator(t, flowtest.OperatorCheck[one, two]{
				Inputs: in, Want: lookingBack(in, tolerance), Key: func(p two) string { return p.Key },
				Build: asOf(5*time.Second, joins.Within(time.Duration(tolerance)*time.Second)),
			})
		})
	}
}

func TestAsOfWaitsForTheRight(t *testing.T) {
	p := newPairing(2, 1)
	r := p.start(t, func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
		return operators.AsOf(l, r, "as-of", latest)
	})
	p.left.FeedTo("0", left(1, 5), left(2, 10))
	p.left.FeedTo("1", left(3, 8))
	p.right.Feed(right(1, 3))
	r.Epoch()
	require.Empty(t, p.out.Next(), "the right has come to 3 only")
	restart(r)
	p.right.Feed(right(2, 9), right(3, 12))
	r.Epoch()
	require.Equal(t, []two{{"a", 1, 1}}, p.out.Next(), "partition 1 of the left has come to 8")
	p.tasks = 3
	restart(r)
	p.left.FeedTo("1", left(4, 11))
	r.Epoch()
	require.Equal(t, []two{{"a", 3, 1}}, p.out.Next(), "partition 0 of the left has come to just below 10")

	p.left.FeedTo("0", left(5, 30))
	p.left.FeedTo("1", left(6, 30))
	p.right.Feed(right(4, 30))
	r.Epoch()
	require.Equal(t, []two{{"a", 2, 2}, {"a", 4, 2}}, p.out.Next())
	// The watermark is just below 30; right 3, of 12, is the last that is known.
	p.left.FeedTo("1", left(7, 20))
	p.right.Feed(right(5, 11), right(6, 13), right(7, 12))
	r.Epoch()
	require.Empty(t, p.out.Next())
	require.Equal(t, "its time is behind the watermark", p.lateLeft.Next()[0].Reason)
	var reasons []string
	for _, l := range p.lateRight.Next() {
		reasons = append(reasons, fmt.Sprint(l.Value.N, " ", l.Reason))
	}
	slices.Sort(reasons)
	require.Equal(t, []string{
		"5 its time is behind the watermark, and older than what is known",
		"6 its time is behind the watermark: only later records of the left find it",
		"7 its time is behind the watermark, and older than what is known",
	}, reasons)
	restart(r)
	p.left.FeedTo("0", left(8, 29+60))
	p.left.FeedTo("1", left(9, 60))
	p.right.FeedTo("0", one{true, "b", 8, 61})
	r.Epoch()
	require.ElementsMatch(t, []two{{"a", 5, 4}, {"a", 6, 4}}, p.out.Next())
	r.Stop()
}

// A late right record that is the newest known is what later left ones find.
func TestAsOfTakesALateRight(t *testing.T) {
	p := newPairing(1, 1)
	r := p.start(t, func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
		return operators.AsOf(l, r, "as-of", latest, joins.Within(100*time.Second))
	})
	p.right.Feed(right(1, 3), one{true, "b", 2, 50})
	p.left.Feed(left(1, 50))
	r.Epoch()
	require.Empty(t, p.out.Next())
	p.right.Feed(right(3, 20))
	r.Epoch()
	restart(r)
	require.Len(t, p.lateRight.Next(), 1)
	p.left.Feed(left(2, 60), left(3, 121))
	p.right.Feed(one{true, "b", 4, 122})
	r.Epoch()
	require.Equal(t, []two{{"a", 1, 3}, {"a", 2, 3}}, p.out.Next())
	p.left.End()
	p.right.End()
	require.NoError(t, r.Wait())
	require.Equal(t, []two{{"a", 3, -1}}, p.out.Next(), "101 s old")
}

func TestAsOfValidate(t *testing.T) {
	top := flow.New("as-of")
	l, r := sides(flow.From(top, "in", flowtest.NewSource[one]()), 0)
	flow.To(operators.AsOf[string, one, one, two](l, r, "as-of", nil, joins.Within(-2), joins.AllowedLateness(1)), "out", flowtest.NewSink[two]())
	err := top.Validate()
	require.ErrorContains(t, err, "its function is nil")
	require.ErrorContains(t, err, "the tolerance -2ns is negative")
	require.ErrorContains(t, err, "AllowedLateness on an as-of join")
}

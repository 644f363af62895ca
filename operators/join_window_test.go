package operators_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
	joins "github.com/millrace-stream/millrace/operators/join"
	"github.com/millrace-stream/millrace/operators/window"
)

// meeting is a key's window in words: its start, and the numbers of both sides.
type meeting struct {
	Key         string
	Start       int64
	Left, Right string
	Kind        string
}

func (m meeting) id() string { return fmt.Sprint(m.Key, m.Start) }

func meet(g joins.Group[string, one, one], emit func(meeting)) {
	m := meeting{Key: g.Key, Start: g.Start.Time().Unix(), Kind: g.Kind.String()}
	m.Left, m.Right = list(g.Left), list(g.Right)
	emit(m)
}

// list are the numbers of records, sorted: those of equal times lie in order of arrival.
func list(of []one) string {
	s := make([]string, len(of))
	for i := range of {
		s[i] = fmt.Sprintf("%02d", of[i].N)
	}
	slices.Sort(s)
	return strings.Join(s, " ")
}

func meetings(w window.Plain, b time.Duration, opts ...joins.Option) func(flow.Stream[one]) flow.Stream[meeting] {
	return func(s flow.Stream[one]) flow.Stream[meeting] {
		l, r := sides(s, b)
		return operators.CoGroup(l, r, "group", w, meet, opts...)
	}
}

// grouping groups by trying all windows there could be.
func grouping(in []one, size, slide int64) (out []meeting) {
	for start := int64(-500) * slide; start < 500*slide; start += slide {
		byKey := map[string]*[2][]one{}
		for _, o := range in {
			if start <= o.At && o.At < start+size {
				if byKey[o.Key] == nil {
					byKey[o.Key] = &[2][]one{}
				}
				side := 0
				if o.Right {
					side = 1
				}
				byKey[o.Key][side] = append(byKey[o.Key][side], o)
			}
		}
		for key, of := range byKey {
			out = append(out, meeting{key, start, list(of[0]), list(of[1]), "on time"})
		}
	}
	return out
}

// crossing joins by trying all windows and all pairs.
func crossing(in []one, size, slide int64, kind joins.Kind) (out []two) {
	for start := int64(-500) * slide; start < 500*slide; start += slide {
		var inside []one
		for _, o := range in {
			if start <= o.At && o.At < start+size {
				inside = append(inside, o)
			}
		}
		out = append(out, nested(inside, -1000, 1000, kind)...)
	}
	return out
}

func TestCoGroupProperties(t *testing.T) {
	s := time.Second
	for name, c := range map[string]struct {
		w           window.Plain
		size, slide int64
		late        bool
	}{
		"tumbling":      {window.Tumbling(5 * s), 5, 5, false},
		"sliding":       {window.Sliding(10*s, 4*s), 10, 4, false},
		"sliding, late": {window.Sliding(9*s, 3*s), 9, 3, true},
		"with gaps":     {window.Sliding(2*s, 6*s), 2, 6, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := flowtest.Property[one, meeting]{
				Inputs: drawOnes, Time: one.time, Disorder: bound, Build: meetings(c.w, bound),
				Oracle: func(in []one) []meeting { return grouping(in, c.size, c.slide) },
			}
			if c.late { // kinds depend on the order of arrival, what comes last does not
				p.Disorder = bound + lateness
				p.Build = func(s flow.Stream[one]) flow.Stream[meeting] {
					l, r := sides(s, bound)
					return operators.CoGroup(l, r, "group", c.w, func(g joins.Group[string, one, one], emit func(meeting)) {
						g.Kind = window.OnTime
						meet(g, emit)
					}, joins.AllowedLateness(lateness))
				}
				p.Identity = meeting.id
			}
			flowtest.CheckProperty(t, p)
		})
	}
}

func TestWindowJoinInAllModes(t *testing.T) {
	for _, c := range []struct {
		w           window.Plain
		size, slide int64
		kind        joins.Kind
	}{
		{window.Tumbling(10 * time.Second), 10, 10, joins.Inner},
		{window.Sliding(10*time.Second, 5*time.Second), 10, 5, joins.Left},
		{window.Sliding(12*time.Second, 5*time.Second), 12, 5, joins.Right},
		{window.Tumbling(4 * time.Second), 4, 4, joins.Full},
	} {
		t.Run(c.kind.String(), func(t *testing.T) {
			t.Parallel()
			in := script(11, 60, 4)
			flowtest.CheckOperator(t, flowtest.OperatorCheck[one, two]{
				Inputs: in, Want: crossing(in, c.size, c.slide, c.kind),
				Build: func(s flow.Stream[one]) flow.Stream[two] {
					l, r := sides(s, 5*time.Second)
					return operators.WindowJoin(l, r, "join", c.w, c.kind, pair)
				},
			})
		})
	}
}

func TestWindowJoinTakesLateRecords(t *testing.T) {
	p := newPairing(1, 1)
	r := p.start(t, func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
		return operators.WindowJoin(l, r, "join", window.Tumbling(10*time.Second), joins.Left, pair, joins.AllowedLateness(5*time.Second))
	})
	p.left.Feed(left(1, 1), left(2, 12))
	p.right.Feed(right(1, 12))
	r.Epoch()
	require.Equal(t, []two{{"a", 1, -1}}, p.out.Next())
	require.EqualValues(t, 10*time.Second-1, p.out.Records()[0].Time)
	restart(r)
	p.right.Feed(right(2, 9))
	r.Epoch()
	require.Equal(t, []two{{"a", 1, 2}}, p.out.Next(), "again, with all that is in the window")
	p.left.Feed(left(3, 8))
	r.Epoch()
	require.Equal(t, []two{{"a", 1, 2}, {"a", 3, 2}}, p.out.Next())
	p.left.Feed(left(4, 20))
	p.right.Feed(right(3, 15), right(4, 20))
	r.Epoch()
	require.Equal(t, []two{{"a", 2, 1}, {"a", 2, 3}}, p.out.Next())
	p.left.Feed(left(5, 9))
	p.right.Feed(right(5, 9), right(6, 10))
	r.Epoch()
	require.Equal(t, []two{{"a", 2, 6}, {"a", 2, 1}, {"a", 2, 3}}, p.out.Next(), "in order of time")
	late := p.lateLeft.Next()
	require.Len(t, late, 1)
	require.Equal(t, "its window is gone", late[0].Reason)
	require.Len(t, p.lateRight.Next(), 1)
	r.Stop()
}

// Days of 23 and 25 hours are windows of both inputs.
func TestWindowJoinByDays(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	p := newPairing(1, 1)
	r := p.start(t, func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
		return operators.WindowJoin(l, r, "join", window.Days(berlin), joins.Full, pair)
	})
	at := func(hour int) int64 { return time.Date(2024, 3, 31, hour, 0, 0, 0, berlin).Unix() }
	p.left.Feed(left(1, at(0)-1), left(2, at(0)), left(3, at(24)-1), left(4, at(24)))
	p.right.Feed(right(1, at(12)), right(2, at(24)), right(3, at(100)))
	r.Epoch()
	p.left.End()
	p.right.End()
	require.NoError(t, r.Wait())
	require.Equal(t, []two{{"a", 1, -1}, {"a", 2, 1}, {"a", 3, 1}, {"a", 4, 2}, {"a", -1, 3}}, p.out.Next())
}

// At both ends of time joins are right, or say that they cannot be.
func TestJoinsAtTheEndsOfTime(t *testing.T) {
	const first, last = -9214560000, 9214646399 // the seconds that AssignTime takes
	feed := func(p *pairing, r *flowtest.Run) []two {
		p.left.Feed(left(1, first), left(2, last))
		p.right.Feed(right(1, first), right(2, last))
		p.left.End()
		p.right.End()
		require.NoError(t, r.Wait())
		return p.out.Values()
	}
	alike := []two{{"a", 1, 1}, {"a", 2, 2}}
	for name, c := range map[string]struct {
		build func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two]
		want  []two
		late  int
	}{
		"interval": {func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
			return operators.OuterJoin(l, r, "join", joins.Between(-1<<62, 1<<62), joins.Full, pair)
		}, alike, 0},
		"all of an int64": {func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
			return operators.OuterJoin(l, r, "join", joins.Between(-1<<63+1, 1<<63-1), joins.Full, pair)
		}, alike, 0},
		"as-of": {func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
			return operators.AsOf(l, r, "join", latest, joins.Within(1<<63-1))
		}, alike, 0},
		"windows of 80 days": {func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
			return operators.WindowJoin(l, r, "join", window.Sliding(80*24*time.Hour, 40*24*time.Hour), joins.Full, pair)
		}, []two{{"a", 1, 1}, {"a", 1, 1}, {"a", 2, 2}, {"a", 2, 2}}, 0},
		"windows of 200 years": {func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
			return operators.WindowJoin(l, r, "join", window.Tumbling(200*365*24*time.Hour), joins.Full, pair)
		}, nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPairing(1, 1)
			require.ElementsMatch(t, c.want, feed(p, p.start(t, c.build)))
			require.Len(t, p.lateLeft.Values(), c.late)
			require.Len(t, p.lateRight.Values(), c.late)
		})
	}
}

func TestWindowJoinValidate(t *testing.T) {
	top := flow.New("pairs")
	l, r := sides(flow.From(top, "in", flowtest.NewSource[one]()), 0)
	n := 0
	add := func(w window.Plain, kind joins.Kind, opts ...joins.Option) {
		n++
		flow.To(operators.WindowJoin(l, r, fmt.Sprint("join-", n), w, kind, pair, opts...), fmt.Sprint("out-", n), flowtest.NewSink[two]())
	}
	add(nil, joins.Inner)
	add(window.Count(3), joins.Inner)
	add(window.SessionBy(func(one) time.Duration { return 1 }), joins.Inner, joins.FireStep(0))
	add(window.Tumbling(0), joins.Inner)
	add(window.Tumbling(time.Minute), 7, joins.AllowedLateness(-1), joins.Within(1))
	flow.To(operators.CoGroup[string, one, one, two](l, r, "group", window.Tumbling(time.Minute), nil), "group-out", flowtest.NewSink[two]())
	err := top.Validate()
	for _, want := range []string{
		"the window assigner is nil", "these windows do not cut time for both inputs alike", "window.SessionBy in a join", "firings in steps of 0 records", "the window size 0s is not positive", "there is no Kind(7) join",
		"the allowed lateness -1ns is negative", "Within on a join by windows", "its function is nil",
	} {
		require.ErrorContains(t, err, want)
	}
}

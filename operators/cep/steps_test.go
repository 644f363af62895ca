package cep_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

// signal is an interface type: steps narrow it.
type signal interface{ at() time.Time }

type warm struct{ S, Degrees int }

type gone struct{ S int }

func (w warm) at() time.Time { return time.Unix(int64(w.S), 0) }
func (g gone) at() time.Time { return time.Unix(int64(g.S), 0) }

// signals stores a signal: the interface says nothing about how.
type signals struct{}

func (signals) ID() string { return "signals" }

func (signals) Append(b []byte, v *signal) ([]byte, error) {
	switch s := (*v).(type) {
	case warm:
		return append(b, 'w', byte(s.S), byte(s.Degrees)), nil
	case gone:
		return append(b, 'g', byte(s.S)), nil
	}
	return b, fmt.Errorf("no signal: %T", *v)
}

func (signals) Decode(b []byte, v *signal) error {
	switch {
	case len(b) == 3 && b[0] == 'w':
		*v = warm{int(b[1]), int(b[2])}
	case len(b) == 2 && b[0] == 'g':
		*v = gone{int(b[1])}
	default:
		return fmt.Errorf("no signal: %x", b)
	}
	return nil
}

func TestAsNarrowsAnInterface(t *testing.T) {
	t.Parallel()
	var _ codec.Codec[signal] = signals{}
	p := cep.Begin("hot", cep.As[signal](func(w warm) bool { return w.Degrees > 90 })).Next("gone", cep.As[signal, gone](nil)).Within(time.Minute)
	src, out := flowtest.NewSource[signal](), flowtest.NewSink[string]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("signals", opts...)
		k := flow.KeyBy(flow.AssignTime(flow.From(top, "in", src), "time", signal.at, monotonous()), flow.Whole)
		m := operators.CEP(k, "cep", p, func(_ context.Context, m cep.Match[struct{}, signal]) (string, error) {
			return fmt.Sprint(m.First("hot"), m.Last("gone")), nil
		}, cep.EventCodec[signal](signals{}))
		flow.To(m, "out", out)
		return top
	}, src)
	src.Feed(warm{1, 95}, warm{2, 80}, gone{3}, warm{4, 99})
	r.Epoch()
	r.Crash()
	src.Feed(gone{5}, gone{6})
	r.Flush()
	require.Equal(t, []string{"{4 99} {5}"}, out.Values(), "stored by the codec in between")
}

// gives is what comes of a script.
func gives(t *testing.T, p cep.Pattern[beat], script string, opts ...cep.Option) (matches, timedOut []string) {
	t.Helper()
	l := newLab(t, p, opts...)
	l.src.Feed(beats(script)...)
	l.Flush()
	return sorted(l.out.Values()), sorted(l.almost.Values())
}

func TestConditions(t *testing.T) {
	t.Parallel()
	above := func(n int64) func(beat) bool { return func(b beat) bool { return b.N > n } }
	p := cep.Begin("x", is("x"), cep.Where(above(3)), cep.Or(func(b beat) bool { return b.Kind == "w" }))
	got, _ := gives(t, p, "a:x1@1 a:x5@2 a:w1@3 a:y9@4")
	require.Equal(t, list("a x=w1 @3", "a x=x5 @2"), got, "all of Where, or Or")

	rising := cep.WhereGiven(func(b beat, sofar *cep.Taken[beat]) bool {
		last, ok := sofar.Last("x")
		return !ok || b.N > last.N && sofar.Count("x") < 3
	})
	got, _ = gives(t, cep.Begin("x", is("x"), rising, cep.TimesOrMore(2)).AfterMatch(cep.SkipToNext()).Next("y", is("y")), "a:x1@1 a:x3@2 a:x2@3 a:x5@4 a:y0@5")
	require.Equal(t, list("a x=x1,x3,x5 y=y0 @5", "a x=x2,x5 y=y0 @5", "a x=x3,x5 y=y0 @5"), got)

	// A condition of another step, joined with one of the event alone by Or.
	p = cep.Begin("x", is("x")).FollowedBy("y", cep.WhereGiven(func(b beat, sofar *cep.Taken[beat]) bool {
		for x := range sofar.Of("x") {
			return b.N == 2*x.N
		}
		return false
	}), cep.Or(func(b beat) bool { return b.Kind == "z" }))
	got, _ = gives(t, p, "a:x2@1 a:y3@2 a:y4@3 b:x2@1 b:z9@2")
	require.Equal(t, list("a x=x2 y=y4 @3", "b x=x2 y=z9 @2"), got)

	got, _ = gives(t, cep.Begin[beat]("any").Next("next"), "a:x1@1 a:y2@2")
	require.Equal(t, list("a any=x1 next=y2 @2"), got, "without a condition every event fits")
}

func TestUntil(t *testing.T) {
	t.Parallel()
	until := cep.Until(func(b beat) bool { return b.Kind == "u" })
	p := cep.Begin("x", is("x"), cep.OneOrMore(), until).FollowedBy("y", is("y")).AfterMatch(cep.SkipToNext())
	got, _ := gives(t, p, "a:x1@1 a:x2@2 a:u0@3 a:x3@4 a:y4@5")
	require.Equal(t, list("a x=x1,x2 y=y4 @5", "a x=x2 y=y4 @5", "a x=x3 y=y4 @5"), got, "x3 is behind the end of the first two")

	sum := cep.UntilGiven(func(b beat, sofar *cep.Taken[beat]) bool {
		n := b.N
		for x := range sofar.Of("x") {
			n += x.N
		}
		return n > 6
	})
	p = cep.Begin("x", is("x"), cep.OneOrMore(), cep.Greedy(), sum).FollowedBy("y", is("y")).AfterMatch(cep.SkipPastLast())
	got, _ = gives(t, p, "a:x1@1 a:x2@2 a:x3@3 a:x4@4 a:y5@5")
	require.Len(t, got, 1)
	require.Equal(t, "a x=x1,x2,x3 y=y5 @5", got[0])
}

func TestGapAndWithinPrevious(t *testing.T) {
	t.Parallel()
	p := cep.Begin("x", is("x"), cep.Times(3), cep.Gap(2*time.Second))
	got, out := gives(t, p, "a:x1@1 a:x2@2.5 a:x3@4.499 b:x1@1 b:x2@3 b:x3@4")
	require.Equal(t, list("a x=x1,x2,x3 @4.499"), got)
	require.Equal(t, list("a x=x2,x3 @6.499", "a x=x3 @6.499", "b x=x1 @3", "b x=x2,x3 @6", "b x=x3 @6"), out, "noticed at their moment; an event exactly there is too late")

	p = cep.Begin("x", is("x")).FollowedBy("y", is("y"), cep.WithinPrevious(2*time.Second)).FollowedBy("z", is("z"))
	got, out = gives(t, p, "a:x1@1 a:y2@2 a:z3@60 b:x1@1 b:y2@3 b:z3@4")
	require.Equal(t, list("a x=x1 y=y2 z=z3 @60"), got, "only the wait for y is bounded")
	require.Equal(t, list("b x=x1 @3"), out)

	// At the end of a pattern, NotFollowedBy may be bounded by the event before instead of Within.
	p = cep.Begin("x", is("x"), cep.Times(2)).NotFollowedBy("z", is("z"), cep.WithinPrevious(2*time.Second))
	got, out = gives(t, p, "a:x1@1 a:x2@9 b:x1@1 b:x2@9 b:z3@10")
	require.Equal(t, list("a x=x1,x2 @end"), got)
	require.Empty(t, out)
}

// The bounds are noticed without any event of the key, and after a crash too.
func TestGapIsNoticedByTheWatermark(t *testing.T) {
	t.Parallel()
	l := newLab(t, cep.Begin("x", is("x"), cep.Times(3), cep.Gap(2*time.Second)))
	require.Empty(t, l.gives("a:x1@1"))
	require.Empty(t, l.pass(1.5))
	l.Crash()
	l.pass(2.9)
	require.Empty(t, l.almost.Next())
	l.pass(3)
	require.Equal(t, []string{"a x=x1 @3"}, l.almost.Next())
	require.Zero(t, l.partials())
}

func TestOrderBy(t *testing.T) {
	t.Parallel()
	p := cep.Begin("x", is("x")).Next("y", is("y")).Next("z", is("z"))
	script := "a:z3@1 a:y2@1 a:x1@1 b:x1@2 b:z3@2 b:y2@2"
	got, _ := gives(t, p, script)
	require.Empty(t, got, "in order of arrival")
	got, _ = gives(t, p, script, cep.OrderBy(func(a, b beat) int { return int(a.N - b.N) }))
	require.Equal(t, list("a x=x1 y=y2 z=z3 @1", "b x=x1 y=y2 z=z3 @2"), got)
	// Those it finds equal stay in order of arrival.
	got, _ = gives(t, p, "a:x1@1 a:y2@1 a:z3@1 b:z3@2 b:y2@2 b:x1@2", cep.OrderBy(func(a, b beat) int { return 0 }))
	require.Equal(t, list("a x=x1 y=y2 z=z3 @1"), got)
}

func TestMatch(t *testing.T) {
	t.Parallel()
	var m beatMatch
	l := &lab{tasks: 1}
	p := cep.Begin("x", is("x"), cep.Times(2)).FollowedBy("maybe", is("w"), cep.Optional()).FollowedBy("y", is("y"))
	l.build = func(k flow.KeyedStream[string, beat], _ func(context.Context, beatMatch) (string, error)) operators.Matched[string, beat, string] {
		return operators.CEP(k, "cep", p, func(_ context.Context, found beatMatch) (string, error) { m = found; return "", nil })
	}
	l.start(t)
	l.src.Feed(beats("a:x1@1 a:x2@2 a:y3@3")...)
	l.Flush()
	require.Equal(t, "a", m.Key)
	require.Equal(t, "1 2 3", seconds(m.Start)+" "+seconds(m.Last("x").when())+" "+seconds(m.End))
	require.Equal(t, []string{"x1", "x2"}, beatTexts(m.Of("x")))
	require.Equal(t, "x1", m.First("x").text())
	require.Nil(t, m.Of("maybe"))
	require.False(t, m.Has("maybe"))
	require.Equal(t, beat{}, m.First("maybe"))
	require.Equal(t, beat{}, m.Last("maybe"))
	require.True(t, m.Has("y"))
	require.Equal(t, 3, m.Len())
	require.Equal(t, "a: x×2 y×1", m.String())
	require.PanicsWithError(t, `cep: the match is asked for step "z", and the pattern has the steps ["x" "maybe" "y"]`, func() { m.Of("z") })
}

func (b beat) when() flow.Timestamp { return flow.Timestamp(b.At) }

func TestLateEvents(t *testing.T) {
	t.Parallel()
	l := newLab(t, cep.Begin("x", is("x")))
	require.Empty(t, l.gives("a:x1@5"))
	require.Equal(t, list("a x=x1 @5"), l.pass(6))
	l.src.Feed(beat{"a", "x", 2, 6e9}, beat{"a", "x", 3, 5e9})
	require.Empty(t, l.pass(6.5))
	require.Equal(t, list("a x2: the watermark has reached its time, and what comes before it in order of time is decided", "a x3: the watermark has reached its time, and what comes before it in order of time is decided"), sorted(l.late.Values()))
	require.EqualValues(t, 2, l.counter("late"))
}

// A group whose steps may all be left out, and which repeats, comes to an end.
func TestAGroupThatCanBeEmpty(t *testing.T) {
	t.Parallel()
	maybe := cep.Begin("x", is("x"), cep.Optional()).FollowedBy("y", is("y"), cep.Optional())
	got, _ := gives(t, cep.Begin("s", is("s")).FollowedByGroup(maybe, cep.OneOrMore()).FollowedBy("e", is("e")).AfterMatch(cep.SkipToNext()), "a:s1@1 a:x2@2 a:y3@3 a:e4@4")
	require.NotEmpty(t, got)
	got, _ = gives(t, cep.Begin("s", is("s")).FollowedByGroup(maybe, cep.OneOrMore()).Absent("e", time.Second, is("e")).AfterMatch(cep.SkipToNext()), "a:s1@1 a:x2@2 a:y3@3 a:w4@9")
	require.NotEmpty(t, got)
}

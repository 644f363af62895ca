package cep_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

// setLab is a lab of a set.
type setLab struct {
	*lab
	set     cep.Set[beat]
	changes *flowtest.Source[cep.Change]
}

func newSetLab(t *testing.T, tasks int, set cep.Set[beat], opts ...cep.Option) *setLab {
	l := &setLab{&lab{tasks: tasks, letters: true}, set, flowtest.NewSource[cep.Change]()}
	l.build = func(k flow.KeyedStream[string, beat], f func(context.Context, beatMatch) (string, error)) operators.Matched[string, beat, string] {
		return operators.CEPSet(k, "cep", l.set, flow.From(k.Topology(), "changes", l.changes), f, opts...)
	}
	l.f = func(_ context.Context, m beatMatch) (string, error) {
		return m.Pattern + m.Version + " " + matchText(m), nil
	}
	l.src, l.dead = flowtest.NewSource[beat]("0"), flowtest.NewSink[flow.DeadLetter]()
	l.out, l.almost, l.late = flowtest.NewSink[string](), flowtest.NewSink[string](), flowtest.NewSink[string]()
	l.Run = flowtest.Start(t, l.topology, l.src, l.changes)
	return l
}

// change makes a change, in force when it returns.
func (l *setLab) change(cs ...cep.Change) {
	l.T.Helper()
	l.changes.Feed(cs...)
	l.Epoch()
}

func then(kind string) cep.Pattern[beat] {
	return cep.Begin("x", is("x")).FollowedBy(kind, is(kind)).Within(time.Hour)
}

func twoVersions() cep.Set[beat] {
	return cep.Set[beat]{}.Add("p", "1", then("y")).AddOff("p", "2", then("z")).Add("q", "1", cep.Begin("w", is("w")))
}

func TestSetOfPatterns(t *testing.T) {
	t.Parallel()
	for _, tasks := range []int{1, 4} {
		l := newSetLab(t, tasks, twoVersions())
		l.src.Feed(beats("a:x1@1 b:w2@1")...)
		require.Equal(t, list("q1 b w=w2 @1"), l.pass(1))

		// Replace, and let what there is be drained: a's partial match goes on, and no new one begins.
		l.change(cep.Change{Name: "p", Version: "2"})
		l.src.Feed(beats("c:x3@2")...)
		require.Empty(t, l.pass(2))
		l.src.Feed(beats("a:z4@3 a:y5@4 c:y6@4 c:z7@5")...)
		require.Equal(t, list("p1 a x=x1 y=y5 @4", "p2 c x=x3 z=z7 @5"), l.pass(5))

		// Take one out of force, and one back, dropping what there is.
		l.src.Feed(beats("d:x8@6")...)
		l.pass(6)
		l.change(cep.Change{Name: "p", Version: "1", Drop: true}, cep.Change{Name: "q"})
		require.EqualValues(t, 1, l.counter("partials_dropped"))
		l.src.Feed(beats("d:z9@7 d:w1@7 e:x2@7 e:y3@8")...)
		require.Equal(t, list("p1 e x=x2 y=y3 @8"), l.pass(8))

		// And back in.
		l.change(cep.Change{Name: "q", Version: "1"})
		l.src.Feed(beats("d:w4@9")...)
		require.Equal(t, list("q1 d w=w4 @9"), l.pass(9))
		require.Empty(t, l.dead.Values())
		require.Zero(t, l.partials())
	}
}

// A change comes in force when the epoch ends, not in the midst of it; and a crash before that takes it back with the events of the epoch.
func TestAChangeComesInForceBetweenEpochs(t *testing.T) {
	t.Parallel()
	l := newSetLab(t, 1, twoVersions())
	l.changes.Feed(cep.Change{Name: "p", Version: "2"})
	l.Settle()
	l.src.Feed(beats("a:x1@1 a:y2@2 a:z3@3")...)
	require.Equal(t, list("p1 a x=x1 y=y2 @2"), l.pass(4), "in the epoch that the change came in, the version before is in force")
	l.src.Feed(beats("a:x4@5 a:y5@6 a:z6@7")...)
	require.Equal(t, list("p2 a x=x4 z=z6 @7"), l.pass(8))
}

func TestChangesSurviveRestartsAndRescaling(t *testing.T) {
	t.Parallel()
	l := newSetLab(t, 1, twoVersions())
	l.src.Feed(beats("a:x1@1 b:x2@1 c:x3@1")...)
	l.pass(2)
	l.change(cep.Change{Name: "p", Version: "2"})
	l.tasks = 4
	l.Crash()
	l.src.Feed(beats("a:y4@3 a:x5@3.5 a:z6@4")...)
	require.Equal(t, list("p1 a x=x1 y=y4 @3", "p2 a x=x5 z=z6 @4"), l.pass(5), "the change is in force, and what was drained is still there")
	l.changes.Feed(cep.Change{Name: "p", Version: "1", Drop: true})
	l.Settle()
	l.Crash() // before the epoch has ended
	l.Epoch()
	l.tasks = 2
	l.Crash()
	l.src.Feed(beats("b:y7@6 c:x8@6 c:y9@7")...)
	require.Equal(t, list("p1 b x=x2 y=y7 @6", "p1 c x=x3 y=y9 @7", "p1 c x=x8 y=y9 @7"), l.pass(8), "p 1 is in force again: its partial matches of old were only drained")
}

// Changes of one epoch add up, in their order.
func TestChangesOfOneEpoch(t *testing.T) {
	t.Parallel()
	set := twoVersions().AddOff("p", "3", then("w"))
	l := newSetLab(t, 1, set)
	l.src.Feed(beats("a:x1@1")...)
	l.pass(2)
	l.change(cep.Change{Name: "p", Version: "2", Drop: true}, cep.Change{Name: "p", Version: "3"})
	l.src.Feed(beats("a:y2@3 b:x3@3 b:w4@4")...)
	require.Equal(t, list("p3 b x=x3 w=w4 @4", "q1 b w=w4 @4"), l.pass(5), "the first change has dropped a's")
	l.Crash()
	l.change(cep.Change{}, cep.Change{Name: "p", Version: "3"})
	require.Empty(t, l.dead.Values(), "changes that change nothing are none")
}

func TestChangesThatNameNothing(t *testing.T) {
	t.Parallel()
	l := newSetLab(t, 1, twoVersions())
	l.change(cep.Change{Name: "no", Version: "1"}, cep.Change{Name: "p", Version: "9"})
	var causes []string
	for _, d := range l.dead.Next() {
		causes = append(causes, d.Cause)
	}
	require.Len(t, causes, 2)
	require.Contains(t, causes[0], `there is no pattern "no"; there are "p", "q"`)
	require.Contains(t, causes[1], `pattern "p" has no version "9"; it has "1", "2"`)
	l.src.Feed(beats("a:x1@1 a:y2@2")...)
	require.Equal(t, list("p1 a x=x1 y=y2 @2"), l.pass(3))
}

// A version whose partial matches are stored cannot be left out of the set, nor mean something else.
func TestSetWithoutAVersionThatIsStored(t *testing.T) {
	t.Parallel()
	l := newSetLab(t, 1, twoVersions())
	l.src.Feed(beats("a:x1@1")...)
	l.pass(2)
	l.Kill()
	fails := func(set cep.Set[beat], why string) {
		l.set = set
		err := l.TryRestart()
		if err == nil {
			err = l.Wait()
		}
		require.ErrorContains(t, err, why)
		var node *flow.NodeError
		if errors.As(err, &node) {
			require.Equal(t, "cep", node.Node)
		}
	}
	fails(cep.Set[beat]{}.Add("p", "2", then("z")), "partial matches of a pattern are stored that the set does not have: keep each version in the set until it is drained, or drop it by a Change")
	fails(cep.Set[beat]{}.Add("p", "1", cep.Begin("x", is("x")).Next("y", is("y"))), `pattern "p" version "1" has partial matches of another structure stored: give the changed pattern a new version, and keep the old one until they are gone`)
	l.set = cep.Set[beat]{}.AddOff("p", "1", then("y")).Add("p", "2", then("z"))
	l.Restart()
	l.src.Feed(beats("a:y2@3")...)
	require.Equal(t, list("p1 a x=x1 y=y2 @3"), l.pass(4), "it is drained")
	l.Kill()
	l.set = cep.Set[beat]{}.Add("p", "2", then("z"))
	l.Restart()
	l.src.Feed(beats("a:x3@5 a:z4@6")...)
	require.Equal(t, list("p2 a x=x3 z=z4 @6"), l.pass(7), "and then it can go")
}

// A pattern that stands alone says by cep.Version that it means something else now; its structure says so by itself.
func TestAnotherPatternOnStoredState(t *testing.T) {
	t.Parallel()
	l := newLab(t, waits())
	l.gives("a:x1@1")
	l.pass(2)
	l.Kill()
	for _, other := range []func(flow.KeyedStream[string, beat], func(context.Context, beatMatch) (string, error)) operators.Matched[string, beat, string]{
		func(k flow.KeyedStream[string, beat], f func(context.Context, beatMatch) (string, error)) operators.Matched[string, beat, string] {
			return operators.CEP(k, "cep", waits().Within(time.Second), f)
		},
		func(k flow.KeyedStream[string, beat], f func(context.Context, beatMatch) (string, error)) operators.Matched[string, beat, string] {
			return operators.CEP(k, "cep", waits(), f, cep.Version("2"))
		},
	} {
		l.build = other
		err := l.TryRestart()
		if err == nil {
			err = l.Wait()
		}
		require.ErrorIs(t, err, flow.ErrStateMismatch)
	}
}

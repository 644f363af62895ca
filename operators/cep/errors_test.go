package cep_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/cep"
)

var errNo = errors.New("no")

// failing makes f fail for a match of x2, a number of times.
func failing(times int64, err error) (f func(context.Context, beatMatch) (string, error), calls *atomic.Int64) {
	calls = &atomic.Int64{}
	return func(_ context.Context, m beatMatch) (string, error) {
		if m.First("x").N == 2 && calls.Add(1) <= times {
			return "", err
		}
		return matchText(m), nil
	}, calls
}

// advanceUntil moves the clock until something is so.
func (l *lab) advanceUntil(so func() bool) {
	l.T.Helper()
	require.Eventually(l.T, func() bool {
		l.Clock.Advance(time.Second)
		return so()
	}, 20*time.Second, time.Millisecond)
}

// A transient error is tried again, and nothing is lost or comes twice: matches by events, matches by time, and what stands behind them.
func TestTransientErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		p    cep.Pattern[beat]
		want []string
	}{
		"by events": {waits(), list("a x=x1 y=y6 @6", "a x=x2 y=y6 @6", "a x=x3 y=y6 @6", "b x=x4 y=y7 @7")},
		"by time":   {cep.Begin("x", is("x")).Absent("z", 2*time.Second, is("z")), list("a x=x1 @3", "a x=x2 @4", "a x=x3 @5", "b x=x4 @6")},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, c.p)
			var calls *atomic.Int64
			l.f, calls = failing(3, flow.Transient(errNo))
			l.src.Feed(beats("a:x1@1 a:x2@2 a:x3@3 b:x4@4 a:y6@6 b:y7@7")...)
			l.src.Feed(beat{"~", "~", 0, 9e9})
			l.advanceUntil(func() bool { return calls.Load() == 4 })
			l.Epoch()
			require.Equal(t, c.want, sorted(l.out.Values()))
			l.Flush()
			require.Len(t, l.out.Values(), len(c.want))
		})
	}
	t.Run("by the clock", func(t *testing.T) {
		l := clockLab(t, waits())
		var calls *atomic.Int64
		l.f, calls = failing(3, flow.Transient(errNo))
		l.src.Feed(beats("a:x1@0 a:x2@0 a:x3@0 a:y6@0")...)
		l.advanceUntil(func() bool { return calls.Load() == 4 })
		l.Epoch()
		require.Len(t, l.out.Values(), 3)
	})
	t.Run("an absence by the clock", func(t *testing.T) {
		l := clockLab(t, cep.Begin("x", is("x")).Absent("z", 2*time.Second, is("z")))
		var calls *atomic.Int64
		l.f, calls = failing(3, flow.Transient(errNo))
		l.src.Feed(beats("a:x1@0 a:x2@0 b:x3@0")...)
		l.Settle()
		l.advanceUntil(func() bool { return calls.Load() == 4 })
		l.comes(3, l.out.Next)
	})
}

// A crash while f fails for now: the match comes after it.
func TestACrashWhileAMatchFails(t *testing.T) {
	t.Parallel()
	l := newLab(t, waits())
	require.Empty(t, l.gives("a:x1@1 a:x2@2"))
	var calls *atomic.Int64
	l.f, calls = failing(1<<40, flow.Transient(errNo))
	l.src.Feed(beats("a:y3@3 ~:w1@4")...)
	l.advanceUntil(func() bool { return calls.Load() > 1 })
	l.Kill()
	l.f = nil
	l.Restart()
	l.Epoch()
	require.Equal(t, list("a x=x1 y=y3 @3", "a x=x2 y=y3 @3"), sorted(l.out.Values()))
}

func TestPermanentErrors(t *testing.T) {
	t.Parallel()
	l := newLab(t, waits())
	l.f, _ = failing(1, errNo)
	l.letters = true
	l.Kill()
	l.Restart()
	l.src.Feed(beats("a:x2@2 a:y3@3 ~:w1@4")...)
	err := l.TrySettle()
	require.ErrorIs(t, err, errNo)
	require.ErrorContains(t, err, `node "cep"`)
	require.ErrorContains(t, err, "match of key a at ", "time has called f, and no record: the topology stops")

	// By the clock, the record that completed the match takes the blame.
	l = clockLab(t, waits())
	l.f, _ = failing(1, errNo)
	l.letters = true
	l.Kill()
	l.Restart()
	require.Equal(t, list(), l.gives("a:x2@0 a:y3@0"))
	require.Len(t, l.dead.Next(), 1)
	require.Len(t, l.gives("a:x5@0 a:y6@0"), 1, "and others go on")
}

func TestAConditionThatPanics(t *testing.T) {
	t.Parallel()
	p := cep.Begin("x", is("x")).FollowedBy("y", cep.Where(func(b beat) bool {
		if b.Kind == "p" {
			panic("oh")
		}
		return b.Kind == "y"
	})).Within(time.Minute)
	l := newLab(t, p)
	l.src.Feed(beats("a:x1@1 a:p2@2 a:y3@3 a:w4@4")...)
	err := l.TrySettle()
	require.ErrorIs(t, err, flow.ErrPanic)
	require.ErrorContains(t, err, "oh")

	// Conditions of the event alone are asked when it comes: it takes the blame, and nothing has changed.
	l = newLab(t, p)
	l.letters = true
	l.Kill()
	l.Restart()
	require.Empty(t, l.gives("a:x1@1 a:p2@2"))
	require.Len(t, l.dead.Next(), 1)
	require.Len(t, l.gives("a:y3@3 a:w4@9"), 1)

	// By the clock the record goes to the dead letters, and what the key had stays.
	l = clockLab(t, p)
	l.letters = true
	l.Kill()
	l.Restart()
	require.Empty(t, l.gives("a:x1@0 a:p2@0"))
	require.Len(t, l.dead.Next(), 1)
	l.Crash()
	require.Len(t, l.gives("a:y3@0"), 1)
}

// A condition that asks for a step that is not there says so.
func TestAConditionThatAsksForNoStep(t *testing.T) {
	t.Parallel()
	l := newLab(t, cep.Begin("x", cep.WhereGiven(func(_ beat, sofar *cep.Taken[beat]) bool { return sofar.Count("z") == 0 })))
	l.src.Feed(beats("a:x1@1 a:x2@2")...)
	require.ErrorContains(t, l.TrySettle(), `a condition asks for the events of "z", and the pattern has no such step: it has ["x"]`)
}

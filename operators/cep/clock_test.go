package cep_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/cep"
)

// elapses lets the clock go on.
func (l *lab) elapses(d time.Duration) {
	l.T.Helper()
	l.Clock.Advance(d)
	l.Epoch()
}

// comes waits, with the clock standing still, for what an alarm brings.
func (l *lab) comes(n int, from func() []string) []string {
	l.T.Helper()
	var got []string
	require.Eventually(l.T, func() bool {
		l.Epoch()
		got = append(got, from()...)
		return len(got) >= n
	}, 10*time.Second, time.Millisecond)
	return sorted(got)
}

// at is a time of the clock as matchText has it.
func (l *lab) at(d time.Duration) string {
	return seconds(flow.TimestampOf(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Add(d)))
}

func TestProcessingTime(t *testing.T) {
	t.Parallel()
	l := clockLab(t, cep.Begin("x", is("x")).FollowedBy("y", is("y")).Within(10*time.Second))
	require.Empty(t, l.gives("a:x1@0 b:x2@0"))
	l.elapses(3 * time.Second)
	require.Equal(t, list("a x=x1 y=y3 @"+l.at(3*time.Second)), l.gives("a:y3@0"), "at once, whatever the event's own time")
	l.elapses(6 * time.Second)
	require.Empty(t, l.almost.Next())
	l.elapses(time.Second)
	require.Equal(t, list("b x=x2 @"+l.at(10*time.Second)), l.comes(1, l.almost.Next), "the deadline is the clock's")
	require.Zero(t, l.partials())
}

func TestProcessingTimeAbsent(t *testing.T) {
	t.Parallel()
	l := clockLab(t, noAnswer())
	require.Empty(t, l.gives("a:x1@0 b:x2@0 c:x3@0"))
	l.elapses(2 * time.Second)
	require.Empty(t, l.gives("b:y4@0"))
	l.Crash()
	l.elapses(2 * time.Second)
	require.Empty(t, l.gives("c:y5@0"), "what was begun before the crash is there")
	l.elapses(time.Second)
	require.Equal(t, list("a asked=x1 @"+l.at(5*time.Second)), l.comes(1, l.out.Next), "the deadline has survived, too")
}

// The time of a deadline may pass while the topology is down.
func TestProcessingTimeDeadlineWhileDown(t *testing.T) {
	t.Parallel()
	l := clockLab(t, cep.BeginAbsent("beat", 5*time.Second, is("x")))
	require.Empty(t, l.gives("a:x1@0"))
	l.Kill()
	l.Clock.Advance(time.Minute)
	l.Restart()
	require.Equal(t, list("a @"+l.at(5*time.Second)), l.comes(1, l.out.Next))
	l.elapses(time.Minute)
	require.Empty(t, l.out.Next(), "once")
}

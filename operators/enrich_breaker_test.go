package operators

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

func TestBreaker(t *testing.T) {
	t.Parallel()
	clock := flowtest.NewClock(time.Unix(0, 0))
	counts := map[string]int64{}
	b := newBreaker(2, time.Minute)
	b.clock, b.count = clock, func(name string, n int64) { counts[name] += n }
	ctx := context.Background()
	down := flow.Transient(errors.New("down"))
	enter := func() pass {
		t.Helper()
		p, err := b.enter(ctx, false)
		require.NoError(t, err)
		return p
	}
	shut := func() {
		t.Helper()
		_, err := b.enter(ctx, false)
		require.ErrorIs(t, err, errOpen)
		require.ErrorContains(t, err, "down")
		require.True(t, flow.IsTransient(err))
	}

	b.leave(enter(), down)
	b.leave(enter(), errors.New("permanent: it answers"))
	b.leave(enter(), down)
	old := enter()
	b.leave(enter(), down)
	shut()
	b.leave(old, nil)
	shut() // a call from before does not close it
	require.Equal(t, map[string]int64{"breaker_open": 1, "breaker_opened": 1}, counts)

	clock.Advance(time.Minute)
	probe := enter()
	require.True(t, probe.probe)
	shut() // one probe at a time
	b.leave(probe, down)
	shut()
	clock.Advance(time.Minute)
	b.cancel(enter())
	b.leave(enter(), nil)
	require.False(t, enter().probe)
	require.Equal(t, map[string]int64{"breaker_open": 0, "breaker_opened": 1}, counts)

	// Those that wait go on when the probe has succeeded, or one of them is the next probe.
	b.leave(enter(), down)
	b.leave(enter(), down)
	shut()
	passes := make(chan pass, 3)
	for range 3 {
		go func() {
			p, err := b.enter(ctx, true)
			if err == nil {
				passes <- p
			}
		}()
	}
	require.Eventually(t, func() bool { return clock.Sleepers() == 3 }, 10*time.Second, time.Millisecond)
	require.Empty(t, passes)
	clock.Advance(time.Minute)
	probe = <-passes
	require.True(t, probe.probe)
	require.Empty(t, passes)
	b.leave(probe, nil)
	require.False(t, (<-passes).probe)
	require.False(t, (<-passes).probe)

	b.leave(enter(), down)
	b.leave(enter(), down)
	ended, end := context.WithCancel(ctx)
	end()
	_, err := b.enter(ended, true)
	require.ErrorIs(t, err, context.Canceled)
}

func TestEnrichAllocatesNothingForACachedRecord(t *testing.T) {
	cfg := &enrichConfig{ttl: time.Hour, negativeTTL: time.Hour, size: 100}
	o := &enrichAsync[string, string, int, int]{enricher: &enricher[string, string, int, int]{
		key: func(v string) string { return v }, join: func(_ string, with int, _ bool) (int, error) { return with, nil },
		answers: newAnswers[string, int](cfg), clock: flow.SystemClock(),
	}}
	o.answers.put("a", 7, true, o.clock.Now())
	in, out := &flow.Record[string]{Value: "a"}, &flow.Output[int]{}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		done, err := o.Try(t.Context(), in, out)
		if !done || err != nil {
			t.Fatal(done, err)
		}
		out.Undo(1)
	}))
	require.EqualValues(t, 1001, o.seen.hits)
}

func BenchmarkEnrichCachedRecord(b *testing.B) {
	cfg := &enrichConfig{ttl: time.Hour, negativeTTL: time.Hour, size: 100}
	o := &enrichAsync[string, string, int, int]{enricher: &enricher[string, string, int, int]{
		key: func(v string) string { return v }, join: func(_ string, with int, _ bool) (int, error) { return with, nil },
		answers: newAnswers[string, int](cfg), clock: flow.SystemClock(),
	}}
	o.answers.put("a", 7, true, o.clock.Now())
	in, out := &flow.Record[string]{Value: "a"}, &flow.Output[int]{}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = o.Try(b.Context(), in, out)
		out.Undo(1)
	}
}

package flow_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

// automatic runs numbers from src to out with the engine's own epochs, on a virtual clock.
func automatic(t *testing.T, src *flowtest.Source[int], opts ...flow.TopologyOption) (*flowtest.Sink[int], *flowtest.Clock, *epochs, *flowtest.Run) {
	out, clock, seen := flowtest.NewSink[int](), flowtest.NewClock(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)), &epochs{}
	r := flowtest.Start(t, func(...flow.TopologyOption) *flow.Topology {
		top := flow.New("automatic", append([]flow.TopologyOption{flow.WithClock(clock), flow.WithHooks(seen), quiet()}, opts...)...)
		flow.To(flow.From(top, "in", src), "out", out)
		return top
	}, src)
	return out, clock, seen, r
}

func TestEpochsEndByTheInterval(t *testing.T) {
	src := flowtest.NewSource[int]()
	out, clock, seen, r := automatic(t, src, flow.WithEpochInterval(10*time.Second))
	src.Feed(1, 2, 3)
	r.Settle()
	clock.Advance(9 * time.Second)
	r.Settle()
	require.Zero(t, src.Committed("0"))
	clock.Advance(time.Second)
	eventually(t, func() bool { return src.Committed("0") == 3 }, "the interval is over")
	require.Equal(t, []int{1, 2, 3}, out.Values())
	for range 5 {
		clock.Advance(10 * time.Second)
		r.Settle()
	}
	require.Equal(t, map[string]int{"interval": 1}, seen.triggers(), "where nothing has changed there is no epoch")
	require.EqualValues(t, 3, seen.seen[0].Records)
	require.Equal(t, 3, seen.seen[0].Rows)
	r.Stop()
}

// A source that lets only a few records be unacked must not wait for the interval.
func TestEpochsEndByTheSourcesWindow(t *testing.T) {
	src := flowtest.NewSource[int]()
	src.WindowSize, src.BatchSize = 10, 2
	out, clock, seen, r := automatic(t, src, flow.WithEpochInterval(0))
	want := make([]int, 101)
	for i := range want {
		want[i] = i
	}
	src.Feed(want...)
	eventually(t, func() bool { return src.Committed("0") >= 96 }, "half a window ends the epoch, without the clock")
	eventually(t, func() bool {
		clock.Advance(time.Millisecond)
		return src.Committed("0") == 101
	}, "what is less than half a window is committed when there is nothing more")
	require.Equal(t, want, out.Values())
	require.Positive(t, seen.triggers()["window"])
	require.Zero(t, seen.triggers()["interval"])
	r.Stop()
}

// A source that limits what may be unacked gets its acks soon after it has nothing more to give, not at the interval.
func TestFewRecordsAreCommittedSoon(t *testing.T) {
	src := flowtest.NewSource[int]()
	src.WindowSize = 10
	_, clock, _, r := automatic(t, src, flow.WithEpochInterval(0))
	for n := range int64(3) {
		r.Settle()
		src.Feed(1)
		r.Settle()
		eventually(t, func() bool {
			clock.Advance(time.Millisecond)
			return src.Committed("0") == n+1
		}, "there is nothing more")
	}
	r.Stop()
}

func TestSinkAsksForAnEpoch(t *testing.T) {
	src := flowtest.NewSource[int]()
	asks := &askingSink[int]{Sink: flowtest.NewSink[int]()}
	seen := &epochs{}
	r := flowtest.Start(t, func(...flow.TopologyOption) *flow.Topology {
		top := flow.New("asking", flow.WithEpochInterval(0), flow.WithHooks(seen), quiet())
		flow.To(flow.From(top, "in", src), "out", asks)
		return top
	}, src)
	src.Feed(1, 2, 3)
	r.Settle()
	require.Zero(t, src.Committed("0"))
	asks.rt.RequestEpoch()
	eventually(t, func() bool { return src.Committed("0") == 3 }, "the epoch ends")
	require.Equal(t, map[string]int{"sink": 1}, seen.triggers())
	r.Stop()
}

type askingSink[T any] struct {
	*flowtest.Sink[T]
	rt flow.SinkRuntime
}

func (s *askingSink[T]) Open(ctx context.Context, rt flow.SinkRuntime) error {
	s.rt = rt
	return s.Sink.Open(ctx, rt)
}

// What is accepted and not committed is bounded; at the bound the source waits.
func TestMaxPendingHoldsTheSource(t *testing.T) {
	const bound, batch, all = 1024, 100, 5000
	src, out := flowtest.NewSource[int](), flowtest.NewSink[int]()
	src.BatchSize = batch
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("bounded", append(opts, flow.WithMaxPending(bound))...)
		flow.To(flow.From(top, "in", src), "out", out)
		return top
	}, src)
	src.Feed(make([]int, all)...)
	for committed := int64(0); committed < all; {
		want := min(bound, all-committed)
		eventually(t, func() bool { return r.Running().Unacked() >= want }, "it takes up to the bound")
		require.LessOrEqual(t, r.Running().Unacked(), int64(bound+batch), "and no more than a batch beyond it")
		require.NoError(t, r.Running().Epoch(t.Context()))
		require.Greater(t, src.Committed("0"), committed)
		committed = src.Committed("0")
	}
	require.Len(t, out.Values(), all)
	r.Stop()
}

func TestMaxPendingEndsEpochs(t *testing.T) {
	src := flowtest.NewSource[int]()
	src.BatchSize = 100
	out, _, seen, r := automatic(t, src, flow.WithEpochInterval(0), flow.WithMaxPending(1024))
	src.Feed(make([]int, 20_000)...)
	r.Settle()
	require.Positive(t, seen.triggers()["pending"])
	r.Stop()
	require.Len(t, out.Values(), 20_000)
	require.EqualValues(t, 20_000, src.Committed("0"))
}

// unackable is a source whose acks do not get through: a crash finds its records durable and not acked.
type unackable struct {
	*flowtest.Source[reading]
	on    atomic.Bool
	asked atomic.Int64
}

func (s *unackable) Commit(ctx context.Context, p flow.Partition, upTo flow.Position) error {
	if s.on.Load() {
		s.asked.Add(1)
		return flow.Transient(errors.New("connection lost"))
	}
	return s.Source.Commit(ctx, p, upTo)
}

// After a crash at any moment of an epoch each reading counts once, by its position (Seek) or by Dedup (Redeliver).
func TestReplayIsExact(t *testing.T) {
	const step, all = 7, 70
	for _, replay := range []flow.Replay{flow.Seek, flow.Redeliver} {
		for _, moment := range []string{"before the epoch", "before the state is written", "before the ack", "after the ack"} {
			t.Run(fmt.Sprint(map[flow.Replay]string{flow.Seek: "seek", flow.Redeliver: "redeliver"}[replay], ", crash ", moment), func(t *testing.T) {
				w := newWindowed("0", "1")
				w.src.Mode = replay
				from := &unackable{Source: w.src}
				w.from = from
				r := flowtest.Start(t, w.build, w.src)
				// crash lets an epoch get as far as the moment, kills the topology there and starts it again.
				crash := func() {
					switch moment {
					case "after the ack":
						r.Epoch()
					case "before the state is written":
						r.Settle()
						r.Store.Fail = func() error { return errors.New("killed") }
						require.Error(t, r.Running().Epoch(t.Context()))
						require.Error(t, r.Wait())
						r.Store.Fail = nil
						r.Restart()
						return
					case "before the ack":
						r.Settle()
						from.on.Store(true)
						asked := from.asked.Load()
						done := make(chan error, 1)
						go func() { done <- r.Running().Epoch(context.Background()) }()
						eventually(t, func() bool { return from.asked.Load() > asked+1 }, "both partitions ask")
						r.Kill()
						require.Error(t, <-done)
						from.on.Store(false)
						r.Restart()
						return
					default:
						r.Settle()
					}
					r.Crash()
				}
				for n := int64(0); n < all; n += step {
					w.src.FeedTo("0", readings("a", int(n)+1, step)...)
					w.src.FeedTo("1", readings("b", int(n)+1, step)...)
					crash()
					if moment != "after the ack" && n%(3*step) == 0 {
						r.Epoch()
					}
				}
				r.Flush()
				want := map[string]float64{}
				for n := 1; n <= all; n++ {
					want[fmt.Sprint("a ", n/10*10)]++
					want[fmt.Sprint("b ", n/10*10)]++
				}
				require.Equal(t, want, w.sums())
				require.Empty(t, w.late.Values())
				for _, p := range []string{"0", "1"} {
					require.EqualValues(t, all, w.src.Committed(p))
				}
				if moment != "before the state is written" && moment != "before the ack" {
					require.Len(t, w.out.Values(), len(want), "nothing is delivered twice")
				}
			})
		}
	}
}

// An epoch that failed to be acked is acked when the source is back; nothing is repeated.
func TestAckIsRetried(t *testing.T) {
	w := newWindowed()
	from := &unackable{Source: w.src}
	from.on.Store(true)
	w.from = from
	r := w.start(t)
	w.src.Feed(readings("a", 1, 25)...)
	r.Settle()
	done := make(chan error, 1)
	go func() { done <- r.Running().Epoch(t.Context()) }()
	advancing(r.Clock, time.Second, func() {
		eventually(t, func() bool { return from.asked.Load() > 3 }, "it tries again")
	})
	from.on.Store(false)
	advancing(r.Clock, time.Second, func() { require.NoError(t, <-done) })
	require.EqualValues(t, 25, w.src.Committed("0"))
	require.Len(t, w.out.Values(), 2)
	r.Stop()
}

func TestStopTakesTooLong(t *testing.T) {
	src, out := flowtest.NewSource[int](), flowtest.NewSink[int]()
	out.Fail = func() error { return flow.Transient(errors.New("down")) }
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("slow", append(opts, flow.WithStopTimeout(10*time.Second))...)
		flow.To(flow.From(top, "in", src), "out", out)
		return top
	}, src)
	src.Feed(1)
	r.Settle()
	running := r.Running()
	var err error
	advancing(r.Clock, time.Second, func() { err = running.Stop(t.Context()) })
	require.ErrorContains(t, err, "the stop took longer than 10s")
	require.Zero(t, src.Committed("0"))
	require.Equal(t, err, r.Wait())
}

func TestWhatStopReturns(t *testing.T) {
	_, _, r := chain(t, func(s flow.Stream[int]) flow.Stream[int] { return s }, nil)
	running := r.Running()
	require.NoError(t, running.Err(), "before the end there is none")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := running.Stop(ctx); err != nil { // it may be done already
		require.ErrorIs(t, err, context.Canceled)
	}
	require.NoError(t, r.Wait())
	require.NoError(t, running.Stop(t.Context()), "again does no harm")
	require.ErrorIs(t, running.Epoch(t.Context()), flow.ErrStopped)
	require.ErrorIs(t, running.Idle(t.Context()), flow.ErrStopped)
	require.NoError(t, running.Err())
}

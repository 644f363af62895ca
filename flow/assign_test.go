package flow_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
)

// gated is a Fail of a sink that lets deliveries through one by one.
type gated struct {
	calls atomic.Int64
	pass  chan struct{}
}

func (g *gated) fail() error {
	g.calls.Add(1)
	<-g.pass
	return nil
}

func TestEpochWaitsForItsOwnCommit(t *testing.T) {
	src, out, r := chain(t, func(s flow.Stream[int]) flow.Stream[int] { return s }, nil)
	g := &gated{pass: make(chan struct{})}
	out.Fail = g.fail
	epoch := func() chan error {
		done := make(chan error, 1)
		go func() { done <- r.Running().Epoch(t.Context()) }()
		return done
	}
	src.Feed(1)
	r.Settle()
	first := epoch()
	eventually(t, func() bool { return g.calls.Load() == 1 }, "the first commit is under way")
	src.Feed(2)
	r.Settle()
	second := epoch()
	r.Settle() // the coordinator has taken the command
	g.pass <- struct{}{}
	require.NoError(t, <-first)
	select {
	case err := <-second:
		t.Fatal(err, "the second Epoch returned with the first one's commit")
	case g.pass <- struct{}{}:
		require.NoError(t, <-second)
	}
	require.EqualValues(t, 2, src.Committed("0"))
	r.Stop()
}

// shifting is a source whose partitions come and go as the test says. Each is a log in memory, like flowtest.Source's.
type shifting struct {
	*flowtest.Source[reading]
	mu     sync.Mutex
	assign flow.Assign
	ready  chan struct{}
	fail   chan error
}

func newShifting(partitions ...string) *shifting {
	return &shifting{Source: flowtest.NewSource[reading](partitions...), ready: make(chan struct{}), fail: make(chan error)}
}

// Partitions is not constant: the method of flowtest.Source does not count.
func (s *shifting) Partitions() int { return 0 }

func (s *shifting) Run(ctx context.Context, a flow.Assign) error {
	s.mu.Lock()
	s.assign = a
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	select {
	case err := <-s.fail:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (s *shifting) add(t *testing.T, ids ...string) {
	t.Helper()
	var ps []flow.Partition
	for _, id := range ids {
		p := flow.Partition{ID: id}
		if n := s.Committed(id); n > 0 {
			p.Committed = flow.Position{Offset: n}
		}
		ps = append(ps, p)
	}
	require.NoError(t, s.assign.Add(ps...))
}

func (s *shifting) remove(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, s.assign.Remove(ctx, flow.Partition{ID: id}))
}

func shiftingWindows(t *testing.T, partitions ...string) (*shifting, *windowed, *flowtest.Run) {
	w := newWindowed()
	s := newShifting(partitions...)
	w.src, w.from = s.Source, s
	r := flowtest.Start(t, w.build)
	<-s.ready
	return s, w, r
}

// What a partition emitted is durable and acked when Remove returns, and it holds the watermark back no more.
func TestPartitionThatIsRemoved(t *testing.T) {
	s, w, r := shiftingWindows(t, "0", "1")
	s.add(t, "0", "1")
	require.ErrorContains(t, s.assign.Add(flow.Partition{ID: "1"}), "assigned already")
	s.FeedTo("0", readings("a", 1, 25)...)
	s.FeedTo("1", readings("b", 1, 5)...)
	eventually(t, func() bool { return r.Running().Unacked() == 30 }, "it reads")
	s.remove(t, "1")
	require.EqualValues(t, 5, s.Committed("1"))
	require.ErrorContains(t, s.assign.Remove(t.Context(), flow.Partition{ID: "1"}), "not assigned")
	r.Epoch()
	require.Equal(t, map[string]float64{"a 0": 9, "b 0": 5, "a 10": 10}, w.sums())
	s.FeedTo("1", readings("b", 6, 5)...)
	r.Epoch()
	require.EqualValues(t, 5, s.Committed("1"), "nobody reads it")
	s.add(t, "1")
	eventually(t, func() bool { return r.Running().Unacked() == 5 }, "it reads on")
	r.Epoch()
	require.EqualValues(t, 10, s.Committed("1"))
	require.Len(t, w.late.Values(), 5, "what comes behind the watermark is late")
	r.Stop()
}

func TestRemoveWaitsForItsOwnCommit(t *testing.T) {
	s, w, r := shiftingWindows(t, "0", "1")
	g := &gated{pass: make(chan struct{})}
	w.out.Fail = g.fail
	s.add(t, "0", "1")
	s.FeedTo("0", readings("a", 1, 15)...)
	s.FeedTo("1", readings("b", 1, 15)...)
	eventually(t, func() bool { return r.Running().Unacked() == 30 }, "it reads")
	first := make(chan error, 1)
	go func() { first <- r.Running().Epoch(t.Context()) }()
	eventually(t, func() bool { return g.calls.Load() == 1 }, "the first commit is under way")
	s.FeedTo("1", readings("b", 16, 3)...)
	eventually(t, func() bool { return r.Running().Unacked() == 33 }, "it reads")
	removed := make(chan error, 1)
	go func() { removed <- s.assign.Remove(t.Context(), flow.Partition{ID: "1"}) }()
	g.pass <- struct{}{}
	close(g.pass)
	require.NoError(t, <-first)
	require.NoError(t, <-removed)
	require.EqualValues(t, 18, s.Committed("1"))
	r.Stop()
}

func TestSourceThatFails(t *testing.T) {
	t.Run("for a while", func(t *testing.T) {
		s, _, r := shiftingWindows(t, "0")
		s.add(t, "0")
		s.FeedTo("0", readings("a", 1, 5)...)
		s.fail <- flow.Transient(errors.New("connection lost"))
		advancing(r.Clock, time.Second, func() { <-s.ready })
		s.FeedTo("0", readings("a", 6, 5)...)
		eventually(t, func() bool { return r.Running().Unacked() == 10 }, "its partitions go on")
		r.Epoch()
		require.EqualValues(t, 10, s.Committed("0"))
		r.Stop()
	})
	t.Run("for good", func(t *testing.T) {
		s, _, r := shiftingWindows(t, "0")
		s.fail <- errors.New("access denied")
		require.ErrorContains(t, r.Wait(), `node "in": access denied`)
	})
}

// brittle is a source whose Read fails after each batch, transiently.
type brittle struct {
	*flowtest.Source[int]
	reads atomic.Int64
}

func (b *brittle) Read(ctx context.Context, p flow.Partition, from flow.Position, in *flow.Intake[int]) error {
	n := b.reads.Add(1)
	if from.Offset != 2*(n-1) {
		return errors.New("not from the position behind the last batch")
	}
	if n > 5 {
		<-ctx.Done()
		return nil
	}
	if err := in.Emit(ctx, append(in.Buffer(), flow.Record[int]{Value: int(2 * n)}, flow.Record[int]{Value: int(2*n + 1)}), flow.Position{Offset: 2 * n}); err != nil {
		return err
	}
	return flow.Transient(errors.New("connection lost"))
}

func TestReadThatFailsGoesOnBehindTheLastBatch(t *testing.T) {
	src, out := &brittle{Source: flowtest.NewSource[int]()}, flowtest.NewSink[int]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("brittle", opts...)
		flow.To(flow.From(top, "in", src), "out", out)
		return top
	}, src)
	advancing(r.Clock, time.Second, func() {
		eventually(t, func() bool { return src.reads.Load() == 6 }, "it is read again and again")
	})
	require.NoError(t, r.Running().Epoch(t.Context()))
	require.Equal(t, []int{2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, out.Values())
	r.Stop()
}

func TestPartitionsThatComeLaterHoldTheWatermark(t *testing.T) {
	s, w, r := shiftingWindows(t, "0", "1")
	w.wm = watermark.Monotonous().Every(0)
	s.add(t, "0")
	s.FeedTo("0", readings("a", 1, 15)...)
	eventually(t, func() bool { return r.Running().Unacked() == 15 }, "it reads")
	r.Epoch()
	require.Equal(t, map[string]float64{"a 0": 9}, w.sums())
	s.add(t, "1")
	s.FeedTo("0", readings("a", 16, 15)...)
	eventually(t, func() bool { return r.Running().Unacked() == 15 }, "it reads")
	r.Epoch()
	require.Equal(t, map[string]float64{"a 0": 9}, w.sums(), "the new one holds it until it speaks")
	s.FeedTo("1", readings("b", 20, 1)...)
	eventually(t, func() bool { return r.Running().Unacked() == 1 }, "it reads")
	r.Epoch()
	require.Equal(t, map[string]float64{"a 0": 9, "a 10": 10}, w.sums())
	require.Empty(t, w.late.Values())
	r.Stop()
}

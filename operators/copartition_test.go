package operators_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/window"
)

const coPartitions = 5

func coPartition(key string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return fmt.Sprint(h.Sum32() % coPartitions)
}

// Exchanged or co-partitioned, whatever the batches, the parallelism and the crashes: the same rows come out of windows, and of a
// user's operator with state, timers, a side output and an async lookup above it.
func TestCoPartitionedIsTheSameAsExchanged(t *testing.T) {
	for seed := range uint64(6) {
		results := map[string][]string{}
		for _, mode := range []string{"exchanged", "co-partitioned"} {
			rnd := rand.New(rand.NewPCG(seed, 3)) // both modes see the same script
			var names []string
			for p := range coPartitions {
				names = append(names, fmt.Sprint(p))
			}
			src := flowtest.NewSource[event](names...)
			src.BatchSize = []int{0, 1, 7, 64}[rnd.IntN(4)]
			minutes, sums, small := flowtest.NewSink[window.Result[string, stats]](), flowtest.NewSink[string](), flowtest.NewSink[string]()
			tasks := 1 + rnd.IntN(4)
			r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
				top := flow.New("co", append(opts, flow.WithParallelism(tasks))...)
				var how []flow.KeyOption
				if mode == "co-partitioned" {
					how = append(how, flow.CoPartitioned())
				}
				timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.BoundedOutOfOrderness(3*time.Second))
				fresh := operators.Dedup(flow.KeyBy(timed, event.key, how...), "dedup", event.n, time.Minute)
				flow.To(operators.Window(fresh, "win", window.Tumbling(5*time.Second), countAndSum()), "out", minutes)
				asked := flow.ApplyAsync[event, event](fresh.Unkeyed(), "ask", func() echo { return echo{} }, flow.AsyncConfig{Capacity: 50, BatchSize: 7, Concurrency: 2})
				side, tiny := flow.SideOutput[string](top, "tens", "small")
				flow.To(flow.ApplyKeyed[string, event, string](flow.KeyBy(asked, event.key, how...), "tens", func() *tens { return &tens{small: side} }), "sums", sums)
				flow.To(tiny, "small", small)
				return top
			}, src)
			n := int64(0)
			for step := range int64(12) {
				for range 1 + rnd.IntN(150) {
					n++
					e := event{fmt.Sprint("key-", rnd.Int64N(40)+step), n, 2*step + rnd.Int64N(3)}
					src.FeedTo(coPartition(e.Key), e)
					if rnd.IntN(4) == 0 {
						src.FeedTo(coPartition(e.Key), e)
					}
				}
				switch rnd.IntN(4) {
				case 0:
					r.Epoch()
				case 1:
					r.Settle()
				case 2:
					r.Epoch()
					tasks = 1 + rnd.IntN(5)
					r.Crash()
				case 3:
					r.Settle()
					tasks = 1 + rnd.IntN(5)
					r.Crash()
				}
			}
			r.Flush()
			var all []string
			for _, v := range minutes.Values() {
				all = append(all, fmt.Sprint(v.Key, " ", v.Start.Time().Unix(), " ", v.Value))
			}
			all = append(append(all, sums.Values()...), small.Values()...)
			results[mode] = all
		}
		require.NotEmpty(t, results["exchanged"])
		require.ElementsMatch(t, results["exchanged"], results["co-partitioned"], "seed %d", seed)
	}
}

// tens is a user's operator: each key's sum by tens of seconds, small ones to a side output.
type tens struct {
	sums   flow.State[string, map[int64]int64]
	timers flow.Timers[string]
	small  *flow.Side[string]
	out    *flow.Output[string]
}

func (s *tens) Open(_ context.Context, rt flow.Runtime) error {
	s.out = s.small.Open(rt)
	if err := flow.OpenState(rt, "sums", &s.sums); err != nil {
		return err
	}
	return flow.OpenTimers(rt, &s.timers)
}

func (s *tens) Process(_ context.Context, key string, r *flow.Record[event], _ *flow.Output[string]) error {
	m := s.sums.Get(key)
	if *m == nil {
		*m = map[int64]int64{}
	}
	end := (r.Value.At/10 + 1) * 10
	(*m)[end] += r.Value.N
	s.timers.Set(key, flow.TimestampOf(time.Unix(end, 0)))
	return nil
}

func (s *tens) OnTimer(_ context.Context, key string, at flow.Timestamp, out *flow.Output[string]) error {
	m, end := s.sums.Get(key), at.Time().Unix()
	line := fmt.Sprintf("%s: %d until %d", key, (*m)[end], end)
	if (*m)[end] < 100 {
		*s.out.Next(at, nil) = "small " + line
	} else {
		*out.Next(at, nil) = line
	}
	if delete(*m, end); len(*m) == 0 {
		s.sums.Delete(key)
	}
	return nil
}

// echo answers every input with itself.
type echo struct{}

func (echo) Try(context.Context, *flow.Record[event], *flow.Output[event]) (bool, error) {
	return false, nil
}

func (echo) Call(_ context.Context, in []flow.Record[event], answers []flow.Answer[event]) error {
	for i := range in {
		answers[i].Value = in[i].Value
	}
	return nil
}

// Units commit by themselves: one partition whose chain hangs keeps none of the others from being acked, and their windows fire although
// its watermark stands still.
func TestCoPartitionedUnitsAreIndependent(t *testing.T) {
	src := flowtest.NewSource[event]("0", "1", "2")
	out := flowtest.NewSink[window.Result[string, stats]]()
	hang := make(chan struct{})
	var hanging atomic.Bool
	top := flow.New("independent", flow.WithStore(flowtest.NewStore()), flow.WithEpochInterval(10*time.Millisecond))
	timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.BoundedOutOfOrderness(0))
	slow := operators.Filter(timed, "slow", func(e event) bool {
		if e.Key == "hang" {
			hanging.Store(true)
			<-hang
		}
		return true
	})
	flow.To(operators.Window(flow.KeyBy(slow, event.key, flow.CoPartitioned()), "win", window.Tumbling(5*time.Second), countAndSum()), "out", out)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- top.Run(ctx) }()
	src.FeedTo("0", event{"hang", 1, 1})
	require.Eventually(t, hanging.Load, 10*time.Second, time.Millisecond)
	for i := range int64(20) {
		src.FeedTo("1", event{"a", i, i})
		src.FeedTo("2", event{"b", i, i})
	}
	require.Eventually(t, func() bool {
		return src.Committed("1") == 20 && src.Committed("2") == 20 && len(out.Values()) == 6
	}, 10*time.Second, 5*time.Millisecond, "the other partitions are acked and their windows of 0, 5 and 10 s have fired")
	require.Zero(t, src.Committed("0"))
	close(hang)
	require.Eventually(t, func() bool { return src.Committed("0") == 1 }, 10*time.Second, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}

// gathering is a sink that holds its first Deliver until it is let go, and counts the blocks of the next.
type gathering struct {
	flow.Sink[event]
	mu     sync.Mutex
	calls  []int
	inside atomic.Int32
	first  chan struct{}
	fail   error
}

func (g *gathering) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	if g.inside.Add(1) > 1 {
		g.fail = errors.New("Deliver was called twice at once")
	}
	defer g.inside.Add(-1)
	g.mu.Lock()
	g.calls = append(g.calls, len(blocks))
	n := len(g.calls)
	g.mu.Unlock()
	if n == 1 {
		<-g.first
	}
	return g.Sink.Deliver(ctx, blocks)
}

func (g *gathering) counts() []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]int(nil), g.calls...)
}

// While a sink is busy the blocks of other units gather and go in one call.
func TestUnitsShareASinksDeliver(t *testing.T) {
	names := []string{"0", "1", "2", "3", "4", "5"}
	src := flowtest.NewSource[event](names...)
	rows := flowtest.NewSink[event]()
	out := &gathering{Sink: rows, first: make(chan struct{})}
	top := flow.New("gather", flow.WithStore(flowtest.NewStore()), flow.WithEpochInterval(5*time.Millisecond))
	timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.BoundedOutOfOrderness(0))
	fresh := operators.Dedup(flow.KeyBy(timed, event.key, flow.CoPartitioned()), "dedup", event.n, time.Minute)
	flow.To(fresh.Unkeyed(), "out", out)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- top.Run(ctx) }()
	src.FeedTo("0", event{"first", 0, 1})
	require.Eventually(t, func() bool { return len(out.counts()) == 1 }, 10*time.Second, time.Millisecond)
	for i, p := range names[1:] {
		src.FeedTo(p, event{"k" + p, int64(i + 1), 1})
	}
	// All five wait for the sink that is busy: their units have taken the record and nothing is acked.
	require.Never(t, func() bool { return len(out.counts()) > 1 }, 100*time.Millisecond, 10*time.Millisecond)
	close(out.first)
	require.Eventually(t, func() bool { return len(rows.Values()) == 6 }, 10*time.Second, time.Millisecond)
	require.Equal(t, []int{1, 5}, out.counts(), "one call for the blocks of five units")
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, out.fail)
}

func TestCoPartitionedIsRefusedWhereItCannotHold(t *testing.T) {
	build := func(f func(top *flow.Topology)) error {
		top := flow.New("wrong", flow.WithStore(flowtest.NewStore()))
		f(top)
		return top.Validate()
	}
	count := func(s flow.KeyedStream[string, event], name string) {
		flow.To(operators.Dedup(s, name, event.n, time.Minute).Unkeyed(), name+"-out", flowtest.NewSink[event]())
	}
	timed := func(top *flow.Topology, name string) flow.Stream[event] {
		return flow.AssignTime(flow.From(top, name, flowtest.NewSource[event]()), name+"-time", event.time, watermark.BoundedOutOfOrderness(0))
	}
	require.ErrorContains(t, build(func(top *flow.Topology) {
		count(flow.KeyBy(flow.Union("both", timed(top, "a"), timed(top, "b")), event.key, flow.CoPartitioned()), "dedup")
	}), "flow.CoPartitioned with 2 sources")
	require.ErrorContains(t, build(func(top *flow.Topology) {
		in := timed(top, "a")
		count(flow.KeyBy(in, event.key, flow.CoPartitioned()), "dedup")
		count(flow.KeyBy(in, event.key), "other")
	}), `the KeyBy behind "a-time" is exchanged while another one is co-partitioned`)
	require.ErrorContains(t, build(func(top *flow.Topology) {
		count(flow.KeyBy(timed(top, "a"), event.key, flow.CoPartitioned(), flow.Parallelism(3)), "dedup")
	}), "has Parallelism(3)")
	require.NoError(t, build(func(top *flow.Topology) {
		count(flow.KeyBy(timed(top, "a"), event.key, flow.CoPartitioned()), "dedup")
	}))
}

// State is stored by partition then: a program that changes its mind is told so instead of finding nothing.
func TestStateOfAnotherPartitioningIsRefused(t *testing.T) {
	for _, first := range []bool{true, false} {
		src, co := flowtest.NewSource[event]("0", "1"), first
		r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
			top := flow.New("mind", opts...)
			var how []flow.KeyOption
			if co {
				how = append(how, flow.CoPartitioned())
			}
			in := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.BoundedOutOfOrderness(0))
			flow.To(operators.Dedup(flow.KeyBy(in, event.key, how...), "dedup", event.n, time.Minute).Unkeyed(), "out", flowtest.NewSink[event]())
			return top
		}, src)
		src.FeedTo("0", event{"a", 1, 1})
		r.Epoch()
		r.Kill()
		co = !co
		require.NoError(t, r.TryRestart())
		err := r.Wait()
		require.ErrorIs(t, err, flow.ErrStateMismatch)
		require.ErrorContains(t, err, "co-partitioned")
		require.ErrorContains(t, err, `flow.DropState("dedup")`)
	}
}

package flow_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

// calm is an operator that says a key's last value once it has been quiet for a while.
type calm struct {
	last   flow.State[string, pendingValue]
	timers flow.Timers[string]
	clock  flow.Clock
}

type pendingValue struct {
	Value string
	Due   flow.Timestamp
}

func (q *calm) Open(_ context.Context, rt flow.Runtime) error {
	q.clock = rt.Clock()
	if err := flow.OpenState(rt, "last", &q.last); err != nil {
		return err
	}
	return flow.OpenClockTimers(rt, &q.timers)
}

func (q *calm) Process(_ context.Context, key string, r *flow.Record[string], _ *flow.Output[string]) error {
	v := q.last.Get(key)
	if v.Due != 0 {
		q.timers.Clear(key, v.Due)
	}
	v.Value, v.Due = r.Value, flow.TimestampOf(q.clock.Now().Add(10*time.Second))
	q.timers.Set(key, v.Due)
	return nil
}

func (q *calm) OnClockTimer(_ context.Context, key string, at flow.Timestamp, out *flow.Output[string]) error {
	*out.Next(flow.None, nil) = fmt.Sprintf("%s at :%02d", q.last.Peek(key).Value, at.Time().Second())
	q.last.Delete(key)
	return nil
}

func TestClockTimers(t *testing.T) {
	for _, parallelism := range []int{1, 4} {
		t.Run(fmt.Sprint(parallelism), func(t *testing.T) {
			src, out := flowtest.NewSource[string]("a", "b"), flowtest.NewSink[string]()
			tasks := parallelism
			r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
				top := flow.New("quiet", append(opts, flow.WithParallelism(tasks))...)
				keyed := flow.KeyBy(flow.From(top, "in", src), func(s string) string { return s[:1] })
				flow.To(flow.ApplyKeyed[string, string, string](keyed, "quiet", func() *calm { return &calm{} }), "out", out)
				return top
			}, src)

			src.Feed("x1", "y1")
			r.Settle()
			r.Clock.Advance(6 * time.Second)
			src.Feed("x2") // puts x off to :16
			r.Settle()
			r.Clock.Advance(4 * time.Second)
			r.Epoch()
			require.Equal(t, []string{"y1 at :10"}, out.Next(), "only y has been quiet for 10 s")

			src.Feed("z1")
			r.Epoch()
			require.Empty(t, out.Next())
			tasks = 5 - tasks // the timers find their keys' tasks
			r.Kill()
			r.Clock.Advance(3 * time.Second)
			r.Restart()
			r.Epoch()
			require.Empty(t, out.Next(), "nothing was due while it was down")
			r.Kill()
			r.Clock.Advance(time.Minute)
			r.Restart()
			r.Epoch()
			require.ElementsMatch(t, []string{"x2 at :16", "z1 at :20"}, out.Next(), "what came due while it was down fires at the start")
			r.Crash()
			r.Clock.Advance(time.Minute)
			r.Epoch()
			require.Empty(t, out.Next(), "what has fired is gone from the store")

			src.Feed("w1")
			r.Settle()
			r.Clock.Advance(time.Minute)
			r.Settle()
			r.Crash() // before the epoch: it is all to do again
			r.Settle()
			r.Clock.Advance(time.Minute)
			r.Epoch()
			require.Equal(t, []string{"w1 at :23"}, out.Next())

			src.Feed("v1")
			r.Settle()
			src.End()
			require.NoError(t, r.Wait())
			require.Empty(t, out.Next(), "the end of the stream does not fire them")
		})
	}
}

func TestClockTimersFireInOrderByThemselves(t *testing.T) {
	src, out := flowtest.NewSource[string](), flowtest.NewSink[string]()
	top := flow.New("quiet", flow.WithStore(flowtest.NewStore()), flow.WithClock(fastClock{flow.SystemClock()}), flow.WithEpochInterval(time.Millisecond))
	keyed := flow.KeyBy(flow.From(top, "in", src), func(s string) string { return s[:1] })
	flow.To(flow.ApplyKeyed[string, string, string](keyed, "quiet", func() *calm { return &calm{} }), "out", out)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- top.Run(ctx) }()
	for i := range 20 {
		src.Feed(fmt.Sprintf("%c", 'a'+i))
	}
	require.Eventually(t, func() bool { return len(out.Values()) == 20 }, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}

// fastClock makes a second of the topology a millisecond of the test.
type fastClock struct{ flow.Clock }

func (c fastClock) Now() time.Time {
	return time.Unix(0, 0).Add(c.Clock.Now().Sub(time.Unix(1.7e9, 0)) * 1000)
}

func (c fastClock) NewTimer(d time.Duration) flow.Timer { return fastTimer{c.Clock.NewTimer(d / 1000)} }

type fastTimer struct{ flow.Timer }

func (f fastTimer) Reset(d time.Duration) bool { return f.Timer.Reset(d / 1000) }

// Very many timers that are due in one instant fire in turns; all of them, once and in order, before a Settle returns.
func TestManyClockTimersFireInTurns(t *testing.T) {
	src, out := flowtest.NewSource[string](), flowtest.NewSink[string]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("quiet", append(opts, flow.WithParallelism(1))...)
		keyed := flow.KeyBy(flow.From(top, "in", src), func(s string) string { return s })
		flow.To(flow.ApplyKeyed[string, string, string](keyed, "quiet", func() *calm { return &calm{} }), "out", out)
		return top
	}, src)
	const n = 10_000
	var want []string
	for i := range n {
		src.Feed(fmt.Sprint(i))
		want = append(want, fmt.Sprintf("%d at :10", i))
	}
	r.Settle()
	r.Clock.Advance(10 * time.Second)
	r.Epoch()
	require.ElementsMatch(t, want, out.Next())
	r.Crash()
	r.Clock.Advance(time.Minute)
	r.Epoch()
	require.Empty(t, out.Next())
}

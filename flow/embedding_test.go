package flow_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
)

// two is a topology with two sources, hence two handlers.
func two(name string, a, b flow.Source[int], out flow.Sink[int], opts ...flow.TopologyOption) *flow.Topology {
	top := flow.New(name, append([]flow.TopologyOption{quiet(), flow.WithEpochInterval(5 * time.Millisecond)}, opts...)...)
	flow.To(flow.Union("both", flow.From(top, "a", a), flow.From(top, "b", b)), "out", out)
	return top
}

// fed is a source that has n numbers.
func fed(n int) *flowtest.Source[int] {
	s := flowtest.NewSource[int]()
	s.BatchSize = 10
	for i := range n {
		s.Feed(i)
	}
	return s
}

// The usual way to end a service: the context that its router runs under ends. The topology commits its last epoch, then the router ends.
func TestContextOfTheRouterEnds(t *testing.T) {
	r, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	a, b, out := fed(3), fed(4), flowtest.NewSink[int]()
	running, err := two("top", a, b, out, flow.WithEpochInterval(0)).AddTo(context.WithoutCancel(t.Context()), r)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	eventually(t, func() bool { return running.Unacked() == 7 }, "all is read")
	cancel()
	require.NoError(t, <-done)
	<-running.Done()
	require.NoError(t, running.Err())
	require.Equal(t, []int64{3, 4}, []int64{a.Committed("0"), b.Committed("0")})
	require.Len(t, out.Values(), 7)
}

// One handler of a topology that is stopped stops the topology: its sources belong together.
func TestHandlerIsStopped(t *testing.T) {
	r := newRouter(t)
	r.run(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	running, err := two("top", fed(3), fed(4), flowtest.NewSink[int]()).AddTo(ctx, r.Router)
	require.NoError(t, err)
	require.Contains(t, r.Handlers(), "top/a")
	require.Contains(t, r.Handlers(), "top/b")
	cancel()
	<-running.Done()
	require.NoError(t, running.Err())
	require.NotContains(t, r.Handlers(), "top/a")
	require.NotContains(t, r.Handlers(), "top/b")
	r.works(t)
}

// The same topology is stopped and built again under its name, over and over, while other handlers work: nothing is lost or doubled.
func TestStopAndAddAgainUnderTheSameName(t *testing.T) {
	r := newRouter(t)
	r.run(t)
	const n = 300
	src, out, store := fed(n), flowtest.NewSink[int](), flowtest.NewStore()
	for stop := int64(20); src.Committed("0") < n; stop += 20 {
		running, err := plain("top", src, out, flow.WithStore(store)).AddTo(t.Context(), r.Router)
		require.NoError(t, err)
		eventually(t, func() bool { return src.Committed("0") >= min(stop, n) }, "some is read")
		require.NoError(t, running.Stop(t.Context()))
		require.Len(t, out.Values(), int(src.Committed("0")))
	}
	r.works(t)
	for i, v := range out.Values() {
		require.Equal(t, i+1, v)
	}
}

// Topologies come and go from many goroutines, on a router that runs.
func TestAddToFromManyGoroutines(t *testing.T) {
	r := newRouter(t)
	r.run(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for k := range 3 {
				src, out := fed(50), flowtest.NewSink[int]()
				running, err := plain(fmt.Sprint("top-", i), src, out).AddTo(t.Context(), r.Router)
				if err != nil {
					t.Errorf("%d, time %d: %v", i, k, err)
					return
				}
				for err == nil && src.Committed("0") < 50 {
					err = running.Epoch(t.Context())
				}
				if err := errors.Join(err, running.Stop(t.Context())); err != nil || len(out.Values()) != 50 {
					t.Errorf("%d, time %d: %d values, %v", i, k, len(out.Values()), err)
				}
			}
		})
	}
	all.Wait()
	r.works(t)
}

// A topology that is added while the router starts is started, whoever is first.
func TestAddToWhileTheRouterStarts(t *testing.T) {
	for range 20 {
		r := newRouter(t)
		src := fed(5)
		go func() { r.done <- r.Run(context.WithoutCancel(t.Context())) }()
		running, err := plain("top", src, flowtest.NewSink[int]()).AddTo(t.Context(), r.Router)
		require.NoError(t, err)
		eventually(t, func() bool { return src.Committed("0") == 5 }, "it runs")
		require.NoError(t, running.Stop(t.Context()))
		require.NoError(t, r.Close())
		require.NoError(t, <-r.done)
		require.NoError(t, r.pub.Close())
	}
}

// A name that is taken is an error before and while the router runs, also for the second source of a topology, and leaves everything else as
// it was.
func TestNameThatIsTaken(t *testing.T) {
	for name, runs := range map[string]bool{"before the router runs": false, "while it runs": true} {
		t.Run(name, func(t *testing.T) {
			r := newRouter(t)
			if runs {
				r.run(t)
			}
			r.AddConsumerHandler("top/b", "b", r.pub, func(*message.Message) error { return nil })
			store := flowtest.NewStore()
			_, err := two("top", fed(3), fed(4), flowtest.NewSink[int](), flow.WithStore(store)).AddTo(t.Context(), r.Router)
			require.ErrorContains(t, err, `node "b": the router has a handler "top/b" already: give the topology another name`)
			var node *flow.NodeError
			require.ErrorAs(t, err, &node)

			src := fed(3)
			running, err := plain("another", src, flowtest.NewSink[int](), flow.WithStore(store)).AddTo(t.Context(), r.Router)
			require.NoError(t, err)
			if !runs {
				r.run(t)
			}
			eventually(t, func() bool { return src.Committed("0") == 3 }, "others run")
			require.NoError(t, running.Stop(t.Context()))
			r.works(t)
		})
	}
}

func TestAddToAClosedRouter(t *testing.T) {
	r := newRouter(t)
	go func() { r.done <- r.Run(context.WithoutCancel(t.Context())) }()
	<-r.Running()
	require.NoError(t, r.Close())
	require.NoError(t, <-r.done)
	require.NoError(t, r.pub.Close())
	_, err := plain("top", fed(1), flowtest.NewSink[int]()).AddTo(t.Context(), r.Router)
	require.ErrorContains(t, err, "the router is closed")
}

// A topology that fails leaves the router and the others alone.
func TestFailureLeavesTheRouterAlone(t *testing.T) {
	r := newRouter(t)
	r.run(t)
	bad, good := fed(3), fed(3)
	top := flow.New("bad", quiet())
	flow.To(operators.Update(flow.From(top, "in", bad), "broken", func(context.Context, *int) error { return fmt.Errorf("broken") }), "out", flowtest.NewSink[int]())
	failing, err := top.AddTo(t.Context(), r.Router)
	require.NoError(t, err)
	running, err := plain("good", good, flowtest.NewSink[int]()).AddTo(t.Context(), r.Router)
	require.NoError(t, err)
	<-failing.Done()
	require.ErrorContains(t, failing.Err(), `topology "bad": node "broken"`)
	require.Zero(t, bad.Committed("0"))
	eventually(t, func() bool { return good.Committed("0") == 3 }, "the other runs")
	require.NoError(t, running.Stop(t.Context()))
	r.works(t)
}

// Subscriber decorators of the router stand between it and the topology and change nothing.
func TestSubscriberDecorator(t *testing.T) {
	r := newRouter(t)
	r.AddSubscriberDecorators(message.MessageTransformSubscriberDecorator(func(m *message.Message) { m.SetContext(context.Background()) }))
	r.run(t)
	src, out := fed(100), flowtest.NewSink[int]()
	running, err := plain("top", src, out).AddTo(t.Context(), r.Router)
	require.NoError(t, err)
	eventually(t, func() bool { return src.Committed("0") == 100 }, "it runs, though the decorator has taken the messages' contexts")
	require.NoError(t, running.Stop(t.Context()))
	require.Len(t, out.Values(), 100)
}

// A stop that takes longer than WithStopTimeout ends without its last epoch, and a router with a longer CloseTimeout says nothing.
func TestStopTimeout(t *testing.T) {
	r, err := message.NewRouter(message.RouterConfig{CloseTimeout: 20 * time.Second}, watermill.NopLogger{})
	require.NoError(t, err)
	src := fed(3)
	stuck := flow.SinkFunc(func(ctx context.Context, _ []flow.Record[int]) error {
		<-ctx.Done()
		return ctx.Err()
	})
	running, err := plain("top", src, stuck, flow.WithStopTimeout(50*time.Millisecond)).AddTo(t.Context(), r)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- r.Run(context.WithoutCancel(t.Context())) }()
	<-r.Running()
	eventually(t, func() bool { return running.Unacked() == 3 }, "it reads")
	require.NoError(t, r.Close())
	require.NoError(t, <-done)
	<-running.Done()
	require.ErrorContains(t, running.Err(), "the stop took longer than 50ms: the last epoch is not committed, its records come again")
	require.Zero(t, src.Committed("0"))
}

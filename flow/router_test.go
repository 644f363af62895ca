package flow_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
)

// router is a running router of the user's own, with a handler of theirs.
type router struct {
	*message.Router
	pub     *gochannel.GoChannel
	handled atomic.Int64
	done    chan error
}

func newRouter(t *testing.T) *router {
	r := &router{done: make(chan error, 1), pub: gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})}
	var err error
	r.Router, err = message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	r.AddConsumerHandler("own", "topic", r.pub, func(*message.Message) error {
		r.handled.Add(1)
		return nil
	})
	return r
}

func (r *router) run(t *testing.T) {
	go func() { r.done <- r.Run(context.WithoutCancel(t.Context())) }()
	<-r.Running()
	t.Cleanup(func() {
		require.NoError(t, r.Close())
		require.NoError(t, <-r.done)
		require.NoError(t, r.pub.Close())
	})
}

// works checks that the user's own handler is served.
func (r *router) works(t *testing.T) {
	t.Helper()
	before := r.handled.Load()
	require.NoError(t, r.pub.Publish("topic", message.NewMessage("id", nil)))
	eventually(t, func() bool { return r.handled.Load() > before }, "the other handler is served")
}

func plain(name string, src flow.Source[int], out flow.Sink[int], opts ...flow.TopologyOption) *flow.Topology {
	top := flow.New(name, append([]flow.TopologyOption{quiet(), flow.WithEpochInterval(5 * time.Millisecond)}, opts...)...)
	flow.To(operators.Update(flow.From(top, "in", src), "inc", add(1)), "out", out)
	return top
}

func TestAddToARunningRouter(t *testing.T) {
	r := newRouter(t)
	r.run(t)
	r.works(t)
	var all []*flow.Running
	for i := range 2 { // two topologies, one after the other
		src, out := flowtest.NewSource[int](), flowtest.NewSink[int]()
		running, err := plain(fmt.Sprint("top-", i), src, out).AddTo(t.Context(), r.Router)
		require.NoError(t, err)
		src.Feed(1, 2, 3)
		eventually(t, func() bool { return src.Committed("0") == 3 }, "it runs")
		require.Equal(t, []int{2, 3, 4}, out.Values())
		require.Contains(t, r.Handlers(), fmt.Sprintf("top-%d/in", i))
		all = append(all, running)
		r.works(t)
	}
	require.NoError(t, all[0].Stop(t.Context()))
	select {
	case <-all[1].Done():
		t.Fatal("the other topology has ended, too")
	default:
	}
	r.works(t)
	require.NoError(t, all[1].Stop(t.Context()))
	r.works(t)
}

func TestAddToBeforeTheRouterRuns(t *testing.T) {
	r := newRouter(t)
	src, out := flowtest.NewSource[int](), flowtest.NewSink[int]()
	ctx, cancel := context.WithCancel(t.Context())
	running, err := plain("top", src, out).AddTo(ctx, r.Router)
	require.NoError(t, err)
	src.Feed(1, 2, 3)
	r.run(t)
	eventually(t, func() bool { return src.Committed("0") == 3 }, "it runs")
	src.Feed(4)
	cancel()
	<-running.Done()
	require.NoError(t, running.Err(), "the end of ctx is a stop in order")
	require.EqualValues(t, len(out.Values()), src.Committed("0"))
	r.works(t)
}

// Closing the router stops the topology in order, its last epoch included.
func TestRouterCloses(t *testing.T) {
	src, out := flowtest.NewSource[int](), flowtest.NewSink[int]()
	mr, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	running, err := plain("top", src, out, flow.WithEpochInterval(0)).AddTo(t.Context(), mr)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- mr.Run(context.WithoutCancel(t.Context())) }()
	<-mr.Running()
	src.Feed(1, 2, 3)
	eventually(t, func() bool { return running.Unacked() == 3 }, "it reads")
	require.Zero(t, src.Committed("0"))
	require.NoError(t, mr.Close())
	require.NoError(t, <-done)
	<-running.Done()
	require.NoError(t, running.Err())
	require.EqualValues(t, 3, src.Committed("0"))
	require.Equal(t, []int{2, 3, 4}, out.Values())
}

func TestAddToRefuses(t *testing.T) {
	r := newRouter(t)
	top := plain("top", flowtest.NewSource[int](), flowtest.NewSink[int]())
	running, err := top.AddTo(t.Context(), r.Router)
	require.NoError(t, err)
	_, err = top.AddTo(t.Context(), r.Router)
	require.ErrorContains(t, err, "started before")
	_, err = plain("top", flowtest.NewSource[int](), flowtest.NewSink[int]()).AddTo(t.Context(), r.Router)
	require.ErrorContains(t, err, `the router has a handler "top/in" already`)
	require.NoError(t, running.Stop(t.Context()), "a topology that never ran can be stopped")
	r.run(t)
	r.works(t)
}

func TestRun(t *testing.T) {
	src, out := flowtest.NewSource[int](), flowtest.NewSink[int]()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- plain("top", src, out).Run(ctx) }()
	src.Feed(1, 2, 3)
	eventually(t, func() bool { return src.Committed("0") == 3 }, "it runs")
	cancel()
	require.NoError(t, <-done)

	bounded := flowtest.NewSource[int]()
	bounded.Feed(7, 8)
	bounded.End()
	out = flowtest.NewSink[int]()
	require.NoError(t, plain("bounded", bounded, out).Run(t.Context()), "it ends by itself")
	require.Equal(t, []int{8, 9}, out.Values())
}

// A middleware that fails, drops or repeats messages in every way it can neither doubles nor loses a record.
func TestMiddlewares(t *testing.T) {
	type wrap = message.HandlerMiddleware
	var calls atomic.Int64
	once := func(f func(h message.HandlerFunc, msg *message.Message) ([]*message.Message, error)) wrap {
		return func(h message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) { return f(h, msg) }
		}
	}
	for name, mws := range map[string][]wrap{
		"none":          nil,
		"retry":         {middleware.Retry{MaxRetries: 3, InitialInterval: time.Millisecond}.Middleware},
		"duplicator":    {middleware.Duplicator},
		"instant ack":   {middleware.InstantAck},
		"recoverer":     {middleware.Recoverer},
		"timeout":       {middleware.Timeout(time.Nanosecond)},
		"ignore errors": {middleware.NewIgnoreErrors([]error{flow.ErrStopped}).Middleware},
		"correlation":   {middleware.CorrelationID},
		"throttle":      {middleware.NewThrottle(1000, time.Second).Middleware},
		"all of them": {
			// Timeout stands inside Retry, which would not call at all once the time is up.
			middleware.InstantAck, middleware.Duplicator, middleware.Recoverer, middleware.NewIgnoreErrors([]error{flow.ErrStopped}).Middleware,
			middleware.Retry{MaxRetries: 3, InitialInterval: time.Millisecond}.Middleware, middleware.Timeout(time.Nanosecond), middleware.Duplicator,
		},
		"one that copies messages": {once(func(h message.HandlerFunc, msg *message.Message) ([]*message.Message, error) {
			return h(message.NewMessage("other", msg.Payload))
		})},
		"one that calls at the same time": {once(func(h message.HandlerFunc, msg *message.Message) ([]*message.Message, error) {
			var wg sync.WaitGroup
			for range 3 {
				wg.Add(1)
				go func() { defer wg.Done(); _, _ = h(msg) }()
			}
			wg.Wait()
			return h(msg)
		})},
		"one that fails afterwards": {once(func(h message.HandlerFunc, msg *message.Message) ([]*message.Message, error) {
			_, err := h(msg)
			return nil, errors.Join(err, errors.New("the middleware's own"))
		})},
		"one that swallows every third": {once(func(h message.HandlerFunc, msg *message.Message) ([]*message.Message, error) {
			if calls.Add(1)%3 == 0 {
				return nil, nil
			}
			return h(msg)
		})},
		"one that refuses every third": {once(func(h message.HandlerFunc, msg *message.Message) ([]*message.Message, error) {
			if calls.Add(1)%3 == 0 {
				return nil, errors.New("not now")
			}
			return h(msg)
		})},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRouter(t)
			r.AddMiddleware(mws...)
			src, out := flowtest.NewSource[int]("0", "1"), flowtest.NewSink[int]()
			src.BatchSize = 5
			clock := flowtest.NewClock(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
			running, err := plain("top", src, out, flow.WithClock(clock)).AddTo(t.Context(), r.Router)
			require.NoError(t, err)
			r.run(t)
			want := []int{}
			for n := range 50 {
				src.FeedTo("0", 2*n)
				src.FeedTo("1", 2*n+1)
				want = append(want, 2*n+1, 2*n+2)
			}
			advancing(clock, 5*time.Millisecond, func() {
				eventually(t, func() bool {
					select {
					case <-running.Done():
						return true
					default:
						return src.Committed("0") == 50 && src.Committed("1") == 50
					}
				}, "all is read")
			})
			require.NoError(t, running.Err())
			require.NoError(t, running.Stop(t.Context()))
			require.ElementsMatch(t, want, out.Values(), "each once")
			for odd := range 2 { // and in the order of their partition
				last := -1
				for _, v := range out.Values() {
					if v%2 == odd {
						require.Greater(t, v, last)
						last = v
					}
				}
			}
		})
	}
}

// A middleware that lets nothing through stops the topology, which names the cause, rather than hang or lose.
func TestMiddlewareThatSwallowsAll(t *testing.T) {
	r := newRouter(t)
	r.AddMiddleware(func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			if msg.UUID == "id" {
				return h(msg)
			}
			return nil, nil
		}
	})
	src, out := flowtest.NewSource[int](), flowtest.NewSink[int]()
	clock := flowtest.NewClock(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
	running, err := plain("top", src, out, flow.WithClock(clock)).AddTo(t.Context(), r.Router)
	require.NoError(t, err)
	r.run(t)
	src.Feed(1)
	advancing(clock, 100*time.Millisecond, func() { <-running.Done() })
	require.ErrorContains(t, running.Err(), `node "in": a batch was acked 4 times without reaching its handler`)
	require.Zero(t, src.Committed("0"))
	require.Empty(t, out.Values())
	r.works(t)
}

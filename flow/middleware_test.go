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
	"github.com/sony/gobreaker"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// seen is a repository for the Deduplicator that has no goroutine.
type seen struct{ keys sync.Map }

func (s *seen) IsDuplicate(_ context.Context, key string) (bool, error) {
	_, dup := s.keys.LoadOrStore(key, true)
	return dup, nil
}

func deduplicator(h middleware.MessageHasher) message.HandlerMiddleware {
	d := &middleware.Deduplicator{KeyFactory: h, Repository: &seen{}, Timeout: time.Second}
	return d.Middleware
}

func poison(t *testing.T) message.HandlerMiddleware {
	pub := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	t.Cleanup(func() { require.NoError(t, pub.Close()) })
	m, err := middleware.PoisonQueue(pub, "poison")
	require.NoError(t, err)
	return m
}

// breaker opens at the third failure in a row and tries again soon. One breaker is shared by all of the router's handlers.
func breaker() message.HandlerMiddleware {
	return middleware.NewCircuitBreaker(gobreaker.Settings{
		Timeout: 20 * time.Millisecond, ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 3 },
	}).Middleware
}

func retry(more ...func(*middleware.Retry)) message.HandlerMiddleware {
	r := middleware.Retry{MaxRetries: 3, InitialInterval: time.Millisecond}
	for _, f := range more {
		f(&r)
	}
	return r.Middleware
}

// stock are Watermill's middlewares as a router may have them, for all of its handlers.
func stock(t *testing.T) map[string][]message.HandlerMiddleware {
	type list = []message.HandlerMiddleware
	ignore := middleware.NewIgnoreErrors([]error{errOwn, flow.ErrStopped, context.Canceled}).Middleware
	throttle := func() message.HandlerMiddleware { return middleware.NewThrottle(2000, time.Second).Middleware }
	delay := (&middleware.DelayOnError{InitialInterval: time.Millisecond, MaxInterval: time.Millisecond, Multiplier: 1}).Middleware
	reset := func(r *middleware.Retry) { r.ResetContextOnRetry = true }
	return map[string]list{
		"none":                 nil,
		"Retry":                {retry()},
		"Recoverer":            {middleware.Recoverer},
		"Throttle":             {throttle()},
		"Timeout":              {middleware.Timeout(time.Millisecond)},
		"Timeout of nothing":   {middleware.Timeout(time.Nanosecond)},
		"CircuitBreaker":       {breaker()},
		"PoisonQueue":          {poison(t)},
		"InstantAck":           {middleware.InstantAck},
		"IgnoreErrors":         {ignore},
		"Duplicator":           {middleware.Duplicator},
		"Deduplicator":         {deduplicator(middleware.NewMessageHasherAdler32(1 << 20))},
		"Deduplicator, SHA256": {deduplicator(middleware.NewMessageHasherSHA256(1 << 20))},
		"CorrelationID":        {middleware.CorrelationID},
		"DelayOnError":         {delay},
		"RandomFail":           {middleware.RandomFail(0.2)},
		"RandomPanic":          {middleware.RandomPanic(0.2)},

		"Recoverer, Retry, Timeout":                 {middleware.Recoverer, retry(reset), middleware.Timeout(time.Millisecond), middleware.RandomPanic(0.1)},
		"PoisonQueue, CircuitBreaker, Retry":        {poison(t), breaker(), retry()},
		"InstantAck, Throttle, Duplicator":          {middleware.InstantAck, throttle(), middleware.Duplicator},
		"Deduplicator, Retry, RandomFail":           {deduplicator(middleware.NewMessageHasherSHA256(1 << 20)), retry(), middleware.RandomFail(0.2)},
		"Duplicator, Deduplicator":                  {middleware.Duplicator, deduplicator(middleware.NewMessageHasherSHA256(1 << 20))},
		"CircuitBreaker, RandomFail, InstantAck":    {breaker(), middleware.RandomFail(0.2), middleware.InstantAck},
		"IgnoreErrors, DelayOnError, CorrelationID": {ignore, delay, middleware.CorrelationID, middleware.Duplicator},
		"all": {
			middleware.CorrelationID, poison(t), ignore, middleware.Recoverer, retry(reset), middleware.Timeout(time.Second), breaker(), throttle(),
			deduplicator(middleware.NewMessageHasherSHA256(1 << 20)), delay, middleware.InstantAck, middleware.Duplicator,
		},
	}
}

var errOwn = errors.New("the other handler's own trouble")

// neighbours is a router with a handler of somebody else's, which fails a lot, so that what the router's middlewares do about it can be seen to
// leave the topology alone.
func neighbours(t *testing.T, mws []message.HandlerMiddleware) *message.Router {
	r, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	r.AddMiddleware(mws...)
	pub := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	var calls atomic.Int64
	r.AddConsumerHandler("other", "orders", pub, func(*message.Message) error {
		if calls.Add(1)%5 != 0 {
			return errOwn
		}
		return nil
	})
	done := make(chan error, 1)
	go func() { done <- r.Run(context.WithoutCancel(t.Context())) }()
	<-r.Running()
	for i := range 20 {
		require.NoError(t, pub.Publish("orders", message.NewMessage(fmt.Sprint("order-", i), message.Payload(fmt.Sprint("an order of its own: ", i)))))
	}
	t.Cleanup(func() {
		require.NoError(t, r.Close())
		require.NoError(t, <-done)
		require.NoError(t, pub.Close())
	})
	return r
}

const middlewareKeys = 8

// counting counts each device's readings by the second behind a Dedup, and passes every reading on, too. Every 499th call of a user
// function fails for the moment.
func counting(src flow.Source[reading], ids flow.Sink[int64], perSecond flow.Sink[minute], opts ...flow.TopologyOption) *flow.Topology {
	top := flow.New("top", append([]flow.TopologyOption{quiet(), flow.WithEpochInterval(5 * time.Millisecond), flow.WithParallelism(2)}, opts...)...)
	var calls atomic.Int64
	in := operators.Update(flow.From(top, "in", src), "shaky", func(context.Context, *reading) error {
		if calls.Add(1)%499 == 0 {
			return flow.Transient(errors.New("not now"))
		}
		return nil
	})
	timed := flow.AssignTime(in, "time", reading.time, watermark.BoundedOutOfOrderness(time.Second))
	fresh := operators.Dedup(flow.KeyBy(timed, reading.device), "dedup", reading.id, time.Hour)
	flow.To(operators.Map(fresh.Unkeyed(), "ids", func(_ context.Context, r reading) (int64, error) { return r.ID, nil }), "ids-out", ids)
	flow.To(operators.Window(fresh, "per-second", window.Tumbling(10*time.Second), agg.Sum(reading.temp), window.AllowedLateness(time.Minute)), "sums", perSecond)
	return top
}

// load are n readings, each twice.
func load(n int) []reading {
	rs := make([]reading, 0, 2*n)
	for i := range n {
		r := reading{Device: fmt.Sprint("d", i%middlewareKeys), ID: int64(i), Temp: 1, At: int64(1000 + i/100)}
		rs = append(rs, r, r)
	}
	return rs
}

func upTo(n int) []int64 {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = int64(i)
	}
	return ids
}

// total sums what the last pane of each window says.
func total(rows []minute) (sum float64) {
	last := map[string]float64{}
	for _, r := range rows {
		last[fmt.Sprint(r.Key, r.Start)] = r.Value
	}
	for _, v := range last {
		sum += v
	}
	return sum
}

// None of Watermill's middlewares doubles or loses a record, alone or with others.
func TestStockMiddlewares(t *testing.T) {
	t.Parallel()
	const n = 1000
	for name, mws := range stock(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, ids, sums := flowtest.NewSource[reading]("0", "1"), flowtest.NewSink[int64](), flowtest.NewSink[minute]()
			src.BatchSize = 30
			for i, r := range load(n) {
				src.FeedTo(fmt.Sprint(i/2%2), r) // both of a pair in the same partition
			}
			running, err := counting(src, ids, sums, flow.WithStore(flowtest.NewStore())).AddTo(t.Context(), neighbours(t, mws))
			require.NoError(t, err)
			eventually(t, func() bool {
				return running.Err() != nil || src.Committed("0") == n && src.Committed("1") == n
			}, "all is read")
			require.NoError(t, running.Err())
			require.NoError(t, running.Stop(t.Context(), flow.Flush()))
			require.ElementsMatch(t, upTo(n), ids.Values(), "each once")
			require.EqualValues(t, n, total(sums.Values()), "each counted once")
		})
	}
}

// A stop in the middle of the load commits what was read, whatever the middlewares do; the next start goes on behind it.
func TestStopUnderStockMiddlewares(t *testing.T) {
	t.Parallel()
	const n = 1500
	for name, mws := range stock(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, ids, sums := flowtest.NewSource[reading](), flowtest.NewSink[int64](), flowtest.NewSink[minute]()
			store := flowtest.NewStore()
			src.BatchSize = 30
			src.Feed(load(n)...)
			router := neighbours(t, mws)
			for stop := int64(n / 3); ; stop += n / 2 {
				running, err := counting(src, ids, sums, flow.WithStore(store)).AddTo(t.Context(), router)
				require.NoError(t, err)
				eventually(t, func() bool { return running.Err() != nil || src.Committed("0") >= min(stop, 2*n) }, "some is read")
				require.NoError(t, running.Err())
				before := src.Committed("0")
				require.NoError(t, running.Stop(t.Context()))
				at := src.Committed("0")
				require.GreaterOrEqual(t, at, before)
				require.Len(t, ids.Values(), int(at+1)/2, "what was committed has arrived, and no more")
				if at == 2*n {
					break
				}
			}
			require.ElementsMatch(t, upTo(n), ids.Values(), "each once")
		})
	}
}

// A middleware that acks first and lets messages through slowly is waited for.
func TestInstantAckBeforeASlowThrottle(t *testing.T) {
	t.Parallel()
	tick := make(chan struct{})
	r := neighbours(t, []message.HandlerMiddleware{middleware.InstantAck, func(h message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			<-tick
			return h(m)
		}
	}})
	src, out := flowtest.NewSource[int](), flowtest.NewSink[int]()
	clock := flowtest.NewClock(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
	running, err := plain("top", src, out, flow.WithClock(clock)).AddTo(t.Context(), r)
	require.NoError(t, err)
	src.Feed(1)
	advancing(clock, 10*time.Millisecond, func() {
		eventually(t, func() bool { return clock.Now().Second() >= 5 }, "five seconds pass")
		close(tick)
		eventually(t, func() bool { return src.Committed("0") == 1 }, "it is read")
	})
	require.Equal(t, []int{2}, out.Values())
	require.NoError(t, running.Stop(t.Context()))
}

// A middleware that refuses everything for long holds the topology up, and does not end it.
func TestMiddlewareThatRefusesForLong(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	r := neighbours(t, []message.HandlerMiddleware{func(h message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			if message.HandlerNameFromCtx(m.Context()) == "top/in" && !open.Load() {
				return nil, gobreaker.ErrOpenState
			}
			return h(m)
		}
	}})
	src, out := flowtest.NewSource[int](), flowtest.NewSink[int]()
	clock := flowtest.NewClock(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
	running, err := plain("top", src, out, flow.WithClock(clock)).AddTo(t.Context(), r)
	require.NoError(t, err)
	src.Feed(1)
	advancing(clock, 100*time.Millisecond, func() {
		eventually(t, func() bool { return clock.Now().Minute() >= 1 }, "a minute passes")
		require.NoError(t, running.Err())
		open.Store(true)
		eventually(t, func() bool { return src.Committed("0") == 1 }, "it is read")
	})
	require.Equal(t, []int{2}, out.Values())
	refused := int64(0)
	for _, c := range running.Counters() {
		if c.Node == "in" && c.Name == "refused" {
			refused = c.Value
		}
	}
	require.Greater(t, refused, int64(5))
	require.NoError(t, running.Stop(t.Context()))
}

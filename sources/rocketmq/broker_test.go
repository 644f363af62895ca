package rocketmq

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/internal/services"
)

// On a broker that may be killed.
func TestBrokerKilledWhileSendingAndReading(t *testing.T) {
	t.Parallel()
	set := services.Isolated(t, services.Options{}, services.RocketBroker)
	t.Run("killed while reading", func(t *testing.T) { brokerKilledWhileSendingAndReading(t, set) })
	t.Run("killed under a topology", func(t *testing.T) { brokerKilledUnderATopology(t, set) })
}

// produce starts a producer for each queue, which sends 100 messages at a time and sends again what was not confirmed. The messages of
// queue q are numbers from q*1,000,000 on. sent stops them and says how many are confirmed in each queue.
func (b *bench) produce() (sent func() []int) {
	ctx, stop := context.WithCancel(b.t.Context())
	var all sync.WaitGroup
	n := make([]int, b.queues)
	for q := range b.queues {
		all.Go(func() {
			pace := time.NewTicker(20 * time.Millisecond)
			defer pace.Stop()
			for ctx.Err() == nil {
				<-pace.C
				if b.trySend(context.Background(), q, numbers(q*1_000_000+n[q], 100)...) == nil {
					n[q] += 100
				}
			}
		})
	}
	sent = sync.OnceValue(func() []int { stop(); all.Wait(); return n })
	b.t.Cleanup(func() { sent() })
	return sent
}

// The client library's pull stalls for 33 s after its broker died, and says nothing. Its commits are one-way.
func brokerKilledWhileSendingAndReading(t *testing.T, set *services.Set) {
	const queues, kills = 8, 1
	b := setup(t, set, queues)
	b.send(0, "1000000")
	e := launch(t, b.config(), nil)
	e.until("first", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].pos.Offset == 1 })
	e.commit()
	committed := time.Now()

	sent := b.produce()
	for kill := range kills {
		from := e.total()
		require.Eventually(t, func() bool { return e.total() > from+5000 }, 30*time.Second, 10*time.Millisecond)
		require.Eventually(t, func() bool { return time.Since(committed) > 2*time.Second }, 5*time.Second, 50*time.Millisecond)
		require.NoError(t, set.Kill(t.Context(), services.RocketBroker))
		require.Eventually(t, func() bool { return e.count("outages") == int64(kill+1) }, 5*time.Second, 10*time.Millisecond, "noticed")
		e.with(func(parts map[string]*queueLog) {
			for id, l := range parts {
				require.False(t, l.idle, "%s is disconnected, not idle", id)
			}
		})
		require.NoError(t, set.Start(t.Context(), services.RocketBroker))
		up := time.Now()
		e.until("every queue goes on", func(parts map[string]*queueLog) bool {
			for _, l := range parts {
				if l.last.Before(up) {
					return false
				}
			}
			return true
		})
		e.with(func(parts map[string]*queueLog) {
			for id, l := range parts {
				require.Less(t, l.last.Sub(up), 5*time.Second, id)
			}
		})
		t.Logf("kill %d: all queues went on %v after boot", kill+1, time.Since(up))
		require.Equal(t, kill+1, len(e.logs.with("WARN", "broker does not answer", "broker-a", set.Broker())), "one warning an outage")
	}
	all := sent()
	e.until("everything sent has come", func(parts map[string]*queueLog) bool {
		for q := range queues {
			if missing(parts[b.id(q)].values, q*1_000_000, all[q]) > 0 {
				return false
			}
		}
		return true
	})
	require.Zero(t, e.count("lost_by_retention"))
	offset, known, err := b.client.Committed(t.Context(), set.Broker(), b.config().Group, b.topic, b.queue(0))
	require.NoError(t, err)
	// A broker that is killed while it writes its offsets may forget one: that repeats records. It must never know of more.
	require.LessOrEqual(t, offset, int64(1), "nothing beyond the commit is committed (known: %v)", known)
	t.Logf("sent %v, read %d", all, e.total())
}

// ledger is a sink that keeps what was delivered, by place.
type ledger struct {
	mu     sync.Mutex
	seen   map[string]map[int64]int // queue, offset: how often
	values map[string][]int
	last   map[string]time.Time
	broken atomic.Bool
}

var errBroken = errors.New("the sink is broken")

func (l *ledger) write(_ context.Context, batch []flow.Record[int]) error {
	if l.broken.Load() {
		return errBroken
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range batch {
		id := r.Meta.Partition
		if l.seen[id] == nil {
			l.seen[id] = map[int64]int{}
		}
		l.seen[id][r.Meta.Position.Offset-1]++
		l.values[id] = append(l.values[id], r.Value)
		l.last[id] = time.Now()
	}
	return nil
}

// since tells whether all queues have delivered something after t.
func (l *ledger) since(queues int, t time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.last {
		if at.Before(t) {
			return false
		}
	}
	return len(l.last) == queues
}

// repeats are the offsets of a queue that were delivered more than once.
func (l *ledger) repeats(id string) (offsets []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for o, n := range l.seen[id] {
		if n > 1 {
			offsets = append(offsets, o)
		}
	}
	return offsets
}

// By the engine with a durable store, 8 queues: a broker's kill -9 repeats nothing and every queue goes on within 5 s. Then topology and
// broker die together, and the broker forgets what the group had committed: the position in the store decides, and what comes twice was
// not committed.
func brokerKilledUnderATopology(t *testing.T, set *services.Set) {
	const queues = 8
	b := setup(t, set, queues)
	l := &ledger{seen: map[string]map[int64]int{}, values: map[string][]int{}, last: map[string]time.Time{}}
	dir := t.TempDir()
	run := func() (stop func(), done chan error) {
		topo := flow.New("resume", flow.WithStore(pebble.Dir(dir)), flow.WithEpochInterval(100*time.Millisecond), flow.WithLogger(slog.New(slog.DiscardHandler)))
		cfg := b.config()
		cfg.Meta = true
		flow.To(flow.From(topo, "in", Source(cfg, number{})), "ledger", flow.SinkFunc(l.write))
		ctx, cancel := context.WithCancel(t.Context())
		done = make(chan error, 1)
		go func() { done <- topo.Run(ctx) }()
		return cancel, done
	}
	sent := b.produce()
	stop, done := run()
	require.Eventually(t, func() bool { return l.since(queues, time.Time{}) }, 30*time.Second, 10*time.Millisecond, "begun")

	require.NoError(t, set.Kill(t.Context(), services.RocketBroker))
	require.NoError(t, set.Start(t.Context(), services.RocketBroker))
	up := time.Now()
	require.Eventually(t, func() bool { return l.since(queues, up) }, 5*time.Second, 10*time.Millisecond, "every queue goes on")
	t.Logf("every queue went on %v after the broker was back", time.Since(up))
	for q := range queues {
		require.Empty(t, l.repeats(b.id(q)), "the broker's death repeats nothing")
	}

	l.broken.Store(true)
	err := <-done
	require.ErrorIs(t, err, errBroken)
	stop()
	committed := make([]int64, queues)
	for q := range queues {
		committed[q], _, err = b.client.Committed(t.Context(), set.Broker(), b.config().Group, b.topic, b.queue(q))
		require.NoError(t, err)
		require.Positive(t, committed[q])
		require.NoError(t, b.client.Commit(t.Context(), set.Broker(), b.config().Group, b.topic, b.queue(q), 1))
	}
	require.NoError(t, set.Kill(t.Context(), services.RocketBroker))
	l.broken.Store(false)
	stop, done = run() // before the broker is back
	require.NoError(t, set.Start(t.Context(), services.RocketBroker))
	up = time.Now()
	require.Eventually(t, func() bool { return l.since(queues, up) }, 20*time.Second, 10*time.Millisecond, "every queue is begun")
	t.Logf("every queue went on %v after the broker was back", time.Since(up))
	all := sent()
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for q := range queues {
			if missing(l.values[b.id(q)], q*1_000_000, all[q]) > 0 {
				return false
			}
		}
		return true
	}, 30*time.Second, 50*time.Millisecond, "everything sent has come")
	stop()
	require.NoError(t, <-done)
	total, twice := 0, 0
	for q := range queues {
		id := b.id(q)
		for _, o := range l.repeats(id) {
			require.GreaterOrEqual(t, o, committed[q], "queue %s repeats what was committed", id)
			require.Equal(t, 2, l.seen[id][o])
			twice++
		}
		for o := range int64(len(l.seen[id])) { // no gap
			require.Positive(t, l.seen[id][o], "queue %s, offset %d", id, o)
		}
		total += len(l.seen[id])
	}
	t.Logf("%d messages, %d of them twice", total, twice)
}

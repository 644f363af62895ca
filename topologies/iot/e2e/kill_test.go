package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
)

const (
	// outOfOrderness is how late readings may be in this test, longestOutage how long a victim may take to be back: what was published
	// in between needs time to catch up. E2E_SLOW multiplies both, for machines on which servers take a minute to start.
	outOfOrderness = 60 * time.Second
	longestOutage  = 45 * time.Second
)

// TestE2EKill: the same, and ingest, data, the RocketMQ broker and the ClickHouse server are each killed with SIGKILL at random moments
// while readings are published. One is down at a time, for at most 20 s, and the next is killed when the path has caught up: what stands
// before the broker, which stamps the time, may then be late by less than the out-of-orderness of 60 s.
func TestE2EKill(t *testing.T) {
	kills := number(t, "E2E_KILLS", 3)
	readings := number(t, "E2E_READINGS", 33_000*kills)
	seed := uint64(number(t, "E2E_SEED", time.Now().UnixNano()))
	rate := number(t, "E2E_RATE", min(3000, max(230, readings/500)))
	slow := time.Duration(number(t, "E2E_SLOW", 1))
	duration := time.Duration(readings/rate) * time.Second
	t.Logf("E2E_SEED=%d: %d readings at %d per second, %v", seed, readings, rate, duration)
	c := newChain(t, "SIMULATE_SEED=1", fmt.Sprintf("SIMULATE_LATE_FROM=%d", max(1000, 5*rate)), fmt.Sprintf("TIME_OUT_OF_ORDERNESS=%v", slow*outOfOrderness), fmt.Sprintf("DEDUP_TTL=%v", max(10*time.Minute, 20*slow*outOfOrderness)))
	k := &killer{
		chain: c, random: rand.New(rand.NewPCG(seed, 0)), rate: rate, maxDown: min(20*time.Second, max(4*time.Second, duration/20)), longest: slow * longestOutage,
		boxes: map[string]*process{"ingest": c.box("ingest"), "data": c.box("data")},
	}
	k.sim = c.simulate(readings, float64(rate))
	defer k.keepClickHouse()()
	k.run(int(kills))
	c.requireEnd(k.sim, 2*duration+time.Minute)
	c.requireEnd(k.boxes["ingest"], 4*time.Minute)
	c.requireEnd(k.boxes["data"], 4*time.Minute)
	stored := k.stored()
	c.remember("ingest")
	c.remember("data")
	l, repeats := c.requireExact()
	t.Logf("kills: %v; ClickHouse ended by itself and was started again: %d", k.kills, k.revived.Load())
	t.Logf("messages repeated in the topic: %d of %d", stored-(l.Totals.Published-l.Totals.Heartbeats-l.Totals.Malformed), stored)
	t.Logf("rows repeated, and folded by FINAL: %v", repeats)
	for _, name := range slices.Sorted(maps.Keys(c.counters)) {
		t.Logf("%s: %d", name, c.counters[name])
	}
}

// killer kills one victim after the other.
type killer struct {
	*chain
	random  *rand.Rand
	rate    int64
	maxDown time.Duration
	longest time.Duration
	boxes   map[string]*process
	sim     *process
	kills   map[string]int
	// killing is held while a victim is down on purpose.
	killing sync.Mutex
	revived atomic.Int32
}

// keepClickHouse starts the ClickHouse server again when it ends by itself, until the returned function is called. The engine that carries
// the test server does so now and then when a client's connection breaks off, as ClickHouse's own server does not; to the path it is
// one more kill.
func (k *killer) keepClickHouse() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			k.killing.Lock()
			for _, s := range k.set.Status() {
				if s.Name == services.ClickHouse && !s.Up {
					if err := k.set.Start(ctx, s.Name); err == nil {
						k.revived.Add(1)
					}
				}
			}
			k.killing.Unlock()
		}
	}()
	return func() { cancel(); <-done }
}

// run kills each victim so many times, in random order.
func (k *killer) run(each int) {
	k.kills = map[string]int{}
	victims := slices.Repeat([]string{"ingest", "data", services.RocketBroker, services.ClickHouse}, each)
	k.random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	// Late readings come from here on: every partition knows what time it is, and what it knows is in a committed epoch.
	k.eventually("the warm-up", time.Minute, func() bool { return k.status("simulate").WarmedUp && k.status("data").Read > 0 })
	for i, victim := range victims {
		time.Sleep(time.Duration(k.random.Int64N(int64(2 * time.Second)))) // the random moment
		require.False(k.t, k.sim.ended(), "the load ended before kill %d of %d: set a lower E2E_RATE or more E2E_READINGS", i+1, len(victims))
		down := time.Duration(k.random.Int64N(int64(k.maxDown)))
		k.kill(victim, down)
		k.caughtUp(victim)
	}
}

// kill kills the victim and starts it again after down.
func (k *killer) kill(victim string, down time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	k.killing.Lock()
	defer k.killing.Unlock()
	began := time.Now()
	if p, ok := k.boxes[victim]; ok {
		require.False(k.t, p.ended(), "%s ended by itself: %v\n%s", victim, p.err, tail(p.log))
		p.kill()
		k.remember(victim)
		time.Sleep(down)
		k.boxes[victim] = k.box(victim)
	} else {
		require.NoError(k.t, k.set.Kill(ctx, victim))
		if victim == services.RocketBroker {
			down = max(0, down-8*time.Second) // it needs about as long to start
		}
		time.Sleep(down)
		require.NoError(k.t, k.set.Start(ctx, victim))
	}
	k.kills[victim]++
	away := time.Since(began).Round(100 * time.Millisecond)
	k.t.Logf("killed %s, up again after %v", victim, away)
	require.Less(k.t, away, k.longest, "%s takes too long to start for the ledger's rules to hold: use a machine that is less busy, or E2E_SLOW=3", victim)
}

// caughtUp waits until the path keeps pace with the load again: the topic grows as fast as the load, and data has read it.
func (k *killer) caughtUp(victim string) {
	began := time.Now()
	const span = 2 * time.Second
	before, at := int64(-1), time.Time{}
	k.eventually("catching up", 4*time.Minute, func() bool {
		if k.sim.ended() {
			return true
		}
		if before >= 0 && time.Since(at) < span {
			return false
		}
		stored, now := k.stored(), time.Now()
		pace := float64(stored-before) / now.Sub(at).Seconds() / float64(k.rate)
		known := stored >= 0 && before >= 0
		before, at = stored, now
		data := k.status("data")
		return known && pace > 0.6 && pace < 1.3 && data.Read > 0 && data.Lag < 3*k.rate
	})
	k.t.Logf("caught up %v after the start of %s", time.Since(began).Round(100*time.Millisecond), victim)
}

func (k *killer) eventually(what string, within time.Duration, is func() bool) {
	for deadline := time.Now().Add(within); !is(); time.Sleep(100 * time.Millisecond) {
		for name, p := range k.boxes {
			require.False(k.t, p.ended() && !k.sim.ended(), "%s ended by itself: %v\n%s", name, p.err, tail(p.log))
		}
		require.True(k.t, time.Now().Before(deadline), "%s took longer than %v", what, within)
	}
}

// stored is how many messages the topic holds, -1 when the broker does not say.
func (k *killer) stored() int64 {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	n, err := topicSize(ctx, k.cfg.RocketMQ.NameServers, k.cfg.RocketMQ.Topic)
	if err != nil {
		return -1
	}
	return n
}

func topicSize(ctx context.Context, nameServers []string, topic string) (int64, error) {
	client, err := rocketmq.New(rocketmq.Options{NameServers: nameServers})
	if err != nil {
		return 0, err
	}
	defer client.Close()
	route, err := client.Route(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("route of %s: %w", topic, err)
	}
	var sum int64
	for _, q := range route.Readable {
		n, err := client.MaxOffset(ctx, route.Masters[q.Broker], topic, q)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

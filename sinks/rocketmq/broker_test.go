package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/services"
)

// What must not be done to the broker that others use: kills, and transactions, since from the first one on a thread of RocketMQ 5.5 is
// busy for ever. This broker asks for half messages after 3 s.
func TestOnABrokerOfItsOwn(t *testing.T) {
	set := services.Isolated(t, services.Options{}, services.RocketBroker)
	t.Run("transactions", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *services.Set) bool{
			"arrive once in order":                        transactionalMessagesArriveOnceInOrder,
			"a crash is rolled back by the next start":    halfMessagesOfACrashAreRolledBackByTheNextStart,
			"a commit behind a check":                     aCommitBehindACheckFindsTheHalfMessage,
			"a decided message is committed by the check": aDecidedMessageIsCommittedWhenTheBrokerAsks,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				undisturbed(t, func(t *testing.T) bool { return test(t, set) })
			})
		}
	})
	t.Run("contract of transactions", func(t *testing.T) { contractOfTransactions(t, set) })
	t.Run("killed while sending", func(t *testing.T) { brokerKilledWhileSending(t, set) })
}

// undisturbed begins a test anew when it says that the broker has disturbed it: one that is too busy to store a commit within its transaction
// timeout asks for it, and may then store it twice. What a commit does wrong by itself disturbs every attempt.
func undisturbed(t *testing.T, test func(*testing.T) bool) {
	const attempts = 6
	for i := range attempts {
		done := false
		t.Run(fmt.Sprint("attempt ", i+1), func(t *testing.T) { done = test(t) })
		if done || t.Failed() {
			return
		}
	}
	t.Errorf("in each of %d attempts the broker asked for commits that it had been sent", attempts)
}

// once waits for n messages, and returns them with true where there are no more. False is for commits that followed from questions of the
// broker, more of them than asked; without such, more messages are an error.
func once(t *testing.T, set *services.Set, topic string, c *counters, n int, asked int64) (all []stored, ok bool) {
	t.Helper()
	require.Eventually(t, func() bool { all = readOnce(t, set.NameServer(), topic); return len(all) >= n }, 20*time.Second, 50*time.Millisecond)
	more := func() bool { return c.get("checked_commits") > asked }
	if len(all) > n {
		require.Eventually(t, more, 20*time.Second, 50*time.Millisecond, "%d messages instead of %d, though the broker asked for no commit", len(all), n)
	}
	return all, !more()
}

func transactionalMessagesArriveOnceInOrder(t *testing.T, set *services.Set) bool {
	topic := topicOf(t, set, 4)
	s, w, c := openTx(t, set.NameServer(), topic, 1, Key(device), ID(eventID))
	for range 2 {
		blocks := sealed(t, w, 20, 25)
		began := time.Now()
		rejects, err := s.Deliver(t.Context(), blocks)
		t.Logf("%.0f messages/s by one task, in order in 4 queues", 500/time.Since(began).Seconds())
		require.NoError(t, err)
		require.Empty(t, rejects)
	}
	all, ok := once(t, set, topic, c, 1000, 0)
	if !ok {
		return false
	}
	last := map[string]int{}
	for _, m := range all {
		var r reading
		require.NoError(t, readings{}.Decode([]byte(m.body), &r))
		require.Equal(t, last[r.device]%25+1, r.seq, r.device)
		last[r.device]++
		require.Equal(t, eventID(r), m.props["KEYS"])
		require.Equal(t, fmt.Sprint(m.queue.ID), m.props["MR_SHARD"])
	}
	require.Len(t, last, 20)
	return true
}

// A topology that dies between storing and committing leaves half messages; its next start lets them be dropped, since their
// epoch comes again.
func halfMessagesOfACrashAreRolledBackByTheNextStart(t *testing.T, set *services.Set) bool {
	topic := topicOf(t, set, 2)
	s, w, _ := openTx(t, set.NameServer(), topic, 1)
	lanes, err := s.lanes(sealed(t, w, 5, 10))
	require.NoError(t, err)
	require.NoError(t, s.beside(t.Context(), lanes, s.send))
	require.NoError(t, s.Close(context.Background()))

	s, w, c := openTx(t, set.NameServer(), topic, 2)
	_, err = s.Deliver(t.Context(), sealed(t, w, 5, 10))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.get("checked_rollbacks") >= 50 }, time.Minute, 50*time.Millisecond)
	_, ok := once(t, set, topic, c, 50, 0)
	return ok
}

// A broker asks while a Deliver waits for another queue, and stores its half messages anew for that: the commit goes to the new place.
func aCommitBehindACheckFindsTheHalfMessage(t *testing.T, set *services.Set) bool {
	topic := topicOf(t, set, 2)
	s, w, c := openTx(t, set.NameServer(), topic, 1)
	blocks := sealed(t, w, 5, 10)
	lanes, err := s.lanes(blocks)
	require.NoError(t, err)
	require.NoError(t, s.beside(t.Context(), lanes, s.send))
	require.Eventually(t, func() bool { return c.get("transaction_checks") >= 50 }, time.Minute, 50*time.Millisecond)
	_, err = s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	if _, ok := once(t, set, topic, c, 50, 0); !ok {
		return false
	}
	// Nothing comes twice at the broker's next round either, which has nothing more to ask.
	asked := c.get("transaction_checks")
	for range 20 {
		time.Sleep(200 * time.Millisecond)
		if c.get("transaction_checks") > asked+10 {
			return false
		}
	}
	_, ok := once(t, set, topic, c, 50, 0)
	return ok
}

// A commit that was decided is done by the broker's question where its request was lost.
func aDecidedMessageIsCommittedWhenTheBrokerAsks(t *testing.T, set *services.Set) bool {
	topic := topicOf(t, set, 1)
	s, w, c := openTx(t, set.NameServer(), topic, 1)
	lanes, err := s.lanes(sealed(t, w, 5, 10))
	require.NoError(t, err)
	require.NoError(t, s.beside(t.Context(), lanes, s.send))
	s.tx.decide()
	s.tx.forget(lanes)
	require.Eventually(t, func() bool { return c.get("checked_commits") >= 50 }, time.Minute, 50*time.Millisecond)
	_, ok := once(t, set, topic, c, 50, 50)
	return ok
}

// The suite of TestContract, with half messages and commits instead of batches. Its Network cuts the broker's questions too.
func contractOfTransactions(t *testing.T, set *services.Set) {
	servers := Connection{NameServers: []string{set.NameServer()}, Timeout: 2 * time.Second}
	var places atomic.Int64
	flowtest.SinkContract(t, flowtest.SinkSetup[reading]{
		New: func(t testing.TB) flowtest.SinkCase[reading] {
			topic := fmt.Sprintf("Transactions_%x_%d", time.Now().UnixNano(), places.Add(1))
			require.NoError(t, CreateTopic(t.Context(), servers.NameServers, topic, 3))
			network := faults.Group{faults.New(t, set.NameServer()), faults.New(t, set.Broker())}
			return flowtest.SinkCase[reading]{
				Sink: func() flow.Sink[reading] {
					s := Sink(Config{Connection: servers, Topic: topic, Group: "p-" + topic, Transactional: true}, readings{}, Key(device), ID(eventID))
					return &proxied{s.(*sink[reading]), network}
				},
				Stored: func(t testing.TB) []int {
					var ids []int
					for _, m := range readOnce(t, set.NameServer(), topic) {
						var r reading
						require.NoError(t, readings{}.Decode([]byte(m.body), &r))
						ids = append(ids, r.seq)
					}
					return ids
				},
				Network: network,
			}
		},
		Record: func(id int) reading { return reading{fmt.Sprintf("dev-%d", id%7), id} },
		Refused: map[string]func(id int) reading{
			"no body, and no key":         func(int) reading { return reading{} },
			"a property that is too long": func(id int) reading { return reading{strings.Repeat("d", 32_300), id} },
		},
		Wrong: map[string]func() flow.Sink[reading]{
			"group": func() flow.Sink[reading] {
				return Sink(Config{Connection: servers, Topic: "t", Transactional: true}, readings{})
			},
		},
		Key:     func(id int) string { return fmt.Sprintf("dev-%d", id%7) },
		Repeats: true,
	})
}

// Nothing that Deliver confirmed may be missing after kills, and each key's first arrivals are in order.
func brokerKilledWhileSending(t *testing.T, set *services.Set) {
	topic := topicOf(t, set, 4)
	s := Sink(Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: topic, BatchMessages: 50}, readings{}, Key(device), ID(eventID))
	w, c := open(t, s)
	const devices, kills = 20, 2
	ctx, stop := context.WithCancel(t.Context())
	var done atomic.Int64
	var failed error
	var sender sync.WaitGroup
	sender.Go(func() {
		pause := time.NewTicker(20 * time.Millisecond)
		defer pause.Stop()
		for seq := 1; ctx.Err() == nil; seq++ {
			var batch []flow.Record[reading]
			for d := range devices {
				batch = append(batch, records(reading{fmt.Sprintf("d%d", d), seq})...)
			}
			if failed = w.Write(ctx, batch); failed != nil {
				return
			}
			blocks, _ := w.Seal(ctx)
			for {
				_, err := s.Deliver(context.Background(), blocks)
				if err == nil {
					break
				}
				if !flow.IsTransient(err) {
					failed = errors.Join(err, errors.New("not transient"))
					return
				}
				<-pause.C
			}
			done.Store(int64(seq))
		}
	})
	for range kills {
		from := done.Load()
		require.Eventually(t, func() bool { return done.Load() > from+50 }, 60*time.Second, 10*time.Millisecond)
		require.NoError(t, set.Kill(t.Context(), services.RocketBroker))
		require.NoError(t, set.Start(t.Context(), services.RocketBroker))
	}
	from := done.Load()
	require.Eventually(t, func() bool { return done.Load() > from+5 }, 60*time.Second, 10*time.Millisecond, "goes on")
	stop()
	sender.Wait()
	require.NoError(t, failed)
	n := int(done.Load())
	seen := map[string]int{}
	require.Eventually(t, func() bool {
		clear(seen)
		repeats := 0
		for _, m := range readOnce(t, set.NameServer(), topic) {
			var r reading
			require.NoError(t, readings{}.Decode([]byte(m.body), &r))
			switch {
			case r.seq == seen[r.device]+1:
				seen[r.device] = r.seq
			case r.seq <= seen[r.device]:
				repeats++
			default:
				t.Fatalf("device %s: %d comes behind %d", r.device, r.seq, seen[r.device])
			}
		}
		for d := range devices {
			if seen[fmt.Sprintf("d%d", d)] != n {
				return false
			}
		}
		t.Logf("%d batches, %d repeats, %d retries", n, repeats, c.get("retries"))
		return true
	}, 30*time.Second, 200*time.Millisecond)
}

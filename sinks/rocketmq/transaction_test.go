package rocketmq

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// openTx opens a transactional sink as one incarnation of a store.
func openTx(t *testing.T, nameServer, topic string, incarnation uint64, opts ...Option[reading]) (*sink[reading], flow.SinkWriter[reading], *counters) {
	t.Helper()
	cfg := Config{Connection: Connection{NameServers: []string{nameServer}, Timeout: 20 * time.Second}, Topic: topic, Group: "tx-" + strings.NewReplacer("/", "_", "#", "_").Replace(t.Name()), Transactional: true}
	s := Sink(cfg, readings{}, opts...).(*sink[reading])
	c := &counters{}
	rt := runtime(t, c)
	rt.StoreID, rt.Incarnation = "store of "+topic, incarnation
	require.NoError(t, s.Open(t.Context(), rt))
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	w, err := s.Writer(t.Context(), flow.TaskInfo{})
	require.NoError(t, err)
	return s, w, c
}

// sealed writes n readings of each device and seals them.
func sealed(t *testing.T, w flow.SinkWriter[reading], devices, n int) []flow.Block {
	t.Helper()
	for i := range n {
		for d := range devices {
			require.NoError(t, w.Write(t.Context(), records(reading{fmt.Sprintf("d%d", d), i + 1})))
		}
	}
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	return blocks
}

func TestReadersSeeNothingBeforeAllMessagesOfADeliverAreStored(t *testing.T) {
	t.Parallel()
	down := 2
	f := newFake(t, 2, func(queue, n int, _ []string) int {
		if queue == 1 && n == 3 && down > 0 { // some of the queue are stored, and then it fails for a while
			return rocketmq.SystemBusy
		}
		return 0
	})
	f.end = func(n int) int {
		if n == 0 {
			f.mu.Unlock() // called under the lock
			defer f.mu.Lock()
			require.Empty(t, slices.Concat(f.got(0), f.got(1)))
		}
		return 0
	}
	s, w, c := openTx(t, f.addr, "t", 1, Key(device))
	blocks := append(sealed(t, w, 20, 10), sealed(t, w, 20, 10)...)
	_, err := s.Deliver(t.Context(), blocks)
	require.True(t, flow.IsTransient(err))
	require.Empty(t, slices.Concat(f.got(0), f.got(1)))
	require.Zero(t, f.ends)
	require.Equal(t, int64(1), c.get("retries"))
	rejects, err := s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	require.Empty(t, rejects)
	require.Equal(t, 400, f.ends, "each half message is committed once")
	last := map[string]int{}
	for _, b := range slices.Concat(f.got(0), f.got(1)) { // each device's twice from 1 to 10, in order
		var r reading
		require.NoError(t, readings{}.Decode([]byte(b), &r))
		require.Equal(t, last[r.device]%10+1, r.seq, r.device)
		last[r.device]++
	}
	_, err = s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	require.Equal(t, 400, f.ends, "nothing is left to do")
}

// A broker that crashed may have lost half messages that it had confirmed.
func TestALostHalfMessageIsStoredAgain(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1, func(int, int, []string) int { return 0 })
	f.end = func(n int) int {
		if n == 4 {
			return halfMissing
		}
		return 0
	}
	s, w, c := openTx(t, f.addr, "t", 1, Key(device))
	blocks := sealed(t, w, 1, 10)
	_, err := s.Deliver(t.Context(), blocks)
	require.True(t, flow.IsTransient(err))
	require.ErrorContains(t, err, "lost the half message")
	_, err = s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	require.Equal(t, int64(1), c.get("half_messages_lost"))
	require.Len(t, f.got(0), 10)
	require.Equal(t, 11, len(f.halves))
}

func TestARefusedHalfMessageGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1, func(_, _ int, b []string) int {
		if b[0] == "d0 7" {
			return rocketmq.MessageIllegal
		}
		return 0
	})
	s, w, _ := openTx(t, f.addr, "t", 1)
	blocks := append(sealed(t, w, 1, 5), sealed(t, w, 1, 10)...)
	rejects, err := s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	require.Len(t, rejects, 1)
	require.Equal(t, []int{1, 6}, []int{rejects[0].Block, rejects[0].Row})
	require.Equal(t, "d0 7", string(rejects[0].Record))
	require.Len(t, f.got(0), 14)
}

// What brokers are told of half messages, by their names.
func TestFatesOfHalfMessages(t *testing.T) {
	t.Parallel()
	rt := flow.SinkRuntime{StoreID: "s", Node: "out", Incarnation: 3}
	tx, err := newTransactions(rt, "g")
	require.NoError(t, err)
	ask := func(name string) fate { return tx.judge(name, rocketmq.Half{QueueOffset: 9, LogOffset: 99}) }
	var m [3]message
	for i := range m {
		tx.begin(&m[i], nil)
	}
	tx.stored(&m[0], rocketmq.Half{QueueOffset: 1, LogOffset: 1})
	tx.failed(&m[1]) // no answer: sent again as 4
	tx.begin(&m[1], nil)
	require.Equal(t, uint64(4), m[1].number)

	require.Equal(t, unknown, ask("s/out/3/1"))
	require.Equal(t, rocketmq.Half{QueueOffset: 9, LogOffset: 99}, tx.place(&m[0]), "the broker has stored it anew to ask")
	require.Equal(t, rollback, ask("s/out/3/2"), "sent again under another number")
	require.Equal(t, unknown, ask("s/out/3/3"), "under way")
	require.Equal(t, rollback, ask("s/out/2/1"), "its epoch comes again")
	for _, other := range []string{"s/other/3/1", "x/out/3/1", "x/out/2/1", "s/out/4/1", "", "s/out/3/", "1", "s/out/3/x", "s/out/-1/1"} {
		require.Equal(t, unknown, ask(other), other)
	}
	tx.decide()
	require.Equal(t, unknown, ask("s/out/3/4"), "its commit is about to be sent")
	tx.forget([]*lane{{pieces: []piece{{chunk: &chunk{messages: m[:2]}}}}})
	require.Equal(t, unknown, ask("s/out/3/3"), "of a Deliver that failed")
	tx.forget([]*lane{{pieces: []piece{{chunk: &chunk{messages: m[2:]}}}}})
	for n, want := range map[string]fate{"1": commit, "3": commit, "4": commit, "5": unknown} {
		require.Equal(t, want, ask("s/out/3/"+n), n)
	}
	tx.begin(&m[0], nil)
	require.Equal(t, unknown, ask("s/out/3/5"))
}

func TestTransactionsNeedAGroupAndNoDelays(t *testing.T) {
	t.Parallel()
	cfg := Config{Connection: Connection{NameServers: []string{"127.0.0.1:1"}}, Topic: "t", Transactional: true}
	s := Sink(cfg, readings{}, DelayLevel(func(reading) int { return 1 }))
	err := s.Open(t.Context(), runtime(t, &counters{}))
	require.ErrorContains(t, err, "group is empty")
	require.ErrorContains(t, err, "cannot be delayed")
	require.NoError(t, s.Close(t.Context()))
}

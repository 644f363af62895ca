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

// oneShard writes n records of one key in two blocks to a sink of one queue.
func oneShard(t *testing.T, f *fake, n, batch int) (flow.Sink[reading], []flow.Block, *counters) {
	s := Sink(Config{Connection: Connection{NameServers: []string{f.addr}, Timeout: time.Second}, Topic: "t", BatchMessages: batch}, readings{}, Key(device))
	w, c := open(t, s)
	var blocks []flow.Block
	for half := range 2 {
		for i := range n / 2 {
			require.NoError(t, w.Write(t.Context(), records(reading{"d", half*n/2 + i + 1})))
		}
		b, err := w.Seal(t.Context())
		require.NoError(t, err)
		blocks = append(blocks, b...)
	}
	return s, blocks, c
}

func bodies(from, to int) (b []string) {
	for i := from; i <= to; i++ {
		b = append(b, fmt.Sprintf("d %d", i))
	}
	return b
}

func TestConfirmedBatchesAreNotSentAgain(t *testing.T) {
	f := newFake(t, 1, func(_, n int, _ []string) int {
		if n == 2 || n == 3 {
			return rocketmq.SystemBusy
		}
		return 0
	})
	s, blocks, c := oneShard(t, f, 20, 6) // batches of 6, 4, 6 and 4
	for range 2 {
		_, err := s.Deliver(t.Context(), blocks)
		require.True(t, flow.IsTransient(err))
		require.ErrorContains(t, err, "queue a/0 of topic \"t\"")
		require.Equal(t, bodies(1, 10), f.got(0))
	}
	rejects, err := s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	require.Empty(t, rejects)
	require.Equal(t, bodies(1, 20), f.got(0))
	require.Equal(t, int64(2), c.get("retries"))
	_, err = s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	require.Equal(t, bodies(1, 20), f.got(0), "nothing is left to send")
}

// Many tasks, or short epochs, make small blocks: they share batches.
func TestSmallBlocksShareABatch(t *testing.T) {
	var sizes []int
	f := newFake(t, 1, func(_, _ int, b []string) int { sizes = append(sizes, len(b)); return 0 })
	s := Sink(Config{Connection: Connection{NameServers: []string{f.addr}}, Topic: "t", BatchMessages: 10}, readings{}, Key(device))
	w, _ := open(t, s)
	var blocks []flow.Block
	for i := range 10 {
		for j := range 3 {
			require.NoError(t, w.Write(t.Context(), records(reading{"d", 3*i + j + 1})))
		}
		b, err := w.Seal(t.Context())
		require.NoError(t, err)
		blocks = append(blocks, b...)
	}
	_, err := s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	require.Equal(t, bodies(1, 30), f.got(0))
	require.Equal(t, []int{9, 9, 9, 3}, sizes)
	_, err = blocks[0].AppendBinary(nil)
	require.ErrorContains(t, err, "delivered already")
}

func TestAnAmbiguousFailureIsSentAgainToTheSameQueue(t *testing.T) {
	f := newFake(t, 1, func(_, n int, _ []string) int {
		if n == 1 {
			return -2 // stored, and the connection broke before the answer
		}
		return 0
	})
	s, blocks, _ := oneShard(t, f, 20, 10)
	_, err := s.Deliver(t.Context(), blocks)
	require.True(t, flow.IsTransient(err))
	_, err = s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	require.Equal(t, slices.Concat(bodies(1, 20), bodies(11, 20)), f.got(0), "a repeat, not a loss")
}

func TestASlowQueueDoesNotHoldTheOthersBack(t *testing.T) {
	f := newFake(t, 4, func(queue, n int, _ []string) int {
		if queue == 2 && n == 0 {
			return -1
		}
		return 0
	})
	s := Sink(Config{Connection: Connection{NameServers: []string{f.addr}, Timeout: time.Second}, Topic: "t"}, readings{})
	w, _ := open(t, s)
	for i := range 4 {
		require.NoError(t, w.Write(t.Context(), records(reading{"d", i + 1})))
	}
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	for range 5 { // the broken connection may take other queues' requests with it
		if _, err = s.Deliver(t.Context(), blocks); err == nil {
			break
		}
		require.True(t, flow.IsTransient(err))
	}
	require.NoError(t, err)
	for q := range 4 {
		require.Contains(t, f.got(q), fmt.Sprintf("d %d", q+1))
	}
}

// A client's SendSync returns no error with FLUSH_DISK_TIMEOUT and its like.
func TestOnlySendOKIsDurable(t *testing.T) {
	codes := map[int]string{
		rocketmq.FlushDiskTimeout: "flush_disk_timeout", rocketmq.FlushSlaveTimeout: "flush_slave_timeout", rocketmq.SlaveNotAvailable: "slave_not_available",
	}
	for code, name := range codes {
		f := newFake(t, 1, func(_, n int, _ []string) int {
			if n == 0 {
				return code
			}
			return 0
		})
		s, blocks, c := oneShard(t, f, 2, 10)
		_, err := s.Deliver(t.Context(), blocks)
		require.True(t, flow.IsTransient(err), name)
		require.Equal(t, int64(1), c.get(name))
		_, err = s.Deliver(t.Context(), blocks)
		require.NoError(t, err)
		require.Equal(t, bodies(1, 2), f.got(0))
	}
}

func TestARefusedMessageIsFoundByHalvesAndRejected(t *testing.T) {
	f := newFake(t, 1, func(_, n int, b []string) int {
		if n == 4 {
			return rocketmq.SystemBusy // in the middle of the search
		}
		if slices.Contains(b, "d 7") || slices.Contains(b, "d 16") {
			return rocketmq.MessageIllegal
		}
		return 0
	})
	s, blocks, _ := oneShard(t, f, 20, 100)
	_, err := s.Deliver(t.Context(), blocks)
	require.True(t, flow.IsTransient(err))
	rejects, err := s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	require.Equal(t, 2, len(rejects))
	for i, want := range []struct {
		block, row int
		body       string
	}{{0, 6, "d 7"}, {1, 5, "d 16"}} {
		require.Equal(t, want.block, rejects[i].Block)
		require.Equal(t, want.row, rejects[i].Row)
		require.Equal(t, want.body, string(rejects[i].Record))
		require.ErrorContains(t, rejects[i].Err, "maxMessageSize")
	}
	require.Equal(t, slices.Concat(bodies(1, 6), bodies(8, 15), bodies(17, 20)), f.got(0))
}

func TestATopicThatIsGoneStopsWithTheCure(t *testing.T) {
	f := newFake(t, 1, func(int, int, []string) int { return rocketmq.TopicNotExist })
	s, blocks, _ := oneShard(t, f, 2, 10)
	_, err := s.Deliver(t.Context(), blocks)
	require.False(t, flow.IsTransient(err))
	require.ErrorContains(t, err, "create the topic")
}

func TestASilentBrokerIsGivenUpAfterTheTimeout(t *testing.T) {
	hang := make(chan struct{})
	f := newFake(t, 1, func(int, int, []string) int { <-hang; return -1 })
	t.Cleanup(func() { close(hang) })
	s, blocks, _ := oneShard(t, f, 2, 10)
	_, err := s.Deliver(t.Context(), blocks)
	require.True(t, flow.IsTransient(err))
	require.ErrorContains(t, err, "no answer within 1s")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Deliver(ctx, blocks)
	require.ErrorIs(t, err, context.Canceled)
}

func TestAPartlySentBlockOfAnOlderTopicLayoutIsNotMoved(t *testing.T) {
	f := newFake(t, 4, func(int, int, []string) int { return 0 })
	s := Sink(Config{Connection: Connection{NameServers: []string{f.addr}}, Topic: "t"}, readings{}, Key(device))
	w, _ := open(t, s)
	for i := range 50 {
		require.NoError(t, w.Write(t.Context(), records(reading{fmt.Sprint("d", i), 1})))
	}
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	data, err := blocks[0].AppendBinary(nil)
	require.NoError(t, err)

	g := newFake(t, 2, func(int, int, []string) int { return 0 })
	s = Sink(Config{Connection: Connection{NameServers: []string{g.addr}}, Topic: "t"}, readings{}, Key(device))
	open(t, s)
	b, err := s.DecodeBlock(data)
	require.NoError(t, err)
	_, err = s.Deliver(t.Context(), []flow.Block{b})
	require.False(t, flow.IsTransient(err))
	require.ErrorContains(t, err, "has no queue a/")
	require.ErrorContains(t, err, "mqadmin updateTopic")
}

func TestDamagedBlocksAreFound(t *testing.T) {
	f := newFake(t, 2, nil)
	s := Sink(Config{Connection: Connection{NameServers: []string{f.addr}}, Topic: "t"}, readings{}, Key(device))
	w, _ := open(t, s)
	require.NoError(t, w.Write(t.Context(), records(reading{"a", 1}, reading{"b", 2})))
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	data, err := blocks[0].AppendBinary([]byte("before"))
	require.NoError(t, err)
	data = data[len("before"):]
	require.Equal(t, 2, blocks[0].Rows())
	require.Greater(t, blocks[0].Bytes(), 40)
	for cut := range data {
		_, err := s.DecodeBlock(data[:cut])
		require.Error(t, err, "cut at %d", cut)
	}
	_, err = s.DecodeBlock(append(slices.Clone(data), 0))
	require.Error(t, err)
	_, err = s.Deliver(t.Context(), []flow.Block{foreign{}})
	require.ErrorContains(t, err, "not a block of this sink")
}

type foreign struct{ flow.Block }

func FuzzDecodeBlock(f *testing.F) {
	f.Add([]byte{1, 1, 1, 'a', 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := decodeBlock(data)
		if err != nil {
			return
		}
		again, err := b.AppendBinary(nil)
		require.NoError(t, err)
		c, err := decodeBlock(again)
		require.NoError(t, err)
		require.Equal(t, b, c)
	})
}

func TestBatchesAreCutByBytesToo(t *testing.T) {
	var sizes []int
	f := newFake(t, 1, func(_, _ int, b []string) int { sizes = append(sizes, len(b)); return 0 })
	s := Sink(Config{Connection: Connection{NameServers: []string{f.addr}}, Topic: "t", BatchBytes: 1000}, text{})
	w, _ := open(t, s)
	var long []string
	for _, n := range []int{300, 300, 300, 300, 2000, 10, 10} {
		long = append(long, strings.Repeat("x", n))
	}
	require.NoError(t, w.Write(t.Context(), records(long...)))
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	_, err = s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	require.Equal(t, long, f.got(0))
	require.Equal(t, []int{3, 1, 1, 2}, sizes)
}

// text is a codec that writes strings as they are.
type text struct{}

func (text) ID() string                                 { return "text" }
func (text) Decode(b []byte, v *string) error           { *v = string(b); return nil }
func (text) Append(b []byte, v *string) ([]byte, error) { return append(b, *v...), nil }

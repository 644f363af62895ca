package kafka

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
)

func TestAckedRecordsAreNotSentAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	o := open(t, Sink(b.config(), readings{}))
	block := o.block(series("a", 0, 100)...)
	o.deliver(block)
	o.deliver(block)
	o.deliver(block, o.block(reading{"b", 1}))
	require.Equal(t, append(lines(series("a", 0, 100)), "b 1"), b.values())
}

// The brokers have stored what they were sent and their answer is lost: only sequence numbers keep the next try from storing it twice.
func TestAnAmbiguousFailureStoresNothingTwice(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 2)
	var n network
	cfg := b.config()
	cfg.Dial, cfg.Timeout = n.dial, 500*time.Millisecond
	o := open(t, Sink(cfg, readings{}, Key(device)))
	o.deliver(o.block(series("a", 0, 10)...))
	n.deaf.Store(true)
	blocks := []flow.Block{o.block(series("a", 10, 5000)...), o.block(series("b", 0, 5000)...)}
	_, err := o.sink.Deliver(t.Context(), blocks)
	require.True(t, flow.IsTransient(err), "%v", err)
	require.ErrorContains(t, err, "no answer within 500ms")
	require.Eventually(t, func() bool { return len(b.values()) > 10 }, 5*time.Second, 20*time.Millisecond, "stored, though nobody was told")
	n.set(false)
	require.Eventually(t, func() bool {
		_, err := o.sink.Deliver(t.Context(), blocks)
		require.True(t, err == nil || flow.IsTransient(err), "%v", err)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	want := slices.Concat(lines(series("a", 0, 5010)), lines(series("b", 0, 5000)))
	require.ElementsMatch(t, want, b.values())
}

func TestAnOutageIsWaitedForAndLoggedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 2)
	var n network
	cfg := b.config()
	cfg.Dial, cfg.Timeout = n.dial, 300*time.Millisecond
	o := open(t, Sink(cfg, readings{}, Key(device)))
	o.deliver(o.block(reading{"a", 0}))
	n.set(true)
	blocks := []flow.Block{o.block(series("a", 1, 100)...)}
	for range 2 {
		_, err := o.sink.Deliver(t.Context(), blocks)
		require.True(t, flow.IsTransient(err), "%v", err)
	}
	require.Equal(t, int64(1), o.count("outages"))
	n.set(false)
	began := time.Now()
	require.Eventually(t, func() bool {
		_, err := o.sink.Deliver(t.Context(), blocks)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	require.Less(t, time.Since(began), 3*time.Second)
	require.Equal(t, lines(series("a", 0, 101)), b.values())
}

func TestDeliverEndsWithItsContextAndCloseWithoutItsBroker(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 2)
	var n network
	cfg := b.config()
	cfg.Dial, cfg.InFlight = n.dial, 100
	o := open(t, Sink(cfg, readings{}, Key(device)))
	n.set(true)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	block := o.block(series("a", 0, 1000)...)
	go func() {
		_, err := o.sink.Deliver(ctx, []flow.Block{block})
		ended <- err
	}()
	require.Eventually(t, func() bool { return o.count("outages") == 1 }, 5*time.Second, 5*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	began := time.Now()
	require.NoError(t, o.sink.Close(context.Background()))
	require.NoError(t, o.sink.Close(context.Background()))
	require.Less(t, time.Since(began), 2*time.Second)
}

func TestBlocksSurviveTheirEncoding(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 2)
	o := open(t, Sink(b.config(), readings{}, Key(device), Headers(func(r reading) map[string]string { return map[string]string{"h": r.device} }),
		Tombstone(func(r reading) bool { return r.n == 3 })))
	block := o.block(series("a", 0, 5)...)
	data, err := block.AppendBinary([]byte("before"))
	require.NoError(t, err)
	data = data[len("before"):]
	back, err := o.sink.DecodeBlock(data)
	require.NoError(t, err)
	require.Equal(t, 5, back.Rows())
	require.Equal(t, block.Bytes(), back.Bytes())
	o.deliver(back)
	require.Equal(t, []string{"a 0", "a 1", "a 2", "", "a 4"}, b.values())

	for cut := range data {
		_, err := o.sink.DecodeBlock(data[:cut])
		require.Error(t, err, "cut at %d", cut)
	}
	_, err = o.sink.DecodeBlock(append(slices.Clone(data), 0))
	require.Error(t, err)
	_, err = o.sink.Deliver(t.Context(), []flow.Block{foreign{}})
	require.ErrorContains(t, err, "not a block of this sink")
}

type foreign struct{ flow.Block }

func FuzzDecodeBlock(f *testing.F) {
	f.Add([]byte{1, 1, 1, 't', 6, 0, 1, 1, 'k', 1, 'v', 0})
	f.Add([]byte{1, 1, 1, 't', 10, 0, 0, 0, 1, 'v', 1, 1, 'h', 1, 'x'})
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

package kafka

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
)

func (b *bench) transactional() Config {
	cfg := b.config()
	cfg.TransactionalID = "tx-" + b.topic
	return cfg
}

// write puts blocks into the open transaction, without committing it.
func write(t *testing.T, p *producer, blocks ...*block) {
	t.Helper()
	require.NoError(t, p.begin())
	p.tx.blocks = blocks
	require.Eventually(t, func() bool {
		err := p.settle(t.Context(), blocks)
		require.True(t, err == nil || flow.IsTransient(err), "%v", err)
		return err == nil
	}, 30*time.Second, time.Millisecond)
}

func TestReadersSeeAllBlocksOfADeliveryOrNone(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 2)
	o := open(t, Sink(b.transactional(), readings{}, Key(device)))
	for epoch := range 3 {
		o.deliver(o.block(series("a", epoch*100, 100)...), o.block(series("b", epoch*100, 100)...))
		require.Equal(t, (epoch+1)*200, len(b.values()))
	}
	require.Equal(t, 600, len(b.values()))

	// The next one is written, and its process is gone before the commit.
	p := &o.sink.(*sink[reading]).producer
	half := o.block(series("a", 1000, 10)...).(*block)
	write(t, p, half)
	count := func(dirty ...bool) (n int) {
		for _, rs := range b.stored(b.topic, dirty...) {
			n += len(rs)
		}
		return n
	}
	require.Equal(t, 610, count(true), "it is there")
	require.Equal(t, 600, count(), "nobody sees it")

	next := open(t, Sink(b.transactional(), readings{}, Key(device)))
	next.deliver(next.block(series("a", 2000, 10)...))
	require.Equal(t, 610, count(), "it was aborted, not joined")
	require.NotContains(t, b.values(), "a 1000")

	_, err := o.sink.Deliver(t.Context(), []flow.Block{o.block(reading{"a", 5})})
	require.False(t, flow.IsTransient(err), "%v", err)
	require.ErrorContains(t, err, "give each its own")
	require.ErrorContains(t, err, "tx-"+b.topic)
}

func TestARejectInATransactionLeavesTheRestOfItWhole(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1, "max.message.bytes", "20000")
	o := open(t, Sink(b.transactional(), readings{}, Key(device)))
	batch := series("a", 0, 100)
	batch[42].device = string(make([]byte, 30_000))
	rejects := o.deliver(o.block(batch...), o.block(series("b", 0, 10)...))
	require.Equal(t, 1, len(rejects))
	require.Equal(t, 42, rejects[0].Row)
	require.Equal(t, 109, len(b.values()))
	o.deliver(o.block(reading{"c", 1}))
	require.Equal(t, 110, len(b.values()))
}

// The brokers have committed and their answer is lost.
func TestACommitWithoutAnAnswerIsNotWrittenTwice(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	var n network
	cfg := b.transactional()
	cfg.Dial, cfg.Timeout = n.dial, 500*time.Millisecond
	o := open(t, Sink(cfg, readings{}, Key(device)))
	o.deliver(o.block(reading{"a", 0}))
	p := &o.sink.(*sink[reading]).producer
	second := o.block(series("a", 1, 100)...).(*block)
	write(t, p, second)
	n.deaf.Store(true)
	require.True(t, flow.IsTransient(p.commit(t.Context())))
	require.Eventually(t, func() bool { return len(b.values()) == 101 }, 5*time.Second, 10*time.Millisecond, "committed, though nobody was told")
	n.set(false)
	again := func() bool {
		_, err := o.sink.Deliver(t.Context(), []flow.Block{second})
		require.True(t, err == nil || flow.IsTransient(err), "%v", err)
		return err == nil
	}
	require.Eventually(t, again, 20*time.Second, time.Millisecond)
	require.Equal(t, lines(series("a", 0, 101)), b.values())
	o.deliver(o.block(reading{"a", 101}))
	require.Equal(t, lines(series("a", 0, 102)), b.values())
}

func TestATransactionThatTimesOutInAnOutageIsWrittenAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	var n network
	cfg := b.transactional()
	cfg.Dial, cfg.Timeout, cfg.TransactionTimeout = n.dial, 300*time.Millisecond, time.Second
	o := open(t, Sink(cfg, readings{}, Key(device)))
	p := &o.sink.(*sink[reading]).producer
	block1 := o.block(series("a", 0, 10)...).(*block)
	write(t, p, block1)
	n.set(true)
	blocks := []flow.Block{block1, o.block(series("a", 10, 10)...)}
	_, err := o.sink.Deliver(t.Context(), blocks)
	require.True(t, flow.IsTransient(err), "%v", err)
	require.Eventually(t, func() bool { // the brokers look every 10 s for such transactions
		all, err := b.admin.DescribeTransactions(t.Context(), cfg.TransactionalID)
		return err == nil && all[cfg.TransactionalID].State == "CompleteAbort"
	}, 20*time.Second, 50*time.Millisecond)
	n.set(false)
	require.Eventually(t, func() bool {
		_, err := o.sink.Deliver(t.Context(), blocks)
		require.True(t, err == nil || flow.IsTransient(err), "%v", err)
		return err == nil
	}, 20*time.Second, time.Millisecond)
	require.Equal(t, lines(series("a", 0, 20)), b.values())
}

func TestCloseAbortsTheOpenTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	o := open(t, Sink(b.transactional(), readings{}, Key(device)))
	p := &o.sink.(*sink[reading]).producer
	half := o.block(series("a", 0, 10)...).(*block)
	write(t, p, half)
	require.NoError(t, o.sink.Close(context.Background()))
	all, err := b.admin.DescribeTransactions(t.Context(), b.transactional().TransactionalID)
	require.NoError(t, err)
	require.Contains(t, []string{"PrepareAbort", "CompleteAbort"}, all[b.transactional().TransactionalID].State)
}

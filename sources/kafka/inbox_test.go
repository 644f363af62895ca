package kafka

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-stream/millrace/internal/kafka"
)

// batch is one of today's format, whose records nobody looks at.
func batch(first int64, lastDelta, epoch int32) []byte {
	b := kmsg.NewRecordBatch()
	b.FirstOffset, b.LastOffsetDelta, b.PartitionLeaderEpoch, b.Magic, b.Records = first, lastDelta, epoch, 2, make([]byte, 30)
	b.Length = int32(49 + len(b.Records))
	return b.AppendTo(nil)
}

func TestSpanIsTheOffsetBehindTheLastWholeBatch(t *testing.T) {
	two := append(batch(10, 4, 1), batch(20, 9, 3)...)
	next, epoch := span(two)
	require.Equal(t, int64(30), next, "what compaction has taken from the end of a batch counts")
	require.Equal(t, int32(3), epoch)
	next, epoch = span(two[:len(two)-1])
	require.Equal(t, int64(15), next, "the broker cuts answers off anywhere")
	require.Equal(t, int32(1), epoch)
	next, _ = span(nil)
	require.Equal(t, int64(-1), next)

	old := kmsg.NewMessageV1()
	old.Offset, old.MessageSize, old.Magic = 41, 22, 1
	next, _ = span(old.AppendTo(nil))
	require.Equal(t, int64(42), next)
}

func FuzzSpan(f *testing.F) {
	f.Add(append(batch(10, 4, 1), batch(20, 9, 3)...), int64(0))
	f.Fuzz(func(t *testing.T, data []byte, offset int64) {
		b := newInbox(kafka.Key{Topic: "t"})
		b.in, b.next = silent{}, offset
		p := kmsg.NewFetchResponseTopicPartition()
		p.RecordBatches = data
		moved := b.put(0, &p)
		require.GreaterOrEqual(t, b.next, offset, "never back")
		require.Equal(t, moved && len(data) > 0, b.next > offset)
		if moved && len(data) > 0 {
			opts := kgo.ProcessFetchPartitionOpts{Offset: offset, Pools: []kgo.Pool{&slab{}}}
			kgo.ProcessFetchPartition(opts, &p, kgo.DefaultDecompressor(), nil)
		}
	})
}

func TestAnInboxTakesTwoAnswersAndForgetsWhatCameBeforeAReset(t *testing.T) {
	b := newInbox(kafka.Key{Topic: "t"})
	b.in = silent{}
	ask := func() (round int, ok, full bool) {
		p := kmsg.NewFetchRequestTopicPartition()
		return b.ask(&p)
	}
	put := func(round int, first int64) bool {
		p := kmsg.NewFetchResponseTopicPartition()
		p.RecordBatches = batch(first, 9, 1)
		return b.put(round, &p)
	}
	round, ok, _ := ask()
	require.True(t, ok)
	require.True(t, put(round, 0))
	require.True(t, put(round, 10))
	require.False(t, put(round, 10), "nothing new")
	_, ok, full := ask()
	require.False(t, ok)
	require.True(t, full)
	b.reset(5)
	require.True(t, put(round, 20), "dropped")
	require.True(t, b.empty())
	b.fail(round, errOutOfRange)
	require.True(t, b.empty(), "an error of before the reset")
	b.fail(anyRound, errRecreated)
	_, ok, full = ask()
	require.False(t, ok || full, "halted")
	c, err := b.take(t.Context())
	require.NoError(t, err)
	require.ErrorIs(t, c.err, errRecreated)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.take(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

type silent struct{}

func (silent) Idle()     {}
func (silent) Busy()     {}
func (silent) Lag(int64) {}

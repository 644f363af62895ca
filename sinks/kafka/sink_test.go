package kafka

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
	"github.com/millrace-stream/millrace/internal/services"
)

// Watermill's publisher sends no key, one record after the other, and waits for the leader alone. Brokers take idempotent records only
// with the acks of all in-sync replicas.
func TestRecordsKeepOrderPerKeyInThePartitionOfTheKeyGroup(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 7)
	o := open(t, Sink(b.config(), readings{}, Key(device)))
	const devices, each = 50, 200
	before := time.Now().Add(-time.Second)
	for epoch := range 4 {
		var batch []reading
		for i := range each {
			for d := range devices {
				batch = append(batch, reading{fmt.Sprint("d", d), epoch*each + i})
			}
		}
		require.Empty(t, o.deliver(o.block(batch...)))
	}
	next := map[string]int{}
	zstd := 0 // but for batches that are no smaller by it
	for p, rs := range b.stored(b.topic) {
		for _, r := range rs {
			var v reading
			require.NoError(t, readings{}.Decode(r.Value, &v))
			require.Equal(t, next[v.device], v.n, v.device)
			next[v.device]++
			require.Equal(t, v.device, string(r.Key))
			require.Equal(t, kafka.ShardOf(r.Key, 7), int(p))
			require.Equal(t, kafka.Shard, r.Headers[0].Key)
			require.Equal(t, strconv.Itoa(int(p)), string(r.Headers[0].Value))
			require.Equal(t, kafka.Shards, r.Headers[1].Key)
			require.Equal(t, "7", string(r.Headers[1].Value))
			if r.Attrs.CompressionType() == 4 {
				zstd++
			}
			require.Greater(t, r.ProducerID, int64(-1), "idempotent")
			require.WithinRange(t, r.Timestamp, before, time.Now().Add(time.Second))
		}
	}
	require.Greater(t, zstd, devices*each)
	require.Equal(t, devices, len(next))
	for d, n := range next {
		require.Equal(t, 4*each, n, d)
	}
}

// The partition of a key is the shard of the task that has the key: group*shards/groups of xxhash64.
func TestShardIsThatOfTheKeyGroup(t *testing.T) {
	for _, c := range []struct {
		key    string
		shards int
		want   int
	}{{"", 1, 0}, {"", 8, 3}, {"device-1", 1, 0}} {
		require.Equal(t, c.want, kafka.ShardOf([]byte(c.key), c.shards), c.key)
	}
	seen := map[int]int{}
	for i := range 10_000 {
		seen[kafka.ShardOf(fmt.Append(nil, "d", i), 12)]++
	}
	require.Equal(t, 12, len(seen))
	for s, n := range seen {
		require.InDelta(t, 10_000/12, n, 200, "shard %d", s)
	}
}

func TestRecordsWithoutKeyGoRoundThePartitions(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 3)
	o := open(t, Sink(b.config(), readings{}))
	o.deliver(o.block(series("a", 0, 3*runRecords)...))
	got := b.stored(b.topic)
	for p := range int32(3) {
		require.Equal(t, runRecords, len(got[p]))
		require.Nil(t, got[p][0].Key)
		require.Empty(t, got[p][0].Headers)
	}
}

func TestHeadersTopicsAndTombstonesComeFromTheRecord(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	other := b.topic + "-other"
	b.create(other, 2)
	cfg := b.config()
	cfg.Topic = ""
	o := open(t, Sink(cfg, readings{}, Key(device),
		Topic(func(r reading) string {
			if r.n%2 == 1 {
				return other
			}
			return b.topic
		}),
		Headers(func(r reading) map[string]string {
			return map[string]string{"n": fmt.Sprint(r.n), kafka.Shard: "forged"}
		}),
		Tombstone(func(r reading) bool { return r.n == 4 })))
	batch := records(series("a", 0, 6)...)
	batch[0].Meta = &flow.Meta{Headers: map[string]string{"n": "hidden", "from": "meta", kafka.Shards: "99"}}
	require.NoError(t, o.writer.Write(t.Context(), batch))
	blocks, err := o.writer.Seal(t.Context())
	require.NoError(t, err)
	o.deliver(blocks...)

	even, odd := b.stored(b.topic)[0], slices.Concat(b.stored(other)[0], b.stored(other)[1])
	require.Equal(t, 3, len(even))
	require.Equal(t, 3, len(odd))
	headers := map[string]string{}
	for _, h := range even[0].Headers {
		headers[h.Key] = string(h.Value)
	}
	require.Equal(t, map[string]string{"n": "0", "from": "meta", kafka.Shard: "0", kafka.Shards: "1"}, headers)
	require.Equal(t, "a 2", string(even[1].Value))
	require.Nil(t, even[2].Value, "a tombstone")
	require.Equal(t, "a", string(even[2].Key))
}

func TestARecordThatCannotBeEncodedIsRefusedAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	cfg := b.config()
	cfg.Topic = ""
	o := open(t, Sink(cfg, readings{}, Topic(func(r reading) string {
		if r.device == "lost" {
			return "no such/topic"
		}
		return b.topic
	})))
	batch := records(reading{"a", 1}, reading{"a", -1}, reading{"lost", 1}, reading{"a", 2})
	for _, at := range []int{1, 0} {
		var bad *flow.RecordError
		require.ErrorAs(t, o.writer.Write(t.Context(), batch), &bad)
		require.Equal(t, at, bad.Index)
		batch = batch[at+1:]
	}
	require.NoError(t, o.writer.Write(t.Context(), batch))
	blocks, err := o.writer.Seal(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, blocks[0].Rows())
	o.deliver(blocks...)
	require.Equal(t, []string{"a 1", "a 2"}, b.values())
}

func TestATooLargeRecordIsRejectedAndItsNeighboursAreWritten(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1, "max.message.bytes", "20000")
	o := open(t, Sink(b.config(), readings{}, Key(device)))
	blocks := []flow.Block{
		o.block(series("a", 0, 1000)...),
		o.block(reading{"b", 0}, reading{strings.Repeat("x", 30_000), 7}, reading{"b", 1}),
	}
	rejects := o.deliver(blocks...)
	require.Equal(t, 1, len(rejects))
	require.Equal(t, 1, rejects[0].Block)
	require.Equal(t, 1, rejects[0].Row)
	require.ErrorContains(t, rejects[0].Err, "MESSAGE_TOO_LARGE")
	require.ErrorContains(t, rejects[0].Err, b.topic)
	var back reading
	require.NoError(t, readings{}.Decode(rejects[0].Record, &back), "the codec reads it")
	require.Equal(t, 7, back.n)
	require.Equal(t, append(lines(series("a", 0, 1000)), "b 0", "b 1"), b.values())
}

// The brokers refuse a batch as a whole: for a limit that was lowered while we ran, say.
func TestRefusedBatchesAreTakenApartAndOnlyTheCulpritsAreRejected(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1, "max.message.bytes", "3000")
	cfg := b.config()
	cfg.Compression = "none"
	o := open(t, Sink(cfg, readings{}))
	limit := "1000"
	_, err := b.admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &limit}}, b.topic)
	require.NoError(t, err)
	probe := reading{strings.Repeat("p", 2000), 0} // the broker takes a moment to know its new limit
	require.Eventually(t, func() bool { return len(o.deliver(o.block(probe))) == 1 }, 10*time.Second, 10*time.Millisecond)
	batch := series("a", 0, 400)
	for _, i := range []int{42, 300} {
		batch[i].device = strings.Repeat("x", 2000)
	}
	rejects := o.deliver(o.block(batch[:200]...), o.block(batch[200:]...))
	require.Equal(t, 2, len(rejects))
	require.Equal(t, 42, rejects[0].Row)
	require.Equal(t, 1, rejects[1].Block)
	require.Equal(t, 100, rejects[1].Row)
	want := slices.Delete(slices.Delete(lines(batch), 300, 301), 42, 43)
	stored := slices.DeleteFunc(b.values(), func(v string) bool { return strings.HasPrefix(v, "ppp") })
	require.ElementsMatch(t, want, stored)
	require.Empty(t, o.deliver(o.block(reading{"b", 1})), "the sink goes on")
}

func TestARecordWithoutKeyOnACompactedTopicIsRejected(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1, "cleanup.policy", "compact")
	o := open(t, Sink(b.config(), readings{}))
	rejects := o.deliver(o.block(reading{"a", 1}))
	require.Equal(t, 1, len(rejects))
	require.ErrorContains(t, rejects[0].Err, "option Key")
}

func TestAMissingTopicStopsWithTheCure(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	cfg := b.config()
	cfg.Topic, cfg.TopicWait = "no-such-topic", time.Millisecond
	s := Sink(cfg, readings{})
	o := &opened[reading]{counts: map[string]int64{}}
	var err error
	require.Eventually(t, func() bool {
		err = s.Open(t.Context(), o.runtime())
		return !flow.IsTransient(err)
	}, 5*time.Second, 10*time.Millisecond, "after TopicWait")
	require.ErrorContains(t, err, `"no-such-topic"`)
	require.ErrorContains(t, err, "kafka-topics --create")
	require.NoError(t, s.Close(t.Context()))
	_, err = Sink(cfg, readings{}).Writer(t.Context(), flow.TaskInfo{})
	require.Error(t, err)
}

func TestATopicThatIsDeletedStopsWithTheCure(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	o := open(t, Sink(b.config(), readings{}))
	o.deliver(o.block(reading{"a", 1}))
	_, err := b.admin.DeleteTopic(t.Context(), b.topic)
	require.NoError(t, err)
	blocks := []flow.Block{o.block(reading{"a", 2})}
	for range 20 {
		if _, err = o.sink.Deliver(t.Context(), blocks); !flow.IsTransient(err) {
			break
		}
	}
	require.ErrorContains(t, err, "kafka-topics --create")
	require.False(t, flow.IsTransient(err))
}

func TestAWriterThatHoldsMuchAsksForTheEpochsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	o := open(t, Sink(b.config(), readings{}))
	big := reading{strings.Repeat("x", 1<<20), 1}
	for i := range 17 {
		require.NoError(t, o.writer.Write(t.Context(), records(big)))
		require.Equal(t, i >= 16 || i == 15, o.epochs.Load() == 1, "%d", i)
	}
	require.Equal(t, int32(1), o.epochs.Load(), "once")
}

func TestWriteAllocatesNothingPerRecord(t *testing.T) {
	s := Sink(Config{Topic: "t"}, fixed{}, Key(func(v int) string { return "device-0001" })).(*sink[int])
	w := newWriter(s)
	batch := records(make([]int, 1000)...)
	w.hint = 1 << 20
	w.begin()
	require.Zero(t, testing.AllocsPerRun(5, func() {
		w.b.data, w.b.rows = w.b.data[:0], 0
		if err := w.Write(context.Background(), batch); err != nil {
			panic(err)
		}
	}))
}

// fixed is a codec without allocations.
type fixed struct{}

func (fixed) ID() string                              { return "fixed" }
func (fixed) Append(b []byte, _ *int) ([]byte, error) { return append(b, "0123456789"...), nil }
func (fixed) Decode([]byte, *int) error               { return nil }

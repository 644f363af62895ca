package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
)

func TestReadsEveryPartitionInOrderWithTimeAndLag(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 4, "message.timestamp.type", "LogAppendTime")
	before := time.Now().Add(-time.Second)
	for p := range 4 {
		b.send(p, numbers(p*10_000, 2500)...)
	}
	cfg := b.config()
	cfg.Meta = true
	e := launch(t, cfg, nil)
	e.until("all read", func(parts map[string]*partLog) bool {
		n := 0
		for _, l := range parts {
			n += len(l.values)
			if l.lag != 0 || !l.idle {
				return false
			}
		}
		return n == 10_000
	})
	e.with(func(parts map[string]*partLog) {
		require.Equal(t, 1, len(e.adds), "partitions known together are added in one call")
		require.Equal(t, 4, len(parts))
		for p := range 4 {
			l := parts[b.id(p)]
			require.Equal(t, int64(2500), l.pos.Offset)
			for i, v := range l.values {
				require.Equal(t, p*10_000+i, v)
				require.Greater(t, l.times[i], flow.TimestampOf(before))
				require.Less(t, l.times[i], flow.TimestampOf(time.Now().Add(time.Second)))
			}
			require.Equal(t, map[string]string{"color": "red"}, l.metas[7].Headers)
			require.Equal(t, b.id(p), l.metas[7].Partition)
			require.Equal(t, int64(8), l.metas[7].Position.Offset)
			require.Equal(t, "k"+numbers(p*10_000+7, 1)[0], l.metas[7].Key)
		}
	})
}

func TestEveryCompressionIsRead(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	for i, c := range codecs {
		b.client = b.dial(kgo.ProducerBatchCompression(c))
		b.send(0, numbers(i*1000, 1000)...)
	}
	e := launch(t, b.config(), nil)
	e.until("all read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), int64(len(codecs)*1000)) })
	e.with(func(parts map[string]*partLog) {
		for i, v := range parts[b.id(0)].values {
			require.Equal(t, i, v)
		}
	})
}

func TestUndecodableRecordsAreRejectedWithTheirBytes(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	b.send(0, "1", "two", "3", "four")
	e := launch(t, b.config(), nil)
	e.until("all read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 4) })
	e.with(func(parts map[string]*partLog) {
		l := parts[b.id(0)]
		require.Equal(t, []int{1, 3}, l.values)
		require.Equal(t, []string{"2 two", "4 four"}, l.rejects)
		require.ErrorContains(t, l.causes[0], `"two" is not a number`)
		require.Nil(t, l.metas[0], "no Meta unless asked for")
	})
}

// A record without a value deletes its key on a compacted topic; to a codec it is an empty payload.
func TestTombstonesAreLeftOutWhenAskedTo(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	b.send(0, "1")
	require.NoError(t, b.client.ProduceSync(t.Context(), &kgo.Record{Topic: b.topic, Key: []byte("k")}).FirstErr())
	b.send(0, "2")
	e := launch(t, b.config(), nil)
	e.until("all read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 3) })
	e.with(func(parts map[string]*partLog) { require.Equal(t, []string{"2 "}, parts[b.id(0)].rejects) })
	cfg := b.config()
	cfg.SkipTombstones = true
	e = launch(t, cfg, nil)
	e.until("all read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 3) })
	e.with(func(parts map[string]*partLog) {
		require.Equal(t, []int{1, 2}, parts[b.id(0)].values)
		require.Empty(t, parts[b.id(0)].rejects)
	})
	require.Equal(t, int64(1), e.count("tombstones"))
}

// Clients start a new group at the end: what was written before would be skipped in silence.
func TestStartsAtEarliestLatestOrTime(t *testing.T) {
	t.Parallel()
	set := services.Need(t, services.Kafka)
	for name, first := range map[string]int{"default": 0, "earliest": 0, "latest": 999, "time": 100, "later": 999} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, set, 1)
			mid := time.Now().Truncate(time.Millisecond)
			at := func(from int, ts time.Time) {
				var recs []*kgo.Record
				for _, v := range numbers(from, 100) {
					recs = append(recs, &kgo.Record{Topic: b.topic, Value: []byte(v), Timestamp: ts})
				}
				require.NoError(t, b.client.ProduceSync(t.Context(), recs...).FirstErr())
			}
			at(0, mid.Add(-time.Millisecond))
			at(100, mid)
			cfg := b.config()
			switch name {
			case "default":
			case "time":
				cfg.From = mid.Format(time.RFC3339Nano)
			case "later":
				cfg.From = time.Now().Add(time.Hour).Format(time.RFC3339Nano)
			default:
				cfg.From = name
			}
			e := launch(t, cfg, nil)
			e.until("begun", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 200) })
			b.send(0, "999")
			e.until("read on", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 201) })
			e.with(func(parts map[string]*partLog) { require.Equal(t, first, parts[b.id(0)].values[0]) })
		})
	}
}

// A group that began at the end of an empty partition must not begin at a later end after a restart.
func TestBeginAtTheEndOfAnEmptyPartitionIsKept(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	cfg := b.config()
	cfg.From = "latest"
	e := launch(t, cfg, nil)
	e.until("pinned", func(parts map[string]*partLog) bool { return parts[b.id(0)] != nil && !parts[b.id(0)].pos.IsZero() })
	e.commit()
	pinned := e.parts[b.id(0)].pos
	e.close()
	b.send(0, "7")
	for name, resume := range map[string]map[string]flow.Position{"group's position": nil, "topology's position": {b.id(0): pinned}} {
		e = launch(t, cfg, resume)
		e.until(name, func(parts map[string]*partLog) bool { return parts[b.id(0)] != nil && len(parts[b.id(0)].values) == 1 })
		e.close()
	}
}

func TestPositionOfTheTopologyGoesBeforeTheGroups(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	b.send(0, numbers(0, 50)...)
	e := launch(t, b.config(), nil)
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 50) })
	pos := e.parts[b.id(0)].pos
	require.NoError(t, e.src.Commit(t.Context(), flow.Partition{ID: b.id(0)}, flow.Position{Offset: 30, Token: pos.Token}))
	e.close()

	e = launch(t, b.config(), nil)
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 50) })
	e.with(func(parts map[string]*partLog) {
		require.Equal(t, flow.Position{Offset: 30, Token: pos.Token}, parts[b.id(0)].part.Committed)
		require.Equal(t, 30, parts[b.id(0)].values[0])
	})
	e.close()

	e = launch(t, b.config(), map[string]flow.Position{b.id(0): {Offset: 40, Token: pos.Token}})
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 50) })
	e.with(func(parts map[string]*partLog) { require.Equal(t, 40, parts[b.id(0)].values[0]) })
}

func TestTopicsOfAPatternAndNewOnesAreReadFromTheirBeginning(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	b.send(0, "1")
	cfg := b.config()
	cfg.Topics, cfg.TopicPattern, cfg.From, cfg.TopicRefresh = nil, b.topic+"(-[a-z]+)?", "latest", 50*time.Millisecond
	e := launch(t, cfg, nil)
	e.until("begun", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 1) })
	first := b.topic
	b.topic = first + "-more"
	b.create(b.topic, 2)
	b.send(1, "2")
	more := b.id(1)
	b.topic = first + "-more7" // does not match as a whole
	b.create(b.topic, 1)
	b.send(0, "3")
	b.topic = first
	_, err := b.admin.CreatePartitions(t.Context(), 1, first)
	require.NoError(t, err)
	require.Eventually(t, func() bool { b.client.ForceMetadataRefresh(); return b.trySend(t.Context(), 1, "4") == nil }, 20*time.Second, 20*time.Millisecond)
	e.until("new ones are read", func(parts map[string]*partLog) bool { return read(parts, more, 1) && read(parts, b.id(1), 1) })
	e.with(func(parts map[string]*partLog) {
		require.Equal(t, 4, len(parts))
		require.Empty(t, parts[b.id(0)].values)
		require.Equal(t, []int{2}, parts[more].values)
		require.Equal(t, []int{4}, parts[b.id(1)].values)
	})
	e.commit()
	e.close()

	b.topic = first + "-later" // written while nobody ran
	b.create(b.topic, 1)
	b.send(0, "5")
	e = launch(t, cfg, nil)
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 1) })
	e.with(func(parts map[string]*partLog) { require.Equal(t, []int{5}, parts[b.id(0)].values) })
}

func TestATopicThatComesAfterAStartWithoutAnyIsReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	cfg := b.config()
	cfg.Topics, cfg.TopicPattern, cfg.From, cfg.TopicRefresh = nil, b.topic+"-later", "latest", 20*time.Millisecond
	e := launch(t, cfg, nil)
	h := &e.src.(*source[int]).hub
	require.Eventually(t, h.looked.Load, 10*time.Second, time.Millisecond)
	b.topic += "-later"
	b.create(b.topic, 1)
	b.send(0, "7")
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 1) })
	e.with(func(parts map[string]*partLog) { require.Equal(t, []int{7}, parts[b.id(0)].values) })
}

// Aborted and open transactions are invisible, their markers have offsets, and a partition that waits for one is not idle.
func TestTransactionsAreReadCommittedUnlessAskedOtherwise(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	tx := b.dial(kgo.TransactionalID("tx-" + b.topic))
	within := func(end kgo.TransactionEndTry, values ...string) {
		require.NoError(t, tx.BeginTransaction())
		for _, v := range values {
			require.NoError(t, tx.ProduceSync(t.Context(), &kgo.Record{Topic: b.topic, Value: []byte(v)}).FirstErr())
		}
		require.NoError(t, tx.EndTransaction(t.Context(), end))
	}
	within(kgo.TryCommit, "1", "2")
	within(kgo.TryAbort, "3")
	require.NoError(t, tx.BeginTransaction())
	require.NoError(t, tx.ProduceSync(t.Context(), &kgo.Record{Topic: b.topic, Value: []byte("4")}).FirstErr())
	b.send(0, "5")

	e := launch(t, b.config(), nil)
	dirty := b.config()
	dirty.IsolationLevel = "read_uncommitted"
	u := launch(t, dirty, nil)
	u.until("everything", func(parts map[string]*partLog) bool { return parts[b.id(0)] != nil && len(parts[b.id(0)].values) == 5 })
	e.until("up to the open one", func(parts map[string]*partLog) bool {
		return parts[b.id(0)] != nil && len(parts[b.id(0)].values) == 2 && parts[b.id(0)].lag == 2
	})
	e.with(func(parts map[string]*partLog) {
		require.Equal(t, []int{1, 2}, parts[b.id(0)].values)
		require.False(t, parts[b.id(0)].idle)
	})
	require.NoError(t, tx.EndTransaction(t.Context(), kgo.TryCommit))
	e.until("all, and idle behind the marker", func(parts map[string]*partLog) bool {
		return len(parts[b.id(0)].values) == 4 && parts[b.id(0)].idle && parts[b.id(0)].lag == 0
	})
	e.with(func(parts map[string]*partLog) {
		require.Equal(t, []int{1, 2, 4, 5}, parts[b.id(0)].values)
		require.Equal(t, b.end(0), parts[b.id(0)].pos.Offset)
	})
}

package kafka

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
	"github.com/millrace-stream/millrace/internal/services"
)

// With another number of partitions a key is in another one, and co-partitioned state is not where the key is.
func TestKeysThatMovedBetweenPartitionsStopThePartitionWithTheCure(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	send := func(from, n int, shards string) {
		var recs []*kgo.Record
		for _, v := range numbers(from, n) {
			r := &kgo.Record{Topic: b.topic, Value: []byte(v)}
			if shards != "" {
				r.Headers = []kgo.RecordHeader{{Key: kafka.Shards, Value: []byte(shards)}}
			}
			recs = append(recs, r)
		}
		require.NoError(t, b.client.ProduceSync(t.Context(), recs...).FirstErr())
	}
	send(0, 10, "4")
	send(10, 5, "") // another producer's
	cfg := b.config()
	cfg.CheckShards = true
	e := launch(t, cfg, nil)
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 15) })
	pos := e.parts[b.id(0)].pos
	require.Equal(t, "4", parseToken(pos.Token).shards)
	e.commit()
	e.close()

	send(15, 3, "4")
	send(18, 3, "8")
	for _, resume := range []map[string]flow.Position{{b.id(0): pos}, nil} { // a restart does not hide it, with the group's position too
		e = launch(t, cfg, resume)
		e.until("stopped", func(parts map[string]*partLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].err != nil })
		l := e.parts[b.id(0)]
		require.False(t, flow.IsTransient(l.err))
		for _, part := range []string{"offset 18", "8 partitions", "had 4", "flow.CoPartitioned"} {
			require.ErrorContains(t, l.err, part)
		}
		require.Equal(t, flow.Position{Offset: 18, Token: pos.Token}, l.pos, "what is good is read")
		e.close()
	}
	cfg.CheckShards = false
	e = launch(t, cfg, map[string]flow.Position{b.id(0): pos})
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 21) })
}

// A co-partitioned topology checks without being asked to.
func TestCoPartitionedTopologiesCheckShards(t *testing.T) {
	s := Source(Config{Connection: Connection{Brokers: []string{"127.0.0.1:1"}}, Topics: []string{"t"}, Group: "g"}, number{}).(*source[int])
	require.NoError(t, s.Open(t.Context(), flow.SourceRuntime{Clock: flow.SystemClock(), CoPartitioned: true}))
	require.True(t, s.cfg.CheckShards)
	require.NoError(t, s.Close(t.Context()))
}

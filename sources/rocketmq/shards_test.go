package rocketmq

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
)

// With another number of queues a key is in another queue, and co-partitioned state is not where the key is.
func TestKeysThatMovedBetweenQueuesStopTheQueueWithTheCure(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 1)
	send := func(from, n int, shards string) {
		var data []byte
		for i := range n {
			var props []byte
			var err error
			if shards != "" {
				props, err = rocketmq.AppendProperty(nil, rocketmq.Shards, shards)
				require.NoError(t, err)
			}
			data, err = rocketmq.AppendMessage(data, fmt.Append(nil, from+i), props)
			require.NoError(t, err)
		}
		r, err := b.client.Call(t.Context(), b.set.Broker(), rocketmq.SendBatch("p", b.topic, b.queue(0), time.Now(), data))
		require.NoError(t, err)
		require.NoError(t, r.Err())
		r.Release()
	}
	send(0, 10, "4")
	send(10, 5, "") // another producer's
	cfg := b.config()
	cfg.CheckShards = true
	e := launch(t, cfg, nil)
	e.until("read", func(parts map[string]*queueLog) bool {
		return parts[b.id(0)] != nil && len(parts[b.id(0)].values) == 15
	})
	pos := e.parts[b.id(0)].pos
	require.Equal(t, flow.Position{Offset: 15, Token: "4"}, pos)
	e.close()

	send(15, 3, "4")
	send(18, 3, "8")
	for range 2 { // a restart does not hide it
		e = launch(t, cfg, map[string]flow.Position{b.id(0): pos})
		e.until("stopped", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].err != nil })
		l := e.parts[b.id(0)]
		require.False(t, flow.IsTransient(l.err))
		for _, part := range []string{b.id(0), "offset 18", "8 queues", "had 4", "flow.CoPartitioned"} {
			require.ErrorContains(t, l.err, part)
		}
		require.Equal(t, flow.Position{Offset: 18, Token: "4"}, l.pos, "what is good is read")
		pos = l.pos
		e.close()
	}
	cfg.CheckShards = false
	e = launch(t, cfg, map[string]flow.Position{b.id(0): pos})
	e.until("read", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].pos.Offset == 21 })
}

// A co-partitioned topology checks without being asked to.
func TestCoPartitionedTopologiesCheckShards(t *testing.T) {
	s := Source(Config{Connection: Connection{NameServers: []string{"127.0.0.1:1"}}, Topic: "t", Group: "g"}, number{}).(*source[int])
	require.NoError(t, s.Open(t.Context(), flow.SourceRuntime{Clock: flow.SystemClock(), CoPartitioned: true}))
	require.True(t, s.cfg.CheckShards)
	require.NoError(t, s.Close(t.Context()))
}

// TestShardsBySearch: the one search and the look at each property say the same.
func TestShardsBySearch(t *testing.T) {
	props := func(pairs ...string) (p rocketmq.Properties) {
		for i := 0; i < len(pairs); i += 2 {
			b, err := rocketmq.AppendProperty(p, pairs[i], pairs[i+1])
			require.NoError(t, err)
			p = b
		}
		return p
	}
	own := props("SHARDING_KEY", "dev-1", rocketmq.Shard, "3", rocketmq.Shards, "4", "WAIT", "true")
	for _, c := range []struct {
		name string
		p    rocketmq.Properties
		same bool
	}{
		{"none", nil, true},
		{"another producer's", props("SHARDING_KEY", "dev-1", "KEYS", rocketmq.Shards), true},
		{"the same", own, true},
		{"the same, first", props(rocketmq.Shards, "4", "WAIT", "true"), true},
		{"the same, last and not ended", own[:len(own)-len("\x02WAIT\x01true\x02")], true},
		{"more", props(rocketmq.Shards, "8"), false},
		{"longer", props("A", "b", rocketmq.Shards, "40"), false},
		{"another name that ends so", props("X"+rocketmq.Shards, "4"), false},
	} {
		check := shardCheck{shards: "4"}
		require.Equal(t, c.same, check.same(c.p), c.name)
		if now := c.p.Get(rocketmq.Shards); c.same {
			require.True(t, now == nil || string(now) == "4", c.name)
		}
	}
	require.False(t, (&shardCheck{}).same(own), "the first is noted")
	check := shardCheck{shards: "4"}
	m := rocketmq.Message{Properties: own}
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = check.look(&m) }))
}

func BenchmarkShardCheck(b *testing.B) {
	p, err := rocketmq.AppendProperty(nil, "SHARDING_KEY", "dev-0001234")
	require.NoError(b, err)
	for _, c := range [][2]string{{"WAIT", "true"}, {rocketmq.Shard, "3"}, {rocketmq.Shards, "4"}} {
		p, err = rocketmq.AppendProperty(p, c[0], c[1])
		require.NoError(b, err)
	}
	check := shardCheck{shards: "4"}
	m := rocketmq.Message{Properties: p}
	b.Run("search", func(b *testing.B) {
		for b.Loop() {
			_ = check.look(&m)
		}
	})
	b.Run("each", func(b *testing.B) {
		for b.Loop() {
			_ = m.Properties.Get(rocketmq.Shards)
		}
	})
}

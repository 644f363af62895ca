package rocketmq

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
)

// A batch message has no sharding key of its own, so that a client's hash selector scatters it (84 % out of order).
func TestBatchesKeepOrderPerKeyInTheQueueOfTheKeyGroup(t *testing.T) {
	set := services.Need(t, services.RocketBroker)
	topic := topicOf(t, set, 7)
	s := Sink(Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: topic, BatchMessages: 100}, readings{}, Key(device), ID(eventID))
	w, _ := open(t, s)
	const devices, each = 50, 200
	for epoch := range 4 {
		var batch []flow.Record[reading]
		for i := range each / 4 {
			for d := range devices {
				batch = append(batch, records(reading{fmt.Sprintf("dev-%d", d), epoch*each/4 + i + 1})...)
			}
		}
		require.Empty(t, writeAll(t, s, w, batch))
	}

	last := map[string]int{}
	all := read(t, set.NameServer(), topic, devices*each)
	for _, m := range all {
		var r reading
		require.NoError(t, readings{}.Decode([]byte(m.body), &r))
		require.Equal(t, last[r.device]+1, r.seq, "device %s in queue %s", r.device, m.queue)
		last[r.device] = r.seq
		require.Equal(t, shardOf(r.device, 7), m.queue.ID)
		require.Equal(t, r.device, m.props["SHARDING_KEY"])
		require.Equal(t, eventID(r), m.props["KEYS"])
		require.Equal(t, strconv.Itoa(m.queue.ID), m.props["MR_SHARD"])
		require.Equal(t, "7", m.props["MR_SHARDS"])
	}
}

func TestWithoutKeyBatchesGoRoundTheQueues(t *testing.T) {
	set := services.Need(t, services.RocketBroker)
	topic := topicOf(t, set, 4)
	s := Sink(Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: topic}, readings{})
	w, _ := open(t, s)
	for i := range 8 {
		require.NoError(t, w.Write(t.Context(), records(reading{"a", i + 1})))
	}
	writeAll(t, s, w, nil)
	perQueue := map[int]int{}
	for _, m := range read(t, set.NameServer(), topic, 8) {
		perQueue[m.queue.ID]++
		require.NotContains(t, m.props, "MR_SHARD")
	}
	require.Equal(t, map[int]int{0: 2, 1: 2, 2: 2, 3: 2}, perQueue)
}

func TestShardIsTheTaskOfTheKeyGroup(t *testing.T) {
	for _, shards := range []int{1, 2, 3, 8, 1000, 1024} {
		seen := map[int]bool{}
		for i := range 20_000 {
			seen[shardOf(strconv.Itoa(i), shards)] = true
		}
		for n := range shards {
			require.True(t, seen[n], "shard %d of %d", n, shards)
		}
		require.Equal(t, shards, len(seen))
	}
	// xxhash64("a") = 0xD24EC4F1A98C6E5B, of which % 1024 = 603, and 603 * 8 / 1024 = 4; that of "" ends in 0x999: 409 and 3.
	require.Equal(t, 4, shardOf("a", 8))
	require.Equal(t, 3, shardOf("", 8))
}

package kafka

import (
	"github.com/cespare/xxhash/v2"

	"github.com/millrace-stream/millrace/flow"
)

// Headers of our own: which of how many shards a record's key belongs to, in decimal.
const (
	Shard  = "MR_SHARD"
	Shards = "MR_SHARDS"
)

// ShardOf is the shard of the key's group, the same as that of a task that has the key: xxhash64 of the key, modulo the
// key groups, spread evenly over the shards.
func ShardOf(key string, shards int) int {
	group := int(xxhash.Sum64String(key) % flow.KeyGroups)
	return group * shards / flow.KeyGroups
}

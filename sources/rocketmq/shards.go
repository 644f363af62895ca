package rocketmq

import (
	"fmt"

	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// shardCheck finds out that keys have moved between the queues of a topic. Messages of other producers say nothing about it.
type shardCheck struct {
	// shards is how many queues the topic had for the messages so far, in decimal; it is kept as the token of positions, so
	// that a restart in between does not hide a change.
	shards string
}

func (c *shardCheck) look(m *rocketmq.Message) error {
	if c == nil {
		return nil
	}
	now := m.Properties.Get(rocketmq.Shards)
	switch {
	case now == nil || string(now) == c.shards:
		return nil
	case c.shards == "" || c.shards == zeroToken:
		c.shards = string(now)
		return nil
	}
	return fmt.Errorf("the message at offset %d was written when the topic had %s queues, those before it when it had %s: keys have "+
		"moved to other queues, and their state is with the old ones; let the state go with the keys by leaving flow.CoPartitioned and "+
		"check_shards out, or start under a new topology name, or flow.DropState", m.Offset, now, c.shards)
}

package rocketmq

import (
	"bytes"
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
	if c.same(m.Properties) {
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

// same tells by one search that the properties say nothing of shards, or what they said before. False means look closer.
func (c *shardCheck) same(p rocketmq.Properties) bool {
	const name, end = rocketmq.Shards + "\x01", 2 // which stand in no value
	at := bytes.Index(p, []byte(name))
	if at < 0 {
		return true
	}
	value := p[at+len(name):]
	n := len(c.shards)
	return (at == 0 || p[at-1] == end) && n > 0 && len(value) >= n && string(value[:n]) == c.shards && (len(value) == n || value[n] == end)
}

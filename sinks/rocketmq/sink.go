// Package rocketmq writes RocketMQ topics.
package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// Sink writes each record as one message of a topic.
//
// Order: with Key, records of one key go to one queue, in their order within a task; the queue is that of the key's group
// (xxhash64 of the key, as in flow.KeyBy), counted over the topic's queues by broker name and number. Without Key the batches
// go round the queues and no order is promised. The queues are those at the start: ones that come later are used after a
// restart, which moves keys, and MR_SHARD and MR_SHARDS (properties of every message with a key) tell readers so.
//
// Delivery: at least once. A batch is all or none and goes to the same queue until the broker says that it is stored as
// durably as the topic's cluster is set up to (anything less is counted and sent again). After a failure without an answer it
// is sent again too, so it may be there twice.
//
// Properties of a message: SHARDING_KEY (Key), KEYS (ID), MR_SHARD, MR_SHARDS and the headers of Record.Meta but those that
// RocketMQ itself gives a meaning. An empty body, an empty property, \x01 or \x02 in one, too many bytes: RocketMQ would
// swallow or cut them silently, here the record goes to the dead letters.
//
// Memory: what was written since the last commit, encoded.
func Sink[T any](cfg Config, c codec.Codec[T], opts ...Option[T]) flow.Sink[T] {
	s := &sink[T]{producer: producer{cfg: cfg.withDefaults()}, codec: c}
	for _, o := range opts {
		o(&s.fields)
	}
	return s
}

// Option says what of a record becomes a property.
type Option[T any] func(*fields[T])

type fields[T any] struct{ key, id func(T) string }

// Key gives the sharding key, which decides the queue: records of one key stay in order. An empty key is refused. It must be
// safe for concurrent use.
func Key[T any](of func(T) string) Option[T] { return func(f *fields[T]) { f.key = of } }

// ID gives the event id, the property KEYS: readers drop repeats by it, and brokers find a message by it (as several words
// where it has spaces). An empty id is refused. It must be safe for concurrent use.
func ID[T any](of func(T) string) Option[T] { return func(f *fields[T]) { f.id = of } }

// CreateTopic creates a topic with that many queues on every broker and waits until the name servers tell its route. A topic
// that exists gets the number of queues; its messages stay.
func CreateTopic(ctx context.Context, nameServers []string, topic string, queues int) error {
	return rocketmq.CreateTopic(ctx, nameServers, topic, queues)
}

type sink[T any] struct {
	producer
	codec  codec.Codec[T]
	fields fields[T]
}

// Open finds the topic's queues. A topic that does not exist is a permanent error.
func (s *sink[T]) Open(ctx context.Context, rt flow.SinkRuntime) error { return s.open(ctx, rt) }

// Writer makes the writer of one task.
func (s *sink[T]) Writer(_ context.Context, task flow.TaskInfo) (flow.SinkWriter[T], error) {
	if len(s.queues) == 0 {
		return nil, errors.New("rocketmq sink: Writer before Open")
	}
	return newWriter(s, task), nil
}

// Deliver sends the blocks, queues beside each other.
func (s *sink[T]) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	return s.deliver(ctx, blocks)
}

// DecodeBlock is the inverse of a block's AppendBinary.
func (s *sink[T]) DecodeBlock(data []byte) (flow.Block, error) { return decodeBlock(data) }

// Close closes all connections.
func (s *sink[T]) Close(context.Context) error {
	if s.client != nil {
		s.client.Close()
	}
	return nil
}

// open finds the queues; the engine repeats it after a transient error.
func (p *producer) open(ctx context.Context, rt flow.SinkRuntime) error {
	if p.client == nil {
		err := p.cfg.validate()
		client, e := rocketmq.NewClient(p.cfg.Connection)
		if err = errors.Join(err, e); err != nil {
			return err
		}
		p.client, p.rt = client, rt
	}
	route, err := p.client.Route(ctx, p.cfg.Topic)
	if err != nil {
		return fmt.Errorf("rocketmq sink: %w", err)
	}
	switch n := len(route.Writable); {
	case n == 0:
		return fmt.Errorf("rocketmq sink: topic %q has no writable queue: set its perm to 6 (mqadmin updateTopicPerm)", p.cfg.Topic)
	case n > flow.KeyGroups:
		return fmt.Errorf("rocketmq sink: topic %q has %d queues: keys make %d groups, so more cannot be used", p.cfg.Topic, n, flow.KeyGroups)
	case n < p.cfg.Queues:
		return flow.Transient(fmt.Errorf("rocketmq sink: topic %q shows %d of %d queues: a broker is down, or queues is wrong", p.cfg.Topic, n, p.cfg.Queues))
	case p.cfg.Queues > 0 && n > p.cfg.Queues:
		return fmt.Errorf("rocketmq sink: topic %q has %d queues, not %d: set queues to %d, which moves keys to other queues", p.cfg.Topic, n, p.cfg.Queues, n)
	}
	p.queues, p.masters = route.Writable, route.Masters
	return nil
}

// changed tells whether a new route has other queues than those in use.
func (p *producer) changed(r rocketmq.Route) bool { return !slices.Equal(p.queues, r.Writable) }

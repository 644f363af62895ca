// Package rocketmq writes RocketMQ topics.
package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
// is sent again too, so it may be there twice. With Config.Transactional readers see nothing of an epoch before all of its messages
// are stored; it is at least once too, since the commit comes before that of the state.
//
// Properties of a message: SHARDING_KEY (Key), KEYS (ID), TAGS (Tag), those of Property, MR_SHARD, MR_SHARDS, MR_TX of transactions, and
// the headers of Record.Meta but those that RocketMQ itself gives a meaning. An empty body, an empty property, \x01 or \x02 in one, too many bytes: RocketMQ would
// swallow or cut them silently, here the record goes to the dead letters.
//
// Memory: what was written since the last commit, encoded, in buffers that are used again.
func Sink[T any](cfg Config, c codec.Codec[T], opts ...Option[T]) flow.Sink[T] {
	s := &sink[T]{producer: producer{cfg: cfg.withDefaults()}, codec: c}
	for _, o := range opts {
		o(&s.fields)
	}
	s.keyed = s.fields.key != nil
	s.delays = s.fields.level != nil || s.fields.at != nil
	return s
}

// Option says what of a record becomes a property.
type Option[T any] func(*fields[T])

type fields[T any] struct {
	key, id, tag func(T) string
	level        func(T) int
	at           func(T) time.Time
	properties   []property[T]
}

type property[T any] struct {
	name string
	of   func(T) string
}

// Key gives the sharding key, which decides the queue: records of one key stay in order. An empty key is refused. It must be
// safe for concurrent use.
func Key[T any](of func(T) string) Option[T] { return func(f *fields[T]) { f.key = of } }

// ID gives the event id, the property KEYS: readers drop repeats by it, and brokers find a message by it (as several words
// where it has spaces). An empty id is refused. It must be safe for concurrent use.
func ID[T any](of func(T) string) Option[T] { return func(f *fields[T]) { f.id = of } }

// Tag gives the tag, by which subscriptions choose; an empty one means none. One with white space at its ends or || in it could not
// be subscribed to and is refused. It must be safe for concurrent use.
func Tag[T any](of func(T) string) Option[T] { return func(f *fields[T]) { f.tag = of } }

// Property gives a property of that name, for SQL conditions of subscriptions and for readers; an empty value means none. It goes
// before a header of that name. It must be safe for concurrent use.
func Property[T any](name string, of func(T) string) Option[T] {
	return func(f *fields[T]) { f.properties = append(f.properties, property[T]{name, of}) }
}

// DelayLevel lets a message be seen only after a while: level 1 to 18 is one of the broker's fixed delays (1s 5s 10s 30s 1m 2m 3m
// 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h, its messageDelayLevel), 0 is none; above the last one the broker takes the last.
//
// A delayed message cannot be sent in a batch: it costs many times as much as others. Delayed messages keep no order, neither
// among themselves nor with others. It must be safe for concurrent use.
func DelayLevel[T any](of func(T) int) Option[T] { return func(f *fields[T]) { f.level = of } }

// DeliverAt lets a message be seen only at a time, to the second; the zero time and one that has passed mean at once. Brokers of
// version 5 do that with timerWheelEnable, for at most timerMaxDelaySec (3 days); what is further away goes to the dead letters. The cost
// is that of DelayLevel; a record with both is refused. It must be safe for concurrent use.
func DeliverAt[T any](of func(T) time.Time) Option[T] { return func(f *fields[T]) { f.at = of } }

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
func (s *sink[T]) Open(ctx context.Context, rt flow.SinkRuntime) error {
	for _, p := range s.fields.properties {
		if p.name == "" || reserved(p.name) {
			return fmt.Errorf("rocketmq sink: property %q: RocketMQ, or this sink, gives that name a meaning of its own: take another", p.name)
		}
	}
	return s.open(ctx, rt)
}

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
	s.checks.close()
	if s.client != nil {
		s.client.Close()
	}
	return nil
}

// open finds the queues; the engine repeats it after a transient error.
func (p *producer) open(ctx context.Context, rt flow.SinkRuntime) error {
	if p.client == nil {
		err := p.cfg.validate()
		if p.cfg.Transactional && p.delays {
			err = errors.Join(err, errors.New("rocketmq sink: transactional: a message cannot be delayed and part of a transaction: "+
				"use a sink of its own for delayed ones"))
		}
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
	p.queues = route.Writable
	p.setMasters(route.Masters)
	if p.cfg.Transactional && p.tx == nil {
		if p.tx, err = newTransactions(rt, p.cfg.Group); err != nil {
			return fmt.Errorf("rocketmq sink: group %q, node %q: %w", p.cfg.Group, rt.Node, err)
		}
		p.answerBrokers()
	}
	return nil
}

// changed tells whether a new route has other queues than those in use.
func (p *producer) changed(r rocketmq.Route) bool { return !slices.Equal(p.queues, r.Writable) }

// Package kafka writes Kafka topics.
package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// Sink writes each record as one record of a topic, with the time of writing as its timestamp.
//
// Order: with Key, records of one key go to one partition, in their order within a task; the partition is that of the key's group
// (xxhash64 of the key, modulo 1,024, spread evenly over the partitions, as in flow.KeyBy), not that of Kafka's own hash.
// Without Key runs of 1,024 records go round the partitions and no order is promised. The partitions are those at the start:
// ones that come later are used after a restart, which moves keys, and MR_SHARD and MR_SHARDS (headers of every record with a
// key) tell readers so. When the brokers refuse a batch, its good records are written again one by one and come behind later ones.
//
// Delivery: at least once. Records are acked by all in-sync replicas. The client is idempotent: what it sends again after a lost
// connection or a broker's restart is there once. A crash before the epoch's commit writes the epoch's records again. With
// Config.TransactionalID a delivery is one transaction.
//
// A record that is too large, has no key on a compacted topic or is refused by the brokers goes to the dead letters; a topic that
// does not exist and missing rights stop the topology with the cure.
//
// Headers of a record are those of Record.Meta and of Headers, and MR_SHARD, MR_SHARDS.
//
// Memory: what was written since the last commit, encoded, and Config.InFlight records of the client.
func Sink[T any](cfg Config, c codec.Codec[T], opts ...Option[T]) flow.Sink[T] {
	s := &sink[T]{producer: producer{cfg: cfg.withDefaults()}, codec: c}
	for _, o := range opts {
		o(&s.fields)
	}
	s.byRecord = s.fields.topic != nil
	return s
}

// Option says what of a record becomes a part of Kafka's.
type Option[T any] func(*fields[T])

type fields[T any] struct {
	key, topic func(T) string
	headers    func(T) map[string]string
	tombstone  func(T) bool
}

// Key gives the key, which decides the partition: records of one key stay in order. It must be safe for concurrent use.
func Key[T any](of func(T) string) Option[T] { return func(f *fields[T]) { f.key = of } }

// Topic gives each record a topic of its own, in place of Config.Topic. Topics must exist. It must be safe for concurrent use.
func Topic[T any](of func(T) string) Option[T] { return func(f *fields[T]) { f.topic = of } }

// Headers gives headers, beside and before those of Record.Meta. It must be safe for concurrent use.
func Headers[T any](of func(T) map[string]string) Option[T] {
	return func(f *fields[T]) { f.headers = of }
}

// Tombstone tells which records are written without a value: on a compacted topic they delete their key. It must be safe for
// concurrent use.
func Tombstone[T any](is func(T) bool) Option[T] { return func(f *fields[T]) { f.tombstone = is } }

// CreateTopic creates a topic with that many partitions, replicated as the brokers do by default, and waits until all of them
// have a leader. A topic that exists is left as it is.
func CreateTopic(ctx context.Context, c Connection, topic string, partitions int) error {
	c = c.WithDefaults()
	client, err := kafka.Open(c)
	if err != nil {
		return err
	}
	defer client.Close()
	return kafka.CreateTopic(ctx, client, flow.SystemClock(), max(c.Timeout, 10*time.Second), topic, partitions, nil)
}

type sink[T any] struct {
	producer
	codec  codec.Codec[T]
	fields fields[T]
}

// Open finds the topic's partitions. A topic that does not exist is a permanent error.
func (s *sink[T]) Open(ctx context.Context, rt flow.SinkRuntime) error { return s.open(ctx, rt) }

// Writer makes the writer of one task.
func (s *sink[T]) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[T], error) {
	if s.client == nil {
		return nil, errors.New("kafka sink: Writer before Open")
	}
	return newWriter(s), nil
}

// Deliver writes the blocks and waits until the brokers have acked them.
func (s *sink[T]) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	return s.deliver(ctx, blocks)
}

// DecodeBlock is the inverse of a block's AppendBinary.
func (s *sink[T]) DecodeBlock(data []byte) (flow.Block, error) { return decodeBlock(data) }

// Close closes all connections.
func (s *sink[T]) Close(context.Context) error {
	s.close()
	return nil
}

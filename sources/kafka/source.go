// Package kafka reads Kafka topics.
package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// Source reads all partitions of topics, each as a partition "topic/number" of its own, in the order of its offsets. A record's
// time is its Kafka timestamp: when the broker stored it where the topic has message.timestamp.type=LogAppendTime, else
// what the producer said.
//
// Delivery: positions are offsets (flow.Seek). A partition goes on at the topology's position, else at the offset that the
// group remembers, else at Config.From. Commits go to the group without joining it, and are confirmed. What was deleted before it
// was read is counted as lost_by_retention and logged, and reading goes on at the earliest record. A topic that was created
// again, a partition that ends before its position, and a log that has lost what was read stop the topology with the cure.
//
// Outages: each partition goes on within about a second after its broker is back, or another leads it. A broker's outage is logged
// once. A topic that does not exist at the start stops the topology; one that vanishes later is waited for.
//
// Memory: per partition at most three answers of a broker, each up to Config.PartitionBytes as it was sent, one of them
// decompressed, and the engine's batch. A partition that is not read holds back no other.
//
// New topics and partitions are found every Config.TopicRefresh. Records that c cannot decode go to the dead letters with their
// bytes. With a codec that is codec.Aliasing the payloads' memory is
// not used again; a value then holds a whole answer in memory.
func Source[T any](cfg Config, c codec.Codec[T]) flow.Source[T] {
	return &source[T]{hub: hub{cfg: cfg.withDefaults()}, codec: c}
}

type source[T any] struct {
	hub
	codec codec.Codec[T]
}

// Open checks the configuration.
func (s *source[T]) Open(_ context.Context, rt flow.SourceRuntime) error {
	s.cfg.CheckShards = s.cfg.CheckShards || rt.CoPartitioned
	return s.open(rt)
}

// Run adds the topics' partitions, and new ones as they come, until ctx ends.
func (s *source[T]) Run(ctx context.Context, a flow.Assign) error { return s.run(ctx, a) }

// Commit stores the offset for the group.
func (s *source[T]) Commit(ctx context.Context, p flow.Partition, upTo flow.Position) error {
	return s.commit(ctx, p, upTo)
}

// Replay is Seek.
func (s *source[T]) Replay() flow.Replay { return flow.Seek }

// Close closes all connections.
func (s *source[T]) Close(context.Context) error {
	s.close()
	return nil
}

// Read reads one partition until ctx ends.
func (s *source[T]) Read(ctx context.Context, p flow.Partition, from flow.Position, in *flow.Intake[T]) error {
	k, err := parsePartition(p.ID)
	if err != nil {
		return err
	}
	d := &decoder[T]{hub: &s.hub, codec: s.codec, in: in, partition: p.ID}
	r := newReader(&s.hub, k, !codec.Aliases(s.codec))
	r.sink = d
	if from.IsZero() {
		from = p.Committed
	}
	pin, err := r.begin(ctx, from)
	if err == nil {
		d.set(token{id: r.box.id.String(), shards: parseToken(from.Token).shards})
		if pin {
			err = d.hand(ctx, in.Buffer()[:0], r.offset)
		}
	}
	if err == nil {
		err = r.run(ctx)
	}
	var refused *refusedError
	if errors.As(err, &refused) {
		return refused.err
	}
	return err
}

// decoder turns records of Kafka into records of the topology; the rest of reading does not depend on the record's type.
type decoder[T any] struct {
	hub       *hub
	codec     codec.Codec[T]
	in        *flow.Intake[T]
	partition string
	token     token
	text      string // of the token
}

// intake is what a reader hands records and its state to.
type intake interface {
	// emit decodes the records and emits them with the position next.
	emit(ctx context.Context, recs []*kgo.Record, next int64) error
	Idle()
	Busy()
	Lag(n int64)
}

func (d *decoder[T]) Idle()       { d.in.Idle() }
func (d *decoder[T]) Busy()       { d.in.Busy() }
func (d *decoder[T]) Lag(n int64) { d.in.Lag(n) }

func (d *decoder[T]) set(t token) { d.token, d.text = t, t.String() }

func (d *decoder[T]) hand(ctx context.Context, batch []flow.Record[T], upTo int64) error {
	if err := d.in.Emit(ctx, batch, flow.Position{Offset: upTo, Token: d.text}); err != nil {
		return &refusedError{err}
	}
	return nil
}

// refusedError is the engine's refusal of a batch, which Read returns as it is.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }

func (d *decoder[T]) emit(ctx context.Context, recs []*kgo.Record, next int64) error {
	batch := d.in.Buffer()[:0]
	tombstones, received := int64(0), flow.Timestamp(0)
	for _, m := range recs {
		if d.hub.cfg.CheckShards {
			if err := d.checkShards(m); err != nil {
				return errors.Join(err, d.hand(ctx, batch, m.Offset))
			}
		}
		if len(batch) == flow.MaxBatch {
			if err := d.hand(ctx, batch, m.Offset); err != nil {
				return err
			}
			batch = d.in.Buffer()[:0]
		}
		if m.Value == nil && d.hub.cfg.SkipTombstones {
			tombstones++
			continue
		}
		at := flow.Timestamp(m.Timestamp.UnixNano())
		if at <= 0 { // records of old producers have none and take the time of reading
			if received == 0 {
				received = flow.TimestampOf(d.hub.rt.Clock.Now())
			}
			at = received
		}
		batch = append(batch, flow.Record[T]{Time: at})
		if !d.decode(m, &batch[len(batch)-1]) {
			batch = batch[:len(batch)-1]
		}
	}
	if tombstones > 0 {
		d.hub.rt.Count("tombstones", tombstones)
	}
	return d.hand(ctx, batch, next)
}

// decode fills r, or rejects the record and returns false.
func (d *decoder[T]) decode(m *kgo.Record, r *flow.Record[T]) bool {
	behind := flow.Position{Offset: m.Offset + 1, Token: d.text}
	if err := d.codec.Decode(m.Value, &r.Value); err != nil {
		d.in.Reference(time.Unix(0, int64(r.Time))) // the dead letter's time
		d.in.Reject(m.Value, err, behind)
		return false
	}
	if d.hub.cfg.Meta {
		var h map[string]string
		if len(m.Headers) > 0 {
			h = make(map[string]string, len(m.Headers))
			for _, x := range m.Headers {
				h[x.Key] = string(x.Value)
			}
		}
		r.Meta = &flow.Meta{Headers: h, Key: string(m.Key), Partition: d.partition, Position: behind}
	}
	return true
}

// checkShards finds out that keys have moved between the partitions of a topic. Records of other producers say nothing about it.
func (d *decoder[T]) checkShards(m *kgo.Record) error {
	for _, h := range m.Headers {
		if h.Key != kafka.Shards || string(h.Value) == d.token.shards {
			continue
		}
		if d.token.shards != "" {
			return shardsMoved(m.Offset, string(h.Value), d.token.shards)
		}
		t := d.token
		t.shards = string(h.Value)
		d.set(t)
	}
	return nil
}

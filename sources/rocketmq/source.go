// Package rocketmq reads RocketMQ topics.
package rocketmq

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// Source reads all queues of a topic, each as a partition "broker/queue" of its own, in the order of its offsets. A record's
// time is when the broker stored it.
//
// Delivery: positions are offsets (flow.Seek). A queue goes on at the topology's position, else at the offset that the broker
// remembers for the group, else at Config.From. Commits are confirmed by the broker. What a broker deleted before it was
// read is counted as lost_by_retention and logged. A queue that ends before its position (the topic was created again, or
// the broker lost messages) stops the topology with the cure.
//
// Outages: each queue polls on a connection of its own and goes on within about a second after its broker is back. A broker's
// outage is logged once. A topic that does not exist at the start stops the topology; one that vanishes later is waited for.
//
// Memory: per queue at most two answers of the broker, each up to its maxTransferBytes (256 KiB by default), and the
// engine's batch.
//
// With Config.Tags or Config.SQL the broker leaves messages out. Positions and lag pass them: they do not come again.
//
// New queues are found every Config.RouteRefresh. Messages that c cannot decode go to the dead letters with their bytes.
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

// Run adds the topic's queues, and new ones as they come, until ctx ends.
func (s *source[T]) Run(ctx context.Context, a flow.Assign) error { return s.run(ctx, a) }

// Commit stores the offset on the broker.
func (s *source[T]) Commit(ctx context.Context, p flow.Partition, upTo flow.Position) error {
	return s.commit(ctx, p, upTo)
}

// Replay is Seek.
func (s *source[T]) Replay() flow.Replay { return flow.Seek }

// Close closes all connections.
func (s *source[T]) Close(context.Context) error {
	if s.client != nil {
		s.client.Close()
	}
	return nil
}

// Read polls one queue until ctx ends.
func (s *source[T]) Read(ctx context.Context, p flow.Partition, from flow.Position, in *flow.Intake[T]) error {
	q, err := parseQueue(p.ID)
	if err != nil {
		return err
	}
	d := &decoder[T]{codec: s.codec, in: in, partition: p.ID, meta: s.cfg.Meta, filter: s.filter}
	if s.cfg.CheckShards {
		d.check = &shardCheck{shards: from.Token}
	}
	r := &reader{hub: &s.hub, queue: q, sink: d, aliased: codec.Aliases(s.codec)}
	if err = r.begin(ctx, p.Committed, from); err == nil {
		err = r.run(ctx)
	}
	var refused *refusedError
	if errors.As(err, &refused) {
		return refused.err
	}
	return err
}

// decoder turns a pull's messages into records; the rest of reading does not depend on the record's type.
type decoder[T any] struct {
	codec     codec.Codec[T]
	in        *flow.Intake[T]
	partition string
	meta      bool
	filter    filter
	check     *shardCheck // nil: none
}

// intake is what a reader hands messages and its state to.
type intake interface {
	// emit decodes the messages of a pull's body from offset on and emits them with the position next.
	emit(ctx context.Context, body []byte, offset, next int64) error
	pin(ctx context.Context, at flow.Position) error
	Idle()
	Busy()
	Lag(n int64)
}

func (d *decoder[T]) Idle()       { d.in.Idle() }
func (d *decoder[T]) Busy()       { d.in.Busy() }
func (d *decoder[T]) Lag(n int64) { d.in.Lag(n) }

func (d *decoder[T]) pin(ctx context.Context, at flow.Position) error {
	return d.hand(ctx, d.in.Buffer()[:0], at)
}

func (d *decoder[T]) hand(ctx context.Context, batch []flow.Record[T], upTo flow.Position) error {
	if err := d.in.Emit(ctx, batch, upTo); err != nil {
		return &refusedError{err}
	}
	return nil
}

// refusedError is the engine's refusal of a batch, which Read returns as it is.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }

func (d *decoder[T]) emit(ctx context.Context, body []byte, offset, next int64) error {
	batch := d.in.Buffer()[:0]
	var m rocketmq.Message
	for msgs := rocketmq.NewMessages(body); msgs.More(); {
		if err := msgs.Next(&m); err != nil {
			return err
		}
		if m.Offset < offset || !d.filter.wants(&m) {
			continue
		}
		if err := d.check.look(&m); err != nil {
			return errors.Join(err, d.hand(ctx, batch, d.at(m.Offset)))
		}
		if len(batch) == flow.MaxBatch { // a broker that gives more than it was asked for
			if err := d.hand(ctx, batch, d.at(m.Offset)); err != nil {
				return err
			}
			batch = d.in.Buffer()[:0]
		}
		batch = append(batch, flow.Record[T]{Time: flow.Millis(m.Stored)})
		if !d.decode(&m, &batch[len(batch)-1]) {
			batch = batch[:len(batch)-1]
		}
	}
	return d.hand(ctx, batch, d.at(next))
}

// at is a position to emit with; it remembers what shardCheck needs.
func (d *decoder[T]) at(offset int64) flow.Position {
	p := flow.Position{Offset: offset}
	if d.check != nil {
		p.Token = d.check.shards
	}
	return p
}

// decode fills r, or rejects the message and returns false.
func (d *decoder[T]) decode(m *rocketmq.Message, r *flow.Record[T]) bool {
	behind := flow.Position{Offset: m.Offset + 1}
	payload, err := m.Payload()
	if err == nil {
		err = d.codec.Decode(payload, &r.Value)
	} else {
		payload = m.Body
	}
	if err != nil {
		d.in.Reference(time.UnixMilli(m.Stored)) // the dead letter's time
		d.in.Reject(payload, err, behind)
		return false
	}
	if d.meta {
		h := m.Properties.Map()
		r.Meta = &flow.Meta{Headers: h, Key: h[rocketmq.ShardingKey], Partition: d.partition, Position: behind}
	}
	return true
}

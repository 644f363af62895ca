// Package watermill reads topics through any Watermill subscriber, and shows any source of this library as one.
package watermill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// Source reads a topic through a Watermill subscriber of any kind. decode makes a record's value of a message; Payload makes a
// decode of a codec. It must be safe for concurrent use and must not keep the message.
//
// Order: that in which the subscriber's channel gives the messages, within each partition (see Partition; one, when not told
// otherwise). A subscriber that gives the next message before the one before it is acked keeps its order, too: messages are
// numbered as they arrive.
//
// Delivery: a message is acked to the subscriber when everything that came of it is durable, in order. It is never nacked: what
// decode refuses goes to the dead letters and is acked like the others, and what is not acked when the topology ends is left to
// the subscriber, which sends it again at the next start. So a crash, and an ended connection, repeat whatever was not acked:
// put operators.Dedup by event id above the first counting operator, as Validate demands. Nothing is lost as long as the system
// behind the subscriber keeps what is not acked.
//
// Speed: a subscriber that gives the next message only after the ack (watermill-kafka: one per partition, watermill-sql: one)
// gets it after an epoch. The engine therefore ends the epoch as soon as half of what the subscriber lets be unacked is unacked,
// see Window. A sink that dislikes small batches suffers: read such a system by a source of its own where there is one.
//
// Time: when the message was taken from the subscriber, stamped once, or what StoredAt says.
//
// A subscription that fails or ends by itself is made again, after a pause, for as long as it takes. The subscriber is closed
// only if OwnSubscriber says so.
//
// Memory: at most MaxUnacked messages.
//
// Counters: received, resubscribed.
func Source[T any](sub message.Subscriber, topic string, decode func(*message.Message) (T, error), opts ...Option) flow.Source[T] {
	s := &source[T]{hub: newHub(sub, topic), decode: decode}
	for _, o := range opts {
		o(&s.hub.cfg)
	}
	return s
}

// Payload makes a decode function that reads a message's payload by c and ignores the rest of the message.
func Payload[T any](c codec.Codec[T]) func(*message.Message) (T, error) {
	return func(m *message.Message) (v T, err error) {
		err = c.Decode(m.Payload, &v)
		return v, err
	}
}

type source[T any] struct {
	hub    *hub
	decode func(*message.Message) (T, error)
}

// Partitions is 1, or 0 (unknown) when the subscriber's messages have partitions.
func (s *source[T]) Partitions() int {
	if s.hub.cfg.partition != nil {
		return 0
	}
	return 1
}

// Replay is Redeliver: the subscriber sends again what was not acked.
func (s *source[T]) Replay() flow.Replay { return flow.Redeliver }

// Open checks the arguments. Subscribing is Run's.
func (s *source[T]) Open(_ context.Context, rt flow.SourceRuntime) error {
	err := s.hub.cfg.validate()
	if s.hub.sub == nil {
		err = errors.Join(err, errors.New("watermill source: the subscriber is nil"))
	}
	if s.decode == nil {
		err = errors.Join(err, errors.New("watermill source: decode is nil: use for instance watermill.Payload(codec.JSON[T]())"))
	}
	if err != nil {
		return err
	}
	if rt.Clock == nil {
		rt.Clock = flow.SystemClock()
	}
	if rt.Log == nil {
		rt.Log = slog.New(slog.DiscardHandler)
	}
	if rt.Count == nil {
		rt.Count = func(string, int64) {}
	}
	s.hub.open(rt)
	return nil
}

// Run subscribes and takes messages until ctx ends. The subscription lives on until Close, so that the last acks reach it.
func (s *source[T]) Run(ctx context.Context, a flow.Assign) error { return s.hub.run(ctx, a) }

// Read hands over what has arrived for the partition.
func (s *source[T]) Read(ctx context.Context, p flow.Partition, from flow.Position, in *flow.Intake[T]) error {
	box := s.hub.box(p.ID)
	if box == nil {
		return fmt.Errorf("watermill source: no partition %q", p.ID)
	}
	r := &reader[T]{hub: s.hub, box: box, decode: s.decode}
	return r.run(ctx, from, in)
}

// Commit acks the messages up to the position.
func (s *source[T]) Commit(_ context.Context, p flow.Partition, upTo flow.Position) error {
	box := s.hub.box(p.ID)
	if box == nil {
		return fmt.Errorf("watermill source: no partition %q", p.ID)
	}
	s.hub.acked(box.ack(upTo.Offset))
	return nil
}

// Close lets the subscriber see the last acks, ends the subscription, and closes the subscriber if it is ours.
func (s *source[T]) Close(ctx context.Context) error { return s.hub.close(ctx) }

// KeepOpen gives a subscriber whose Close does nothing. A router that closes closes its handlers' subscribers, also one that a Source
// shares, which then cannot be acked the last epoch: give the handlers KeepOpen(sub) instead. Their subscriptions end with their context.
func KeepOpen(sub message.Subscriber) message.Subscriber { return keptOpen{sub} }

type keptOpen struct{ message.Subscriber }

func (keptOpen) Close() error { return nil }

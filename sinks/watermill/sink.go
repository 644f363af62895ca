// Package watermill publishes to any Watermill publisher, and shows any sink of this library as one.
package watermill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// Sink publishes each record as one message through a Watermill publisher of any kind. encode makes the message; Payload makes an
// encode of a codec. It must be safe for concurrent use. A message without a UUID gets the one of ID, or a random one.
//
// Delivery: at least once. Messages are published in the commit of their epoch, in calls of up to Batch messages. A call that failed
// may have published some of its messages: they are published again, one by one, under the same UUID; messages of calls that
// succeeded never are. After a crash the messages of the epoch that was not committed are published again, under the same UUID only
// if ID or encode gives it. Errors of the publisher are transient and tried again for as long as it takes, unless Permanent says
// otherwise: then the message goes to the dead letters.
//
// Order: the publisher gets the messages of one task in their order. With Parallel, those of one Key keep it.
//
// The publisher is closed only if OwnPublisher says so; until then others may use it, too.
//
// A publisher cannot be interrupted: one that hangs holds the commit up, and beyond the topology's stop timeout the stop.
//
// Memory: what was written since the last commit, encoded.
//
// Counters: published, repeated.
func Sink[T any](pub message.Publisher, topic string, encode func(T) (*message.Message, error), opts ...Option[T]) flow.Sink[T] {
	s := &sink[T]{out: out{pub: pub, cfg: config{batch: DefaultBatch, parallel: 1}}, topic: topic, encode: encode}
	for _, o := range opts {
		o(&s.cfg)
	}
	s.id, _ = s.cfg.id.(func(T) string)
	s.key, _ = s.cfg.key.(func(T) string)
	s.topicOf, _ = s.cfg.topic.(func(T) string)
	s.metadata, _ = s.cfg.metadata.(func(T) map[string]string)
	return s
}

// Payload makes an encode function that puts c's bytes of a record into a message.
func Payload[T any](c codec.Codec[T]) func(T) (*message.Message, error) {
	return func(v T) (*message.Message, error) {
		b, err := c.Append(nil, &v)
		if err != nil {
			return nil, err
		}
		return message.NewMessage("", b), nil
	}
}

type sink[T any] struct {
	out
	topic            string
	encode           func(T) (*message.Message, error)
	id, key, topicOf func(T) string
	metadata         func(T) map[string]string
}

// Open checks the arguments.
func (s *sink[T]) Open(_ context.Context, rt flow.SinkRuntime) error {
	err := s.cfg.validate(s.topic)
	if s.pub == nil {
		err = errors.Join(err, errors.New("watermill sink: the publisher is nil"))
	}
	if s.encode == nil {
		err = errors.Join(err, errors.New("watermill sink: encode is nil: use for instance watermill.Payload(codec.JSON[T]())"))
	}
	if err != nil {
		return err
	}
	if rt.Log == nil {
		rt.Log = slog.New(slog.DiscardHandler)
	}
	if rt.Count == nil {
		rt.Count = func(string, int64) {}
	}
	if rt.RequestEpoch == nil {
		rt.RequestEpoch = func() {}
	}
	s.rt = rt
	return nil
}

// Writer makes the writer of one task.
func (s *sink[T]) Writer(_ context.Context, task flow.TaskInfo) (flow.SinkWriter[T], error) {
	return &writer[T]{sink: s, round: task.Task}, nil
}

// Deliver publishes the blocks.
func (s *sink[T]) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	return s.deliver(ctx, blocks)
}

// DecodeBlock is the inverse of a block's AppendBinary.
func (s *sink[T]) DecodeBlock(data []byte) (flow.Block, error) { return decodeBlock(data) }

// Close waits for calls of the publisher that still go on, and closes it if it is ours.
func (s *sink[T]) Close(ctx context.Context) error { return s.close(ctx) }

// KeepOpen gives a publisher whose Close does nothing. A router closes a handler's publisher when that handler ends, even one that
// others use: give the handler KeepOpen(pub) instead.
func KeepOpen(pub message.Publisher) message.Publisher { return keptOpen{pub} }

type keptOpen struct{ message.Publisher }

func (keptOpen) Close() error { return nil }

// close waits for lanes that an ended Deliver has left, then closes the publisher.
func (o *out) close(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		o.lanes.Wait()
		if o.cfg.own && o.pub != nil {
			done <- o.pub.Close()
			return
		}
		done <- nil
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("watermill sink: the publisher does not return: %w", ctx.Err())
	}
}

// out is the sink without its type.
type out struct {
	pub   message.Publisher
	cfg   config
	rt    flow.SinkRuntime
	lanes sync.WaitGroup
}

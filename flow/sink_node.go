package flow

import (
	"context"
	"sync/atomic"
)

// sinkNode is a sink without its type.
type sinkNode interface {
	node() *node
	open(ctx context.Context, rt SinkRuntime) error
	deliver(ctx context.Context, blocks []Block) ([]Reject, error)
	close(ctx context.Context) error
}

type sinkImpl[T any] struct {
	n     *node
	sink  Sink[T]
	dead  bool
	tasks atomic.Int32
}

func (s *sinkImpl[T]) node() *node                                    { return s.n }
func (s *sinkImpl[T]) open(ctx context.Context, rt SinkRuntime) error { return s.sink.Open(ctx, rt) }
func (s *sinkImpl[T]) close(ctx context.Context) error                { return s.sink.Close(ctx) }
func (s *sinkImpl[T]) nextTask() int                                  { return int(s.tasks.Add(1)) - 1 }

func (s *sinkImpl[T]) deliver(ctx context.Context, blocks []Block) ([]Reject, error) {
	if len(blocks) == 0 {
		return nil, nil
	}
	return s.sink.Deliver(ctx, blocks)
}

// deadLetters is the topology's stream of dead letters. It has no task: the commit delivers it.
type deadLetters struct {
	port  *port[DeadLetter]
	sinks []*sinkImpl[DeadLetter]
}

func newDeadLetters(t *Topology) *deadLetters {
	return &deadLetters{port: &port[DeadLetter]{t: t, label: "dead letters", optional: true}}
}

func (d *deadLetters) connected() bool { return len(d.sinks) > 0 }

// DeadLetters is the stream of records that failed for good: flow.To(t.DeadLetters(), "dead-letter", sink). Only To may follow.
// They are delivered in the commit of their epoch, before its state is written and its records are acked.
func (t *Topology) DeadLetters() Stream[DeadLetter] { return t.dead.port }

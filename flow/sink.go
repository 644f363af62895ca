package flow

import (
	"context"
	"log/slog"
)

// Sink writes records to a system. Each task that has the sink gets a SinkWriter of its own; what the writers seal at an epoch
// is delivered by the sink in the epoch's commit, before the state is written and before the sources ack.
//
// Delivery is at least once: after a crash blocks of an uncommitted epoch are built and delivered again, with rows of the same
// identity but not the same cut.
type Sink[T any] interface {
	// Open prepares the sink. It may talk to the system to check the configuration; a transient error is retried with backoff,
	// any other stops the topology before anything is read.
	Open(ctx context.Context, rt SinkRuntime) error
	// Writer makes the writer of one task.
	Writer(ctx context.Context, task TaskInfo) (SinkWriter[T], error)
	// Deliver writes the blocks, of all tasks, oldest first, and returns when they are durable. It may merge them. It is never
	// called twice at once. Rejects are rows that the system refused for good: they go to the dead letters. After a transient
	// error the engine calls again with the same blocks, after a backoff, for as long as it takes; blocks that were delivered
	// must then not be sent again, or do no harm. Any other error stops the topology.
	Deliver(ctx context.Context, blocks []Block) ([]Reject, error)
	// DecodeBlock is the inverse of Block.AppendBinary.
	DecodeBlock(data []byte) (Block, error)
	// Close releases everything.
	Close(ctx context.Context) error
}

// SinkWriter collects the records of one task. It is called by that task alone.
type SinkWriter[T any] interface {
	// Write takes a batch. It must copy what it keeps. A *RecordError says which record was refused; the ones before it are taken,
	// and the engine calls again with those behind it.
	Write(ctx context.Context, batch []Record[T]) error
	// Seal returns what was written since the last Seal. It must be quick: the task waits.
	Seal(ctx context.Context) ([]Block, error)
}

// RecordError says that record Index of a batch failed and those before it did not.
type RecordError struct {
	Index int
	Err   error
}

func (e *RecordError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *RecordError) Unwrap() error { return e.Err }

// Block is a sealed piece of a sink's output.
type Block interface {
	Rows() int
	Bytes() int
	// AppendBinary encodes the block, for an outbox.
	AppendBinary(b []byte) ([]byte, error)
}

// Reject is a row that the system refused for good.
type Reject struct {
	// Block and Row say which one: the index in Deliver's blocks and the row in that block.
	Block, Row int
	Err        error
	// Record is the row as the sink would have written it, in a form that a person can read and replay.
	Record []byte
	// Time is the record's time, None if unknown.
	Time Timestamp
}

// SinkRuntime is what the engine gives a sink at Open.
type SinkRuntime struct {
	Topology string
	Node     string
	Clock    Clock
	Log      *slog.Logger
	// StoreID is random, made with the store; Incarnation rises each time the store is opened. Together with a sequence number
	// of the sink's own they name a block: a token made of the three never repeats with other bytes.
	StoreID     string
	Incarnation uint64
	// RequestEpoch asks the engine to end the epoch now, because the writers hold enough. It returns at once, and is safe for
	// concurrent use.
	RequestEpoch func()
	// Count adds n to a counter of the node (retries, repeats). Names are snake_case. It is safe for concurrent use.
	Count func(name string, n int64)
}

// TaskInfo names the task that a writer belongs to.
type TaskInfo struct {
	// Task counts from 0 within the sink's node.
	Task int
	// Generation is the store's incarnation: a version column is Generation<<40 | emission sequence.
	Generation uint64
}

// SinkFunc makes a sink of a function that writes one batch and returns when it is durable. At least once: the batches of an epoch
// are kept (copied) until its commit and written then, one call per batch; a batch that failed with a transient error is written again.
func SinkFunc[T any](f func(ctx context.Context, batch []Record[T]) error) Sink[T] {
	return &funcSink[T]{f: f}
}

type funcSink[T any] struct {
	f func(ctx context.Context, batch []Record[T]) error
}

func (s *funcSink[T]) Open(context.Context, SinkRuntime) error { return nil }
func (s *funcSink[T]) Close(context.Context) error             { return nil }

func (s *funcSink[T]) Writer(context.Context, TaskInfo) (SinkWriter[T], error) {
	return &funcWriter[T]{}, nil
}

func (s *funcSink[T]) Deliver(ctx context.Context, blocks []Block) ([]Reject, error) {
	for _, b := range blocks {
		fb := b.(*funcBlock[T])
		if fb.done {
			continue
		}
		if err := s.f(ctx, fb.rows); err != nil {
			return nil, err
		}
		fb.done = true
	}
	return nil, nil
}

func (s *funcSink[T]) DecodeBlock([]byte) (Block, error) { return nil, errNoEncoding }

type funcWriter[T any] struct{ blocks []Block }

func (w *funcWriter[T]) Write(_ context.Context, batch []Record[T]) error {
	w.blocks = append(w.blocks, &funcBlock[T]{rows: append([]Record[T](nil), batch...)})
	return nil
}

func (w *funcWriter[T]) Seal(context.Context) ([]Block, error) {
	b := w.blocks
	w.blocks = nil
	return b, nil
}

type funcBlock[T any] struct {
	rows []Record[T]
	done bool
}

func (b *funcBlock[T]) Rows() int  { return len(b.rows) }
func (b *funcBlock[T]) Bytes() int { return 0 }

func (b *funcBlock[T]) AppendBinary([]byte) ([]byte, error) { return nil, errNoEncoding }

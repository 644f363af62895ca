package harness

import (
	"context"

	"github.com/millrace-stream/millrace/flow"
)

// From is a source of the load's events, in one partition: fill makes event number i.
func From[T any](l *Load, fill func(i int64, v *T)) flow.Source[T] {
	return InBatches(l, fill, flow.MaxBatch)
}

// InBatches is From with at most size events in a batch.
func InBatches[T any](l *Load, fill func(i int64, v *T), size int) flow.Source[T] {
	return &source[T]{l, fill, size}
}

type source[T any] struct {
	load *Load
	fill func(int64, *T)
	size int
}

func (s *source[T]) Partitions() int                                             { return 1 }
func (s *source[T]) Open(context.Context, flow.SourceRuntime) error              { return nil }
func (s *source[T]) Commit(context.Context, flow.Partition, flow.Position) error { return nil }
func (s *source[T]) Replay() flow.Replay                                         { return flow.Seek }
func (s *source[T]) Close(context.Context) error                                 { return nil }

func (s *source[T]) Run(_ context.Context, a flow.Assign) error {
	return a.Add(flow.Partition{ID: "0"})
}

func (s *source[T]) Read(ctx context.Context, _ flow.Partition, _ flow.Position, in *flow.Intake[T]) error {
	for {
		b := in.Buffer()
		first, n := s.load.Take(ctx, min(cap(b), s.size))
		if n == 0 {
			return ctx.Err()
		}
		b = b[:n]
		for i := range b {
			s.fill(first+int64(i), &b[i].Value)
			b[i].Time = flow.None
		}
		if err := in.Emit(ctx, b, flow.Position{Offset: first + int64(n)}); err != nil {
			return err
		}
	}
}

// To is a sink that keeps nothing and tells the meter what was delivered, at the epoch's commit: number is that of the event that a result
// is of, the last one where it is of many.
func To[T any](m *Meter, number func(T) int64) flow.Sink[T] { return &sink[T]{m, number} }

type sink[T any] struct {
	meter  *Meter
	number func(T) int64
}

func (s *sink[T]) Open(context.Context, flow.SinkRuntime) error { return nil }
func (s *sink[T]) Close(context.Context) error                  { return nil }
func (s *sink[T]) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[T], error) {
	return &writer[T]{number: s.number}, nil
}

func (s *sink[T]) Deliver(_ context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	for _, b := range blocks {
		s.meter.Done(*b.(*numbers)...)
	}
	return nil, nil
}

func (s *sink[T]) DecodeBlock([]byte) (flow.Block, error) { return &numbers{}, nil }

// numbers is a block.
type numbers []int64

func (n *numbers) Rows() int                             { return len(*n) }
func (n *numbers) Bytes() int                            { return 8 * len(*n) }
func (n *numbers) AppendBinary(b []byte) ([]byte, error) { return b, nil }

type writer[T any] struct {
	number func(T) int64
	had    numbers
}

func (w *writer[T]) Write(_ context.Context, batch []flow.Record[T]) error {
	for i := range batch {
		w.had = append(w.had, w.number(batch[i].Value))
	}
	return nil
}

func (w *writer[T]) Seal(context.Context) ([]flow.Block, error) {
	if len(w.had) == 0 {
		return nil, nil
	}
	b := w.had
	w.had = make(numbers, 0, cap(b))
	return []flow.Block{&b}, nil
}

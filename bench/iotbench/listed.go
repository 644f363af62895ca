package iotbench

import (
	"context"

	"github.com/millrace-stream/millrace/flow"
)

// listed is a source of values that are there from the start, in one partition.
func listed[T any](all []T) flow.Source[T] { return &list[T]{all} }

type list[T any] struct{ all []T }

func (s *list[T]) Partitions() int                                             { return 1 }
func (s *list[T]) Open(context.Context, flow.SourceRuntime) error              { return nil }
func (s *list[T]) Commit(context.Context, flow.Partition, flow.Position) error { return nil }
func (s *list[T]) Replay() flow.Replay                                         { return flow.Seek }
func (s *list[T]) Close(context.Context) error                                 { return nil }

func (s *list[T]) Run(_ context.Context, a flow.Assign) error {
	return a.Add(flow.Partition{ID: "0"})
}

func (s *list[T]) Read(ctx context.Context, _ flow.Partition, from flow.Position, in *flow.Intake[T]) error {
	for i := from.Offset; i < int64(len(s.all)); {
		b := in.Buffer()
		for len(b) < cap(b) && i < int64(len(s.all)) {
			b = append(b, flow.Record[T]{Value: s.all[i], Time: flow.None})
			i++
		}
		if err := in.Emit(ctx, b, flow.Position{Offset: i}); err != nil {
			return err
		}
	}
	return nil
}

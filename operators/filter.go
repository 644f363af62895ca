package operators

import (
	"context"
	"unsafe"

	"github.com/millrace-stream/millrace/flow"
)

// Filter lets pass the records that keep accepts, in order. Dropped records are acked with their epoch. keep must be safe for
// concurrent use: all tasks share it.
func Filter[T any](s flow.Stream[T], name string, keep func(T) bool, opts ...flow.NodeOption) flow.Stream[T] {
	return flow.Apply[T, T](s, name, func() *filterOp[T] { return &filterOp[T]{keep} }, kinded("filter", keep == nil, opts)...)
}

type filterOp[T any] struct {
	keep func(T) bool
}

func (f *filterOp[T]) Process(_ context.Context, r *flow.Record[T], out *flow.Output[T]) error {
	if f.keep(r.Value) {
		*out.Next(r.Time, r.Meta) = r.Value
	}
	return nil
}

func (f *filterOp[T]) ProcessBatch(_ context.Context, in []flow.Record[T], out *flow.Output[T]) (int, error) {
	room := out.Room(len(in))
	n := 0
	var r flow.Record[T]
	if unsafe.Sizeof(r) <= 128 {
		for i := range in {
			room[n] = in[i] // in any case: copying little costs less than a branch that the processor guesses wrong
			n += one(f.keep(in[i].Value))
		}
	} else {
		for i := range in {
			if f.keep(in[i].Value) {
				room[n] = in[i]
				n++
			}
		}
	}
	out.Take(n)
	return len(in), nil
}

// one compiles to no branch.
func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

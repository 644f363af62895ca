package operators

import (
	"context"

	"github.com/millrace-stream/millrace/flow"
)

// Update changes each record in place: a Map from T to T without the cost of passing values. f works on a copy of its own, so
// that other branches of the stream and a repeated try see the record as it was. Errors as in Map.
func Update[T any](s flow.Stream[T], name string, f func(context.Context, *T) error, opts ...flow.NodeOption) flow.Stream[T] {
	return flow.Apply[T, T](s, name, func() *updateOp[T] { return &updateOp[T]{f} }, kinded("update", f == nil, opts)...)
}

type updateOp[T any] struct {
	f func(context.Context, *T) error
}

func (u *updateOp[T]) Process(ctx context.Context, r *flow.Record[T], out *flow.Output[T]) error {
	v := out.Next(r.Time, r.Meta)
	*v = r.Value
	return u.f(ctx, v)
}

func (u *updateOp[T]) ProcessBatch(ctx context.Context, in []flow.Record[T], out *flow.Output[T]) (int, error) {
	room := out.Room(len(in))
	copy(room, in)
	for i := range room {
		if err := u.f(ctx, &room[i].Value); err != nil {
			out.Take(i)
			return i, err
		}
	}
	out.Take(len(in))
	return len(in), nil
}

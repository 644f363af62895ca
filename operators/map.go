package operators

import (
	"context"

	"github.com/millrace-stream/millrace/flow"
)

// kinded puts the operator's kind before the user's options, and says when its function is missing.
func kinded(kind string, missing bool, opts []flow.NodeOption) []flow.NodeOption {
	set := func(c flow.Configurable) {
		c.Node().Traits.Kind = kind
		if missing {
			c.Node().Problem("its function is nil", "pass a function")
		}
	}
	return append([]flow.NodeOption{set}, opts...)
}

// Map turns each record into another. Time and Meta stay. An error concerns the record alone: a transient one (flow.Transient) is
// tried again in place, any other sends it to the dead letters. f must be safe for concurrent use: all tasks share it.
//
// A result of more than four fields costs 8 to 13 ns to return; where the type stays, Update is cheaper.
func Map[T, R any](s flow.Stream[T], name string, f func(context.Context, T) (R, error), opts ...flow.NodeOption) flow.Stream[R] {
	return flow.Apply[T, R](s, name, func() *mapOp[T, R] { return &mapOp[T, R]{f} }, kinded("map", f == nil, opts)...)
}

type mapOp[T, R any] struct {
	f func(context.Context, T) (R, error)
}

func (m *mapOp[T, R]) Process(ctx context.Context, r *flow.Record[T], out *flow.Output[R]) error {
	v, err := m.f(ctx, r.Value)
	if err != nil {
		return err
	}
	*out.Next(r.Time, r.Meta) = v
	return nil
}

func (m *mapOp[T, R]) ProcessBatch(ctx context.Context, in []flow.Record[T], out *flow.Output[R]) (int, error) {
	room := out.Room(len(in))
	for i := range room {
		v, err := m.f(ctx, in[i].Value)
		if err != nil {
			out.Take(i)
			return i, err
		}
		r := &room[i]
		r.Value, r.Time, r.Meta = v, in[i].Time, in[i].Meta
	}
	out.Take(len(in))
	return len(in), nil
}

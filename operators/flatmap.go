package operators

import (
	"context"

	"github.com/millrace-stream/millrace/flow"
)

// FlatMap turns each record into any number of others, in the order of emit. Time and Meta stay. What a call emits is held until it
// returns, and taken back if it fails, so a failed record leaves nothing behind. emit must not be used after the call. Errors as
// in Map.
func FlatMap[T, R any](s flow.Stream[T], name string, f func(ctx context.Context, v T, emit func(R)) error, opts ...flow.NodeOption) flow.Stream[R] {
	return flow.Apply[T, R](s, name, func() *flatMapOp[T, R] {
		op := &flatMapOp[T, R]{f: f}
		op.emit = func(v R) { *op.out.Next(op.r.Time, op.r.Meta) = v }
		return op
	}, kinded("flat-map", f == nil, opts)...)
}

type flatMapOp[T, R any] struct {
	f    func(context.Context, T, func(R)) error
	emit func(R)
	r    *flow.Record[T]
	out  *flow.Output[R]
}

func (m *flatMapOp[T, R]) Process(ctx context.Context, r *flow.Record[T], out *flow.Output[R]) error {
	m.r, m.out = r, out
	return m.f(ctx, r.Value, m.emit)
}

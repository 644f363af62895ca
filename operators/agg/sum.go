package agg

import "github.com/millrace-stream/millrace/flow"

// Sum adds the values up in their own type. Integers wrap around on overflow, as Go's + does: convert in of where the sum may not
// fit. Floats are added plainly, in order of arrival: the last digits depend on the order, NaN makes the sum NaN, +Inf and
// -Inf stay and together make NaN. The sum of nothing is 0.
func Sum[T any, N Number](of func(T) N) Aggregate[T, N] { return &sum[T, N]{of} }

type sum[T any, N Number] struct{ of func(T) N }

func (a *sum[T, N]) NewStore() Store[T, N] { return newStore[T, N](a) }

func (a *sum[T, N]) check() error {
	if a.of == nil {
		return nilFunc("the function of agg.Sum")
	}
	return nil
}

func (a *sum[T, N]) place(l *layout[T]) part[T, N] {
	return &sumPart[T, N]{cellsFor[T, N](l, "sum"), valuesOf(l, a.of)}
}

type sumPart[T any, N Number] struct {
	cellPart[N]
	of *values[T, N]
}

func (p *sumPart[T, N]) add(s Slot, r *flow.Record[T]) { *p.at(s) += p.of.of(r.Value) }

func (p *sumPart[T, N]) addBatch(_ []Slot, _ []flow.Record[T]) {
	c, vs := p.in(), p.of.buf
	c.rows = c.rows[:len(vs)]
	for i, v := range vs {
		*c.at(i) += v
	}
}

func (p *sumPart[T, N]) merge(_, _ Slot) {
	a, b := p.pair()
	*a += *b
}
func (p *sumPart[T, N]) result(s Slot) N { return *p.at(s) }

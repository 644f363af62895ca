package agg

import (
	"cmp"

	"github.com/millrace-stream/millrace/flow"
)

// Min is the least value. NaN is passed over: the result is NaN only if all values are. Of equal values (0 and -0) the first to
// arrive stays. Strings compare by bytes and are copied when they are kept. The minimum of nothing is the zero V.
func Min[T any, V cmp.Ordered](of func(T) V) Aggregate[T, V] { return &extreme[T, V]{of, false} }

// Max is the greatest value, and in all else as Min.
func Max[T any, V cmp.Ordered](of func(T) V) Aggregate[T, V] { return &extreme[T, V]{of, true} }

type extreme[T any, V cmp.Ordered] struct {
	of  func(T) V
	max bool
}

func (a *extreme[T, V]) name() string {
	if a.max {
		return "max"
	}
	return "min"
}

func (a *extreme[T, V]) NewStore() Store[T, V] { return newStore[T, V](a) }

func (a *extreme[T, V]) check() error {
	if a.of == nil {
		return nilFunc("the function of agg." + map[bool]string{false: "Min", true: "Max"}[a.max])
	}
	return nil
}

func (a *extreme[T, V]) place(l *layout[T]) part[T, V] {
	return &extremePart[T, V]{cellsFor[T, found[V]](l, a.name()), valuesOf(l, a.of), keeperOf[V](), a.max}
}

type found[V cmp.Ordered] struct {
	v   V
	has bool
}

type extremePart[T any, V cmp.Ordered] struct {
	cellPart[found[V]]
	of   *values[T, V]
	keep keeper[V]
	max  bool
}

// The value in a slot gives way to a better one, and NaN (which is not equal to itself) to any.
func lower[V cmp.Ordered](a *found[V], v V) bool {
	return !a.has || v < a.v || a.v != a.v //nolint:gocritic // true for NaN alone
}

func higher[V cmp.Ordered](a *found[V], v V) bool {
	return !a.has || v > a.v || a.v != a.v //nolint:gocritic // true for NaN alone
}

func (p *extremePart[T, V]) add(s Slot, r *flow.Record[T]) { p.offer(p.at(s), p.of.of(r.Value)) }

func (p *extremePart[T, V]) offer(a *found[V], v V) {
	if p.max && higher(a, v) || !p.max && lower(a, v) {
		p.keep.set(&a.v, v)
		a.has = true
	}
}

func (p *extremePart[T, V]) addBatch(_ []Slot, _ []flow.Record[T]) {
	c, vs := p.in(), p.of.buf
	c.rows = c.rows[:len(vs)]
	if p.max {
		for i, v := range vs {
			if a := c.at(i); higher(a, v) {
				p.keep.set(&a.v, v)
				a.has = true
			}
		}
		return
	}
	for i, v := range vs {
		if a := c.at(i); lower(a, v) {
			p.keep.set(&a.v, v)
			a.has = true
		}
	}
}

func (p *extremePart[T, V]) merge(_, _ Slot) {
	if a, b := p.pair(); b.has {
		p.offer(a, b.v)
	}
}

func (p *extremePart[T, V]) result(s Slot) V { return p.at(s).v }

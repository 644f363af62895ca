package agg

import (
	"reflect"
	"unsafe"

	"github.com/millrace-stream/millrace/flow"
)

// Count counts records, as SQL's count(x): where V is a pointer, slice, map, interface, channel or function type, records whose
// value is nil are not counted; for every other V all are, and of is not called but says only what T is. NaN counts.
func Count[T, V any](of func(T) V) Aggregate[T, int64] { return &count[T, V]{of} }

type count[T, V any] struct{ of func(T) V }

func (a *count[T, V]) NewStore() Store[T, int64] { return newStore[T, int64](a) }

func (a *count[T, V]) nilable() bool {
	switch reflect.TypeFor[V]().Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.Chan, reflect.Func:
		return true
	}
	return false
}

func (a *count[T, V]) check() error {
	if a.of == nil && a.nilable() {
		return nilFunc("the function of agg.Count")
	}
	return nil
}

func (a *count[T, V]) place(l *layout[T]) part[T, int64] {
	p := &countPart[T, V]{cellPart: cellsFor[T, int64](l, "count")}
	if a.nilable() {
		p.of = valuesOf(l, a.of)
	}
	return p
}

type countPart[T, V any] struct {
	cellPart[int64]
	of *values[T, V]
}

// isNil holds for the kinds of nilable: all of them are nil if and only if their first word is.
func isNil[V any](v *V) bool { return *(*unsafe.Pointer)(unsafe.Pointer(v)) == nil }

func (p *countPart[T, V]) add(s Slot, r *flow.Record[T]) {
	if p.of != nil {
		if v := p.of.of(r.Value); isNil(&v) {
			return
		}
	}
	*p.at(s)++
}

func (p *countPart[T, V]) addBatch(_ []Slot, _ []flow.Record[T]) {
	c := p.in()
	if p.of == nil {
		for i := range c.rows {
			*c.at(i)++
		}
		return
	}
	vs := p.of.buf
	c.rows = c.rows[:len(vs)]
	for i := range vs {
		if !isNil(&vs[i]) {
			*c.at(i)++
		}
	}
}

func (p *countPart[T, V]) merge(_, _ Slot) {
	a, b := p.pair()
	*a += *b
}
func (p *countPart[T, V]) result(s Slot) int64 { return *p.at(s) }

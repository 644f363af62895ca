package agg

import (
	"github.com/millrace-stream/millrace/flow"
)

// First is the value of the record with the least event time; among equal times, of the one that arrived first. Records without a time
// (flow.None) come before all others. The first of nothing is the zero V.
//
// of is called only for a record that replaces the kept one. Strings and byte slices within V are copied then, in structs and
// arrays too; what lies behind pointers, maps and other slices is shared and must not change or alias a payload.
//
// V is stored field by field if it consists of numbers, bools, strings, time.Time, arrays and structs, else as CBOR by field name.
func First[T, V any](of func(T) V) Aggregate[T, V] { return &endmost[T, V]{of, false} }

// Last is the value of the record with the greatest event time; among equal times, of the one that arrived last. In all else it
// is as First.
func Last[T, V any](of func(T) V) Aggregate[T, V] { return &endmost[T, V]{of, true} }

type endmost[T, V any] struct {
	of   func(T) V
	last bool
}

func (a *endmost[T, V]) NewStore() Store[T, V] { return newStore[T, V](a) }

func (a *endmost[T, V]) check() error {
	if a.of == nil {
		return nilFunc("the function of agg." + map[bool]string{false: "First", true: "Last"}[a.last])
	}
	_, err := wireOf[timed[V]](nil)
	return err
}

func (a *endmost[T, V]) place(l *layout[T]) part[T, V] {
	name := map[bool]string{false: "first", true: "last"}[a.last]
	return &endmostPart[T, V]{cellsFor[T, timed[V]](l, name), a.of, keeperOf[V](), a.last}
}

// timed has exported fields for the sake of CBOR.
type timed[V any] struct {
	Value V
	Time  flow.Timestamp
	Has   bool
}

type endmostPart[T, V any] struct {
	cellPart[timed[V]]
	of   func(T) V
	keep keeper[V]
	last bool
}

// replaces tells whether a record of time t takes the place of what is in a.
func (p *endmostPart[T, V]) replaces(a *timed[V], t flow.Timestamp) bool {
	return !a.Has || p.last && t >= a.Time || !p.last && t < a.Time
}

func (p *endmostPart[T, V]) add(s Slot, r *flow.Record[T]) {
	if a := p.at(s); p.replaces(a, r.Time) {
		p.keep.set(&a.Value, p.of(r.Value))
		a.Time, a.Has = r.Time, true
	}
}

func (p *endmostPart[T, V]) addBatch(_ []Slot, in []flow.Record[T]) {
	c := p.in()
	for i := range in {
		if a := c.at(i); p.replaces(a, in[i].Time) {
			p.keep.set(&a.Value, p.of(in[i].Value))
			a.Time, a.Has = in[i].Time, true
		}
	}
}

func (p *endmostPart[T, V]) merge(into, from Slot) {
	if a, b := p.at(into), p.at(from); b.Has && p.replaces(a, b.Time) {
		*a = *b
	}
}

func (p *endmostPart[T, V]) result(s Slot) V { return p.at(s).Value }

package agg

import (
	"cmp"

	"github.com/millrace-stream/millrace/flow"
)

// ArgMin is what of says of the record whose measure by is the least: the coldest hour, the cheapest offer.
//
//	agg.ArgMin(Reading.Temperature, Reading.Time)
//	agg.ArgMin(Reading.Temperature, agg.Itself) // the whole record
//
// Of records of equal measure the one with the least event time counts, of these the first to arrive; a record without a time
// (flow.None) comes before all others. NaN is passed over: a record whose measure is NaN counts only if all are. ArgMin of nothing is
// the zero R.
//
// by is called for each record, of only for one that replaces the kept one. Strings and byte slices within V and R are copied then, and
// R is stored, as First does.
func ArgMin[T any, V cmp.Ordered, R any](by func(T) V, of func(T) R) Aggregate[T, R] {
	return &argExtreme[T, V, R]{by, of, false}
}

// ArgMax is what of says of the record whose measure by is the greatest, and in all else as ArgMin.
func ArgMax[T any, V cmp.Ordered, R any](by func(T) V, of func(T) R) Aggregate[T, R] {
	return &argExtreme[T, V, R]{by, of, true}
}

// Itself returns v: the function for aggregates that keep whole records, as in agg.Last(agg.Itself[Reading]).
func Itself[T any](v T) T { return v }

type argExtreme[T any, V cmp.Ordered, R any] struct {
	by  func(T) V
	of  func(T) R
	max bool
}

func (a *argExtreme[T, V, R]) name() string {
	if a.max {
		return "ArgMax"
	}
	return "ArgMin"
}

func (a *argExtreme[T, V, R]) NewStore() Store[T, R] { return newStore[T, R](a) }

func (a *argExtreme[T, V, R]) check() error { return checkRanked(a.by, a.of, a.name()) }

func checkRanked[T any, V cmp.Ordered, R any](by func(T) V, of func(T) R, name string) error {
	if by == nil {
		return nilFunc("the measure of agg." + name)
	}
	if of == nil {
		return nilFunc("the function of agg." + name)
	}
	_, err := wireOf[ranked[V, R]](nil)
	return err
}

func (a *argExtreme[T, V, R]) place(l *layout[T]) part[T, R] {
	name := map[bool]string{false: "argmin", true: "argmax"}[a.max]
	return &argPart[T, V, R]{cellsFor[T, ranked[V, R]](l, name), rankingOf[T, V, R](l, a.by, a.of, a.max)}
}

// ranked is a value and what it is ranked by. It has exported fields for the sake of CBOR.
type ranked[V cmp.Ordered, R any] struct {
	Value R
	By    V
	Time  flow.Timestamp
	Has   bool
}

// ranking is the order of ranked values, and how they are made.
type ranking[T any, V cmp.Ordered, R any] struct {
	by     *values[T, V]
	of     func(T) R
	keepBy keeper[V]
	keep   keeper[R]
	max    bool
}

func rankingOf[T any, V cmp.Ordered, R any](l *layout[T], by func(T) V, of func(T) R, greatest bool) ranking[T, V, R] {
	return ranking[T, V, R]{valuesOf(l, by), of, keeperOf[V](), keeperOf[R](), greatest}
}

// beats tells whether a record of measure v and time t comes before a. NaN comes last.
func (p *ranking[T, V, R]) beats(v V, t flow.Timestamp, a *ranked[V, R]) bool {
	switch {
	case v < a.By:
		return !p.max
	case v > a.By:
		return p.max
	case v == a.By:
		return t < a.Time
	case isNaN(v):
		return isNaN(a.By) && t < a.Time
	}
	return true
}

func isNaN[V cmp.Ordered](v V) bool { return v != v } //nolint:gocritic // true for NaN alone

// fill makes a the record's.
func (p *ranking[T, V, R]) fill(a *ranked[V, R], v V, r *flow.Record[T]) {
	p.keep.set(&a.Value, p.of(r.Value))
	p.keepBy.set(&a.By, v)
	a.Time, a.Has = r.Time, true
}

type argPart[T any, V cmp.Ordered, R any] struct {
	cellPart[ranked[V, R]]
	ranking[T, V, R]
}

func (p *argPart[T, V, R]) add(s Slot, r *flow.Record[T]) {
	v := p.by.of(r.Value)
	if a := p.at(s); !a.Has || p.beats(v, r.Time, a) {
		p.fill(a, v, r)
	}
}

func (p *argPart[T, V, R]) addBatch(_ []Slot, in []flow.Record[T]) {
	c, vs := p.in(), p.by.buf
	c.rows, in = c.rows[:len(vs)], in[:len(vs)]
	for i, v := range vs {
		if a := c.at(i); !a.Has || p.beats(v, in[i].Time, a) {
			p.fill(a, v, &in[i])
		}
	}
}

func (p *argPart[T, V, R]) merge(into, from Slot) {
	if a, b := p.at(into), p.at(from); b.Has && (!a.Has || p.beats(b.By, b.Time, a)) {
		*a = *b
	}
}

func (p *argPart[T, V, R]) result(s Slot) R { return p.at(s).Value }

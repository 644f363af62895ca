package agg

import (
	"errors"
	"fmt"
	"strings"

	"github.com/millrace-stream/millrace/flow"
)

// Into computes several aggregates at once and puts their results into the fields of one struct S:
//
//	agg.Into(
//		agg.To(func(s *Stats) *float64 { return &s.Avg }, agg.Avg(Reading.Temperature)),
//		agg.To(func(s *Stats) *int64 { return &s.Count }, agg.Count(Reading.Temperature)),
//	)
//
// Fields that no To names stay zero. Aggregates that were given the same function (here Reading.Temperature) share its calls. The
// accumulators of one slot lie side by side. The order of the fields is part of the fingerprint.
func Into[T, S any](fields ...Field[T, S]) Aggregate[T, S] { return &into[T, S]{fields} }

// Field is one field of an Into. To makes it.
type Field[T, S any] struct {
	place func(l *layout[T]) target[T, S]
	check func() error
}

// To lets a compute the field of S that field points to.
func To[T, V, S any](field func(*S) *V, a Aggregate[T, V]) Field[T, S] {
	return Field[T, S]{
		place: func(l *layout[T]) target[T, S] { return &targetPart[T, V, S]{placePart(l, a), field} },
		check: func() error {
			if field == nil {
				return nilFunc("the field function of agg.To")
			}
			return Check(a)
		},
	}
}

// target is a part that knows where its result goes.
type target[T, S any] interface {
	folder[T]
	set(into *S, s Slot)
}

type targetPart[T, V, S any] struct {
	part[T, V]
	field func(*S) *V
}

func (t *targetPart[T, V, S]) set(into *S, s Slot) { *t.field(into) = t.result(s) }

type into[T, S any] struct{ fields []Field[T, S] }

func (a *into[T, S]) NewStore() Store[T, S] { return newStore[T, S](a) }

func (a *into[T, S]) check() error {
	if len(a.fields) == 0 {
		return errors.New("agg.Into has no fields: give it at least one agg.To")
	}
	for i, f := range a.fields {
		if f.check == nil {
			return fmt.Errorf("field %d of agg.Into is empty: make it by agg.To", i)
		}
		if err := f.check(); err != nil {
			return fmt.Errorf("field %d of agg.Into: %w", i, err)
		}
	}
	return nil
}

func (a *into[T, S]) place(l *layout[T]) part[T, S] {
	p := &intoPart[T, S]{}
	for _, f := range a.fields {
		p.targets = append(p.targets, f.place(l))
	}
	return p
}

type intoPart[T, S any] struct {
	targets []target[T, S]
	// scratch is where a result is put together: a local would be allocated for each.
	scratch S
}

func (p *intoPart[T, S]) add(s Slot, r *flow.Record[T]) {
	for _, t := range p.targets {
		t.add(s, r)
	}
}

func (p *intoPart[T, S]) addBatch(s []Slot, in []flow.Record[T]) {
	for _, t := range p.targets {
		t.addBatch(s, in)
	}
}

func (p *intoPart[T, S]) merge(into, from Slot) {
	for _, t := range p.targets {
		t.merge(into, from)
	}
}

func (p *intoPart[T, S]) result(s Slot) S {
	var zero S
	p.scratch = zero
	for _, t := range p.targets {
		t.set(&p.scratch, s)
	}
	out := p.scratch
	p.scratch = zero
	return out
}

func (p *intoPart[T, S]) append(b []byte, slots []Slot) []byte {
	for _, t := range p.targets {
		b = t.append(b, slots)
	}
	return b
}

func (p *intoPart[T, S]) read(b []byte, slots []Slot) ([]byte, error) {
	var err error
	for _, t := range p.targets {
		if b, err = t.read(b, slots); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (p *intoPart[T, S]) fingerprint() string {
	all := make([]string, len(p.targets))
	for i, t := range p.targets {
		all[i] = t.fingerprint()
	}
	return "into(" + strings.Join(all, "; ") + ")"
}

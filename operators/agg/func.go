package agg

import (
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// Func makes an aggregate of an accumulator type of the user's own and three functions; method expressions infer all types:
//
//	agg.Func((*stats).add, (*stats).merge, (*stats).result)
//
// A zero A is the empty accumulator. add must copy what it keeps of strings and slices of its argument if the decoder of the
// source aliases its payload (ours do not). merge folds from into into, whose elements came earlier; it must leave
// from as it is, and not share memory with it afterwards that add changes. result must not change the accumulator and not return its memory, since the slot is
// used again.
//
// An accumulator of numbers, bools, strings, time.Time, arrays and structs is stored field by field, unexported ones too; changing
// its fields changes the fingerprint. Any other (maps, slices, pointers) is stored as CBOR by field name, which wants exported
// fields (see codec.CBOR). StoredAs gives it another codec. A is stored as it is between two calls, so it must not refer to
// anything outside itself.
func Func[T, A, R any](add func(*A, T), merge func(into, from *A), result func(*A) R, opts ...FuncOption[A]) Aggregate[T, R] {
	a := &fold[T, A, R]{add: add, merge: merge, result: result}
	for _, o := range opts {
		o(&a.cfg)
	}
	return a
}

// FuncOption configures Func.
type FuncOption[A any] func(*funcConfig[A])

type funcConfig[A any] struct{ codec codec.Codec[A] }

// StoredAs sets the codec of a Func's accumulators. Its ID is part of the fingerprint.
func StoredAs[A any](c codec.Codec[A]) FuncOption[A] {
	return func(f *funcConfig[A]) { f.codec = c }
}

type fold[T, A, R any] struct {
	add    func(*A, T)
	merge  func(into, from *A)
	result func(*A) R
	cfg    funcConfig[A]
}

func (a *fold[T, A, R]) NewStore() Store[T, R] { return newStore[T, R](a) }

func (a *fold[T, A, R]) check() error {
	switch {
	case a.add == nil:
		return nilFunc("add of agg.Func")
	case a.merge == nil:
		return nilFunc("merge of agg.Func")
	case a.result == nil:
		return nilFunc("result of agg.Func")
	}
	if _, err := wireOf(a.cfg.codec); err != nil {
		return fmt.Errorf("agg.Func: %w", err)
	}
	return nil
}

func (a *fold[T, A, R]) place(l *layout[T]) part[T, R] {
	return &foldPart[T, A, R]{cellsWith(l, "func", a.cfg.codec), a}
}

type foldPart[T, A, R any] struct {
	cellPart[A]
	f *fold[T, A, R]
}

func (p *foldPart[T, A, R]) add(s Slot, r *flow.Record[T]) { p.f.add(p.at(s), r.Value) }

func (p *foldPart[T, A, R]) addBatch(_ []Slot, in []flow.Record[T]) {
	c, add := p.in(), p.f.add
	for i := range in {
		add(c.at(i), in[i].Value)
	}
}

func (p *foldPart[T, A, R]) merge(_, _ Slot) { p.f.merge(p.pair()) }
func (p *foldPart[T, A, R]) result(s Slot) R { return p.f.result(p.at(s)) }

package agg

import "github.com/millrace-stream/millrace/flow/codec"

// cellPart is what the built-in aggregates have in common: a column of accumulators and its encoding.
type cellPart[A any] struct {
	cells[A]
	wire *wire
	name string
}

func cellsFor[T, A any](l *layout[T], name string) cellPart[A] { return cellsWith[T, A](l, name, nil) }

// cellsWith leaves an accumulator that cannot be stored to Check; Append then panics with the reason.
func cellsWith[T, A any](l *layout[T], name string, c codec.Codec[A]) cellPart[A] {
	w, _ := wireOf(c)
	return cellPart[A]{reserve[T, A](l), w, name}
}

func (p *cellPart[A]) fingerprint() string { return p.name + " " + p.wire.shape }

func (p *cellPart[A]) append(b []byte, slots []Slot) []byte {
	base := cells[byte](p.cells)
	return p.wire.append(b, slots, &base)
}

func (p *cellPart[A]) read(b []byte, slots []Slot) ([]byte, error) {
	base := cells[byte](p.cells)
	return p.wire.read(b, slots, &base)
}

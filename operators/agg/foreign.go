package agg

import "github.com/millrace-stream/millrace/flow"

// placePart gives a its share of l. An aggregate of another package keeps a store of its own beside it.
func placePart[T, R any](l *layout[T], a Aggregate[T, R]) part[T, R] {
	if p, ok := a.(placer[T, R]); ok {
		return p.place(l)
	}
	p := &foreignPart[T, R]{store: a.NewStore()}
	l.foreign = append(l.foreign, p)
	return p
}

// foreignPart maps the layout's blocks to those of another store, which numbers them as it likes.
type foreignPart[T, R any] struct {
	store  Store[T, R]
	blocks []Slot
	slots  []Slot
}

func (p *foreignPart[T, R]) allocBlock(first Slot) {
	for n := int(first/BlockSize) + 1; len(p.blocks) < n; {
		p.blocks = append(p.blocks, 0)
	}
	p.blocks[first/BlockSize] = p.store.AllocBlock()
}

func (p *foreignPart[T, R]) freeBlock(first Slot) { p.store.FreeBlock(p.blocks[first/BlockSize]) }

func (p *foreignPart[T, R]) emptySlot(s Slot) { p.store.Empty(p.at(s)) }

func (p *foreignPart[T, R]) at(s Slot) Slot { return p.blocks[s/BlockSize] + s%BlockSize }

func (p *foreignPart[T, R]) all(s []Slot) []Slot {
	p.slots = p.slots[:0]
	for _, s := range s {
		p.slots = append(p.slots, p.at(s))
	}
	return p.slots
}

func (p *foreignPart[T, R]) add(s Slot, r *flow.Record[T]) { p.store.Add(p.at(s), r) }

func (p *foreignPart[T, R]) addBatch(s []Slot, in []flow.Record[T]) {
	p.store.AddBatch(p.all(s[:len(in)]), in)
}

func (p *foreignPart[T, R]) merge(into, from Slot) { p.store.Merge(p.at(into), p.at(from)) }
func (p *foreignPart[T, R]) result(s Slot) R       { return p.store.Result(p.at(s)) }

func (p *foreignPart[T, R]) append(b []byte, s []Slot) []byte { return p.store.Append(b, p.all(s)) }

func (p *foreignPart[T, R]) read(b []byte, s []Slot) ([]byte, error) {
	return p.store.Read(b, p.all(s))
}

func (p *foreignPart[T, R]) fingerprint() string { return p.store.Fingerprint() }

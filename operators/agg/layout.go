package agg

import (
	"reflect"
	"unsafe"

	"github.com/millrace-stream/millrace/flow"
)

// part is one aggregate's share of a store: everything but the allocation of slots, which the parts of one store have in
// common.
type part[T, R any] interface {
	folder[T]
	result(s Slot) R
}

type folder[T any] interface {
	add(s Slot, r *flow.Record[T])
	// addBatch is called between begin and the next call of the layout.
	addBatch(s []Slot, in []flow.Record[T])
	// merge is called by the store's Merge, which has set the rows.
	merge(into, from Slot)
	append(b []byte, slots []Slot) []byte
	read(b []byte, slots []Slot) ([]byte, error)
	fingerprint() string
}

// placer is an aggregate that can share a store with others.
type placer[T, R any] interface {
	place(l *layout[T]) part[T, R]
}

// layout is the memory of one store. Accumulators without pointers lie side by side in one row per slot, so that folding a record
// into several aggregates touches one or two cache lines and not one for each.
type layout[T any] struct {
	rows  *slab
	size  uintptr
	slabs []*slab
	next  Slot
	end   Slot
	free  []Slot
	// loaders are the distinct functions of the aggregates, each called once per record of a batch.
	loaders []loader[T]
	foreign []blockOwner
}

type loader[T any] interface{ load(in []flow.Record[T]) }

// blockOwner allocates on its own beside the layout.
type blockOwner interface {
	allocBlock(first Slot)
	freeBlock(first Slot)
	emptySlot(s Slot)
}

// reserve gives an aggregate its column.
func reserve[T, A any](l *layout[T]) cells[A] {
	t := reflect.TypeFor[A]()
	if hasPointers(t) {
		b := newTyped[A]()
		l.slabs = append(l.slabs, b)
		return cells[A]{slab: b}
	}
	if l.rows == nil {
		l.rows = newRows()
		l.slabs = append(l.slabs, l.rows)
	}
	off := l.size
	l.size += (t.Size() + 7) &^ 7
	return cells[A]{slab: l.rows, off: off}
}

// reserveWords gives an aggregate a column of n words, whose number is known only when the store is made.
func reserveWords[T any](l *layout[T], n int) cells[uint64] {
	c := reserve[T, uint64](l)
	l.size += uintptr(n-1) * 8
	return c
}

func (l *layout[T]) allocBlock() Slot {
	var first Slot
	if n := len(l.free); n > 0 {
		first = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		first = l.next
		if first > first+BlockSize {
			panic("aggregate: 2^32 slots are in use in one task: raise the parallelism of the KeyBy")
		}
		l.next += BlockSize
		if l.next > l.end {
			l.grow()
		}
	}
	for _, o := range l.foreign {
		o.allocBlock(first)
	}
	return first
}

func (l *layout[T]) grow() {
	l.end = 0
	for _, b := range l.slabs {
		if b == l.rows && b.stride == 0 {
			b.setStride(max(l.size, 8))
		}
		b.grow(l.next)
		if end := Slot(len(b.chunks)) << b.shift; l.end == 0 || end < l.end {
			l.end = end
		}
	}
	l.end = max(l.end, l.next)
}

func (l *layout[T]) freeBlock(first Slot) {
	for _, b := range l.slabs {
		b.empty(b.row(first), BlockSize)
	}
	for _, o := range l.foreign {
		o.freeBlock(first)
	}
	l.free = append(l.free, first)
}

func (l *layout[T]) emptySlot(s Slot) {
	for _, b := range l.slabs {
		b.empty(b.row(s), 1)
	}
	for _, o := range l.foreign {
		o.emptySlot(s)
	}
}

// begin prepares a batch for the parts: where its accumulators are and what the functions say of its records.
func (l *layout[T]) begin(s []Slot, in []flow.Record[T]) {
	for _, b := range l.slabs {
		b.find(s)
	}
	for _, v := range l.loaders {
		v.load(in)
	}
}

// values are what a function of the user says of each record of the current batch. Calling it for the whole batch first leaves the
// loops over the accumulators without calls, so that their cache misses overlap.
type values[T, V any] struct {
	of  func(T) V
	buf []V
}

func (v *values[T, V]) load(in []flow.Record[T]) {
	if cap(v.buf) < len(in) {
		v.buf = make([]V, max(len(in), 256))
	}
	v.buf = v.buf[:len(in)]
	buf, of := v.buf, v.of
	for i := range buf {
		buf[i] = of(in[i].Value)
	}
}

// valuesOf returns the loader of a function. Aggregates of one Into that were given the same function share it.
func valuesOf[T, V any](l *layout[T], of func(T) V) *values[T, V] {
	for _, x := range l.loaders {
		if v, ok := x.(*values[T, V]); ok && sameFunc(v.of, of) {
			return v
		}
	}
	v := &values[T, V]{of: of}
	l.loaders = append(l.loaders, v)
	return v
}

// sameFunc tells whether f and g are one function value: the same code with the same captured variables. It may miss equal
// ones, which only costs time.
func sameFunc[T, V any](f, g func(T) V) bool {
	return *(*unsafe.Pointer)(unsafe.Pointer(&f)) == *(*unsafe.Pointer)(unsafe.Pointer(&g))
}

// store makes a Store of a part and its layout.
type store[T, R any] struct {
	l layout[T]
	p part[T, R]
}

func newStore[T, R any](a placer[T, R]) Store[T, R] {
	s := &store[T, R]{}
	s.p = a.place(&s.l)
	return s
}

func (s *store[T, R]) AllocBlock() Slot                     { return s.l.allocBlock() }
func (s *store[T, R]) FreeBlock(first Slot)                 { s.l.freeBlock(first) }
func (s *store[T, R]) Empty(at Slot)                        { s.l.emptySlot(at) }
func (s *store[T, R]) Add(at Slot, r *flow.Record[T])       { s.p.add(at, r) }
func (s *store[T, R]) Result(at Slot) R                     { return s.p.result(at) }
func (s *store[T, R]) Append(b []byte, slots []Slot) []byte { return s.p.append(b, slots) }
func (s *store[T, R]) Fingerprint() string                  { return s.p.fingerprint() }

// Merge finds the rows once for all parts.
func (s *store[T, R]) Merge(into, from Slot) {
	for _, b := range s.l.slabs {
		b.into, b.from = b.row(into), b.row(from)
	}
	s.p.merge(into, from)
}

func (s *store[T, R]) AddBatch(at []Slot, in []flow.Record[T]) {
	at = at[:len(in)]
	s.l.begin(at, in)
	s.p.addBatch(at, in)
}

func (s *store[T, R]) Read(b []byte, slots []Slot) ([]byte, error) { return s.p.read(b, slots) }

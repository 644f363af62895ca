package agg

import (
	"unsafe"

	"github.com/millrace-stream/millrace/flow/huge"
)

// slab is flat memory for accumulators: rows of one size in chunks that never move. Chunks of rows without pointers are
// allocated as words, which the garbage collector does not look into.
type slab struct {
	chunks []unsafe.Pointer
	stride uintptr
	shift  uint32
	mask   uint32
	// alloc makes the memory of n rows. Zero memory is an empty accumulator.
	alloc func(n int) unsafe.Pointer
	// empty zeroes n rows at p.
	empty func(p unsafe.Pointer, n int)
	// found are the rows of the current batch, into and from those of the current merge.
	found      []unsafe.Pointer
	into, from unsafe.Pointer
}

// chunkBytes is what a chunk has at most, unless a block of rows is larger.
const chunkBytes = 64 << 10

// largestPiece is the most memory that is taken at once.
const largestPiece = 16 << 20

// setStride fixes the row size. It is called once, before the first grow.
func (b *slab) setStride(n uintptr) {
	b.stride = n
	rows := uint32(BlockSize)
	for b.shift = 4; uintptr(rows)*2*n <= chunkBytes && b.shift < 12; b.shift++ {
		rows *= 2
	}
	b.mask = rows - 1
}

// grow makes room for slots up to and without end.
func (b *slab) grow(end uint32) {
	for uint64(len(b.chunks))<<b.shift < uint64(end) {
		b.chunks = append(b.chunks, b.alloc(int(b.mask)+1))
	}
}

func (b *slab) row(s Slot) unsafe.Pointer {
	return unsafe.Add(b.chunks[s>>(b.shift&31)], uintptr(s&b.mask)*b.stride)
}

// find sets found. Doing it in a loop of its own lets the cache misses overlap, and spares each aggregate the arithmetic.
func (b *slab) find(slots []Slot) {
	if cap(b.found) < len(slots) {
		b.found = make([]unsafe.Pointer, max(len(slots), 256))
	}
	b.found = b.found[:len(slots)]
	found, chunks, stride, shift, mask := b.found, b.chunks, b.stride, b.shift&31, b.mask
	for i, s := range slots {
		found[i] = unsafe.Add(chunks[s>>(shift&31)], uintptr(s&mask)*stride)
	}
}

// newRows is a slab of rows without pointers, whose size is not known yet.
func newRows() *slab {
	b := &slab{}
	// Chunks of large slabs are cut from larger pieces, on large pages.
	var piece []uint64
	b.alloc = func(n int) unsafe.Pointer {
		words := int(max(1, uintptr(n)*b.stride/8))
		if has := uintptr(len(b.chunks)) * chunkBytes; len(piece) < words && has >= huge.From {
			piece = huge.Make[uint64](int(max(huge.From, min(has/2, largestPiece))) / 8 / words * words)
		}
		if len(piece) < words {
			return unsafe.Pointer(unsafe.SliceData(make([]uint64, words)))
		}
		c := piece[:words:words]
		piece = piece[words:]
		return unsafe.Pointer(unsafe.SliceData(c))
	}
	b.empty = func(p unsafe.Pointer, n int) { clear(unsafe.Slice((*uint64)(p), uintptr(n)*b.stride/8)) }
	return b
}

// newTyped is a slab of A with pointers: allocated as what they are, so that the garbage collector sees them.
func newTyped[A any]() *slab {
	var a A
	b := &slab{}
	b.setStride(unsafe.Sizeof(a))
	b.alloc = func(n int) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(make([]A, n))) }
	b.empty = func(p unsafe.Pointer, n int) { clear(unsafe.Slice((*A)(p), n)) }
	return b
}

// cells are the accumulators of one aggregate: a column of a slab.
type cells[A any] struct {
	slab *slab
	off  uintptr
}

func (c *cells[A]) at(s Slot) *A { return (*A)(unsafe.Add(c.slab.row(s), c.off)) }

// in is where the accumulators of the current batch are: one for each record, found once for all aggregates of the slab.
func (c *cells[A]) in() batch[A] { return batch[A]{c.slab.found, c.off} }

// pair are the accumulators of the current merge.
func (c *cells[A]) pair() (into, from *A) {
	return (*A)(unsafe.Add(c.slab.into, c.off)), (*A)(unsafe.Add(c.slab.from, c.off))
}

type batch[A any] struct {
	rows []unsafe.Pointer
	off  uintptr
}

func (b batch[A]) at(i int) *A { return (*A)(unsafe.Add(b.rows[i], b.off)) }

package agg_test

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
)

func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// boxed is an aggregate of another package that hides its result type.
func boxed[T, R any](a agg.Aggregate[T, R]) agg.Aggregate[T, any] { return box[T, R]{a} }

type box[T, R any] struct{ a agg.Aggregate[T, R] }

func (b box[T, R]) NewStore() agg.Store[T, any] { return boxStore[T, R]{b.a.NewStore()} }

type boxStore[T, R any] struct{ agg.Store[T, R] }

func (b boxStore[T, R]) Result(s agg.Slot) any { return b.Store.Result(s) }

// naive counts, as a user's own aggregate might: in a map, with block numbers of its own.
type naive struct{}

func (naive) NewStore() agg.Store[reading, int] {
	return &naiveStore{n: map[agg.Slot]int{}, next: 1 << 20}
}

type naiveStore struct {
	n    map[agg.Slot]int
	next agg.Slot
}

func (s *naiveStore) AllocBlock() agg.Slot { s.next += agg.BlockSize; return s.next }

func (s *naiveStore) FreeBlock(first agg.Slot) {
	for i := range agg.Slot(agg.BlockSize) {
		delete(s.n, first+i)
	}
}

func (s *naiveStore) Empty(at agg.Slot) { delete(s.n, at) }

func (s *naiveStore) Add(at agg.Slot, _ *flow.Record[reading]) { s.n[at]++ }

func (s *naiveStore) AddBatch(at []agg.Slot, in []flow.Record[reading]) {
	for i := range in {
		s.n[at[i]]++
	}
}

func (s *naiveStore) Merge(into, from agg.Slot) { s.n[into] += s.n[from] }
func (s *naiveStore) Result(at agg.Slot) int    { return s.n[at] }
func (s *naiveStore) Fingerprint() string       { return "naive" }

func (s *naiveStore) Append(b []byte, slots []agg.Slot) []byte {
	for _, at := range slots {
		b = binary.LittleEndian.AppendUint64(b, uint64(s.n[at]))
	}
	return b
}

func (s *naiveStore) Read(b []byte, slots []agg.Slot) ([]byte, error) {
	for _, at := range slots {
		if len(b) < 8 {
			return b, errors.New("short")
		}
		s.n[at] = int(binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	return b, nil
}

package agg

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace-stream/millrace/flow"
)

// Frequent is the result of TopK.
type Frequent[V any] struct {
	// Values are the most frequent ones, the most frequent first, values of equal counts in ascending order.
	Values []Counted[V]
	// Error is by how much each count may be too low, and how often a value that was forgotten may have occurred. It is 0 as long as no more
	// values differed than the limit allows: all counts are exact then.
	Error int64
}

// Counted is a value and how often it occurred: at least Count times, at most Count plus the Error of its Frequent.
type Counted[V any] struct {
	Value V
	Count int64
}

// TopK is which k values occurred most often, and how often.
//
// Up to limit different values are counted exactly. When there are more, the rarer half of the counters is given up, with the method of
// Misra and Gries ("Finding repeated elements", 1982) in the form of Anderson et al. ("A High-Performance Algorithm for Identifying Frequent Items in
// Data Streams", 2017): of n records every value that occurred more than 2n/limit times is found, and no count is too low by more than
// that; Frequent.Error says by how much at most. While exact, the order of arrival and of merges does not matter; beyond, it matters within the error.
//
// NaN is passed over. Strings are copied when they are new. Of nothing the result is empty.
//
// State: a map entry and a counter per different value, up to limit, during a merge up to twice as many. A merge costs an
// entry each, a result sorts them.
func TopK[T any, V cmp.Ordered](of func(T) V, k, limit int) Aggregate[T, Frequent[V]] {
	return &topK[T, V]{of, k, limit}
}

type topK[T any, V cmp.Ordered] struct {
	of       func(T) V
	k, limit int
}

func (a *topK[T, V]) NewStore() Store[T, Frequent[V]] { return newStore[T, Frequent[V]](a) }

// maxCounters bounds the limit, so that a count in damaged bytes cannot ask for endless memory.
const maxCounters = 1 << 20

func (a *topK[T, V]) check() error {
	switch {
	case a.of == nil:
		return nilFunc("the function of agg.TopK")
	case a.k < 1:
		return fmt.Errorf("k of agg.TopK is %d: give 1 or more", a.k)
	case a.limit < 2*a.k || a.limit > maxCounters:
		return fmt.Errorf("the limit of agg.TopK is %d: give one from 2*k, %d, to %d", a.limit, 2*a.k, maxCounters)
	}
	return nil
}

func (a *topK[T, V]) place(l *layout[T]) part[T, Frequent[V]] {
	w, _ := wireOf[Counted[V]](nil)
	return &topKPart[T, V]{
		cells: reserve[T, tally[V]](l), of: valuesOf(l, a.of), wire: w, keep: keeperOf[V](), k: max(a.k, 1), limit: max(a.limit, 2),
	}
}

// tally counts values; place says where in counts each is.
type tally[V cmp.Ordered] struct {
	place  map[V]int32
	counts []Counted[V]
	err    int64
}

type topKPart[T any, V cmp.Ordered] struct {
	cells[tally[V]]
	of       *values[T, V]
	wire     *wire
	keep     keeper[V]
	k, limit int
	entries  []Counted[V]
	numbers  []int64
	slots    []Slot
}

func (p *topKPart[T, V]) add(s Slot, r *flow.Record[T]) { p.put(p.at(s), p.of.of(r.Value)) }

func (p *topKPart[T, V]) addBatch(_ []Slot, _ []flow.Record[T]) {
	c, vs := p.in(), p.of.buf
	c.rows = c.rows[:len(vs)]
	for i, v := range vs {
		p.put(c.at(i), v)
	}
}

func (p *topKPart[T, V]) put(a *tally[V], v V) {
	var zero V
	switch {
	case isNaN(v):
		return
	case v == zero: // -0 is 0
		v = zero
	}
	if i, ok := a.place[v]; ok {
		a.counts[i].Count++
		return
	}
	p.keep.set(&zero, v)
	a.insert(zero, 1)
	p.purge(a)
}

func (a *tally[V]) insert(v V, n int64) {
	if a.place == nil {
		a.place = map[V]int32{}
	}
	a.place[v] = int32(len(a.counts))
	a.counts = append(a.counts, Counted[V]{v, n})
}

// purge subtracts the median from all counters when there are more than the limit.
func (p *topKPart[T, V]) purge(a *tally[V]) {
	if len(a.counts) <= p.limit {
		return
	}
	p.numbers = p.numbers[:0]
	for _, c := range a.counts {
		p.numbers = append(p.numbers, c.Count)
	}
	slices.Sort(p.numbers)
	median := p.numbers[len(p.numbers)/2]
	a.err += median
	old := a.counts
	a.counts = a.counts[:0]
	clear(a.place)
	for _, c := range old {
		if c.Count > median {
			a.insert(c.Value, c.Count-median)
		}
	}
	clear(old[len(a.counts):])
}

func (p *topKPart[T, V]) merge(into, from Slot) {
	a, b := p.at(into), p.at(from)
	a.err += b.err
	if a.counts == nil && len(b.counts) > 0 {
		a.counts, a.place = slices.Clone(b.counts), maps.Clone(b.place)
		return
	}
	for _, c := range b.counts {
		if i, ok := a.place[c.Value]; ok {
			a.counts[i].Count += c.Count
		} else {
			a.insert(c.Value, c.Count)
		}
	}
	p.purge(a)
}

func (p *topKPart[T, V]) result(s Slot) Frequent[V] {
	a := p.at(s)
	out := Frequent[V]{Error: a.err}
	if len(a.counts) == 0 {
		return out
	}
	p.entries = append(p.entries[:0], a.counts...)
	slices.SortFunc(p.entries, func(x, y Counted[V]) int {
		if c := cmp.Compare(y.Count, x.Count); c != 0 {
			return c
		}
		return cmp.Compare(x.Value, y.Value)
	})
	out.Values = slices.Clone(p.entries[:min(p.k, len(p.entries))])
	clear(p.entries)
	return out
}

func (p *topKPart[T, V]) fingerprint() string {
	return fmt.Sprintf("topk %d %s", p.limit, p.wire.shape)
}

// A slot is stored as the error, the number of values, and values and counts by column, in ascending order of the values.

func (p *topKPart[T, V]) append(b []byte, slots []Slot) []byte {
	for _, s := range slots {
		a := p.at(s)
		b = binary.LittleEndian.AppendUint64(b, uint64(a.err))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(a.counts)))
		p.entries = append(p.entries[:0], a.counts...)
		slices.SortFunc(p.entries, func(x, y Counted[V]) int { return cmp.Compare(x.Value, y.Value) })
		rows := rowsOf(p.entries)
		b = p.wire.append(b, upTo(&p.slots, len(p.entries)), &rows)
		clear(p.entries)
	}
	return b
}

func (p *topKPart[T, V]) read(b []byte, slots []Slot) ([]byte, error) {
	for _, s := range slots {
		if len(b) < 12 {
			return b, errRead
		}
		a := tally[V]{err: int64(binary.LittleEndian.Uint64(b))}
		n := uint64(binary.LittleEndian.Uint32(b[8:]))
		if b = b[12:]; a.err < 0 || n > uint64(p.limit) || n*p.wire.least() > uint64(len(b)) {
			return b, errRead
		}
		entries := make([]Counted[V], n)
		rows := rowsOf(entries)
		var err error
		if b, err = p.wire.read(b, upTo(&p.slots, int(n)), &rows); err != nil {
			return b, err
		}
		for i, e := range entries {
			if e.Count < 1 || isNaN(e.Value) || i > 0 && e.Value <= entries[i-1].Value {
				return b, errRead
			}
			a.insert(e.Value, e.Count)
		}
		*p.at(s) = a
	}
	return b, nil
}

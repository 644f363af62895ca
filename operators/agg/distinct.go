package agg

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/axiomhq/hyperloglog"

	"github.com/millrace-stream/millrace/flow"
)

// Distinct is how many different values there were, within a standard error of the given share of the count: 0.01 is 1 % (0.0021 to 0.26).
// Few values are counted exactly (384 at 1 %), more by HyperLogLog (Flajolet, Fusy, Gandouet and Meunier 2007, with the estimator LogLog-Beta
// of Qin, Kim and Tung 2016) in Axiom's implementation. The order of arrival and of merges does not matter.
//
// V consists of numbers, bools, strings, time.Time (by its instant), arrays and structs; -0 and 0 are one value, and so are all NaN, which
// count.
//
// State: 8 bytes per value and free space in tables that double, up to 2^p/4 bytes, then 2^p bytes, where p is the least with 1.04/sqrt(2^p)
// at most the given error: 4 KiB, then 16 KiB at 1 %; 256, then 1,024 bytes at 3.3 %. A merge costs as many steps.
func Distinct[T any, V comparable](of func(T) V, standardError float64) Aggregate[T, int64] {
	return &distinct[T, V]{of, standardError}
}

type distinct[T any, V comparable] struct {
	of     func(T) V
	stdErr float64
}

func (a *distinct[T, V]) NewStore() Store[T, int64] { return newStore[T, int64](a) }

const (
	minPrecision = 4
	maxPrecision = 18
)

func (a *distinct[T, V]) check() error {
	if a.of == nil {
		return nilFunc("the function of agg.Distinct")
	}
	if !(a.stdErr >= 0.0021 && a.stdErr <= 0.26) {
		return fmt.Errorf("the standard error of agg.Distinct is %v: give a share from 0.0021 to 0.26, 0.01 for 1 %%", a.stdErr)
	}
	if _, err := hasherOf[V](); err != nil {
		return fmt.Errorf("agg.Distinct: %w", err)
	}
	return nil
}

// precision is the least that keeps the error.
func (a *distinct[T, V]) precision() uint8 {
	p := uint8(minPrecision)
	for p < maxPrecision && !(1.04/math.Sqrt(float64(uint64(1)<<p)) <= a.stdErr) {
		p++
	}
	return p
}

func (a *distinct[T, V]) place(l *layout[T]) part[T, int64] {
	h, _ := hasherOf[V]()
	p := &distinctPart[T, V]{cells: reserve[T, hashes](l), of: valuesOf(l, a.of), hasher: h, precision: a.precision()}
	p.table = max(8, 1<<p.precision/32)
	return p
}

// hashes are the different hashes of an accumulator: a table of open addressing (0 is a free place) as long as they are few, else a sketch. What
// they are is a matter of the set of hashes alone, whatever the order.
type hashes struct {
	table  []uint64
	n      int
	sketch *hyperloglog.Sketch
}

type distinctPart[T any, V comparable] struct {
	cells[hashes]
	of        *values[T, V]
	hasher    hasher[V]
	precision uint8
	table     int // places of the largest table
	sorted    []uint64
}

// limit is how many hashes a table of the given places takes.
func limit(places int) int { return places / 4 * 3 }

func (p *distinctPart[T, V]) add(s Slot, r *flow.Record[T]) {
	v := p.of.of(r.Value)
	p.put(p.at(s), p.hasher.hash(&v))
}

func (p *distinctPart[T, V]) addBatch(_ []Slot, _ []flow.Record[T]) {
	c, vs := p.in(), p.of.buf
	c.rows = c.rows[:len(vs)]
	for i := range vs {
		p.put(c.at(i), p.hasher.hash(&vs[i]))
	}
}

func (p *distinctPart[T, V]) put(a *hashes, h uint64) {
	h |= isZero(h)
	if a.sketch != nil {
		a.sketch.InsertHash(h)
		return
	}
	if a.n == limit(len(a.table)) {
		if has(a.table, h) {
			return
		}
		if len(a.table) >= p.table {
			p.toSketch(a)
			a.sketch.InsertHash(h)
			return
		}
		old := a.table
		a.table = make([]uint64, max(8, 2*len(old)))
		for _, h := range old {
			if h != 0 {
				insert(a.table, h)
			}
		}
	}
	if insert(a.table, h) {
		a.n++
	}
}

// isZero is 1 for 0, whose place 1 takes: they are one value then.
func isZero(h uint64) uint64 {
	if h == 0 {
		return 1
	}
	return 0
}

func has(table []uint64, h uint64) bool {
	if len(table) == 0 {
		return false
	}
	mask := uint64(len(table) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch table[i] {
		case h:
			return true
		case 0:
			return false
		}
	}
}

// insert adds h to a table with room, and tells whether it is new.
func insert(table []uint64, h uint64) bool {
	mask := uint64(len(table) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch table[i] {
		case h:
			return false
		case 0:
			table[i] = h
			return true
		}
	}
}

func (p *distinctPart[T, V]) toSketch(a *hashes) {
	s, err := hyperloglog.NewSketch(p.precision, false)
	if err != nil {
		panic(fmt.Errorf("aggregate: precision %d: %w", p.precision, err))
	}
	for _, h := range a.table {
		if h != 0 {
			s.InsertHash(h)
		}
	}
	*a = hashes{sketch: s}
}

func (p *distinctPart[T, V]) merge(into, from Slot) {
	a, b := p.at(into), p.at(from)
	if b.sketch == nil && a.sketch == nil && a.n == 0 {
		a.table, a.n = slices.Clone(b.table), b.n
		return
	}
	if b.sketch == nil {
		for _, h := range b.table {
			if h != 0 {
				p.put(a, h)
			}
		}
		return
	}
	if a.sketch == nil {
		p.toSketch(a)
	}
	if err := a.sketch.Merge(b.sketch); err != nil {
		panic(fmt.Errorf("aggregate: sketches of one store do not match: %w", err))
	}
}

func (p *distinctPart[T, V]) result(s Slot) int64 {
	a := p.at(s)
	if a.sketch == nil {
		return int64(a.n)
	}
	return int64(a.sketch.Estimate())
}

func (p *distinctPart[T, V]) fingerprint() string { return fmt.Sprintf("distinct %d", p.precision) }

// A slot is stored as the length of a sketch and the sketch, or 0, the number of hashes and the hashes in ascending order.

func (p *distinctPart[T, V]) append(b []byte, slots []Slot) []byte {
	for _, s := range slots {
		a := p.at(s)
		if a.sketch != nil {
			at := len(b)
			b = binary.LittleEndian.AppendUint32(b, 0)
			var err error
			if b, err = a.sketch.AppendBinary(b); err != nil {
				panic(fmt.Errorf("aggregate: a sketch cannot be encoded: %w", err))
			}
			binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-4))
			continue
		}
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(a.n))
		p.sorted = p.sorted[:0]
		for _, h := range a.table {
			if h != 0 {
				p.sorted = append(p.sorted, h)
			}
		}
		slices.Sort(p.sorted)
		for _, h := range p.sorted {
			b = binary.LittleEndian.AppendUint64(b, h)
		}
	}
	return b
}

func (p *distinctPart[T, V]) read(b []byte, slots []Slot) ([]byte, error) {
	for _, s := range slots {
		if len(b) < 4 {
			return b, errRead
		}
		n := uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
		var a hashes
		var err error
		if n > 0 {
			b, err = p.readSketch(b, n, &a)
		} else {
			b, err = p.readTable(b, &a)
		}
		if err != nil {
			return b, err
		}
		*p.at(s) = a
	}
	return b, nil
}

func (p *distinctPart[T, V]) readSketch(b []byte, n uint64, a *hashes) ([]byte, error) {
	// The header names the precision and says whether the sketch is sparse, which ours never is.
	if n > uint64(len(b)) || n != 8+1<<p.precision || b[1] != p.precision || b[3] != 0 {
		return b, errRead
	}
	a.sketch = &hyperloglog.Sketch{}
	if err := a.sketch.UnmarshalBinary(b[:n]); err != nil {
		return b, fmt.Errorf("%w: %w", errRead, err)
	}
	return b[n:], nil
}

func (p *distinctPart[T, V]) readTable(b []byte, a *hashes) ([]byte, error) {
	if len(b) < 4 {
		return b, errRead
	}
	n := uint64(binary.LittleEndian.Uint32(b))
	if b = b[4:]; n > uint64(limit(p.table)) || n*8 > uint64(len(b)) {
		return b, errRead
	}
	if n == 0 {
		return b, nil
	}
	a.n = int(n)
	places := max(8, 1<<bits.Len(uint(n-1)))
	for limit(places) < a.n {
		places *= 2
	}
	a.table = make([]uint64, places)
	last := uint64(0)
	for range n {
		h := binary.LittleEndian.Uint64(b)
		if b = b[8:]; h <= last {
			return b, errRead
		}
		insert(a.table, h)
		last = h
	}
	return b, nil
}

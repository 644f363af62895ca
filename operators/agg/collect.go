package agg

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/millrace-stream/millrace/flow"
)

// Collected is the result of Collect.
type Collected[V any] struct {
	// Values are in order of arrival. The slice is the receiver's own.
	Values []V
	// Dropped is how many more there were than the cap allows.
	Dropped int64
}

// Full says which values a Collect keeps at its cap.
type Full uint8

const (
	// KeepFirst keeps the first values and drops those that come at the cap.
	KeepFirst Full = iota
	// KeepLast drops the oldest value for each that comes at the cap.
	KeepLast
)

// Collect gathers the values in order of arrival, at most limit of them; what is dropped beyond it is counted in the result. It
// keeps as many values as the window or key has records, up to limit, so choose limit by memory: it is the bound of each
// accumulator, not of the node.
//
// After a merge (of sessions) the values of the earlier accumulator stand before those of the later one, as if they had arrived so.
//
// Strings and byte slices within V are copied, in structs and arrays too; what lies behind pointers, maps and other slices is shared
// and must not change or alias a payload. V is stored field by field if it consists of numbers, bools, strings, time.Time, arrays
// and structs, else as CBOR by field name.
func Collect[T, V any](of func(T) V, limit int, full Full) Aggregate[T, Collected[V]] {
	return &collect[T, V]{of, limit, full}
}

type collect[T, V any] struct {
	of    func(T) V
	limit int
	full  Full
}

func (a *collect[T, V]) NewStore() Store[T, Collected[V]] { return newStore[T, Collected[V]](a) }

func (a *collect[T, V]) check() error {
	switch {
	case a.of == nil:
		return nilFunc("the function of agg.Collect")
	case a.limit < 1 || a.limit > maxCollected:
		return fmt.Errorf("the limit of agg.Collect is %d: give one from 1 to %d", a.limit, maxCollected)
	case a.full > KeepLast:
		return fmt.Errorf("agg.Collect keeps %d at its limit: give agg.KeepFirst or agg.KeepLast", a.full)
	}
	_, err := wireOf[V](nil)
	return err
}

// maxCollected bounds the limit, so that a count in damaged bytes cannot ask for endless memory.
const maxCollected = 1 << 24

func (a *collect[T, V]) place(l *layout[T]) part[T, Collected[V]] {
	w, _ := wireOf[V](nil)
	return &collectPart[T, V]{
		cells: reserve[T, gathered[V]](l), wire: w, of: a.of, keep: keeperOf[V](), limit: max(a.limit, 1), full: a.full,
	}
}

// gathered is a ring once it is full and keeps the last values; head is the oldest then.
type gathered[V any] struct {
	vals    []V
	head    int
	dropped int64
}

// at is the value that came i-th.
func (g *gathered[V]) at(i int) *V { return &g.vals[(g.head+i)%len(g.vals)] }

type collectPart[T, V any] struct {
	cells[gathered[V]]
	wire  *wire
	of    func(T) V
	keep  keeper[V]
	limit int
	full  Full
	order []Slot
}

func (p *collectPart[T, V]) add(s Slot, r *flow.Record[T]) { p.put(p.at(s), r) }

func (p *collectPart[T, V]) addBatch(_ []Slot, in []flow.Record[T]) {
	c := p.in()
	for i := range in {
		p.put(c.at(i), &in[i])
	}
}

func (p *collectPart[T, V]) put(g *gathered[V], r *flow.Record[T]) {
	if len(g.vals) < p.limit {
		g.vals = append(g.vals, *new(V))
		p.keep.set(&g.vals[len(g.vals)-1], p.of(r.Value))
		return
	}
	g.dropped++
	if p.full == KeepLast {
		p.keep.set(&g.vals[g.head], p.of(r.Value))
		g.head = (g.head + 1) % p.limit
	}
}

func (p *collectPart[T, V]) merge(into, from Slot) {
	a, b := p.at(into), p.at(from)
	a.dropped += b.dropped
	for i := range b.vals {
		v := b.at(i)
		if len(a.vals) < p.limit {
			a.vals = append(a.vals, *v)
			continue
		}
		a.dropped++
		if p.full == KeepLast {
			a.vals[a.head] = *v
			a.head = (a.head + 1) % p.limit
		}
	}
}

func (p *collectPart[T, V]) result(s Slot) Collected[V] {
	g := p.at(s)
	out := Collected[V]{Dropped: g.dropped}
	if len(g.vals) > 0 {
		out.Values = append(append(make([]V, 0, len(g.vals)), g.vals[g.head:]...), g.vals[:g.head]...)
	}
	return out
}

func (p *collectPart[T, V]) fingerprint() string {
	policy := map[Full]string{KeepFirst: "first", KeepLast: "last"}[p.full]
	return fmt.Sprintf("collect %s %d %s", policy, p.limit, p.wire.shape)
}

// A slot is stored as: dropped, count, values by column, in order of arrival.

func (p *collectPart[T, V]) append(b []byte, slots []Slot) []byte {
	for _, s := range slots {
		g := p.at(s)
		b = binary.LittleEndian.AppendUint64(b, uint64(g.dropped))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(g.vals)))
		rows := rowsOf(g.vals)
		b = p.wire.append(b, p.inOrder(g), &rows)
	}
	return b
}

func (p *collectPart[T, V]) read(b []byte, slots []Slot) ([]byte, error) {
	for _, s := range slots {
		if len(b) < 12 {
			return b, errRead
		}
		dropped, n := int64(binary.LittleEndian.Uint64(b)), uint64(binary.LittleEndian.Uint32(b[8:]))
		if b = b[12:]; dropped < 0 || n > uint64(p.limit) || n*p.wire.least() > uint64(len(b)) {
			return b, errRead
		}
		g := gathered[V]{dropped: dropped}
		if n > 0 {
			g.vals = make([]V, n)
		}
		rows := rowsOf(g.vals)
		var err error
		if b, err = p.wire.read(b, p.inOrder(&g), &rows); err != nil {
			return b, err
		}
		*p.at(s) = g
	}
	return b, nil
}

// inOrder are the places of g's values in order of arrival.
func (p *collectPart[T, V]) inOrder(g *gathered[V]) []Slot {
	p.order = p.order[:0]
	for i := range g.vals {
		p.order = append(p.order, Slot((g.head+i)%len(g.vals)))
	}
	return p.order
}

// rowsOf makes cells of a slice, for wire.
func rowsOf[V any](vals []V) cells[byte] {
	const all = 31 // one chunk for all slots
	return cells[byte]{slab: &slab{
		chunks: []unsafe.Pointer{unsafe.Pointer(unsafe.SliceData(vals))}, stride: unsafe.Sizeof(*new(V)), shift: all, mask: 1<<all - 1,
	}}
}

// upTo are the slots from 0 up to n, for rowsOf. They are made once and kept in buf.
func upTo(buf *[]Slot, n int) []Slot {
	for i := len(*buf); i < n; i++ {
		*buf = append(*buf, Slot(i))
	}
	return (*buf)[:n]
}

// least is the fewest bytes that an accumulator is stored in.
func (w *wire) least() uint64 {
	if w.own != nil {
		return 4
	}
	var n uint64
	for _, c := range w.cols {
		size := uint64(c.kind.size())
		switch c.kind {
		case kindInt, kindUint:
			size = 8
		case kindString:
			size = 1
		case kindTime:
			size = 16
		}
		n += size * uint64(c.count)
	}
	return n
}

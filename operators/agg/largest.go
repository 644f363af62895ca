package agg

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/millrace-stream/millrace/flow"
)

// Largest is what of says of the n records whose measure by is the greatest, the greatest first: the ten longest trips.
//
// Of records of equal measure the one with the least event time comes first, of these the first to arrive. Records whose measure is NaN
// are passed over. Of nothing it is nil. An accumulator holds at most n values, in memory and stored as those of First. A record that
// ranks costs up to n moves, any other one comparison.
func Largest[T any, V cmp.Ordered, R any](by func(T) V, of func(T) R, n int) Aggregate[T, []R] {
	return &leaders[T, V, R]{by, of, n, true}
}

// Smallest is what of says of the n records whose measure by is the least, the least first, and in all else as Largest.
func Smallest[T any, V cmp.Ordered, R any](by func(T) V, of func(T) R, n int) Aggregate[T, []R] {
	return &leaders[T, V, R]{by, of, n, false}
}

type leaders[T any, V cmp.Ordered, R any] struct {
	by  func(T) V
	of  func(T) R
	n   int
	max bool
}

func (a *leaders[T, V, R]) name() string {
	if a.max {
		return "Largest"
	}
	return "Smallest"
}

func (a *leaders[T, V, R]) NewStore() Store[T, []R] { return newStore[T, []R](a) }

// maxLeaders bounds the insertions.
const maxLeaders = 10_000

func (a *leaders[T, V, R]) check() error {
	if a.n < 1 || a.n > maxLeaders {
		return fmt.Errorf("agg.%s is to keep %d: give a number from 1 to %d", a.name(), a.n, maxLeaders)
	}
	return checkRanked(a.by, a.of, a.name())
}

func (a *leaders[T, V, R]) place(l *layout[T]) part[T, []R] {
	w, _ := wireOf[ranked[V, R]](nil)
	return &leadersPart[T, V, R]{reserve[T, []ranked[V, R]](l), rankingOf[T, V, R](l, a.by, a.of, a.max), w, max(a.n, 1), nil}
}

type leadersPart[T any, V cmp.Ordered, R any] struct {
	cells[[]ranked[V, R]]
	ranking[T, V, R]
	wire  *wire
	n     int
	slots []Slot
}

// rank is the place that a record of measure v and time t takes in a, len(a) if it is the last.
func (p *leadersPart[T, V, R]) rank(a []ranked[V, R], v V, t flow.Timestamp) int {
	low, high := 0, len(a)
	for low < high {
		mid := int(uint(low+high) / 2)
		if p.beats(v, t, &a[mid]) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// open makes room at the place of measure v and time t, and returns it, or nil if the record does not rank.
func (p *leadersPart[T, V, R]) open(a *[]ranked[V, R], v V, t flow.Timestamp) *ranked[V, R] {
	s := *a
	if isNaN(v) || len(s) == p.n && !p.beats(v, t, &s[len(s)-1]) {
		return nil
	}
	i := p.rank(s, v, t)
	if len(s) < p.n {
		s = append(s, ranked[V, R]{})
		*a = s
	}
	copy(s[i+1:], s[i:])
	return &s[i]
}

func (p *leadersPart[T, V, R]) add(s Slot, r *flow.Record[T]) {
	v := p.by.of(r.Value)
	if a := p.open(p.at(s), v, r.Time); a != nil {
		p.fill(a, v, r)
	}
}

func (p *leadersPart[T, V, R]) addBatch(_ []Slot, in []flow.Record[T]) {
	c, vs := p.in(), p.by.buf
	in = in[:len(vs)]
	for i, v := range vs {
		if a := p.open(c.at(i), v, in[i].Time); a != nil {
			p.fill(a, v, &in[i])
		}
	}
}

func (p *leadersPart[T, V, R]) merge(into, from Slot) {
	a, b := p.at(into), *p.at(from)
	if *a == nil {
		*a = slices.Clone(b)
		return
	}
	for i := range b {
		if to := p.open(a, b[i].By, b[i].Time); to != nil {
			*to = b[i]
		}
	}
}

func (p *leadersPart[T, V, R]) result(s Slot) []R {
	a := *p.at(s)
	if len(a) == 0 {
		return nil
	}
	out := make([]R, len(a))
	for i := range a {
		out[i] = a[i].Value
	}
	return out
}

func (p *leadersPart[T, V, R]) fingerprint() string {
	return fmt.Sprintf("%s %d %s", map[bool]string{true: "largest", false: "smallest"}[p.max], p.n, p.wire.shape)
}

// A slot is stored as its count and its values by column.

func (p *leadersPart[T, V, R]) append(b []byte, slots []Slot) []byte {
	for _, s := range slots {
		a := *p.at(s)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(a)))
		rows := rowsOf(a)
		b = p.wire.append(b, upTo(&p.slots, len(a)), &rows)
	}
	return b
}

func (p *leadersPart[T, V, R]) read(b []byte, slots []Slot) ([]byte, error) {
	for _, s := range slots {
		if len(b) < 4 {
			return b, errRead
		}
		n := uint64(binary.LittleEndian.Uint32(b))
		if b = b[4:]; n > uint64(p.n) || n*p.wire.least() > uint64(len(b)) {
			return b, errRead
		}
		var a []ranked[V, R]
		if n > 0 {
			a = make([]ranked[V, R], n)
		}
		rows := rowsOf(a)
		var err error
		if b, err = p.wire.read(b, upTo(&p.slots, len(a)), &rows); err != nil {
			return b, err
		}
		if !slices.IsSortedFunc(a, p.order) {
			return b, errRead
		}
		*p.at(s) = a
	}
	return b, nil
}

// order is negative if y, which stands behind x, belongs before it.
func (p *leadersPart[T, V, R]) order(y, x ranked[V, R]) int {
	if p.beats(y.By, y.Time, &x) {
		return -1
	}
	return 0
}

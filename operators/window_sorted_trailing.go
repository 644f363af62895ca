package operators

import (
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// trailing makes the windows of Trailing out of sorted records, by the method of van Herk (1992) and of Gil and Werman (1993): time is cut into
// blocks as long as a window, so that a window is the end of one block and the beginning of the next. Of the block that records come to a
// prefix is kept, and of the one before it the suffixes from each of its records on, made at once when it is over. Each record is so merged once
// into a prefix, once into a suffix, and each result is made of one of both. As blocks follow from times alone, a restored window is made
// of the same merges as without a crash.
type trailing[K comparable, T, R any] struct {
	*sorted[K, T, R]
	d      flow.Timestamp
	blocks []trailingBlock // by key
	sum    agg.Slot        // where prefix and suffix are merged, plus 1
}

// trailingBlock is the block of a key's newest record that had its turn. Entries of the block before it hold suffixes.
type trailingBlock struct {
	number int64
	prefix agg.Slot // plus 1; 0: there are no records
}

func (s *trailing[K, T, R]) of(key flow.Slot) *trailingBlock {
	if int(key) >= len(s.blocks) {
		s.blocks = append(s.blocks, make([]trailingBlock, max(s.keys.Cap(), int(key)+1)-len(s.blocks))...)
	}
	return &s.blocks[key]
}

// number is that of the block that a moment lies in.
func (s *trailing[K, T, R]) number(at flow.Timestamp) int64 {
	n := int64(at / s.d)
	if at%s.d < 0 {
		n--
	}
	return n
}

func (s *trailing[K, T, R]) reach(key flow.Slot, i, j int, out *flow.Output[window.Result[K, R]]) int {
	es, p, b := s.line.of[key], &s.places[key], s.of(key)
	at := es[i].at
	s.forgetOld(es, p, i, at)
	number := s.number(at)
	cost := 1 + 2*(j-i)
	if b.prefix == 0 || number != b.number {
		cost += i - p.head
		s.suffixes(es, p.head, i)
		if b.prefix == 0 {
			b.prefix = s.acc.alloc() + 1
		} else {
			s.acc.Empty(b.prefix - 1)
		}
		b.number = number
	}
	prefix := b.prefix - 1
	for k := i; k < j; k++ {
		s.acc.Merge(prefix, es[k].v-1)
	}
	from := prefix
	if p.head < i && s.number(es[p.head].at) != number {
		if s.sum == 0 {
			s.sum = s.acc.alloc() + 1
		}
		from = s.sum - 1
		s.acc.Merge(from, es[p.head].v-1)
		s.acc.Merge(from, prefix)
	}
	start := at - (s.d - 1)
	if start > at || start == flow.None {
		start = flow.None + 1
	}
	for k := range j - i {
		r := out.Next(at, nil)
		r.Key, r.Start, r.End, r.Value, r.Pane.Index = s.keys.Key(key), start, windowEnd(at, 1), s.acc.Result(from), k
	}
	if from != prefix {
		s.acc.Empty(from)
	}
	return cost
}

// forgetOld releases the entries before i that are outside of the window that ends at a moment.
func (s *trailing[K, T, R]) forgetOld(es []entry[agg.Slot], p *progress, i int, at flow.Timestamp) {
	for p.head < i && uint64(at)-uint64(es[p.head].at) >= uint64(s.d) {
		s.release(&es[p.head])
		p.head++
	}
}

// suffixes makes of the entries [i, j) what they and those behind them come to.
func (s *trailing[K, T, R]) suffixes(es []entry[agg.Slot], i, j int) {
	for k := j - 2; k >= i; k-- {
		s.acc.Merge(es[k].v-1, es[k+1].v-1)
	}
}

// restore makes prefix and suffixes of the n entries that had their turn.
func (s *trailing[K, T, R]) restore(key flow.Slot, n int) {
	if n == 0 {
		return
	}
	es, p, b := s.line.of[key], &s.places[key], s.of(key)
	s.forgetOld(es, p, n, es[n-1].at)
	b.number, b.prefix = s.number(es[n-1].at), s.acc.alloc()+1
	i := n
	for i > p.head && s.number(es[i-1].at) == b.number {
		i--
	}
	s.suffixes(es, p.head, i)
	for k := i; k < n; k++ {
		s.acc.Merge(b.prefix-1, es[k].v-1)
	}
}

func (s *trailing[K, T, R]) empty(key flow.Slot) {
	if b := s.of(key); b.prefix > 0 {
		s.acc.release(b.prefix - 1)
		*b = trailingBlock{}
	}
}

func (s *trailing[K, T, R]) end(*flow.Output[window.Result[K, R]]) {}

// AppendPage implements flow.PageStore: all that there is follows from the records.
func (s *trailing[K, T, R]) AppendPage(b []byte, _ int64, _ uint32) []byte { return b }

// ReadPage implements flow.PageStore.
func (s *trailing[K, T, R]) ReadPage(int64, uint32, []byte) error { return errPage }

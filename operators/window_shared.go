package operators

import (
	"math/bits"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
)

// shares holds, by key, what sliding windows that follow each other have in common, so that a firing merges a few accumulators and not all
// slices of its window. It is the method of two stacks, with the flips in places that follow from times and key groups alone (van Herk 1992; Gil
// and Werman 1993): time is cut by boundaries as far from each other as a window is long, so that each window is the end of one stretch and the
// beginning of the next. Of the one a key keeps the suffixes from each beginning of a window on, made at once at the first window that begins
// there, of the other the prefix so far. Nothing of it is stored: slices make it again, by the same merges, so that a result is the same to the last
// bit whether it was made once, again after a crash, or out of turn. Boundaries of key groups lie apart, which spreads the flips over the firings.
//
// A key has at most as many suffixes as slices. Keys have dense numbers here, by which their accumulators lie side by side in a slice: a slot
// of flow.Keys says the key group too, and few keys lie far apart by it.
type shares[T, R any] struct {
	size, slide, offset flow.Timestamp
	acc                 accumulators[T, R]
	// numbers are those of keys, by slot, plus 1, 0 without a slice; keys and of are by number, held are keys with slices by page, a bit each.
	numbers []uint32
	keys    []flow.Slot
	of      []share
	freed   []uint32
	held    []uint64

	suffixes []suffix // the first one stands for none
	free     uint32
	// sum is where a window is merged whose suffix is needed again, and spent the suffix of the last one that is not, both plus 1.
	sum, spent agg.Slot
	filled     bool // sum
	merged     int
}

// share is what is kept of a key.
type share struct {
	// bound is the boundary, None if nothing is kept.
	bound flow.Timestamp
	// have: suffixes are there from this moment on. upTo: the prefix holds what lies from the boundary up to here.
	have, upTo flow.Timestamp
	// newest is the beginning of the key's last slice.
	newest flow.Timestamp
	head   uint32   // the longest suffix
	prefix agg.Slot // plus 1, 0 if there is nothing in it
}

// suffix is what the slices from a moment up to the boundary come to.
type suffix struct {
	at   flow.Timestamp
	acc  agg.Slot
	next uint32 // the next shorter one
}

// newShares returns nil where windows have too little in common.
func newShares[T, R any](size, slide, slice, offset flow.Timestamp, store agg.Store[T, R]) *shares[T, R] {
	if slide >= size || size/slice < 3 || size > 1<<60 {
		return nil
	}
	return &shares[T, R]{size: size, slide: slide, offset: offset, acc: accumulators[T, R]{Store: store}, suffixes: make([]suffix, 1)}
}

// number gives a key without slices its number, which it has as long as it has any.
func (s *shares[T, R]) number(key flow.Slot, keys int) uint32 {
	if n := max(keys, int(key)+1) - len(s.numbers); n > 0 {
		s.numbers = append(s.numbers, make([]uint32, n)...)
	}
	if n := int(key.Page()) + 1 - len(s.held); n > 0 {
		s.held = append(s.held, make([]uint64, n)...)
	}
	s.held[key.Page()] |= 1 << (key % flow.PageSize)
	var id uint32
	if n := len(s.freed); n > 0 {
		id, s.freed = s.freed[n-1], s.freed[:n-1]
	} else {
		id, s.keys, s.of = uint32(len(s.keys)), append(s.keys, 0), append(s.of, share{})
	}
	s.numbers[key], s.keys[id], s.of[id] = id+1, key, share{bound: flow.None, newest: flow.None}
	return id
}

// hold takes note that a key has got an accumulator in a slice.
func (s *shares[T, R]) hold(id uint32, start flow.Timestamp) {
	s.of[id].newest = max(s.of[id].newest, start)
}

// forget takes note that a key's slice is freed, the earliest that it has.
func (s *shares[T, R]) forget(id uint32, start flow.Timestamp) {
	c := &s.of[id]
	if c.newest != start {
		return
	}
	s.drop(c)
	key := s.keys[id]
	s.numbers[key] = 0
	s.held[key.Page()] &^= 1 << (key % flow.PageSize)
	s.freed = append(s.freed, id)
}

// keysOf visits the keys of a page that have slices, with their numbers.
func (s *shares[T, R]) keysOf(page uint32, f func(key flow.Slot, id uint32)) {
	if int(page) < len(s.held) {
		for held := s.held[page]; held != 0; held &= held - 1 {
			key := flow.Slot(page)*flow.PageSize + flow.Slot(bits.TrailingZeros64(held))
			f(key, s.numbers[key]-1)
		}
	}
}

// window makes a key's window out of its slices, which it shares with windows that began earlier if c is where those left theirs. ok is false where
// there is nothing in it. done is to be called behind the use of its result.
func (s *shares[T, R]) window(c *share, id uint32, group uint16, of []*pane, end flow.Timestamp) (at agg.Slot, ok bool) {
	start := end - s.size
	if b := s.boundary(start, group); c.bound != b || end < c.upTo {
		s.drop(c)
		c.bound, c.have, c.upTo = b, b, b
	}
	s.cut(c, start)
	if start < c.have {
		s.extend(c, id, of)
		c.have = start
	}
	s.advance(c, id, of, end)
	switch {
	case c.head == 0:
		return c.prefix - 1, c.prefix > 0
	case c.prefix == 0:
		return s.suffixes[c.head].acc, true
	case s.suffixes[c.head].at < start+s.slide: // no later window needs it
		at = s.suffixes[c.head].acc
		s.merge(at, c.prefix-1)
		s.spent, c.head = at+1, s.remove(c.head)
		return at, true
	}
	if s.sum == 0 {
		s.sum = s.acc.alloc() + 1
	}
	s.merge(s.sum-1, s.suffixes[c.head].acc)
	s.merge(s.sum-1, c.prefix-1)
	s.filled = true
	return s.sum - 1, true
}

// done gives back what window has used up.
func (s *shares[T, R]) done() {
	if s.filled {
		s.acc.Empty(s.sum - 1)
		s.filled = false
	}
	if s.spent > 0 {
		s.acc.release(s.spent - 1)
		s.spent = 0
	}
}

// boundary is the first one behind the beginning of a window.
func (s *shares[T, R]) boundary(start flow.Timestamp, group uint16) flow.Timestamp {
	shift := flow.Timestamp(group) % (s.size / s.slide) * s.slide
	since := (start%s.size - s.offset%s.size - shift) % s.size
	if since < 0 {
		since += s.size
	}
	return start + s.size - since
}

// cut drops the suffixes that begin before a moment.
func (s *shares[T, R]) cut(c *share, at flow.Timestamp) {
	for c.head != 0 && s.suffixes[c.head].at < at {
		s.acc.release(s.suffixes[c.head].acc)
		c.head = s.remove(c.head)
	}
}

// extend makes the suffixes from the first of these slices on, as far as they are not there. Slices that no beginning of a window parts make one.
func (s *shares[T, R]) extend(c *share, id uint32, of []*pane) {
	j := 0
	for j < len(of) && of[j].start < c.have {
		j++
	}
	for j > 0 {
		first := s.together(of[j-1])
		i := j - 1
		for i > 0 && of[i-1].start >= first {
			i--
		}
		var acc agg.Slot // plus 1
		var at flow.Timestamp
		for _, p := range of[i:j] {
			if from, ok := p.find(id); ok {
				if acc == 0 {
					acc, at = s.acc.alloc()+1, p.start
				}
				s.merge(acc-1, from)
			}
		}
		if acc > 0 {
			if c.head != 0 {
				s.merge(acc-1, s.suffixes[c.head].acc)
			}
			c.head = s.add(suffix{at, acc - 1, c.head})
		}
		j = i
	}
}

// together is the beginning of the last window that begins by a slice: what lies behind it is in all windows that the slice is in.
func (s *shares[T, R]) together(p *pane) flow.Timestamp {
	if p.end-p.start == s.slide {
		return p.start
	}
	return windowStart(p.start, s.offset, s.slide)
}

// advance adds to the prefix what lies before a moment.
func (s *shares[T, R]) advance(c *share, id uint32, of []*pane, end flow.Timestamp) {
	k := len(of)
	for k > 0 && of[k-1].start >= c.upTo {
		k--
	}
	for _, p := range of[k:] {
		if from, ok := p.find(id); ok {
			if c.prefix == 0 {
				c.prefix = s.acc.alloc() + 1
			}
			s.merge(c.prefix-1, from)
		}
	}
	c.upTo = end
}

// spoil takes note that a key's slice has changed.
func (s *shares[T, R]) spoil(key flow.Slot, p *pane) {
	c := &s.of[s.numbers[key]-1]
	switch {
	case c.bound == flow.None || p.start >= c.upTo: // not in it yet
	case p.start >= c.bound:
		c.upTo = c.bound
		s.clearPrefix(c)
	default:
		behind := min(windowEnd(s.together(p), s.slide), c.bound)
		s.cut(c, behind)
		c.have = max(c.have, behind)
	}
}

// drop forgets what is kept.
func (s *shares[T, R]) drop(c *share) {
	for c.head != 0 {
		s.acc.release(s.suffixes[c.head].acc)
		c.head = s.remove(c.head)
	}
	s.clearPrefix(c)
	c.bound = flow.None
}

func (s *shares[T, R]) clearPrefix(c *share) {
	if c.prefix > 0 {
		s.acc.release(c.prefix - 1)
		c.prefix = 0
	}
}

func (s *shares[T, R]) merge(into, from agg.Slot) {
	s.merged++
	s.acc.Merge(into, from)
}

func (s *shares[T, R]) add(x suffix) uint32 {
	n := s.free
	if n == 0 {
		s.suffixes = append(s.suffixes, x)
		return uint32(len(s.suffixes) - 1)
	}
	s.free = s.suffixes[n].next
	s.suffixes[n] = x
	return n
}

// remove frees a suffix and returns the next one.
func (s *shares[T, R]) remove(n uint32) (next uint32) {
	next = s.suffixes[n].next
	s.suffixes[n].next, s.free = s.free, n
	return next
}

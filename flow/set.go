package flow

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow/huge"
)

// DefaultMaxEntries caps a Set.
const DefaultMaxEntries = 20_000_000

// Set remembers ids under keys for a time, as 128-bit seeded fingerprints: 24 bytes each, in generations that are dropped whole.
//
// State: one entry per distinct id, freed when the watermark passes max(record time, watermark on arrival) + ttl. At MaxEntries the
// oldest generation is evicted and counted.
type Set[ID comparable] struct {
	MaxEntries int

	s       *nodeState
	nt      *nodeTask
	code    *keyBytes[ID]
	prints  func([]Slot, [][2]uint64)
	groupOf func(Slot) uint16
	space   byte
	ttl     Timestamp
	gens    []*setGen // by number
	n       int
	chunks  map[int64][]byte // new entries by generation
	drops   []setDrop
	buf     []byte
	evicted bool
	hold    [][2]uint64
	touched uint64 // so that touching is not optimized away
}

type setDrop struct {
	number  int64
	evicted bool
}

// setGen is a hash table whose tags, the low halves of fingerprints, lie by themselves: they say nearly always whether an id is there. A place is free
// where its tag is 0: real ones are moved off it.
type setGen struct {
	number int64
	tags   []uint64
	rest   []setRest
	mask   uint64
	n      int
}

type setRest struct {
	hi    uint64
	until Timestamp
}

const setChunkEntry = 26

// OpenSet opens a set of ids of the keys of an operator's task, which must be open; ttl must be positive.
func OpenSet[ID comparable](rt Runtime, name string, s *Set[ID], ttl time.Duration) error {
	st := rt.n.state()
	k, ok := st.keys.(interface {
		print()
		printsOf([]Slot, [][2]uint64)
		groupOf(Slot) uint16
	})
	if !ok {
		return fmt.Errorf("set %q: open the keys first", name)
	}
	if ttl <= 0 {
		return fmt.Errorf("set %q: the ttl %v is not positive", name, ttl)
	}
	if s.code == nil {
		if s.code = bytesOf[ID](); s.code == nil {
			return fmt.Errorf("set %q: ids of type %T have no natural bytes: use a string, a number or a byte array", name, *new(ID))
		}
	}
	if s.MaxEntries <= 0 {
		s.MaxEntries = DefaultMaxEntries
	}
	k.print()
	s.s, s.nt, s.prints, s.groupOf, s.ttl = st, rt.n, k.printsOf, k.groupOf, Timestamp(ttl)
	s.chunks = map[int64][]byte{}
	s.space = st.nextSpace("set", name, fmt.Sprintf("%s/%d", s.code.id, ttl), s)
	return st.scan(s.space, func(rest, v []byte) error {
		if len(rest) < 8 || len(v)%setChunkEntry != 0 {
			return errCorrupt
		}
		g := s.gen(timeOf(binary.BigEndian.Uint64(rest)))
		for ; len(v) > 0; v = v[setChunkEntry:] {
			group := int(binary.LittleEndian.Uint16(v))
			if group < st.lo || group >= st.hi {
				continue
			}
			lo, hi := binary.LittleEndian.Uint64(v[2:]), binary.LittleEndian.Uint64(v[10:])
			until := Timestamp(binary.LittleEndian.Uint64(v[18:]))
			if lo == 0 {
				lo = 1
			}
			if e := g.find(lo, hi); e != nil {
				until = max(until, e.until)
			}
			if g.put(lo, hi, until) {
				s.n++
			}
		}
		return nil
	})
}

func (k *Keys[K]) print() { k.t.printAll() }

// printsOf fills prints with those of keys.
func (k *Keys[K]) printsOf(keys []Slot, prints [][2]uint64) {
	for i, s := range keys {
		prints[i] = k.t.prints[s]
	}
}

func (k *Keys[K]) groupOf(s Slot) uint16 { return k.t.pages[s.Page()].group }

// Len is the number of ids.
func (s *Set[ID]) Len() int { return s.n }

// AddToSet looks up ids[i] under the key keys[i] at the time of in[i], with the watermark wm, and remembers it: seen[i] tells whether
// it was there, seen at most the ttl of event time before.
func AddToSet[ID comparable, T any](s *Set[ID], keys []Slot, ids []ID, in []Record[T], wm Timestamp, seen []bool) {
	if cap(s.hold) < len(ids) {
		s.hold = make([][2]uint64, max(len(ids), MaxBatch))
	}
	fp := s.hold[:len(ids)]
	b := s.buf
	s.prints(keys[:len(ids)], fp)
	for i := range ids {
		b = s.code.append(b[:0], ids[i])
		fp[i] = print128(b, fp[i])
		if fp[i][0] == 0 {
			fp[i][0] = 1
		}
	}
	s.buf = b
	s.touch(fp)
	for i := range fp {
		seen[i] = s.add(fp[i], keys[i], in[i].Time, wm)
	}
}

// touch reads the first place of each fingerprint in each generation, so that the cache misses overlap.
func (s *Set[ID]) touch(fp [][2]uint64) {
	for n, g := range s.gens {
		if len(g.tags) < touchFrom {
			continue
		}
		tags, rest, mask, sum := g.tags, g.rest, g.mask, uint64(0)
		if n < len(s.gens)-1 {
			for i := range fp {
				sum |= tags[fp[i][0]&mask]
			}
		} else { // most are put there
			for i := range fp {
				sum |= tags[fp[i][0]&mask] | rest[fp[i][0]&mask].hi
			}
		}
		s.touched |= sum
	}
}

// touchFrom is how many places a generation has that does not lie in the nearest caches.
const touchFrom = 1 << 15

// HasKeyBytes tells whether K can be a key or an id without a KeyCodec: strings, numbers, bool, byte arrays, struct{}.
func HasKeyBytes[K comparable]() bool { return bytesOf[K]() != nil }

func (s *Set[ID]) add(fp [2]uint64, key Slot, t, wm Timestamp) bool {
	now := max(t, wm)
	if t == None {
		now = max(wm, 0)
	}
	until := now + s.ttl
	if until < now {
		until = EndOfTime
	}
	for i := len(s.gens) - 1; i >= 0; i-- {
		g := s.gens[i]
		if g.n == 0 {
			continue
		}
		e := g.find(fp[0], fp[1])
		if e == nil {
			continue
		}
		if e.until > wm && t <= e.until {
			return true
		}
	}
	g := s.gen(int64(until) / int64(s.ttl))
	if g.put(fp[0], fp[1], until) {
		s.n++
	}
	if s.s.u.db != nil {
		c := s.chunks[g.number]
		c = binary.LittleEndian.AppendUint16(c, s.groupOf(key))
		c = binary.LittleEndian.AppendUint64(c, fp[0])
		c = binary.LittleEndian.AppendUint64(c, fp[1])
		s.chunks[g.number] = binary.LittleEndian.AppendUint64(c, uint64(until))
	}
	if s.n > s.MaxEntries && len(s.gens) > 1 {
		s.nt.count("dedup_evicted", int64(s.gens[0].n))
		if !s.evicted {
			s.evicted = true
			s.nt.log.Warn("the set of ids is full: the oldest are forgotten and may count twice; raise MaxEntries or shorten the ttl", "entries", s.n)
		}
		s.dropOldest(true)
	}
	return false
}

// Advance frees the ids whose time is up.
func (s *Set[ID]) Advance(wm Timestamp) {
	for len(s.gens) > 0 && wm != None {
		end := s.gens[0].number + 1
		if end > int64(EndOfTime)/int64(s.ttl) || Timestamp(end)*s.ttl > wm {
			return
		}
		s.dropOldest(false)
	}
}

func (s *Set[ID]) dropOldest(evict bool) {
	g := s.gens[0]
	s.n -= g.n
	s.gens = s.gens[1:]
	delete(s.chunks, g.number)
	s.drops = append(s.drops, setDrop{g.number, evict})
}

// gen returns generation n, making it.
func (s *Set[ID]) gen(n int64) *setGen {
	i := len(s.gens)
	for i > 0 && s.gens[i-1].number >= n {
		i--
	}
	if i < len(s.gens) && s.gens[i].number == n {
		return s.gens[i]
	}
	size := 64
	if i > 0 { // it will hold about as many as the one before
		size = min(len(s.gens[i-1].tags), 1<<20)
	}
	g := &setGen{number: n, tags: huge.Make[uint64](size), rest: huge.Make[setRest](size), mask: uint64(size - 1)}
	s.gens = append(s.gens, nil)
	copy(s.gens[i+1:], s.gens[i:])
	s.gens[i] = g
	return g
}

func (g *setGen) find(lo, hi uint64) *setRest {
	for p := lo & g.mask; ; p = (p + 1) & g.mask {
		switch g.tags[p] {
		case 0:
			return nil
		case lo:
			if e := &g.rest[p]; e.hi == hi {
				return e
			}
		}
	}
}

// put makes an id last until a time, and tells whether it is new.
func (g *setGen) put(lo, hi uint64, until Timestamp) bool {
	p := lo & g.mask
	for ; g.tags[p] != 0; p = (p + 1) & g.mask {
		if g.tags[p] == lo && g.rest[p].hi == hi {
			g.rest[p].until = until
			return false
		}
	}
	if (g.n+1)*3 > len(g.tags)*2 {
		g.grow()
		g.place(lo, setRest{hi, until})
	} else {
		g.tags[p], g.rest[p] = lo, setRest{hi, until}
	}
	g.n++
	return true
}

func (g *setGen) grow() {
	tags, rest := g.tags, g.rest
	g.tags, g.rest = huge.Make[uint64](2*len(tags)), huge.Make[setRest](2*len(tags))
	g.mask = uint64(len(g.tags) - 1)
	for i, lo := range tags {
		if lo != 0 {
			g.place(lo, rest[i])
		}
	}
}

func (g *setGen) place(lo uint64, e setRest) {
	p := lo & g.mask
	for g.tags[p] != 0 {
		p = (p + 1) & g.mask
	}
	g.tags[p], g.rest[p] = lo, e
}

func (s *Set[ID]) collect(w *changes) {
	for _, d := range s.drops {
		n := d.number
		lo, hi := nodePrefix(s.s.id, s.space), nodePrefix(s.s.id, s.space)
		lo = binary.BigEndian.AppendUint64(lo, orderedTime(n))
		hi = binary.BigEndian.AppendUint64(hi, orderedTime(n))
		// At an epoch all tasks have seen the same watermark, so the first one may delete the generation of all, those that a run
		// with another parallelism wrote included; an eviction is a task's own.
		if s.s.lo == 0 && s.s.u.scope < 0 && !d.evicted {
			w.deleteRange(lo, binary.BigEndian.AppendUint64(nodePrefix(s.s.id, s.space), orderedTime(n)+1))
		} else {
			w.deleteRange(binary.BigEndian.AppendUint16(lo, uint16(s.s.lo)), binary.BigEndian.AppendUint16(hi, uint16(s.s.lo)+1))
		}
	}
	s.drops = s.drops[:0]
	for n, c := range s.chunks {
		w.space(s.s.id, s.space)
		w.appendUint64(orderedTime(n))
		w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(s.s.lo))
		w.appendUint64(s.s.u.generation)
		w.appendUint64(s.s.u.epoch)
		w.value()
		w.buf = append(w.buf, c...)
		w.put()
		delete(s.chunks, n)
	}
}

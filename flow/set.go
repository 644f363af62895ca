package flow

import (
	"encoding/binary"
	"fmt"
	"time"
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
	prints  func(Slot) [2]uint64
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
}

type setDrop struct {
	number  int64
	evicted bool
}

type setGen struct {
	number int64
	tab    []setEntry
	mask   uint64
	n      int
}

// setEntry is free where until is 0: real ones are moved off it.
type setEntry struct {
	lo, hi uint64
	until  Timestamp
}

const setChunkEntry = 26

// OpenSet opens a set of ids of the keys of an operator's task, which must be open; ttl must be positive.
func OpenSet[ID comparable](rt Runtime, name string, s *Set[ID], ttl time.Duration) error {
	st := rt.n.state()
	k, ok := st.keys.(interface {
		printOf(Slot) [2]uint64
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
	s.s, s.nt, s.prints, s.groupOf, s.ttl = st, rt.n, k.printOf, k.groupOf, Timestamp(ttl)
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
			if e := g.find(lo, hi); e != nil {
				e.until = max(e.until, until)
				continue
			}
			g.add(lo, hi, until)
			s.n++
		}
		return nil
	})
}

func (k *Keys[K]) printOf(s Slot) [2]uint64 { return k.t.prints[s] }
func (k *Keys[K]) groupOf(s Slot) uint16    { return k.t.pages[s.Page()].group }

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
	for i := range ids {
		b = s.code.append(b[:0], ids[i])
		fp[i] = print128(b, s.prints(keys[i]))
	}
	s.buf = b
	for i := range fp {
		seen[i] = s.add(fp[i], keys[i], in[i].Time, wm)
	}
}

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
	if until == 0 {
		until = 1
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
	if e := g.find(fp[0], fp[1]); e != nil {
		e.until = until
	} else {
		g.add(fp[0], fp[1], until)
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
	g := &setGen{number: n, tab: make([]setEntry, 64), mask: 63}
	s.gens = append(s.gens, nil)
	copy(s.gens[i+1:], s.gens[i:])
	s.gens[i] = g
	return g
}

func (g *setGen) find(lo, hi uint64) *setEntry {
	for p := lo & g.mask; ; p = (p + 1) & g.mask {
		e := &g.tab[p]
		if e.until == 0 {
			return nil
		}
		if e.lo == lo && e.hi == hi {
			return e
		}
	}
}

func (g *setGen) add(lo, hi uint64, until Timestamp) {
	if (g.n+1)*3 > len(g.tab)*2 {
		old := g.tab
		g.tab = make([]setEntry, 2*len(old))
		g.mask = uint64(len(g.tab) - 1)
		for _, e := range old {
			if e.until != 0 {
				g.place(e)
			}
		}
	}
	g.place(setEntry{lo, hi, until})
	g.n++
}

func (g *setGen) place(e setEntry) {
	p := e.lo & g.mask
	for g.tab[p].until != 0 {
		p = (p + 1) & g.mask
	}
	g.tab[p] = e
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

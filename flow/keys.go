package flow

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/zeebo/xxh3"

	"github.com/millrace-stream/millrace/flow/huge"
)

// keyTable interns the keys of one exchange within one task: each key has a dense slot while anybody holds it. Pages of 64 slots
// hold keys of one key group, so that state can be written and moved by page.
type keyTable[K comparable] struct {
	code   *keyBytes[K]
	idx    []uint64 // open addressing: upper 32 bits of the hash, then slot+1; 0 is empty
	mask   uint64
	used   int // occupied places of idx
	keys   []K
	short  []shortKey // of keys, where they are strings
	hashes []uint64
	prints [][2]uint64 // 128-bit seeded fingerprint of the key, where sets ask for it
	refs   []uint32
	live   []uint64 // bitmap per page: slot holds a key
	pages  []pageInfo
	groups [KeyGroups][]uint32 // pages of a group
	free   [KeyGroups][]Slot
	// loose are slots that nobody may hold, looked through when they are many; listed has a bit for each of them.
	loose  []Slot
	listed []uint64
	// held is how many slots somebody holds, and peak how many it were of late.
	held, peak int
	seed       uint64
	// printing: there are prints.
	printing bool
	// scope is the number of the partition that owns all keys, -1 where keys are stored by their group.
	scope int
	buf   []byte
	want  []uint32 // scratch of lookup
}

// groupBits are the low bits of a hash that make its key group: a task has a run of groups, so places in its table follow from the bits
// above.
const groupBits = 10

type pageInfo struct {
	group uint16
	local uint32 // number within the group
}

func newKeyTable[K comparable](code *keyBytes[K], seed uint64) *keyTable[K] {
	return &keyTable[K]{code: code, idx: make([]uint64, 256), mask: 255, seed: seed, scope: -1}
}

// group is the group that a key is stored under.
func (t *keyTable[K]) group(hash uint64) uint64 {
	if t.scope >= 0 {
		return uint64(t.scope)
	}
	return hash % KeyGroups
}

// lookup finds or makes the slots of keys.
func (t *keyTable[K]) lookup(keys []K, hashes []uint64, slots []Slot) {
	idx, mask := t.idx, t.mask
	// First touch all, so that the cache misses overlap; most keys are found at their first or second place.
	if cap(t.want) < len(keys) {
		t.want = make([]uint32, max(len(keys), MaxBatch))
	}
	want := t.want[:len(keys)]
	hashes = hashes[:len(keys)]
	slots = slots[:len(keys)]
	for i, h := range hashes {
		p, tag := h>>groupBits&mask, uint32(h>>32)
		w := uint32(0)
		if e := idx[p]; uint32(e>>32) == tag {
			w = uint32(e)
		} else if e := idx[(p+1)&mask]; uint32(e>>32) == tag {
			w = uint32(e)
		}
		want[i] = w
	}
	t.match(keys, want)
	for i := range keys {
		if w := want[i]; w != 0 {
			slots[i] = Slot(w - 1)
			continue
		}
		slots[i] = t.find(keys[i], hashes[i])
	}
}

// match clears want[i], a slot plus 1, where that slot holds another key than keys[i].
func (t *keyTable[K]) match(keys []K, want []uint32) {
	if t.code.short != nil {
		// K is a kind of string.
		ss := unsafe.Slice((*string)(unsafe.Pointer(unsafe.SliceData(keys))), len(keys))
		held := unsafe.Slice((*string)(unsafe.Pointer(unsafe.SliceData(t.keys))), len(t.keys))
		matchShort(ss, held, t.short, want)
		return
	}
	held := t.keys
	for i := range keys {
		if w := want[i]; w != 0 && held[w-1] != keys[i] {
			want[i] = 0
		}
	}
}

func (t *keyTable[K]) find(k K, h uint64) Slot {
	tag := h >> 32 << 32
	for p := h >> groupBits & t.mask; ; p = (p + 1) & t.mask {
		e := t.idx[p]
		if e == 0 {
			break
		}
		if e>>32<<32 == tag && t.keys[uint32(e)-1] == k {
			return Slot(uint32(e) - 1)
		}
	}
	g := t.group(h)
	var s Slot
	if f := t.free[g]; len(f) > 0 {
		s = f[len(f)-1]
		t.free[g] = f[:len(f)-1]
	} else {
		s = t.newPage(uint16(g))
		for i := Slot(PageSize - 1); i > 0; i-- {
			t.free[g] = append(t.free[g], s+i)
		}
	}
	t.put(s, k, h)
	return s
}

// newPage adds a page to a group and returns its first slot.
func (t *keyTable[K]) newPage(g uint16) Slot {
	s := Slot(len(t.keys))
	t.keys = huge.Grow(t.keys, PageSize)
	t.hashes = huge.Grow(t.hashes, PageSize)
	if t.code.short != nil {
		t.short = huge.Grow(t.short, PageSize)
	}
	if t.printing {
		t.prints = huge.Grow(t.prints, PageSize)
	}
	t.refs = huge.Grow(t.refs, PageSize)
	t.live = append(t.live, 0)
	t.listed = append(t.listed, 0)
	t.groups[g] = append(t.groups[g], uint32(len(t.pages)))
	t.pages = append(t.pages, pageInfo{g, uint32(len(t.groups[g]) - 1)})
	return s
}

// put makes slot s hold k.
func (t *keyTable[K]) put(s Slot, k K, h uint64) {
	if (t.used+1)*2 > len(t.idx) {
		t.grow()
	}
	k = t.code.clone(k)
	t.keys[s], t.hashes[s], t.refs[s] = k, h, 0
	if t.code.short != nil {
		t.short[s] = t.code.short(k)
	}
	if t.printing {
		t.print(s)
	}
	t.live[s/PageSize] |= 1 << (s % PageSize)
	t.insert(h, s)
	t.used++
	t.list(s)
}

// print makes the fingerprint of slot s.
func (t *keyTable[K]) print(s Slot) {
	t.buf = t.code.append(t.buf[:0], t.keys[s])
	p := xxh3.Hash128Seed(t.buf, t.seed)
	t.prints[s] = [2]uint64{p.Lo, p.Hi}
}

// printAll makes the fingerprints of all keys, and from now on those of new ones.
func (t *keyTable[K]) printAll() {
	if t.printing {
		return
	}
	t.printing = true
	t.prints = huge.Make[[2]uint64](len(t.keys))
	for page, live := range t.live {
		for i := range Slot(PageSize) {
			if live>>i&1 != 0 {
				t.print(Slot(page)*PageSize + i)
			}
		}
	}
}

func (t *keyTable[K]) insert(h uint64, s Slot) {
	p := h >> groupBits & t.mask
	for t.idx[p] != 0 {
		p = (p + 1) & t.mask
	}
	t.idx[p] = h>>32<<32 | uint64(s) + 1
}

func (t *keyTable[K]) grow() {
	t.idx = huge.Make[uint64](2 * len(t.idx))
	t.mask = uint64(len(t.idx) - 1)
	for page, live := range t.live {
		for i := range Slot(PageSize) {
			if live>>i&1 != 0 {
				s := Slot(page)*PageSize + i
				t.insert(t.hashes[s], s)
			}
		}
	}
}

// keepLoose is how many slots that nobody holds may stay in any case.
const keepLoose = 1 << 14

// sweep frees the slots that nobody holds, where there are more than were held of late: keys that come again, as they do behind a window that has
// fired, are found where they were. It is called between batches only, since operators may use slots within one.
func (t *keyTable[K]) sweep() {
	t.peak = max(t.held, t.peak-t.peak/256)
	if t.used <= t.peak+t.peak/4+keepLoose {
		return
	}
	var zero K
	for _, s := range t.loose {
		page, bit := s/PageSize, uint64(1)<<(s%PageSize)
		t.listed[page] &^= bit
		if t.refs[s] != 0 || t.live[page]&bit == 0 {
			continue
		}
		t.remove(t.hashes[s], s)
		t.keys[s] = zero
		t.live[page] &^= bit
		g := t.pages[page].group
		t.free[g] = append(t.free[g], s)
		t.used--
	}
	t.loose = t.loose[:0]
}

// list puts slot s among the loose ones.
func (t *keyTable[K]) list(s Slot) {
	if page, bit := s/PageSize, uint64(1)<<(s%PageSize); t.listed[page]&bit == 0 {
		t.listed[page] |= bit
		t.loose = append(t.loose, s)
	}
}

// remove takes the entry of slot s out, moving back those that had to step over it.
func (t *keyTable[K]) remove(h uint64, s Slot) {
	p := h >> groupBits & t.mask
	for uint32(t.idx[p]) != uint32(s)+1 {
		p = (p + 1) & t.mask
	}
	hole := p
	for q := (p + 1) & t.mask; t.idx[q] != 0; q = (q + 1) & t.mask {
		home := t.hashes[uint32(t.idx[q])-1] >> groupBits & t.mask
		if (q-home)&t.mask >= (q-hole)&t.mask {
			t.idx[hole] = t.idx[q]
			hole = q
		}
	}
	t.idx[hole] = 0
}

func (t *keyTable[K]) retain(s Slot) {
	if t.refs[s] == 0 {
		t.held++
	}
	t.refs[s]++
}

func (t *keyTable[K]) release(s Slot) {
	t.refs[s]--
	if t.refs[s] == 0 {
		t.held--
		t.list(s)
	}
}

// pageOf returns the page with the number local of group g, making the ones missing.
func (t *keyTable[K]) pageOf(g uint16, local uint32) uint32 {
	for uint32(len(t.groups[g])) <= local {
		s := t.newPage(g)
		for i := Slot(PageSize); i > 0; i-- {
			t.free[g] = append(t.free[g], s+i-1)
		}
	}
	return t.groups[g][local]
}

// restore puts k at slot s as it was stored. Another node's pages may have done so already.
func (t *keyTable[K]) restore(s Slot, k K) error {
	var h [1]uint64
	t.code.hashAll([]K{k}, h[:])
	page := s / PageSize
	if t.live[page]>>(s%PageSize)&1 != 0 {
		if t.keys[s] != k {
			return fmt.Errorf("%w: two nodes stored different keys in one place", ErrStateMismatch)
		}
		return nil
	}
	g := t.pages[page].group
	if t.group(h[0]) != uint64(g) {
		return fmt.Errorf("%w: a stored key is not in its key group", ErrStateMismatch)
	}
	f := t.free[g]
	for i := len(f) - 1; i >= 0; i-- {
		if f[i] == s {
			t.free[g] = append(f[:i], f[i+1:]...)
			break
		}
	}
	t.put(s, k, h[0])
	return nil
}

// Keys is one node's hold on the keys of its task: open it by OpenKeys. Slots of batches stay valid within the call they came with;
// beyond it only while the node retains them. Retained keys are state: they are stored and come back with the same slot order.
//
// State: one entry per retained key.
type Keys[K comparable] struct {
	t     *keyTable[K]
	s     *nodeState
	refs  []uint32
	dirty dirtyPages
	n     int
}

// OpenKeys opens the keys of an operator's task. Call it in Open, before any table.
func OpenKeys[K comparable](rt Runtime, k *Keys[K]) error {
	t, ok := rt.n.keys.(*keyTable[K])
	if !ok {
		return fmt.Errorf("the node's keys are %T, not of type Keys[%T]: use the key type of the operator's stream", rt.n.keys, *new(K))
	}
	k.t, k.s = t, rt.n.state()
	if k.s.keys != nil {
		return fmt.Errorf("OpenKeys was called twice")
	}
	k.s.keys = k
	k.s.fingerprint("keys", t.code.id)
	var provisional []Slot
	return k.s.load(spaceKeys, func(group uint16, rest, value []byte) error {
		if len(rest) != 4 || len(value) < 8 {
			return errCorrupt
		}
		page := t.pageOf(group, binary.BigEndian.Uint32(rest))
		live := binary.LittleEndian.Uint64(value)
		value = value[8:]
		for i := range Slot(PageSize) {
			if live>>i&1 == 0 {
				continue
			}
			n, w := binary.Uvarint(value)
			if w <= 0 || uint64(len(value)-w) < n {
				return errCorrupt
			}
			key, ok := t.code.decode(value[w : w+int(n)])
			if !ok {
				return errCorrupt
			}
			value = value[w+int(n):]
			s := Slot(page)*PageSize + i
			if err := t.restore(s, key); err != nil {
				return err
			}
			t.retain(s)
			provisional = append(provisional, s)
		}
		return nil
	}, func() {
		// What is read is what is stored; what no table has retained again is held by nothing.
		k.dirty.take()
		for _, s := range provisional {
			k.grow(s)
			if k.refs[s] == 0 {
				k.dirty.add(s.Page())
			}
			t.release(s)
		}
	})
}

func (k *Keys[K]) grow(s Slot) {
	if int(s) >= len(k.refs) {
		k.refs = huge.Grow(k.refs, len(k.t.keys)-len(k.refs))
	}
}

// Key is the key of a slot.
func (k *Keys[K]) Key(s Slot) K { return k.t.keys[s] }

// Group is the key group of a page.
func (k *Keys[K]) Group(page uint32) uint16 { return k.t.pages[page].group }

// Cap is the number of slots there are: all slots are below it.
func (k *Keys[K]) Cap() int { return len(k.t.keys) }

// Pages calls f for every page, in order of key group.
func (k *Keys[K]) Pages(f func(page uint32)) {
	for g := k.s.lo; g < k.s.hi; g++ {
		for _, p := range k.t.groups[g] {
			f(p)
		}
	}
}

// PageCursor is a place in the order of Pages; the zero value is its beginning.
type PageCursor struct{ group, at int }

// NextPage returns the page at c and moves c on; ok is false at the end. Pages that were added meanwhile to a group that c has passed
// are not seen.
func (k *Keys[K]) NextPage(c *PageCursor) (page uint32, ok bool) {
	for ; k.s.lo+c.group < k.s.hi; c.group, c.at = c.group+1, 0 {
		if g := k.t.groups[k.s.lo+c.group]; c.at < len(g) {
			c.at++
			return g[c.at-1], true
		}
	}
	return 0, false
}

// Progress is the share of the task's keys, from 0 to 1, that lies before c, if key groups are of one size.
func (k *Keys[K]) Progress(c PageCursor) float64 {
	p := float64(c.group)
	if k.s.lo+c.group < k.s.hi {
		if n := len(k.t.groups[k.s.lo+c.group]); n > 0 {
			p += float64(c.at) / float64(n)
		}
	}
	return p / float64(k.s.hi-k.s.lo)
}

// Len is how many keys the node retains.
func (k *Keys[K]) Len() int { return k.n }

// Find returns the slot of a key, interning it if need be.
func (k *Keys[K]) Find(key K) Slot {
	var h [1]uint64
	k.t.code.hashAll([]K{key}, h[:])
	return k.t.find(key, h[0])
}

// Retain holds a slot's key until as many calls of Release.
func (k *Keys[K]) Retain(s Slot) {
	k.grow(s)
	k.refs[s]++
	if k.refs[s] == 1 {
		k.n++
		k.t.retain(s)
		k.dirty.add(s.Page())
	}
}

// Release gives up one hold.
func (k *Keys[K]) Release(s Slot) {
	k.refs[s]--
	if k.refs[s] == 0 {
		k.n--
		k.t.release(s)
		k.dirty.add(s.Page())
	}
}

func (k *Keys[K]) collect(w *changes) {
	var b []byte
	for _, page := range k.dirty.take() {
		info := k.t.pages[page]
		w.key(k.s.id, spaceKeys, info.group)
		w.appendUint32(info.local)
		var live uint64
		first := Slot(page) * PageSize
		for i := range Slot(PageSize) {
			if int(first+i) < len(k.refs) && k.refs[first+i] > 0 {
				live |= 1 << i
			}
		}
		if live == 0 {
			w.delete()
			continue
		}
		w.value()
		w.buf = binary.LittleEndian.AppendUint64(w.buf, live)
		for i := range Slot(PageSize) {
			if live>>i&1 != 0 {
				b = k.t.code.append(b[:0], k.t.keys[first+i])
				w.buf = binary.AppendUvarint(w.buf, uint64(len(b)))
				w.buf = append(w.buf, b...)
			}
		}
		w.put()
	}
}

func (k *Keys[K]) pageInfo(page uint32) pageInfo                   { return k.t.pages[page] }
func (k *Keys[K]) pageAt(group uint16, local uint32) (page uint32) { return k.t.pageOf(group, local) }
func (k *Keys[K]) sweep()                                          { k.t.sweep() }

// dirtyPages is a set of pages in order of first touch.
type dirtyPages struct {
	list []uint32
	bits []uint64
}

func (d *dirtyPages) add(p uint32) {
	if int(p/64) >= len(d.bits) {
		d.bits = append(d.bits, make([]uint64, int(p/64)+1-len(d.bits))...)
	}
	if d.bits[p/64]>>(p%64)&1 == 0 {
		d.bits[p/64] |= 1 << (p % 64)
		d.list = append(d.list, p)
	}
}

// take returns the pages and empties the set; the slice is valid until the next add.
func (d *dirtyPages) take() []uint32 {
	l := d.list
	d.list = d.list[:0]
	for _, p := range l {
		d.bits[p/64] &^= 1 << (p % 64)
	}
	return l
}

package operators

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math/bits"
	"sort"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/huge"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// sliced runs tumbling and sliding windows that fire at the watermark. Time is cut into slices, each of which lies in or outside of every
// window as a whole; a record updates one slice, and a window is the merged slices in it.
type sliced[K comparable, T, R any] struct {
	cfg                           *window.Config
	size, slide, offset, lateness flow.Timestamp
	slice                         flow.Timestamp
	// delay is how much later than at its end a window fires.
	delay flow.Timestamp

	store agg.Store[T, R]
	late  lateRecords[T]
	keys  flow.Keys[K]
	table flow.Table
	wm    flow.Timestamp
	panes map[int64]*pane
	order []*pane // by start
	last  *pane
	slots []agg.Slot
	fires firing
	step  int
	clock flow.Clock // of Stagger, else nil
	// shared is what windows have in common that overlap much, nil for others; theirs are merged in sum.
	shared *shares[T, R]
	sum    agg.Slot
	hasSum bool
}

// pane is one slice. Its accumulators lie in blocks of 16 keys.
type pane struct {
	start, end flow.Timestamp
	// first and last are the ends of the first and the last window that hold the slice.
	first, last flow.Timestamp
	base        []agg.Slot // by block of keys: 1 + first accumulator, 0 if there is none
	present     []uint16   // by block: keys that have an accumulator
	part        *flow.Part
	// fired: a window that holds the slice has fired.
	fired bool
	// again counts the late firings, by key, of the window that ends with the slice.
	again map[flow.Slot]int
}

func newSliced[K comparable, T, R any](cfg *window.Config, store agg.Store[T, R], side *flow.Side[flow.Late[T]]) *sliced[K, T, R] {
	w := &sliced[K, T, R]{
		cfg: cfg, size: cfg.Size, slide: cfg.Slide, offset: cfg.Offset, lateness: cfg.Lateness, slice: gcd(cfg.Size, cfg.Slide),
		store: store, late: lateRecords[T]{side: side}, wm: flow.None, panes: map[int64]*pane{},
	}
	w.step = cmp.Or(cfg.Step, fireStep)
	w.shared = newShares[T, R](w.size, w.slide, w.slice, w.offset, store)
	if cfg.Trigger == window.OnlyFinal {
		w.delay = cfg.Lateness
	}
	return w
}

// Open implements flow.Opener.
func (t *sliced[K, T, R]) Open(_ context.Context, rt flow.Runtime) (err error) {
	t.late.open(rt)
	if t.cfg.Stagger > 0 {
		t.clock = rt.Clock()
		t.fires.began = flow.TimestampOf(t.clock.Now()) // of a firing that a crash has cut
	}
	if err = flow.OpenKeys(rt, &t.keys); err != nil {
		return err
	}
	if t.wm, err = flow.OpenWatermark(rt); err != nil {
		return err
	}
	if err = flow.OpenTable(rt, "panes", &t.table, t); err != nil {
		return err
	}
	t.fires.open(t.lastDue(t.wm))
	return nil
}

// ProcessBatch adds records to their slices, in one call of the aggregate per run of records that are in time.
func (t *sliced[K, T, R]) ProcessBatch(_ context.Context, keys []flow.Slot, in []flow.Record[T], out *flow.Output[window.Result[K, R]]) (int, error) {
	slots := t.slots[:0]
	run := 0
	for i := range in {
		ts := in[i].Time
		p := t.last
		if p == nil || ts < p.start || ts >= p.end {
			var beyond bool
			if p, beyond = t.pane(ts); p == nil {
				t.addRun(slots, in[run:i])
				slots, run = slots[:0], i+1
				if beyond {
					t.late.beyond(&in[i])
				} else {
					t.late.refuse(&in[i], passed(t.wm, ts, t.lateness))
				}
				continue
			}
			t.last = p
		}
		if p.fired && t.fires.busy {
			t.fireAhead(keys[i], out)
		}
		slot := t.accumulator(p, keys[i])
		if p.fired {
			t.addRun(slots, in[run:i])
			slots, run = slots[:0], i+1
			t.store.Add(slot, &in[i])
			if t.shared != nil {
				t.shared.spoil(keys[i], p)
			}
			t.fireAgain(p, keys[i], out)
			continue
		}
		slots = append(slots, slot)
	}
	t.addRun(slots, in[run:])
	t.slots = slots[:0]
	return len(in), nil
}

// Process is the same for one record.
func (t *sliced[K, T, R]) Process(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[window.Result[K, R]]) error {
	_, err := t.ProcessBatch(ctx, []flow.Slot{t.keys.Find(key)}, []flow.Record[T]{*r}, out)
	return err
}

func (t *sliced[K, T, R]) addRun(slots []agg.Slot, in []flow.Record[T]) {
	if len(in) > 0 {
		t.store.AddBatch(slots, in)
	}
}

// pane returns the slice of a time, nil if no window holds it any more, or none ever did, or one of its windows is beyond the range of
// time.
func (t *sliced[K, T, R]) pane(ts flow.Timestamp) (p *pane, beyond bool) {
	start, ok := startOf(ts, t.offset, t.slice)
	if !ok {
		return nil, true
	}
	if p := t.panes[int64(start)]; p != nil {
		if t.fires.busy && t.gone(p.last) { // it is still there to be fired
			return nil, false
		}
		return p, false
	}
	if p = t.makePane(start); p == nil {
		return nil, true
	}
	if p.last <= start || t.gone(p.last) { // in a gap between windows, or late
		return nil, false
	}
	return t.open(p), false
}

// makePane makes a slice, unless one of its windows is beyond the range of time.
func (t *sliced[K, T, R]) makePane(start flow.Timestamp) *pane {
	end, ok := endOf(start, t.slice)
	if !ok {
		return nil
	}
	last, ok := startOf(start, t.offset, t.slide)
	if !ok {
		return nil
	}
	p := &pane{start: start, end: end}
	if p.last, ok = endOf(last, t.size); !ok {
		return nil
	}
	// The first window begins at the least start that is above start + slice - size - 1.
	n := max((t.size-t.slice-(start-last))/t.slide, 0)
	if last-n*t.slide > last || last-n*t.slide == flow.None {
		return nil
	}
	if p.first = p.last - n*t.slide; p.first <= start {
		p.first = p.last
	}
	return p
}

// gone tells whether a window with this end takes no more records.
func (t *sliced[K, T, R]) gone(end flow.Timestamp) bool { return passed(t.wm, end-1, t.lateness) }

// due tells whether a window with this end fires at the watermark wm.
func (t *sliced[K, T, R]) due(end, wm flow.Timestamp) bool { return passed(wm, end-1, t.delay) }

func (t *sliced[K, T, R]) open(p *pane) *pane {
	p.part, p.fired = t.table.Part(int64(p.start)), t.due(p.first, t.wm)
	t.panes[int64(p.start)] = p
	i := sort.Search(len(t.order), func(i int) bool { return t.order[i].start > p.start })
	t.order = append(t.order, nil)
	copy(t.order[i+1:], t.order[i:])
	t.order[i] = p
	return p
}

// accumulator returns the accumulator of a key in a slice.
func (t *sliced[K, T, R]) accumulator(p *pane, key flow.Slot) agg.Slot {
	id, s := uint32(key), t.shared
	if s != nil {
		if int(key) < len(s.numbers) && s.numbers[key] > 0 {
			id = s.numbers[key] - 1
		} else {
			id = s.number(key, t.keys.Cap())
		}
	}
	block := int(id / agg.BlockSize)
	if block >= len(p.base) {
		n := t.keys.Cap()
		if s != nil {
			n = len(s.keys)
		}
		n = max(n/agg.BlockSize, block+1)
		p.base = huge.Grow(p.base, n-len(p.base))
		p.present = append(p.present, make([]uint16, n-len(p.present))...)
	}
	base := p.base[block]
	if base == 0 {
		base = t.store.AllocBlock() + 1
		p.base[block] = base
	}
	in := id % agg.BlockSize
	if p.present[block]>>in&1 == 0 {
		p.present[block] |= 1 << in
		t.keys.Retain(key)
		if s != nil {
			s.hold(id, p.start)
		}
	}
	p.part.Touch(key.Page())
	return base - 1 + in
}

// find returns the accumulator of a key in a slice if it has one. The key is given by its slot, or by its number among shares.
func (p *pane) find(id uint32) (agg.Slot, bool) {
	block, in := int(id/agg.BlockSize), id%agg.BlockSize
	if block >= len(p.present) || p.present[block]>>in&1 == 0 {
		return 0, false
	}
	return p.base[block] - 1 + in, true
}

// emitMerged emits a key's window out of its slices. c is where the window that began before it left what they share.
func (t *sliced[K, T, R]) emitMerged(c *share, of []*pane, key flow.Slot, end flow.Timestamp, which window.Pane, out *flow.Output[window.Result[K, R]]) {
	if t.shared != nil {
		if c == nil { // there is nothing in it
			return
		}
		if at, ok := t.shared.window(c, t.shared.numbers[key]-1, t.keys.Group(key.Page()), of, end); ok {
			t.emit(key, at, end, which, out)
			t.shared.done()
		}
		return
	}
	var one agg.Slot
	n := 0
	for _, p := range of {
		slot, ok := p.find(uint32(key))
		if !ok {
			continue
		}
		if n++; n == 1 {
			one = slot
			continue
		}
		if n == 2 {
			if !t.hasSum {
				t.sum, t.hasSum = t.store.AllocBlock(), true
			}
			t.store.Merge(t.sum, one)
		}
		t.store.Merge(t.sum, slot)
	}
	switch {
	case n == 1:
		t.emit(key, one, end, which, out)
	case n > 1:
		t.emit(key, t.sum, end, which, out)
		t.store.Empty(t.sum)
	}
}

// fireAgain fires the key's windows that a late record has changed.
func (t *sliced[K, T, R]) fireAgain(p *pane, key flow.Slot, out *flow.Output[window.Result[K, R]]) {
	c := share{bound: flow.None}
	for end := p.first; t.due(end, t.wm); end += t.slide {
		if !t.gone(end) {
			t.emitAgain(&c, end, key, out)
		}
		if end >= p.last {
			break
		}
	}
	if t.shared != nil {
		t.shared.drop(&c)
	}
}

func (t *sliced[K, T, R]) emitAgain(c *share, end flow.Timestamp, key flow.Slot, out *flow.Output[window.Result[K, R]]) {
	start := end - t.size
	i := sort.Search(len(t.order), func(i int) bool { return t.order[i].end > start })
	j := sort.Search(len(t.order), func(i int) bool { return t.order[i].start >= end })
	// The count lies with the window's last slice, so that it is stored; where that has no pane, it is 1.
	n := 0
	if j > 0 {
		if last := t.order[j-1]; last.end == end {
			if last.again == nil {
				last.again = map[flow.Slot]int{}
			}
			n = last.again[key]
			last.again[key] = n + 1
			last.part.Touch(key.Page())
		}
	}
	t.emitMerged(c, t.order[i:j], key, end, window.Pane{Index: n + 1, Kind: window.Refined}, out)
}

func (t *sliced[K, T, R]) emit(key flow.Slot, slot agg.Slot, end flow.Timestamp, which window.Pane, out *flow.Output[window.Result[K, R]]) {
	r := out.Next(end-1, nil)
	r.Key, r.Start, r.End, r.Value, r.Pane = t.keys.Key(key), end-t.size, end, t.store.Result(slot), which
}

// each visits the keys of a slice.
func (t *sliced[K, T, R]) each(p *pane, f func(key flow.Slot)) {
	if t.shared != nil {
		for b, live := range p.present {
			for ; live != 0; live &= live - 1 {
				f(t.shared.keys[b*agg.BlockSize+bits.TrailingZeros16(live)])
			}
		}
		return
	}
	const blocks = flow.PageSize / agg.BlockSize
	t.keys.Pages(func(page uint32) {
		for b := int(page) * blocks; b < (int(page)+1)*blocks && b < len(p.base); b++ {
			for live := p.present[b]; live != 0; live &= live - 1 {
				f(flow.Slot(b*agg.BlockSize + bits.TrailingZeros16(live)))
			}
		}
	})
}

func (t *sliced[K, T, R]) free(p *pane) {
	t.each(p, func(key flow.Slot) {
		if t.shared != nil {
			t.shared.forget(t.shared.numbers[key]-1, p.start)
		}
		t.keys.Release(key)
	})
	for _, base := range p.base {
		if base != 0 {
			t.store.FreeBlock(base - 1)
		}
	}
	t.table.Drop(int64(p.start))
	delete(t.panes, int64(p.start))
}

// A page is stored as the bitmap of its keys, their accumulators, and the counts of late firings.

func (t *sliced[K, T, R]) pageSlots(p *pane, page uint32) (live uint64, slots []agg.Slot) {
	const blocks = flow.PageSize / agg.BlockSize
	slots = t.slots[:0]
	if t.shared != nil {
		t.shared.keysOf(page, func(key flow.Slot, id uint32) {
			if slot, ok := p.find(id); ok {
				live |= 1 << (key % flow.PageSize)
				slots = append(slots, slot)
			}
		})
		t.slots = slots[:0]
		return live, slots
	}
	for i := range blocks {
		b := int(page)*blocks + i
		if b >= len(p.base) {
			break
		}
		live |= uint64(p.present[b]) << (i * agg.BlockSize)
		for m := p.present[b]; m != 0; m &= m - 1 {
			slots = append(slots, p.base[b]-1+agg.Slot(bits.TrailingZeros16(m)))
		}
	}
	t.slots = slots[:0]
	return live, slots
}

// AppendPage implements flow.PageStore.
func (t *sliced[K, T, R]) AppendPage(b []byte, part int64, page uint32) []byte {
	if part == firingPart {
		return t.fires.appendPage(b, page)
	}
	p := t.panes[part]
	if p == nil {
		return b
	}
	live, slots := t.pageSlots(p, page)
	if live == 0 {
		return b
	}
	b = binary.LittleEndian.AppendUint64(b, live)
	b = t.store.Append(b, slots)
	for key := flow.Slot(page) * flow.PageSize; key < flow.Slot(page+1)*flow.PageSize && p.again != nil; key++ {
		if n := p.again[key]; n > 0 {
			b = append(b, byte(key%flow.PageSize))
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}

var errPage = errors.New("a stored page of windows is damaged")

// ReadPage implements flow.PageStore.
func (t *sliced[K, T, R]) ReadPage(part int64, page uint32, b []byte) error {
	if part == firingPart {
		return t.fires.readPage(page, b)
	}
	if len(b) < 8 {
		return errPage
	}
	live := binary.LittleEndian.Uint64(b)
	p := t.panes[part]
	if p == nil {
		if p = t.makePane(flow.Timestamp(part)); p == nil {
			return errPage
		}
		t.open(p)
	}
	var slots []agg.Slot
	for m := live; m != 0; m &= m - 1 {
		slots = append(slots, t.accumulator(p, flow.Slot(page)*flow.PageSize+flow.Slot(bits.TrailingZeros64(m))))
	}
	rest, err := t.store.Read(b[8:], slots)
	if err != nil {
		return err
	}
	for len(rest) > 0 {
		n, w := binary.Uvarint(rest[1:])
		if w <= 0 {
			return errPage
		}
		if p.again == nil {
			p.again = map[flow.Slot]int{}
		}
		p.again[flow.Slot(page)*flow.PageSize+flow.Slot(rest[0])] = int(n)
		rest = rest[1+w:]
	}
	return nil
}

// Fingerprint implements flow.PageStore.
func (t *sliced[K, T, R]) Fingerprint() string { return fingerprintOf(t.cfg, t.store.Fingerprint()) }

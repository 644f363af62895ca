package operators

import (
	"context"
	"encoding/binary"
	"errors"
	"math/bits"
	"sort"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// Windowed is the result of Window: a stream of results with the side output of late records.
type Windowed[K comparable, T, R any] struct {
	flow.Stream[window.Result[K, R]]
	late flow.Stream[flow.Late[T]]
}

// Late is the stream of records that came when their window was gone. Unconnected, they are counted (late) and dropped.
func (w Windowed[K, T, R]) Late() flow.Stream[flow.Late[T]] { return w.late }

// Window cuts each key's records into windows of event time and aggregates them. A window fires when the watermark reaches its last
// moment, in order of windows, key groups and slots; the result's time is that moment. With AllowedLateness each late record fires
// its window again at once, with all of its contents. The rules are Apache Flink's.
//
// State: one accumulator per key and open window, freed when the watermark reaches end - 1 + lateness; accumulators are kept and
// stored by pages of 64 keys. A crash rolls back to the last epoch, sources included, so results are those of a run without it,
// but those of the replayed part are emitted again.
func Window[K comparable, T, R any](s flow.KeyedStream[K, T], name string, w window.Assigner[T], a agg.Aggregate[T, R], opts ...window.Option) Windowed[K, T, R] {
	cfg := flow.Configure(&window.Config{}, opts)
	if w == nil {
		cfg.Problem("the window assigner is nil", "give one like window.Tumbling(time.Minute)")
	} else {
		w(cfg)
	}
	if err := agg.Check(a); err != nil {
		cfg.Problem(err.Error(), "")
	}
	cfg.Traits = flow.Traits{
		Kind: "window", EventTime: true, Stateful: true, Counts: true,
		Horizon: time.Duration(cfg.Size + cfg.Lateness), Loses: "the contents of open windows",
	}
	side, late := flow.SideOutput[flow.Late[T]](s.Topology(), name, "late")
	out := flow.ApplyKeyed[K, T, window.Result[K, R]](s, name, func() *tumbling[K, T, R] {
		return &tumbling[K, T, R]{
			size: cfg.Size, offset: cfg.Offset, lateness: cfg.Lateness, store: a.NewStore(), side: side, wm: flow.None,
			panes: map[int64]*pane{},
		}
	}, flow.With(cfg))
	return Windowed[K, T, R]{out, late}
}

// tumbling holds the windows of one task: a pane per window start, each with the accumulators of its keys.
type tumbling[K comparable, T, R any] struct {
	size, offset, lateness flow.Timestamp

	store agg.Store[T, R]
	side  *flow.Side[flow.Late[T]]
	late  *flow.Output[flow.Late[T]]
	keys  flow.Keys[K]
	table flow.Table
	rt    flow.Runtime
	wm    flow.Timestamp
	panes map[int64]*pane
	order []*pane // by start
	last  *pane
	slots []agg.Slot
}

// pane is one window. Its accumulators lie in blocks of 16 keys.
type pane struct {
	start, end flow.Timestamp
	base       []agg.Slot // by block of key slots: 1 + first accumulator, 0 if there is none
	present    []uint16   // by block: keys that have an accumulator
	part       *flow.Part
	fired      bool
	// again counts the firings of keys that fired since the window's end.
	again map[flow.Slot]int
}

func (t *tumbling[K, T, R]) Open(_ context.Context, rt flow.Runtime) (err error) {
	t.rt, t.late = rt, t.side.Open(rt)
	if err = flow.OpenKeys(rt, &t.keys); err != nil {
		return err
	}
	if t.wm, err = flow.OpenWatermark(rt); err != nil {
		return err
	}
	return flow.OpenTable(rt, "panes", &t.table, t)
}

// ProcessBatch adds records to their windows, in one call of the aggregate per run of records that are in time.
func (t *tumbling[K, T, R]) ProcessBatch(_ context.Context, keys []flow.Slot, in []flow.Record[T], out *flow.Output[window.Result[K, R]]) (int, error) {
	slots := t.slots[:0]
	run := 0
	for i := range in {
		ts := in[i].Time
		p := t.last
		if p == nil || ts < p.start || ts >= p.end {
			if p = t.pane(ts); p == nil {
				t.addRun(slots, in[run:i])
				slots, run = slots[:0], i+1
				t.refuse(&in[i])
				continue
			}
			t.last = p
		}
		slot := t.accumulator(p, keys[i])
		if p.fired {
			t.addRun(slots, in[run:i])
			slots, run = slots[:0], i+1
			t.store.Add(slot, &in[i])
			t.fireAgain(p, keys[i], slot, out)
			continue
		}
		slots = append(slots, slot)
	}
	t.addRun(slots, in[run:])
	t.slots = slots[:0]
	return len(in), nil
}

// Process is the same for one record.
func (t *tumbling[K, T, R]) Process(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[window.Result[K, R]]) error {
	_, err := t.ProcessBatch(ctx, []flow.Slot{t.keys.Find(key)}, []flow.Record[T]{*r}, out)
	return err
}

func (t *tumbling[K, T, R]) addRun(slots []agg.Slot, in []flow.Record[T]) {
	if len(in) > 0 {
		t.store.AddBatch(slots, in)
	}
}

// pane returns the window of a time, nil if it is gone.
func (t *tumbling[K, T, R]) pane(ts flow.Timestamp) *pane {
	start := windowStart(ts, t.offset, t.size)
	if p := t.panes[int64(start)]; p != nil {
		return p
	}
	end := start + t.size
	if end < start {
		end = flow.EndOfTime
	}
	if t.gone(end) {
		return nil
	}
	return t.open(start, end)
}

// windowStart is the greatest window start that is not above ts, saturating at the low end of time.
func windowStart(ts, offset, size flow.Timestamp) flow.Timestamp {
	rem := (ts - offset) % size
	if rem < 0 {
		rem += size
	}
	start := ts - rem
	if start > ts {
		return flow.None + 1
	}
	return start
}

// gone tells whether a window with this end takes no more records.
func (t *tumbling[K, T, R]) gone(end flow.Timestamp) bool {
	return t.wm != flow.None && end-1 <= t.wm && (end-1).Add(time.Duration(t.lateness)) <= t.wm
}

func (t *tumbling[K, T, R]) open(start, end flow.Timestamp) *pane {
	p := &pane{start: start, end: end, part: t.table.Part(int64(start)), fired: t.wm != flow.None && end-1 <= t.wm}
	t.panes[int64(start)] = p
	i := sort.Search(len(t.order), func(i int) bool { return t.order[i].start > start })
	t.order = append(t.order, nil)
	copy(t.order[i+1:], t.order[i:])
	t.order[i] = p
	return p
}

// accumulator returns the accumulator of a key in a window.
func (t *tumbling[K, T, R]) accumulator(p *pane, key flow.Slot) agg.Slot {
	block := int(key / agg.BlockSize)
	if block >= len(p.base) {
		n := max(t.keys.Cap()/agg.BlockSize, block+1)
		p.base = append(p.base, make([]agg.Slot, n-len(p.base))...)
		p.present = append(p.present, make([]uint16, n-len(p.present))...)
	}
	base := p.base[block]
	if base == 0 {
		base = t.store.AllocBlock() + 1
		p.base[block] = base
	}
	in := key % agg.BlockSize
	if p.present[block]>>in&1 == 0 {
		p.present[block] |= 1 << in
		t.keys.Retain(key)
	}
	p.part.Touch(key.Page())
	return base - 1 + agg.Slot(in)
}

func (t *tumbling[K, T, R]) refuse(r *flow.Record[T]) {
	t.rt.Count("late", 1)
	*t.late.Next(r.Time, r.Meta) = flow.Late[T]{Value: r.Value, Time: r.Time, Reason: "its window is gone"}
}

// OnWatermark fires the windows whose end has come and frees those that take no more records.
func (t *tumbling[K, T, R]) OnWatermark(_ context.Context, wm flow.Timestamp, out *flow.Output[window.Result[K, R]]) error {
	t.wm = wm
	n := 0
	for _, p := range t.order {
		if p.end-1 > wm {
			break
		}
		if !p.fired {
			p.fired = true
			t.fire(p, out)
		}
		if t.gone(p.end) {
			t.free(p)
			n++
		}
	}
	if n > 0 {
		t.order = append(t.order[:0], t.order[n:]...)
		t.last = nil
	}
	return nil
}

func (t *tumbling[K, T, R]) fire(p *pane, out *flow.Output[window.Result[K, R]]) {
	t.each(p, func(key flow.Slot, slot agg.Slot) {
		t.emit(p, key, slot, window.Pane{Kind: window.OnTime}, out)
	})
}

func (t *tumbling[K, T, R]) fireAgain(p *pane, key flow.Slot, slot agg.Slot, out *flow.Output[window.Result[K, R]]) {
	if p.again == nil {
		p.again = map[flow.Slot]int{}
	}
	n := p.again[key]
	p.again[key] = n + 1
	t.emit(p, key, slot, window.Pane{Index: n + 1, Kind: window.Late}, out)
}

func (t *tumbling[K, T, R]) emit(p *pane, key flow.Slot, slot agg.Slot, which window.Pane, out *flow.Output[window.Result[K, R]]) {
	r := out.Next(p.end-1, nil)
	r.Key, r.Start, r.End, r.Value, r.Pane = t.keys.Key(key), p.start, p.end, t.store.Result(slot), which
}

// each visits the keys of a window in order of key group and slot.
func (t *tumbling[K, T, R]) each(p *pane, f func(key flow.Slot, slot agg.Slot)) {
	const blocks = flow.PageSize / agg.BlockSize
	t.keys.Pages(func(page uint32) {
		for b := int(page) * blocks; b < (int(page)+1)*blocks && b < len(p.base); b++ {
			for live := p.present[b]; live != 0; live &= live - 1 {
				i := bits.TrailingZeros16(live)
				f(flow.Slot(b*agg.BlockSize+i), p.base[b]-1+agg.Slot(i))
			}
		}
	})
}

func (t *tumbling[K, T, R]) free(p *pane) {
	t.each(p, func(key flow.Slot, _ agg.Slot) { t.keys.Release(key) })
	for _, base := range p.base {
		if base != 0 {
			t.store.FreeBlock(base - 1)
		}
	}
	t.table.Drop(int64(p.start))
	delete(t.panes, int64(p.start))
}

// A page is stored as the bitmap of its keys, their accumulators, and the counts of late firings.

func (t *tumbling[K, T, R]) pageSlots(p *pane, page uint32) (live uint64, slots []agg.Slot) {
	const blocks = flow.PageSize / agg.BlockSize
	slots = t.slots[:0]
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
func (t *tumbling[K, T, R]) AppendPage(b []byte, part int64, page uint32) []byte {
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
func (t *tumbling[K, T, R]) ReadPage(part int64, page uint32, b []byte) error {
	if len(b) < 8 {
		return errPage
	}
	live := binary.LittleEndian.Uint64(b)
	p := t.panes[part]
	if p == nil {
		start := flow.Timestamp(part)
		end := start + t.size
		if end < start {
			end = flow.EndOfTime
		}
		p = t.open(start, end)
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
func (t *tumbling[K, T, R]) Fingerprint() string {
	return "tumbling/" + time.Duration(t.size).String() + "/" + time.Duration(t.offset).String() + "/" + t.store.Fingerprint()
}

package operators

import (
	"context"
	"encoding/binary"
	"math"
	"math/bits"
	"sort"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// firingPart is the part of the table that says how far a firing has come that an epoch cut. No slice starts there.
const firingPart = math.MaxInt64

// fireStep is about how many accumulators one step of a firing reads.
const fireStep = 16 << 10

// firing is the state of windows that fire in steps: by window, within it by key group and page.
type firing struct {
	busy bool
	// through says: all windows with ends up to this one have fired, for all keys.
	through flow.Timestamp
	// end is that of the window in work, None between windows, and at the next page to fire; passed are its pages that have fired.
	end    flow.Timestamp
	at     flow.PageCursor
	passed []uint64
	// ahead are keys whose windows fired before their turn, since a late record was to change them: through which end.
	ahead map[flow.Slot]flow.Timestamp
	// pages are the same by page, of a firing that a crash cut, and others of pages without an entry: those of tasks that were done.
	pages  map[uint32]flow.Timestamp
	others flow.Timestamp
	// cut: it was left between two steps, and so every page of its part of the table touched. stored: the store may hold that part.
	cut, stored bool
	part        *flow.Part
	// began is when it began, in processing time, and next when it goes on: of Stagger.
	began, next flow.Timestamp
}

// open begins with what the table held.
func (f *firing) open(fired flow.Timestamp) {
	f.through, f.end, f.others = fired, flow.None, fired
	for _, through := range f.pages {
		f.busy, f.stored = true, true
		f.through = min(f.through, through)
	}
}

// of is the end through which a page's windows have fired, as far as that differs from the firing's.
func (f *firing) of(page uint32) flow.Timestamp {
	if f.pages == nil {
		return flow.None
	}
	if through, ok := f.pages[page]; ok {
		return through
	}
	return f.others
}

// skips tells whether a key's window has fired before its turn.
func (f *firing) skips(end flow.Timestamp, page uint32, key flow.Slot) bool {
	if end <= f.of(page) {
		return true
	}
	through, ok := f.ahead[key]
	return ok && end <= through
}

func (f *firing) hasPassed(page uint32) bool {
	i := int(page / 64)
	return i < len(f.passed) && f.passed[i]>>(page%64)&1 != 0
}

func (f *firing) pass(page uint32) {
	i := int(page / 64)
	if i >= len(f.passed) {
		f.passed = append(f.passed, make([]uint64, i+1-len(f.passed))...)
	}
	f.passed[i] |= 1 << (page % 64)
}

// OnWatermark implements flow.WatermarkHandler: it takes note, Step fires.
func (t *sliced[K, T, R]) OnWatermark(_ context.Context, wm flow.Timestamp, _ *flow.Output[window.Result[K, R]]) error {
	if t.clock != nil && !t.fires.busy {
		t.fires.began = flow.TimestampOf(t.clock.Now())
	}
	t.wm, t.last, t.fires.busy = wm, nil, true
	for _, p := range t.order {
		if !t.due(p.first, wm) {
			break
		}
		p.fired = true
	}
	if t.fires.cut { // pages that came since it was cut are a part of it now
		t.keys.Pages(t.fires.part.Touch)
	}
	return nil
}

// Step implements flow.WatermarkStepper: it fires the windows whose end has come, in order, and in the end frees the slices that no window
// holds any more.
func (t *sliced[K, T, R]) Step(_ context.Context, out *flow.Output[window.Result[K, R]]) (more bool, err error) {
	f := &t.fires
	for budget := t.step; ; {
		if f.end == flow.None {
			_, end, ok := t.next(f.through)
			if !ok {
				t.fired()
				return false, nil
			}
			f.end, f.at = end, flow.PageCursor{}
			clear(f.passed)
		}
		of := t.slicesOf(f.end)
		for {
			if t.clock != nil && t.early() {
				t.cut()
				return true, nil
			}
			page, ok := t.keys.NextPage(&f.at)
			if !ok {
				f.through, f.end = f.end, flow.None
				break
			}
			budget -= 1 + t.firePage(of, page, f.end, out)
			f.pass(page)
			if f.cut {
				f.part.Touch(page)
			}
			if budget <= 0 {
				t.cut()
				return true, nil
			}
		}
	}
}

// early tells whether the next key group has to wait for its part of Stagger.
func (t *sliced[K, T, R]) early() bool {
	f := &t.fires
	if t.wm == flow.EndOfTime || f.began == 0 {
		return false
	}
	f.next = f.began.Add(time.Duration(float64(t.cfg.Stagger) * t.keys.Progress(f.at)))
	return f.next > flow.TimestampOf(t.clock.Now())
}

// NextStep implements flow.StepPacer.
func (t *sliced[K, T, R]) NextStep() flow.Timestamp { return t.fires.next }

// lastDue is the latest end that a window can have to be due at the watermark wm.
func (t *sliced[K, T, R]) lastDue(wm flow.Timestamp) flow.Timestamp {
	if wm == flow.None || wm == flow.EndOfTime {
		return wm
	}
	return wm.Add(-time.Duration(t.delay)).Add(1)
}

// cut leaves the firing between two steps: from now on an epoch stores how far it has come.
func (t *sliced[K, T, R]) cut() {
	if f := &t.fires; !f.cut {
		f.cut, f.stored, f.part = true, true, t.table.Part(firingPart)
		t.keys.Pages(f.part.Touch)
	}
}

// fired ends a firing.
func (t *sliced[K, T, R]) fired() {
	f := &t.fires
	if f.stored {
		t.table.Drop(firingPart)
	}
	*f = firing{through: t.lastDue(t.wm), end: flow.None, passed: f.passed}
	n := 0
	for n < len(t.order) && t.gone(t.order[n].last) {
		t.free(t.order[n])
		n++
	}
	if n > 0 {
		t.order = append(t.order[:0], t.order[n:]...)
		t.last = nil
	}
}

// next is the first window with contents that ends behind before and is due.
func (t *sliced[K, T, R]) next(before flow.Timestamp) (of []*pane, end flow.Timestamp, ok bool) {
	end = flow.None
	for i := 0; i < len(t.order); {
		p := t.order[i]
		end = max(end, p.first)
		for end <= before && end < p.last {
			end += t.slide
		}
		if end <= before {
			i++ // all windows of this slice have fired
			continue
		}
		if !t.due(end, t.wm) {
			return nil, 0, false
		}
		start := end - t.size
		if p.end <= start && p.start < start {
			i++
			continue
		}
		return t.slicesOf(end), end, true
	}
	return nil, 0, false
}

// slicesOf are the slices of the window with this end.
func (t *sliced[K, T, R]) slicesOf(end flow.Timestamp) []*pane {
	start := end - t.size
	i := sort.Search(len(t.order), func(i int) bool { return t.order[i].end > start })
	j := sort.Search(len(t.order), func(i int) bool { return t.order[i].start >= end })
	return t.order[i:j]
}

// firePage fires a window for the keys of a page, and returns how many accumulators it read.
func (t *sliced[K, T, R]) firePage(of []*pane, page uint32, end flow.Timestamp, out *flow.Output[window.Result[K, R]]) (n int) {
	const blocks = flow.PageSize / agg.BlockSize
	which := window.Pane{Kind: window.OnTime}
	skips := len(t.fires.pages) > 0 || len(t.fires.ahead) > 0
	if t.shared != nil {
		return t.fireShared(of, page, end, skips, out)
	}
	for b := int(page) * blocks; b < (int(page)+1)*blocks; b++ {
		var live uint16
		for _, p := range of {
			if b < len(p.present) {
				live |= p.present[b]
			}
		}
		n += bits.OnesCount16(live) * len(of)
		for ; live != 0; live &= live - 1 {
			i := bits.TrailingZeros16(live)
			key := flow.Slot(b*agg.BlockSize + i)
			if skips && t.fires.skips(end, page, key) {
				continue
			}
			if len(of) == 1 {
				t.emit(key, of[0].base[b]-1+agg.Slot(i), end, which, out)
			} else {
				t.emitMerged(nil, of, key, end, which, out)
			}
		}
	}
	return n
}

// fireShared is the same for windows that share slices.
func (t *sliced[K, T, R]) fireShared(of []*pane, page uint32, end flow.Timestamp, skips bool, out *flow.Output[window.Result[K, R]]) (n int) {
	before := t.shared.merged
	t.shared.keysOf(page, func(key flow.Slot, id uint32) {
		n++
		if !skips || !t.fires.skips(end, page, key) {
			t.emitMerged(&t.shared.of[id], of, key, end, window.Pane{Kind: window.OnTime}, out)
		}
	})
	return n + t.shared.merged - before
}

// fireAhead fires a key's windows that are due and whose turn has not come, before a late record changes them.
func (t *sliced[K, T, R]) fireAhead(key flow.Slot, out *flow.Output[window.Result[K, R]]) {
	f := &t.fires
	page := key.Page()
	for before := f.through; ; {
		of, end, ok := t.next(before)
		if !ok {
			break
		}
		if (end != f.end || !f.hasPassed(page)) && !f.skips(end, page, key) {
			t.emitMerged(t.share(key), of, key, end, window.Pane{Kind: window.OnTime}, out)
		}
		before = end
	}
	if f.ahead == nil {
		f.ahead = map[flow.Slot]flow.Timestamp{}
	}
	f.ahead[key] = t.lastDue(t.wm)
	if f.stored && !f.cut {
		t.cut()
	}
	if f.cut {
		f.part.Touch(page)
	}
}

// share is what a key's windows have in common, nil where there is nothing in them or they do not overlap much.
func (t *sliced[K, T, R]) share(key flow.Slot) *share {
	if s := t.shared; s != nil && int(key) < len(s.numbers) && s.numbers[key] > 0 {
		return &s.of[s.numbers[key]-1]
	}
	return nil
}

// A page of the firing is stored as the end through which its windows have fired, and that of each key which is ahead.

func (f *firing) appendPage(b []byte, page uint32) []byte {
	if !f.busy {
		return b
	}
	through := max(f.through, f.of(page))
	if f.end != flow.None && f.hasPassed(page) {
		through = max(through, f.end)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(through))
	for key := flow.Slot(page) * flow.PageSize; key < flow.Slot(page+1)*flow.PageSize && len(f.ahead) > 0; key++ {
		if t, ok := f.ahead[key]; ok && t > through {
			b = append(b, byte(key%flow.PageSize))
			b = binary.LittleEndian.AppendUint64(b, uint64(t))
		}
	}
	return b
}

func (f *firing) readPage(page uint32, b []byte) error {
	if len(b) < 8 || len(b[8:])%9 != 0 {
		return errPage
	}
	if f.pages == nil {
		f.pages, f.ahead = map[uint32]flow.Timestamp{}, map[flow.Slot]flow.Timestamp{}
	}
	f.pages[page] = flow.Timestamp(binary.LittleEndian.Uint64(b))
	for b = b[8:]; len(b) > 0; b = b[9:] {
		f.ahead[flow.Slot(page)*flow.PageSize+flow.Slot(b[0])] = flow.Timestamp(binary.LittleEndian.Uint64(b[1:]))
	}
	return nil
}

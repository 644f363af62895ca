package operators

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// windows runs windows of any kind, each key's for itself: those that merge, that are not bounded in time, or that fire otherwise than
// at the watermark. It follows Flink's WindowOperator step by step.
type windows[K comparable, T, R any] struct {
	cfg *window.Config
	gap func(T) time.Duration

	acc   accumulators[T, R]
	late  lateRecords[T]
	keys  flow.Keys[K]
	table flow.Table
	part  *flow.Part
	wm    flow.Timestamp
	// open are the windows of each key, by slot and start.
	open [][]win
	due  dueTimes
	// deferred are moments by key that records have set behind the watermark: they belong to the next one.
	deferred map[flow.Slot]flow.Timestamp
	// chunk is how many records share an accumulator in windows of the last records.
	chunk int64
	now   flow.Timestamp // of the record or the watermark in work
	// busy: a firing was left between two steps. Keys whose next moment is not behind the watermark are still to come.
	busy, cut bool
	step      int
	// clocks are the timers of EarlyClock and MaxWait, and tick is the time of the batch in work.
	clocks flow.Timers[K]
	clock  flow.Clock
	tick   flow.Timestamp
	// give takes what fires, if it is set, and not the output.
	give func(key flow.Slot, w *win, v R, kind window.Kind)
}

// win is one window of one key.
type win struct {
	start, end flow.Timestamp // None and EndOfTime where it is not bounded in time
	acc        agg.Slot
	filled     bool           // acc holds something
	count      int64          // records since the last firing by count
	next       flow.Timestamp // the last periodic firing that was set, None if there never was one; of MaxWait, in processing time
	armed      bool           // it is still to come
	fires      int64
	chunks     []agg.Slot // of the last records, oldest first
	records    int64      // of this key so far
}

// latest is the window's last moment.
func (w *win) latest() flow.Timestamp {
	if w.end == flow.EndOfTime {
		return flow.EndOfTime
	}
	return w.end - 1
}

func newWindows[K comparable, T, R any](cfg *window.Config, store agg.Store[T, R], side *flow.Side[flow.Late[T]], gap func(T) time.Duration) *windows[K, T, R] {
	w := &windows[K, T, R]{cfg: cfg, gap: gap, acc: accumulators[T, R]{Store: store}, late: lateRecords[T]{side: side}, wm: flow.None}
	if cfg.Shape == window.LastRecords {
		w.chunk = int64(gcd(flow.Timestamp(cfg.Last), flow.Timestamp(cfg.Every)))
	}
	w.step = cmp.Or(cfg.Step, fireStep)
	return w
}

// byClock tells whether processing time fires windows.
func (t *windows[K, T, R]) byClock() bool { return t.cfg.Trigger == window.ByClock || t.cfg.Wait > 0 }

// Open implements flow.Opener.
func (t *windows[K, T, R]) Open(_ context.Context, rt flow.Runtime) (err error) {
	t.late.open(rt)
	if err = flow.OpenKeys(rt, &t.keys); err != nil {
		return err
	}
	if t.wm, err = flow.OpenWatermark(rt); err != nil {
		return err
	}
	if t.byClock() {
		t.clock = rt.Clock()
		if err = flow.OpenClockTimers(rt, &t.clocks); err != nil {
			return err
		}
	}
	if err = flow.OpenTable(rt, "windows", &t.table, t); err != nil {
		return err
	}
	t.part = t.table.Part(0)
	return nil
}

// ProcessBatch implements flow.KeyedBatchOperator.
func (t *windows[K, T, R]) ProcessBatch(_ context.Context, keys []flow.Slot, in []flow.Record[T], out *flow.Output[window.Result[K, R]]) (int, error) {
	t.look()
	for i := range in {
		if err := t.process(keys[i], &in[i], out); err != nil {
			return i, err
		}
	}
	return len(in), nil
}

// look reads the clock, once per batch.
func (t *windows[K, T, R]) look() {
	if t.clock != nil {
		t.tick = flow.TimestampOf(t.clock.Now())
	}
}

// Process is the same for one record.
func (t *windows[K, T, R]) Process(_ context.Context, key K, r *flow.Record[T], out *flow.Output[window.Result[K, R]]) error {
	t.look()
	return t.process(t.keys.Find(key), r, out)
}

func (t *windows[K, T, R]) process(key flow.Slot, r *flow.Record[T], out *flow.Output[window.Result[K, R]]) error {
	if t.busy {
		t.catchUp(key, out)
	}
	t.now = r.Time
	taken := false
	switch t.cfg.Shape {
	case window.Aligned:
		first, last, ok := t.windowsOf(r.Time)
		if !ok {
			t.late.beyond(r)
			return nil
		}
		for start := last; ; start -= t.cfg.Slide { // the last window first
			if end := start + t.cfg.Size; end > r.Time && !t.gone(end) {
				taken = true
				t.take(key, t.window(key, start, end), r, out)
			}
			if start == first { // the next one may be beyond the range of time
				break
			}
		}
	case window.Calendar:
		if start, end := t.cfg.Bounds(r.Time); !t.gone(end) {
			taken = true
			t.take(key, t.window(key, start, end), r, out)
		}
	case window.Sessions:
		gap := t.cfg.Size
		if t.gap != nil {
			if gap = flow.Timestamp(t.gap(r.Value)); gap <= 0 {
				return fmt.Errorf("the session gap %v of the record is not positive", time.Duration(gap))
			}
		}
		end, ok := endOf(r.Time, gap)
		if !ok {
			t.late.beyond(r)
			return nil
		}
		if i := t.merge(key, r.Time, end); i >= 0 {
			taken = true
			t.take(key, i, r, out)
		}
	default:
		taken = true
		t.take(key, t.window(key, flow.None, flow.EndOfTime), r, out)
	}
	if !taken {
		t.late.refuse(r, passed(t.wm, r.Time, t.cfg.Lateness))
	}
	return nil
}

// windowsOf are the starts of the first and the last window that may hold a time; ok is false where one of their bounds is beyond the
// range of time.
func (t *windows[K, T, R]) windowsOf(at flow.Timestamp) (first, last flow.Timestamp, ok bool) {
	last, ok = startOf(at, t.cfg.Offset, t.cfg.Slide)
	if !ok {
		return 0, 0, false
	}
	if _, ok = endOf(last, t.cfg.Size); !ok {
		return 0, 0, false
	}
	first = last - max(t.cfg.Size-1-(at-last), 0)/t.cfg.Slide*t.cfg.Slide
	return first, last, first <= last && first != flow.None
}

func (t *windows[K, T, R]) gone(end flow.Timestamp) bool {
	return end != flow.EndOfTime && passed(t.wm, end-1, t.cfg.Lateness)
}

func (t *windows[K, T, R]) of(key flow.Slot) []win {
	if int(key) >= len(t.open) {
		t.open = append(t.open, make([][]win, max(t.keys.Cap(), int(key)+1)-len(t.open))...)
	}
	return t.open[key]
}

// window returns the place of a window among those of a key, making it.
func (t *windows[K, T, R]) window(key flow.Slot, start, end flow.Timestamp) int {
	ws := t.of(key)
	i := 0
	for i < len(ws) && ws[i].start < start {
		i++
	}
	if i == len(ws) || ws[i].start != start {
		t.add(key, i, win{start: start, end: end, next: flow.None})
	}
	return i
}

func (t *windows[K, T, R]) add(key flow.Slot, i int, w win) {
	if len(t.open[key]) == 0 {
		t.keys.Retain(key)
	}
	t.open[key] = slices.Insert(t.open[key], i, w)
}

func (t *windows[K, T, R]) drop(key flow.Slot, i int) {
	w := &t.open[key][i]
	if w.filled {
		t.acc.release(w.acc)
	}
	for _, c := range w.chunks {
		t.acc.release(c)
	}
	if t.open[key] = slices.Delete(t.open[key], i, i+1); len(t.open[key]) == 0 {
		t.open[key] = nil
		t.keys.Release(key)
	}
	t.part.Touch(key.Page())
}

// merge makes one session of [start, end) and those of the key that it touches, and returns its place, or -1 where even that one is gone.
func (t *windows[K, T, R]) merge(key flow.Slot, start, end flow.Timestamp) int {
	ws := t.of(key)
	from := 0
	for from < len(ws) && ws[from].end < start {
		from++
	}
	to := from
	for to < len(ws) && ws[to].start <= end {
		to++
	}
	if from == to {
		if t.gone(end) {
			return -1
		}
		t.add(key, from, win{start: start, end: end, next: flow.None})
		return from
	}
	w := &ws[from]
	was := [2]flow.Timestamp{w.start, w.end}
	w.start = min(w.start, start)
	w.end = max(w.end, end, ws[to-1].end)
	grown := to-from > 1 || was != [2]flow.Timestamp{w.start, w.end}
	for i := from + 1; i < to; i++ {
		m := &ws[i]
		switch {
		case m.filled && w.filled:
			t.acc.Merge(w.acc, m.acc)
			t.acc.release(m.acc)
		case m.filled:
			w.acc, w.filled = m.acc, true
		}
		w.count += m.count
		w.fires = max(w.fires, m.fires)
		if m.next != flow.None && (w.next == flow.None || m.next < w.next) {
			w.next = m.next
		}
	}
	// A window that grows takes up its periodic firings again, also the one that has been, as Flink does.
	w.armed = w.armed || grown && w.next != flow.None
	t.open[key] = slices.Delete(ws, from+1, to)
	return from
}

// take adds a record to a window and fires it if the record does that.
func (t *windows[K, T, R]) take(key flow.Slot, i int, r *flow.Record[T], out *flow.Output[window.Result[K, R]]) {
	w := &t.open[key][i]
	t.part.Touch(key.Page())
	t.fold(w, r)
	late := passed(t.wm, w.latest(), 0)
	kind := window.Speculative
	if late {
		kind = window.Refined
	}
	switch t.cfg.Trigger {
	case window.AtWatermark:
		if late {
			t.fire(key, w, kind, out)
		}
	case window.ByCount:
		if w.count++; w.count >= t.cfg.Every {
			if t.countFires(key, i, kind, out) {
				return
			}
		} else if w.count == 1 && t.cfg.Wait > 0 {
			w.next = t.tick.Add(t.cfg.Wait)
			t.clocks.Set(t.keys.Key(key), w.next)
		}
	case window.ByClock:
		if late {
			t.fire(key, w, kind, out)
		} else if w.count++; w.count == 1 {
			every := flow.Timestamp(t.cfg.Every)
			t.clocks.Set(t.keys.Key(key), (t.tick - t.tick%every).Add(time.Duration(every)))
		}
	case window.Periodic:
		every := flow.Timestamp(t.cfg.Every)
		if late {
			t.fire(key, w, kind, out)
		} else if w.next == flow.None {
			// Rounded toward zero, as Flink does, also for times before 1970.
			w.next = min((r.Time - r.Time%every).Add(time.Duration(every)), w.latest())
			w.armed = true
		}
	}
	t.schedule(key, t.wm)
}

// countFires fires a window by its count, whether that is reached or not. It returns true when the window is finished.
func (t *windows[K, T, R]) countFires(key flow.Slot, i int, kind window.Kind, out *flow.Output[window.Result[K, R]]) (finished bool) {
	w := &t.open[key][i]
	w.count = 0
	if t.cfg.Wait > 0 && w.next != flow.None {
		t.clocks.Clear(t.keys.Key(key), w.next)
		w.next = flow.None
	}
	t.fire(key, w, kind, out)
	if t.cfg.Shape == window.Unbounded && t.cfg.Purge { // a count window
		t.drop(key, i)
		return true
	}
	return false
}

// OnClockTimer implements flow.ClockTimerHandler: it fires what EarlyClock or MaxWait ask for.
func (t *windows[K, T, R]) OnClockTimer(_ context.Context, k K, at flow.Timestamp, out *flow.Output[window.Result[K, R]]) error {
	key := t.keys.Find(k)
	if t.busy {
		t.catchUp(key, out)
	}
	t.now = flow.None
	if t.wm != flow.None {
		t.now = t.wm + 1
	}
	for i := 0; i < len(t.of(key)); i++ {
		w := &t.open[key][i]
		if w.count == 0 || t.cfg.Wait > 0 && w.next != at {
			continue
		}
		t.part.Touch(key.Page())
		if t.cfg.Trigger == window.ByClock {
			w.count = 0
			t.fire(key, w, window.Speculative, out)
		} else if t.countFires(key, i, window.Speculative, out) {
			i--
		}
	}
	return nil
}

func (t *windows[K, T, R]) fold(w *win, r *flow.Record[T]) {
	if t.chunk == 0 {
		if !w.filled {
			w.acc, w.filled = t.acc.alloc(), true
		}
		t.acc.Add(w.acc, r)
		return
	}
	if w.records%t.chunk == 0 {
		if int64(len(w.chunks)) == t.cfg.Last/t.chunk {
			t.acc.release(w.chunks[0])
			w.chunks = slices.Delete(w.chunks, 0, 1)
		}
		w.chunks = append(w.chunks, t.acc.alloc())
	}
	w.records++
	t.acc.Add(w.chunks[len(w.chunks)-1], r)
}

// fire emits a window's contents, if it has any.
func (t *windows[K, T, R]) fire(key flow.Slot, w *win, kind window.Kind, out *flow.Output[window.Result[K, R]]) {
	which := window.Pane{Index: int(w.fires), Kind: kind}
	from := w.acc
	if t.chunk > 0 {
		from = t.acc.alloc()
		for _, c := range w.chunks {
			t.acc.Merge(from, c)
		}
		defer t.acc.release(from)
	} else if !w.filled {
		return
	}
	w.fires++
	if t.give != nil {
		t.give(key, w, t.acc.Result(from), kind)
		return
	}
	at := w.latest()
	if w.end == flow.EndOfTime {
		at = t.now
	}
	r := out.Next(at, nil)
	r.Key, r.Start, r.End, r.Value, r.Pane = t.keys.Key(key), w.start, w.end, t.acc.Result(from), which
	if w.end == flow.EndOfTime {
		r.Start, r.End = flow.None, flow.None
	}
	if t.cfg.Purge && t.chunk == 0 {
		t.acc.release(w.acc)
		w.filled = false
	}
}

// nextAt is the next moment behind since at which the watermark changes a window: a firing, or its end. A periodic firing may be due since
// before the watermark: it happens when that moves.
func (t *windows[K, T, R]) nextAt(w *win, since flow.Timestamp) flow.Timestamp {
	next := flow.EndOfTime
	if w.end != flow.EndOfTime {
		if at := w.latest(); at > since && (t.cfg.Trigger == window.AtWatermark || t.cfg.Trigger == window.Periodic || t.cfg.Trigger == window.ByClock || t.cfg.Wait > 0) {
			next = at
		}
		if at := w.latest().Add(time.Duration(t.cfg.Lateness)); at > since {
			next = min(next, at)
		}
	}
	if w.armed {
		next = min(next, w.next)
	}
	return next
}

// schedule queues the key for the next moment at which one of its windows changes.
func (t *windows[K, T, R]) schedule(key flow.Slot, since flow.Timestamp) {
	if !bounded(t.cfg) && t.cfg.Trigger == window.ByCount && t.cfg.Wait == 0 {
		return
	}
	next := flow.EndOfTime
	for i := range t.open[key] {
		next = min(next, t.nextAt(&t.open[key][i], since))
	}
	if len(t.open[key]) == 0 {
		return
	}
	if next > t.wm || since != t.wm {
		t.due.add(dueTime{next, t.keys.Group(key.Page()), key})
		return
	}
	if t.deferred == nil {
		t.deferred = map[flow.Slot]flow.Timestamp{}
	}
	t.deferred[key] = next // the least of the key's
}

// OnWatermark takes note of the watermark; Step fires.
func (t *windows[K, T, R]) OnWatermark(_ context.Context, wm flow.Timestamp, _ *flow.Output[window.Result[K, R]]) error {
	if wm <= t.wm { // announced again behind a restore
		return nil
	}
	t.wm, t.busy = wm, true
	for key, at := range t.deferred {
		if len(t.open[key]) > 0 {
			t.due.add(dueTime{at, t.keys.Group(key.Page()), key})
		}
	}
	clear(t.deferred)
	if t.cut { // keys that have come due since it was cut are a part of it now
		t.touchDue()
	}
	return nil
}

// touchDue makes the epoch store which keys are still to come.
func (t *windows[K, T, R]) touchDue() {
	for _, d := range t.due.heap {
		if d.at <= t.wm {
			t.part.Touch(d.key.Page())
		}
	}
}

// Step implements flow.WatermarkStepper: it fires what has come due, in order of time, key group and slot, and frees windows that take no more
// records.
func (t *windows[K, T, R]) Step(_ context.Context, out *flow.Output[window.Result[K, R]]) (more bool, err error) {
	if !t.busy {
		return false, nil
	}
	if t.fireDue(t.step, out) {
		if !t.cut { // from now on an epoch stores which keys are still to come
			t.cut = true
			t.touchDue()
		}
		return true, nil
	}
	t.busy, t.cut = false, false
	return false, nil
}

// fireDue fires for up to n keys, and returns true when there are more.
func (t *windows[K, T, R]) fireDue(n int, out *flow.Output[window.Result[K, R]]) (more bool) {
	for {
		d, ok := t.due.pop(t.wm)
		if !ok {
			return false
		}
		t.pass(d.key, d.at, out)
		if n--; n <= 0 {
			return true
		}
	}
}

func (t *windows[K, T, R]) pass(key flow.Slot, at flow.Timestamp, out *flow.Output[window.Result[K, R]]) {
	if t.cut {
		t.part.Touch(key.Page())
	}
	t.now = at
	t.reach(key, at, out)
	if at < flow.EndOfTime {
		t.schedule(key, at)
	}
}

// catchUp fires what a key still has to, before anything else happens to it.
func (t *windows[K, T, R]) catchUp(key flow.Slot, out *flow.Output[window.Result[K, R]]) {
	for {
		at, ok := t.due.at[key]
		if !ok || at > t.wm {
			return
		}
		delete(t.due.at, key) // its place in the heap is passed over
		t.pass(key, at, out)
	}
}

// reach does what the key's windows do at a moment.
func (t *windows[K, T, R]) reach(key flow.Slot, at flow.Timestamp, out *flow.Output[window.Result[K, R]]) {
	for i := 0; i < len(t.open[key]); i++ {
		w := &t.open[key][i]
		last := w.latest()
		gone := w.end != flow.EndOfTime && last.Add(time.Duration(t.cfg.Lateness)) == at
		fire := false
		switch t.cfg.Trigger {
		case window.AtWatermark, window.AtEnd, window.ByClock:
			fire = last == at
			if fire {
				w.count = 0
			}
		case window.ByCount:
			if t.cfg.Wait > 0 && last == at && w.count > 0 { // what is left at the end
				t.part.Touch(key.Page())
				if t.countFires(key, i, window.OnTime, out) {
					i--
					continue
				}
				w = &t.open[key][i]
			}
		case window.OnlyFinal:
			fire = gone
		case window.Periodic:
			armed := w.armed && w.next == at
			if armed {
				w.armed = false
			}
			if armed && at < last {
				w.armed = true
				w.next = min(at.Add(time.Duration(t.cfg.Every)), last)
				if t.wm == flow.EndOfTime && w.end == flow.EndOfTime {
					w.next = last // the rest of time in one step
				}
				fire = true
			}
			fire = fire || last == at
		}
		if fire {
			t.part.Touch(key.Page())
			kind := window.OnTime
			if at < last {
				kind = window.Speculative
			}
			t.fire(key, w, kind, out)
		}
		if gone {
			t.drop(key, i)
			i--
		}
	}
}

// accumulators gives out single slots of a store.
type accumulators[T, R any] struct {
	agg.Store[T, R]
	free []agg.Slot
}

func (a *accumulators[T, R]) alloc() agg.Slot {
	if len(a.free) == 0 {
		first := a.AllocBlock()
		for i := agg.Slot(agg.BlockSize); i > 0; i-- {
			a.free = append(a.free, first+i-1)
		}
	}
	s := a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	return s
}

func (a *accumulators[T, R]) release(s agg.Slot) {
	a.Empty(s)
	a.free = append(a.free, s)
}

// dueTime is a moment of a key.
type dueTime struct {
	at    flow.Timestamp
	group uint16
	key   flow.Slot
}

func (a dueTime) less(b dueTime) bool {
	if a.at != b.at {
		return a.at < b.at
	}
	if a.group != b.group {
		return a.group < b.group
	}
	return a.key < b.key
}

// dueTimes is a heap of moments, one per key: the earliest counts.
type dueTimes struct {
	heap []dueTime
	at   map[flow.Slot]flow.Timestamp
}

func (d *dueTimes) add(e dueTime) {
	if d.at == nil {
		d.at = map[flow.Slot]flow.Timestamp{}
	}
	if at, ok := d.at[e.key]; ok && at <= e.at {
		return
	}
	d.at[e.key] = e.at
	d.heap = append(d.heap, e)
	h := d.heap
	for i := len(h) - 1; i > 0 && h[i].less(h[(i-1)/2]); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
}

// pop takes the earliest moment that is not behind wm.
func (d *dueTimes) pop(wm flow.Timestamp) (dueTime, bool) {
	for len(d.heap) > 0 && d.heap[0].at <= wm {
		h := d.heap
		e := h[0]
		n := len(h) - 1
		h[0] = h[n]
		h = h[:n]
		for i := 0; ; {
			c := 2*i + 1
			if c >= n {
				break
			}
			if c+1 < n && h[c+1].less(h[c]) {
				c++
			}
			if !h[c].less(h[i]) {
				break
			}
			h[i], h[c] = h[c], h[i]
			i = c
		}
		d.heap = h
		if at, ok := d.at[e.key]; ok && at == e.at {
			delete(d.at, e.key)
			return e, true
		}
	}
	return dueTime{}, false
}

// A page is stored as one run of bytes per key with windows.

// AppendPage implements flow.PageStore.
func (t *windows[K, T, R]) AppendPage(b []byte, _ int64, page uint32) []byte {
	first := flow.Slot(page) * flow.PageSize
	for key := first; key < first+flow.PageSize && int(key) < len(t.open); key++ {
		ws := t.open[key]
		if len(ws) == 0 {
			continue
		}
		// A key that a firing has not reached yet says which moment comes next.
		head := uint64(len(ws)) << 1
		next, pending := t.due.at[key]
		if pending = pending && t.busy && next <= t.wm; pending {
			head |= 1
		}
		b = append(b, byte(key-first))
		b = binary.AppendUvarint(b, head)
		if pending {
			b = binary.LittleEndian.AppendUint64(b, uint64(next))
		}
		for i := range ws {
			b = t.appendWindow(b, &ws[i])
		}
	}
	return b
}

func (t *windows[K, T, R]) appendWindow(b []byte, w *win) []byte {
	flags := uint64(0)
	if w.filled {
		flags |= 1
	}
	if w.armed {
		flags |= 2
	}
	for _, v := range []uint64{uint64(w.start), uint64(w.end), uint64(w.next)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	for _, v := range []uint64{uint64(w.count), uint64(w.fires), uint64(w.records), uint64(len(w.chunks)), flags} {
		b = binary.AppendUvarint(b, v)
	}
	slots := slices.Clone(w.chunks)
	if w.filled {
		slots = append(slots, w.acc)
	}
	return t.acc.Append(b, slots)
}

// ReadPage implements flow.PageStore.
func (t *windows[K, T, R]) ReadPage(_ int64, page uint32, b []byte) error {
	first := flow.Slot(page) * flow.PageSize
	for len(b) > 0 {
		key := first + flow.Slot(b[0])
		head, w := binary.Uvarint(b[1:])
		if w <= 0 || b[0] >= flow.PageSize {
			return errPage
		}
		b = b[1+w:]
		since := t.wm
		if head&1 != 0 {
			if len(b) < 8 {
				return errPage
			}
			since, b = flow.Timestamp(binary.LittleEndian.Uint64(b))-1, b[8:]
			t.busy, t.cut = true, true
		}
		t.of(key)
		for i := range int(min(head>>1, 1<<31)) {
			var one win
			var err error
			if b, err = t.readWindow(b, &one); err != nil {
				return err
			}
			t.add(key, i, one)
		}
		t.schedule(key, since)
	}
	return nil
}

func (t *windows[K, T, R]) readWindow(b []byte, w *win) ([]byte, error) {
	if len(b) < 24 {
		return b, errPage
	}
	for i, p := range []*flow.Timestamp{&w.start, &w.end, &w.next} {
		*p = flow.Timestamp(binary.LittleEndian.Uint64(b[8*i:]))
	}
	b = b[24:]
	var v [5]uint64
	for i := range v {
		n, used := binary.Uvarint(b)
		if used <= 0 {
			return b, errPage
		}
		v[i], b = n, b[used:]
	}
	w.count, w.fires, w.records, w.filled, w.armed = int64(v[0]), int64(v[1]), int64(v[2]), v[4]&1 != 0, v[4]&2 != 0
	if v[3] > uint64(len(b)) {
		return b, errPage
	}
	for range v[3] {
		w.chunks = append(w.chunks, t.acc.alloc())
	}
	all := slices.Clone(w.chunks)
	if w.filled {
		w.acc = t.acc.alloc()
		all = append(all, w.acc)
	}
	return t.acc.Read(b, all)
}

// Fingerprint implements flow.PageStore.
func (t *windows[K, T, R]) Fingerprint() string { return fingerprintOf(t.cfg, t.acc.Fingerprint()) }

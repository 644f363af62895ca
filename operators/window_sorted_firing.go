package operators

import (
	"context"
	"encoding/binary"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/window"
)

// sortedFiring says how far the records have had their turn that are due at a watermark: in order of time, key group and slot. It may be left
// between two pages of keys; an epoch stores then through which time each page is done.
type sortedFiring struct {
	// at, group and page are where it stands: None before the first record.
	at    flow.Timestamp
	group uint16
	page  uint32
	// cut: it was left between two steps, and every page of its part of the table touched. stored: the store may hold that part.
	cut, stored bool
	part        *flow.Part
	// pages say through which time pages were done when a crash cut the firing, and others the same of all others: those of tasks that were done.
	pages  map[uint32]flow.Timestamp
	others flow.Timestamp
}

// restored is through which time a page was done.
func (f *sortedFiring) restored(page uint32) flow.Timestamp {
	if through, ok := f.pages[page]; ok {
		return through
	}
	return f.others
}

// OnWatermark implements flow.WatermarkHandler: it takes note, Step fires.
func (t *sorted[K, T, R]) OnWatermark(_ context.Context, wm flow.Timestamp, _ *flow.Output[window.Result[K, R]]) error {
	if wm == flow.EndOfTime && t.wm < wm {
		t.before = t.wm
	}
	t.wm = max(t.wm, wm)
	if t.fires.cut { // pages that came since the firing began are a part of it now
		t.keys.Pages(t.fires.part.Touch)
	}
	return nil
}

// Step implements flow.WatermarkStepper: it takes the records that are due, and in the end frees what nothing needs any more.
func (t *sorted[K, T, R]) Step(_ context.Context, out *flow.Output[window.Result[K, R]]) (more bool, err error) {
	f := &t.fires
	for budget := t.step; ; {
		e, ok := t.turns.pop(t.wm)
		if !ok {
			t.fired(out)
			return false, nil
		}
		page := e.key.Page()
		if budget <= 0 && (e.at != f.at || page != f.page) {
			t.turns.add(e)
			t.cut()
			return true, nil
		}
		f.at, f.group, f.page = e.at, e.group, page
		if f.cut {
			f.part.Touch(page)
		}
		es, i := t.line.of[e.key], t.places[e.key].done
		j := i + 1
		for j < len(es) && es[j].at == e.at {
			j++
		}
		budget -= t.kind.reach(e.key, i, j, out)
		if j < len(es) {
			t.turns.add(t.turn(e.key, es[j].at))
		}
		t.advance(e.key, j)
	}
}

// cut leaves the firing between two steps: from now on an epoch stores how far it has come.
func (t *sorted[K, T, R]) cut() {
	if f := &t.fires; !f.cut {
		f.cut, f.stored, f.part = true, true, t.table.Part(firingPart)
		t.keys.Pages(f.part.Touch)
	}
}

// fired ends a firing.
func (t *sorted[K, T, R]) fired(out *flow.Output[window.Result[K, R]]) {
	if t.wm == flow.EndOfTime {
		t.kind.end(out)
	}
	if t.fires.stored {
		t.table.Drop(firingPart)
	}
	t.fires = sortedFiring{at: flow.None, others: flow.None}
	t.line.drop(t.over, t.forget)
	if t.outside > 0 {
		t.late.rt.Count("no_window", t.outside)
		t.outside = 0
	}
}

// AppendPage implements flow.PageStore.
func (t *sorted[K, T, R]) AppendPage(b []byte, part int64, page uint32) []byte {
	if part != firingPart {
		return t.kind.AppendPage(b, part, page)
	}
	f := &t.fires
	if !f.cut {
		return b
	}
	through := f.at
	if g := t.keys.Group(page); g > f.group || g == f.group && page > f.page {
		through = max(through-1, flow.None+1)
	}
	return binary.LittleEndian.AppendUint64(b, uint64(max(through, f.restored(page))))
}

// ReadPage implements flow.PageStore.
func (t *sorted[K, T, R]) ReadPage(part int64, page uint32, b []byte) error {
	if part != firingPart {
		return t.kind.ReadPage(part, page, b)
	}
	if len(b) != 8 {
		return errPage
	}
	f := &t.fires
	if f.pages == nil {
		f.pages = map[uint32]flow.Timestamp{}
	}
	f.pages[page], f.stored = flow.Timestamp(binary.LittleEndian.Uint64(b)), true
	return nil
}

// Fingerprint implements flow.PageStore.
func (t *sorted[K, T, R]) Fingerprint() string { return fingerprintOf(t.cfg, t.acc.Fingerprint()) }

// turns is a queue of keys by the time of their first record that waits. Times mostly come in their order: those form a line, and only the
// others a heap.
type turns struct {
	line []dueTime
	head int // what is before it in the line has gone
	heap []dueTime
	// at is the time that counts of a key, None if it is not in the queue. A later one of it there is passed over.
	at []flow.Timestamp
}

// add puts a key in, unless it is there with an earlier time.
func (q *turns) add(e dueTime) {
	for int(e.key) >= len(q.at) {
		q.at = append(q.at, flow.None)
	}
	if at := q.at[e.key]; at != flow.None && at <= e.at {
		return
	}
	q.at[e.key] = e.at
	if n := len(q.line); n == q.head || !e.less(q.line[n-1]) {
		if q.head > n/2 && n == cap(q.line) {
			q.line, q.head = q.line[:copy(q.line, q.line[q.head:])], 0
		}
		q.line = append(q.line, e)
		return
	}
	q.heap = append(q.heap, e)
	h := q.heap
	for i := len(h) - 1; i > 0 && h[i].less(h[(i-1)/2]); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
}

// pop takes the first key whose time is not behind wm.
func (q *turns) pop(wm flow.Timestamp) (dueTime, bool) {
	for {
		var e dueTime
		switch lined := q.head < len(q.line); {
		case lined && (len(q.heap) == 0 || !q.heap[0].less(q.line[q.head])):
			if e = q.line[q.head]; e.at > wm {
				return dueTime{}, false
			}
			if q.head++; q.head == len(q.line) {
				q.line, q.head = q.line[:0], 0
			}
		case len(q.heap) > 0 && q.heap[0].at <= wm:
			e = q.first()
		default:
			return dueTime{}, false
		}
		if q.at[e.key] == e.at {
			q.at[e.key] = flow.None
			return e, true
		}
	}
}

// first takes the first of the heap.
func (q *turns) first() dueTime {
	e := q.heap[0]
	n := len(q.heap) - 1
	last := q.heap[n]
	h := q.heap[:n]
	i := 0
	for {
		c := 2*i + 1
		if c >= n {
			break
		}
		if c+1 < n && h[c+1].less(h[c]) {
			c++
		}
		if !h[c].less(last) {
			break
		}
		h[i] = h[c]
		i = c
	}
	if n > 0 {
		h[i] = last
	}
	q.heap = h
	return e
}

package operators

import (
	"context"
	"math/bits"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/window"
)

// OnWatermark implements flow.WatermarkHandler: it takes note, Step fires.
func (g *grouped[K, T, V, R]) OnWatermark(_ context.Context, wm flow.Timestamp, _ *flow.Output[R]) error {
	g.wm, g.fires.busy = max(g.wm, wm), true
	if g.fires.cut { // pages that came since it was cut are a part of it now
		g.keys.Pages(g.fires.part.Touch)
	}
	return nil
}

// Step implements flow.WatermarkStepper: it fires the windows whose end has come, in order, and in the end frees what no window holds any more.
func (g *grouped[K, T, V, R]) Step(_ context.Context, out *flow.Output[R]) (more bool, err error) {
	f := &g.fires
	for budget := g.step; ; {
		if f.end == flow.None {
			start, end, ok := g.due(f.through)
			if !ok {
				g.fired()
				return false, nil
			}
			g.start, f.end, f.at = start, end, flow.PageCursor{}
			clear(f.passed)
			g.mark(start, end)
		}
		for {
			page, ok := g.keys.NextPage(&f.at)
			if !ok {
				f.through, f.end = f.end, flow.None
				break
			}
			budget -= 1 + g.firePage(page, out)
			f.pass(page)
			if f.cut {
				f.part.Touch(page)
			}
			if budget <= 0 {
				g.cut()
				return true, nil
			}
		}
	}
}

// cut leaves the firing between two steps: from now on an epoch stores how far it has come.
func (g *grouped[K, T, V, R]) cut() {
	if f := &g.fires; !f.cut {
		f.cut, f.stored, f.part = true, true, g.table.Part(firingPart)
		g.keys.Pages(f.part.Touch)
	}
}

// fired ends a firing.
func (g *grouped[K, T, V, R]) fired() {
	if g.fires.stored {
		g.table.Drop(firingPart)
	}
	g.fires = firing{through: lastDue(g.wm), end: flow.None, passed: g.fires.passed}
	over := func(last flow.Timestamp) bool { return last < g.wm && g.gone(g.lastEnd(last)) }
	g.left.drop(over, nil)
	g.right.drop(over, nil)
}

// lastDue is the latest end that a window can have to be due at the watermark wm.
func lastDue(wm flow.Timestamp) flow.Timestamp {
	if wm == flow.None {
		return wm
	}
	return wm.Add(1)
}

// due is the first window that ends behind before and is due, of those that buckets with records touch.
func (g *grouped[K, T, V, R]) due(before flow.Timestamp) (start, end flow.Timestamp, ok bool) {
	from := max(before, flow.None+1)
	i, k := 0, 0
	for i < len(g.left.order) || k < len(g.right.order) {
		var b *bucket
		if i == len(g.left.order) || k < len(g.right.order) && g.right.order[k].number < g.left.order[i].number {
			b = g.right.order[k]
			k++
		} else {
			b = g.left.order[i]
			i++
		}
		start, end = g.first(max(from, b.start))
		if start >= end || end <= before || end-1 > g.wm {
			return 0, 0, false
		}
		if start <= b.last {
			return start, end, true
		}
	}
	return 0, 0, false
}

// mark finds the keys that have something in a window.
func (g *grouped[K, T, V, R]) mark(start, end flow.Timestamp) {
	clear(g.live)
	if n := g.keys.Cap() / flow.PageSize; len(g.live) < n {
		g.live = append(g.live, make([]uint64, n-len(g.live))...)
	}
	mark := func(order []*bucket) {
		for _, b := range order {
			if b.start >= end {
				return
			}
			if b.last >= start {
				for _, key := range b.keys {
					g.live[key.Page()] |= 1 << (key % flow.PageSize)
				}
			}
		}
	}
	mark(g.left.order)
	mark(g.right.order)
}

// firePage fires the window in work for the keys of a page, and returns about how many records it read and pairs it made.
func (g *grouped[K, T, V, R]) firePage(page uint32, out *flow.Output[R]) (n int) {
	if int(page) >= len(g.live) {
		return 0
	}
	f := &g.fires
	skips := len(f.pages) > 0 || len(f.ahead) > 0
	for live := g.live[page]; live != 0; live &= live - 1 {
		key := flow.Slot(page)*flow.PageSize + flow.Slot(bits.TrailingZeros64(live))
		if !skips || !f.skips(f.end, page, key) {
			n += g.fire(key, g.start, f.end, window.OnTime, out)
		}
	}
	return n
}

// fireAhead fires a key's windows that are due and whose turn has not come, before a record changes one of them.
func (g *grouped[K, T, V, R]) fireAhead(key flow.Slot, at flow.Timestamp, out *flow.Output[R]) {
	if start, end := g.first(at); start > at || start >= end || end-1 > g.wm {
		return
	}
	f := &g.fires
	page := key.Page()
	for before := f.through; ; {
		start, end, ok := g.due(before)
		if !ok {
			break
		}
		if (end != f.end || !f.hasPassed(page)) && !f.skips(end, page, key) {
			g.fire(key, start, end, window.OnTime, out)
		}
		before = end
	}
	if f.ahead == nil {
		f.ahead = map[flow.Slot]flow.Timestamp{}
	}
	f.ahead[key] = lastDue(g.wm)
	if f.stored && !f.cut {
		g.cut()
	}
	if f.cut {
		f.part.Touch(page)
	}
}

// again gives the windows of a late record that have fired.
func (g *grouped[K, T, V, R]) again(key flow.Slot, at flow.Timestamp, out *flow.Output[R]) {
	for start, end := g.first(at); start <= at && start < end; start, end = g.next(start, end) {
		if !passed(g.wm, end-1, 0) {
			return
		}
		if !g.gone(end) {
			g.fire(key, start, end, window.Refined, out)
		}
	}
}

// fire gives a key's window, if there is something in it.
func (g *grouped[K, T, V, R]) fire(key flow.Slot, start, end flow.Timestamp, kind window.Kind, out *flow.Output[R]) (cost int) {
	ls, i, j := g.left.between(key, start, end-1)
	rs, k, l := g.right.between(key, start, end-1)
	if i == j && k == l {
		return 0
	}
	cost = j - i + l - k
	if g.pairs {
		cost += (j - i) * (l - k)
	}
	of := &g.group
	of.Key, of.Start, of.End, of.Kind = g.keys.Key(key), start, end, kind
	of.Left, of.Right = of.Left[:0], of.Right[:0]
	for ; i < j; i++ {
		of.Left = append(of.Left, ls[i].v)
	}
	for ; k < l; k++ {
		of.Right = append(of.Right, rs[k].v)
	}
	g.f(of, end-1, out)
	clear(of.Left)
	clear(of.Right)
	return cost
}

// firingPages stores how far a firing has come that an epoch cut.
type firingPages struct{ f *firing }

// AppendPage implements flow.PageStore.
func (p firingPages) AppendPage(b []byte, _ int64, page uint32) []byte {
	return p.f.appendPage(b, page)
}

// ReadPage implements flow.PageStore.
func (p firingPages) ReadPage(_ int64, page uint32, b []byte) error { return p.f.readPage(page, b) }

// Fingerprint implements flow.PageStore.
func (p firingPages) Fingerprint() string { return "firing" }

package operators

import (
	"cmp"
	"context"
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/join"
	"github.com/millrace-stream/millrace/operators/window"
)

// WindowJoin joins the records of both inputs that lie in one window: every pair of a key, and for the kinds Left, Right and Full also
// those whose window has nothing of the other side, with nil for what is missing. Windows are window.Tumbling, window.Sliding,
// window.Days or window.Session. It is the window join of Apache Flink, whose DataStream API has the inner one only.
//
// Sessions are made of both sides' records of a key: each record lies in [time, time + gap), and records of either side whose stretches overlap or
// touch are one session, also when the one between them comes last. A session is late or not after it has grown together, as in Flink.
//
// Results come when the watermark has reached the window's last moment (end - 1), which is their time: in order of windows, key groups and
// slots, in steps (join.FireStep) between which the task takes other records, and within a window of a key as the left records and then the
// right ones lie in time. With join.AllowedLateness a late record
// gives all pairs of its windows again, at once, as in Flink. Without it, or behind it, it comes out of LateLeft or LateRight. A record in a
// gap between windows is counted (no_window), and one that lies in a window which reaches beyond the years 1677 to 2262 is treated as late. To emit something else than pairs see CoGroup.
//
// f must neither keep nor change what its arguments point to. A panic of f stops the topology, since there is no one record to blame.
//
// State: each record once, however many sliding windows it lies in, until the last of them is gone: the watermark at its end - 1 + lateness,
// and up to one slide or an eighth of the size longer (at least 250 ms), since state is freed by buckets of time. A firing holds one key's
// window in memory besides. It is stored as that of Join is. A session's records are kept until the session is gone, and stored together with those of
// up to 64 keys, again with each epoch in which one of these has changed: sessions of very many records are dear to store.
//
// A crash rolls back to the last epoch together with both sources; results of the replayed part come again.
func WindowJoin[K comparable, T, V, R any](left flow.KeyedStream[K, T], right flow.KeyedStream[K, V], name string, w window.Plain, kind join.Kind, f func(*T, *V) R, opts ...join.Option) Joined[T, V, R] {
	cfg := &join.Config{}
	if kind > join.Full {
		cfg.Problem(fmt.Sprintf("there is no %v join", kind), "give join.Inner, join.Left, join.Right or join.Full")
	}
	var pairs func(*join.Group[K, T, V], flow.Timestamp, *flow.Output[R])
	if f != nil {
		pairs = func(g *join.Group[K, T, V], at flow.Timestamp, out *flow.Output[R]) {
			for i := range g.Left {
				for k := range g.Right {
					*out.Next(at, nil) = f(&g.Left[i], &g.Right[k])
				}
				if len(g.Right) == 0 && kind.KeepsLeft() {
					*out.Next(at, nil) = f(&g.Left[i], nil)
				}
			}
			for k := range g.Right {
				if len(g.Left) == 0 && kind.KeepsRight() {
					*out.Next(at, nil) = f(nil, &g.Right[k])
				}
			}
		}
	}
	return windowJoin(left, right, name, "window-join", w, cfg, pairs, opts)
}

// CoGroup calls f with what both inputs brought for a key in a window, also where one side is empty; f may emit any number of results.
// It is the coGroup of Apache Flink. All else is as in WindowJoin, which is made of it.
func CoGroup[K comparable, T, V, R any](left flow.KeyedStream[K, T], right flow.KeyedStream[K, V], name string, w window.Plain, f func(g join.Group[K, T, V], emit func(R)), opts ...join.Option) Joined[T, V, R] {
	var group func(*join.Group[K, T, V], flow.Timestamp, *flow.Output[R])
	if f != nil {
		group = func(g *join.Group[K, T, V], at flow.Timestamp, out *flow.Output[R]) {
			f(*g, func(v R) { *out.Next(at, nil) = v })
		}
	}
	return windowJoin(left, right, name, "co-group", w, &join.Config{}, group, opts)
}

func windowJoin[K comparable, T, V, R any](left flow.KeyedStream[K, T], right flow.KeyedStream[K, V], name, kind string, w window.Plain,
	cfg *join.Config, f func(*join.Group[K, T, V], flow.Timestamp, *flow.Output[R]), opts []join.Option) Joined[T, V, R] {
	cfg.Tolerance = -1
	flow.Configure(cfg, opts)
	noTolerance(cfg, "a join by windows")
	shape := &window.Config{}
	if w != nil {
		w(shape)
	} else {
		cfg.Problem("the window assigner is nil", "give one like window.Tumbling(time.Minute)")
		shape.Size, shape.Slide = 1, 1
	}
	switch {
	case shape.Gap != nil:
		cfg.Problem("window.SessionBy in a join", "give window.Session: its gap is that of both inputs")
	case shape.Shape != window.Aligned && shape.Shape != window.Calendar && shape.Shape != window.Sessions:
		cfg.Problem("these windows do not cut time for both inputs alike", "give window.Tumbling, window.Sliding, window.Days or window.Session")
	}
	flow.With(shape)(cfg)
	codecs := settings[T, V](cfg, kind, f != nil, flow.Timestamp(horizon(shape))+cfg.Lateness)
	out := joined[T, V, R](left.Topology(), name)
	if shape.Shape == window.Sessions {
		shape.Lateness, shape.Step = cfg.Lateness, cfg.Step
		out.Stream = flow.ApplyJoin[K, T, V, R](left, right, name, func() *sessionJoin[K, T, V, R] {
			return newSessionJoin(shape, f, codecs, out.late)
		}, flow.With(cfg))
		return out.Joined
	}
	out.Stream = flow.ApplyJoin[K, T, V, R](left, right, name, func() *grouped[K, T, V, R] {
		g := &grouped[K, T, V, R]{shape: shape, lateness: cfg.Lateness, f: f, late: out.late, pairs: kind == "window-join", step: cmp.Or(cfg.Step, fireStep)}
		width := bucketWidth(flow.Timestamp(horizon(shape)))
		if shape.Shape == window.Aligned {
			width = max(width, shape.Slide)
		}
		g.left.width, g.left.code = width, codecs.left()
		g.right.width, g.right.code = width, codecs.right()
		return g
	}, flow.With(cfg))
	return out.Joined
}

// grouped is WindowJoin and CoGroup.
type grouped[K comparable, T, V, R any] struct {
	shape    *window.Config
	lateness flow.Timestamp
	f        func(*join.Group[K, T, V], flow.Timestamp, *flow.Output[R])

	late  lateSides[T, V]
	rt    flow.Runtime
	keys  flow.Keys[K]
	left  timeline[T]
	right timeline[V]
	wm    flow.Timestamp
	group join.Group[K, T, V]
	// pairs: each left record of a group meets each right one.
	pairs bool
	fires firing
	table flow.Table // of the firing
	step  int
	// live are the keys of the window that fires, which begins at start, a bit each, by page.
	live  []uint64
	start flow.Timestamp
}

// Open implements flow.Opener.
func (g *grouped[K, T, V, R]) Open(_ context.Context, rt flow.Runtime) (err error) {
	g.rt = rt
	g.late.open(rt)
	if err = flow.OpenKeys(rt, &g.keys); err != nil {
		return err
	}
	if g.wm, err = flow.OpenWatermark(rt); err != nil {
		return err
	}
	print := fmt.Sprintf("windows %d %s %d %d %d", g.shape.Shape, g.shape.Name, g.shape.Size, g.shape.Slide, g.shape.Offset)
	if err = g.left.open(rt, "left", print, &g.keys); err != nil {
		return err
	}
	if err = g.right.open(rt, "right", print, &g.keys); err != nil {
		return err
	}
	if err = flow.OpenTable(rt, "firing", &g.table, firingPages{&g.fires}); err != nil {
		return err
	}
	g.fires.open(lastDue(g.wm))
	return nil
}

// since is how long before a moment the last aligned window begins that begins by then: less than the slide.
func (g *grouped[K, T, V, R]) since(at flow.Timestamp) flow.Timestamp {
	slide := g.shape.Slide
	a, o := at%slide, g.shape.Offset%slide
	if a < 0 {
		a += slide
	}
	if o < 0 {
		o += slide
	}
	if a -= o; a < 0 {
		a += slide
	}
	return a
}

// first is the first window that ends behind a moment, of those whose beginning is within the range of time.
func (g *grouped[K, T, V, R]) first(at flow.Timestamp) (start, end flow.Timestamp) {
	if g.shape.Shape == window.Calendar {
		return g.shape.Bounds(at)
	}
	size, slide, since := g.shape.Size, g.shape.Slide, g.since(at)
	most := min(uint64(size-1), uint64(at-(flow.None+1))) // how far back a window may begin
	if uint64(since) > most {                             // in a gap, or none
		start = after(at, slide-since)
		return start, after(start, size)
	}
	start = at - since - flow.Timestamp((most-uint64(since))/uint64(slide))*slide
	return start, after(start, size)
}

// after is at + d, saturating, for a positive d.
func after(at, d flow.Timestamp) flow.Timestamp {
	if end := at + d; end >= at {
		return end
	}
	return flow.EndOfTime
}

// next is the window behind one, which begins at EndOfTime if there is none.
func (g *grouped[K, T, V, R]) next(start, end flow.Timestamp) (flow.Timestamp, flow.Timestamp) {
	if g.shape.Shape == window.Calendar {
		if end == flow.EndOfTime {
			return end, end
		}
		return g.shape.Bounds(end)
	}
	start = after(start, g.shape.Slide)
	return start, after(start, g.shape.Size)
}

// beyond tells whether a moment lies in a window with a bound that is beyond the range of time.
func (g *grouped[K, T, V, R]) beyond(at flow.Timestamp) bool {
	if g.shape.Shape == window.Calendar {
		return false
	}
	size, since := g.shape.Size, g.since(at)
	if since >= size {
		return false // in a gap
	}
	back := since + (size-1-since)/g.shape.Slide*g.shape.Slide
	return uint64(back) > uint64(at-(flow.None+1)) || after(at, size-since) == flow.EndOfTime
}

// gone tells whether a window takes no more records.
func (g *grouped[K, T, V, R]) gone(end flow.Timestamp) bool {
	return end != flow.EndOfTime && passed(g.wm, end-1, g.lateness)
}

// lastEnd is the end of the last window that begins by a moment.
func (g *grouped[K, T, V, R]) lastEnd(at flow.Timestamp) flow.Timestamp {
	if g.shape.Shape == window.Calendar {
		_, end := g.shape.Bounds(at)
		return end
	}
	if since := g.since(at); since < g.shape.Size {
		return after(at, g.shape.Size-since)
	}
	return at // in a gap: all are over
}

// place says whether a window takes a record of this time, and counts those that lie in none.
func (g *grouped[K, T, V, R]) place(at flow.Timestamp) (taken bool, why string) {
	if at == flow.None {
		return false, tooLate(at, g.wm)
	}
	if g.beyond(at) {
		return false, "its window reaches beyond the years 1677 to 2262"
	}
	any := false
	for start, end := g.first(at); start <= at && start < end; start, end = g.next(start, end) {
		if any = true; !g.gone(end) {
			return true, ""
		}
	}
	if any {
		return false, "its window is gone"
	}
	g.rt.Count("no_window", 1)
	return false, ""
}

// ProcessLeftBatch implements flow.JoinBatchOperator.
func (g *grouped[K, T, V, R]) ProcessLeftBatch(_ context.Context, keys []flow.Slot, in []flow.Record[T], out *flow.Output[R]) (int, error) {
	for i := range in {
		r := &in[i]
		taken, why := g.place(r.Time)
		if !taken {
			if why != "" {
				g.late.left.refuse(r, why)
			}
			continue
		}
		if g.fires.busy {
			g.fireAhead(keys[i], r.Time, out)
		}
		if err := g.left.add(keys[i], r.Time, 0, &r.Value); err != nil {
			return i, err
		}
		g.again(keys[i], r.Time, out)
	}
	return len(in), nil
}

// ProcessRightBatch implements flow.JoinBatchOperator.
func (g *grouped[K, T, V, R]) ProcessRightBatch(_ context.Context, keys []flow.Slot, in []flow.Record[V], out *flow.Output[R]) (int, error) {
	for i := range in {
		r := &in[i]
		taken, why := g.place(r.Time)
		if !taken {
			if why != "" {
				g.late.right.refuse(r, why)
			}
			continue
		}
		if g.fires.busy {
			g.fireAhead(keys[i], r.Time, out)
		}
		if err := g.right.add(keys[i], r.Time, 0, &r.Value); err != nil {
			return i, err
		}
		g.again(keys[i], r.Time, out)
	}
	return len(in), nil
}

// ProcessLeft is the same for one record.
func (g *grouped[K, T, V, R]) ProcessLeft(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[R]) error {
	_, err := g.ProcessLeftBatch(ctx, []flow.Slot{g.keys.Find(key)}, []flow.Record[T]{*r}, out)
	return err
}

// ProcessRight is the same for one record.
func (g *grouped[K, T, V, R]) ProcessRight(ctx context.Context, key K, r *flow.Record[V], out *flow.Output[R]) error {
	_, err := g.ProcessRightBatch(ctx, []flow.Slot{g.keys.Find(key)}, []flow.Record[V]{*r}, out)
	return err
}

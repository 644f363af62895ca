package operators

import (
	"fmt"
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

// Window cuts each key's records into windows and aggregates them: see package window for the kinds and when they fire. Tumbling and
// sliding windows fire when the watermark reaches their last moment, in order of windows, key groups and slots; the result's time is that
// moment. With AllowedLateness each late record fires its window again at once, with all of its contents. The rules are Apache Flink's.
//
// Results of windows that are not bounded in time (Count, Last, Global) carry the time of the record that made them fire, where Flink's
// carry the end of time, which would finish every window behind them.
//
// While, Between and Trailing look at a key's records in order of event time, once the watermark has reached them, whatever the order in
// which they came; a record that comes behind the watermark is late. What they keep stands there.
//
// State: tumbling and sliding windows keep one accumulator per key and slice (the greatest common divisor of size and slide) until the
// last window that holds the slice is gone, when the watermark reaches its end - 1 + lateness, and update one per record whatever the
// size. Windows that overlap share what their slices come to: about four merges per key and firing, for at most as many accumulators again in
// memory. Other triggers and kinds keep one per key and window. Accumulators are stored by pages of 64 keys. A crash rolls back to the
// last epoch, sources included, so results are those of a run without it, but those of the replayed part are emitted again.
func Window[K comparable, T, R any](s flow.KeyedStream[K, T], name string, w window.Assigner[T], a agg.Aggregate[T, R], opts ...window.Option) Windowed[K, T, R] {
	cfg := &window.Config{}
	if w != nil {
		w(cfg)
	} else {
		cfg.Problem("the window assigner is nil", "give one like window.Tumbling(time.Minute)")
	}
	shape := *cfg
	flow.Configure(cfg, opts)
	if err := agg.Check(a); err != nil {
		cfg.Problem(err.Error(), "")
	}
	bySlices := cfg.Shape == window.Aligned && !cfg.Purge && (cfg.Trigger == window.AtWatermark || cfg.Trigger == window.OnlyFinal)
	gap, _ := cfg.Gap.(func(T) time.Duration)
	switch {
	case shape.Trigger == window.ByCount && (cfg.Trigger != window.ByCount || cfg.Every != shape.Every):
		cfg.Problem("a count window with another trigger", "take OnCount, Early or FinalOnly out: its count says when it fires")
	case cfg.Shape == window.LastRecords && cfg.Purge:
		cfg.Problem("window.Last with Discarding", "take Discarding out: the last records overlap")
	case !bounded(cfg) && cfg.Trigger == window.OnlyFinal:
		cfg.Problem("FinalOnly on windows that never end", "take it out")
	case cfg.Wait > 0 && cfg.Trigger != window.ByCount:
		cfg.Problem("MaxWait on windows that do not fire by count", "take it out; EarlyClock fires by the clock")
	case cfg.Stagger > 0 && !bySlices:
		cfg.Problem("Stagger on windows of this kind or trigger", "take it out: it is for Tumbling and Sliding at the watermark or FinalOnly")
	case !bounded(cfg) && cfg.Lateness > 0:
		cfg.Problem("AllowedLateness on windows that are not bounded in time", "take it out: nothing is late for them")
	}
	checkSorted(cfg)
	cfg.Traits = flow.Traits{
		Kind: "window", EventTime: cfg.Trigger != window.ByCount || bounded(cfg),
		Stateful: true, Counts: true, Horizon: horizon(cfg), Loses: "the contents of open windows",
	}
	side, late := flow.SideOutput[flow.Late[T]](s.Topology(), name, "late")
	var out flow.Stream[window.Result[K, R]]
	switch {
	case isSorted(cfg):
		out = flow.ApplyKeyed[K, T, window.Result[K, R]](s, name, func() *sorted[K, T, R] { return newSorted[K](cfg, a.NewStore(), side) }, flow.With(cfg))
	case bySlices:
		out = flow.ApplyKeyed[K, T, window.Result[K, R]](s, name, func() *sliced[K, T, R] { return newSliced[K](cfg, a.NewStore(), side) }, flow.With(cfg))
	default:
		out = flow.ApplyKeyed[K, T, window.Result[K, R]](s, name, func() *windows[K, T, R] { return newWindows[K](cfg, a.NewStore(), side, gap) }, flow.With(cfg))
	}
	return Windowed[K, T, R]{out, late}
}

// bounded tells whether windows end at a moment of event time.
func bounded(cfg *window.Config) bool {
	return cfg.Shape != window.Unbounded && cfg.Shape != window.LastRecords
}

// horizon is how long a record can change a result.
func horizon(cfg *window.Config) time.Duration {
	size := time.Duration(cfg.Size)
	if cfg.Shape == window.Calendar {
		size = 25 * time.Hour
	}
	return size + time.Duration(cfg.Lateness)
}

// lateRecords is what both operators do with records that no window takes.
type lateRecords[T any] struct {
	side *flow.Side[flow.Late[T]]
	out  *flow.Output[flow.Late[T]]
	rt   flow.Runtime
	// to takes them, if it is set, and there is no side output then.
	to func(r *flow.Record[T], reason string)
}

func (l *lateRecords[T]) open(rt flow.Runtime) {
	if l.rt = rt; l.to == nil {
		l.out = l.side.Open(rt)
	}
}

// refuse sends a record out as late when it is, by its own time; one that lies in no window at all is only counted.
func (l *lateRecords[T]) refuse(r *flow.Record[T], late bool) {
	if !late {
		l.rt.Count("no_window", 1)
		return
	}
	l.send(r, "its window is gone")
}

// beyond sends out a record one of whose windows would begin or end where int64 nanoseconds end.
func (l *lateRecords[T]) beyond(r *flow.Record[T]) {
	l.send(r, "its window reaches beyond the years 1677 to 2262")
}

func (l *lateRecords[T]) send(r *flow.Record[T], reason string) {
	if l.to != nil {
		l.to(r, reason)
		return
	}
	l.rt.Count("late", 1)
	*l.out.Next(r.Time, r.Meta) = flow.Late[T]{Value: r.Value, Time: r.Time, Reason: reason}
}

// passed tells whether the watermark has reached a moment plus the lateness, saturating.
func passed(wm, t, lateness flow.Timestamp) bool {
	return wm != flow.None && t <= wm && t.Add(time.Duration(lateness)) <= wm
}

// windowStart is the greatest window start that is not above ts, saturating at the low end of time.
func windowStart(ts, offset, size flow.Timestamp) flow.Timestamp {
	rem := (ts - offset%size) % size
	if rem < 0 {
		rem += size
	}
	start := ts - rem
	if start > ts {
		return flow.None + 1
	}
	return start
}

// windowEnd is start + size, saturating.
func windowEnd(start, size flow.Timestamp) flow.Timestamp {
	if end := start + size; end >= start {
		return end
	}
	return flow.EndOfTime
}

// startOf is the greatest window start that is not above ts; ok is false where it is beyond the range of time.
func startOf(ts, offset, size flow.Timestamp) (start flow.Timestamp, ok bool) {
	rem := ts%size - offset%size // both are less than size in amount
	for rem < 0 {
		rem += size
	}
	rem %= size
	start = ts - rem
	return start, start <= ts && start != flow.None
}

// endOf is start + size; ok is false where it is beyond the range of time.
func endOf(start, size flow.Timestamp) (end flow.Timestamp, ok bool) {
	end = start + size
	return end, end > start && end != flow.EndOfTime
}

func gcd(a, b flow.Timestamp) flow.Timestamp {
	for b > 0 {
		a, b = b, a%b
	}
	return max(a, 1)
}

func fingerprintOf(cfg *window.Config, store string) string {
	d := func(t flow.Timestamp) time.Duration { return time.Duration(t) }
	if cfg.Shape == window.Aligned && cfg.Size == cfg.Slide && cfg.Trigger == window.AtWatermark && !cfg.Purge {
		return "tumbling/" + d(cfg.Size).String() + "/" + d(cfg.Offset).String() + "/" + store
	}
	return fmt.Sprintf("windows.2/%d%s/%v/%v/%v/%d/%d/%d/%v/%s", cfg.Shape, cfg.Name, d(cfg.Size), d(cfg.Slide), d(cfg.Offset), cfg.Last, cfg.Trigger, cfg.Every, cfg.Purge, store)
}

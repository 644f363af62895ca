package operators

import (
	"cmp"
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// sorted runs the windows that need the records of a key in order of event time: While, Between and Trailing. A record is made an accumulator when
// it comes, which waits, sorted, until the watermark reaches its time; windows are merged of them.
type sorted[K comparable, T, R any] struct {
	cfg   *window.Config
	marks func(T) window.Mark // nil where nothing depends on the record
	kind  sortedKind[K, R]
	limit int
	step  int
	// keep is how much longer than until the watermark reaches it a record is kept.
	keep time.Duration

	acc   accumulators[T, R]
	late  lateRecords[T]
	keys  flow.Keys[K]
	line  timeline[agg.Slot]
	table flow.Table
	part  *flow.Part
	wm    flow.Timestamp
	// before is the watermark before the end of the stream.
	before flow.Timestamp
	places []progress
	turns  turns
	fires  sortedFiring
	// fresh is the accumulator of the record in work, plus 1.
	fresh   agg.Slot
	outside int64 // records without a window

	over   func(last flow.Timestamp) bool
	forget func(key flow.Slot, e *entry[agg.Slot])
}

// sortedKind is what makes windows of sorted records. The values of entries are accumulators plus 1; it releases them.
type sortedKind[K comparable, R any] interface {
	// reach takes a key's entries [i, j), all of one time, and returns about how many accumulators it read.
	reach(key flow.Slot, i, j int, out *flow.Output[window.Result[K, R]]) int
	// restore makes what is not stored: the first n entries of the key had their turn.
	restore(key flow.Slot, n int)
	// empty: the key has no more entries.
	empty(key flow.Slot)
	// end: the stream has ended.
	end(out *flow.Output[window.Result[K, R]])
	flow.PageStore
}

// progress says how far a key's entries are.
type progress struct {
	// head is the first entry whose accumulator is not released, done the first one that waits.
	head, done int
}

// defaultPerKey bounds the records of a key.
const defaultPerKey = 1_000_000

// sortedWidth is the least stretch of time that the log is cut into.
const sortedWidth = flow.Timestamp(4 * time.Second)

// isSorted tells whether windows need records in order of event time.
func isSorted(cfg *window.Config) bool {
	return cfg.Shape == window.States || cfg.Shape == window.Trails
}

// checkSorted refuses options that have no meaning for windows over sorted records.
func checkSorted(cfg *window.Config) {
	if !isSorted(cfg) {
		if cfg.PerKey != 0 {
			cfg.Problem("MaxPerKey on windows that keep no records", "take it out: it is for window.While, Between and Trailing")
		}
		return
	}
	const cure = "take it out: each window gives one result, when the watermark says that no earlier record can come"
	if cfg.Trigger != window.AtWatermark {
		cfg.Problem("Early, OnCount, EarlyClock or FinalOnly on windows over records in order of time", cure)
	}
	if cfg.Purge {
		cfg.Problem("Discarding on windows over records in order of time", cure)
	}
	if cfg.Lateness > 0 {
		cfg.Problem("AllowedLateness on windows over records in order of time", "take it out and let the watermark wait so much longer: results that were given are not taken back")
	}
}

func newSorted[K comparable, T, R any](cfg *window.Config, store agg.Store[T, R], side *flow.Side[flow.Late[T]]) *sorted[K, T, R] {
	t := &sorted[K, T, R]{
		cfg: cfg, limit: cmp.Or(cfg.PerKey, defaultPerKey), step: cmp.Or(cfg.Step, fireStep),
		acc: accumulators[T, R]{Store: store}, late: lateRecords[T]{side: side}, wm: flow.None, before: flow.None,
		fires: sortedFiring{at: flow.None},
	}
	t.marks, _ = cfg.Marks.(func(T) window.Mark)
	t.line.code = stored[agg.Slot]{code: &slotCodec[T, R]{acc: &t.acc, one: make([]agg.Slot, 1)}}
	if cfg.Shape == window.Trails {
		t.kind, t.keep = &trailing[K, T, R]{sorted: t, d: cfg.Size}, time.Duration(cfg.Size-1)
	} else {
		t.kind = &stateWindows[K, T, R]{sorted: t}
	}
	t.line.width = max(sortedWidth, cfg.Size/8)
	t.over = func(last flow.Timestamp) bool { return last.Add(t.keep) <= t.wm }
	t.forget = t.forgetUpTo
	return t
}

// Open implements flow.Opener.
func (t *sorted[K, T, R]) Open(_ context.Context, rt flow.Runtime) (err error) {
	t.late.open(rt)
	if err = flow.OpenKeys(rt, &t.keys); err != nil {
		return err
	}
	if t.wm, err = flow.OpenWatermark(rt); err != nil {
		return err
	}
	if err = flow.OpenTable(rt, "windows", &t.table, t); err != nil {
		return err
	}
	t.part = t.table.Part(0)
	if err = t.line.open(rt, "records", "windows", &t.keys); err != nil {
		return err
	}
	for k, es := range t.line.of {
		if key := flow.Slot(k); len(es) > 0 {
			through := t.fires.restored(key.Page(), t.wm)
			p := t.place(key)
			p.done = sort.Search(len(es), func(i int) bool { return es[i].at > through })
			t.kind.restore(key, p.done)
			if p.done < len(es) {
				t.turns.add(t.turn(key, es[p.done].at))
			}
		}
	}
	return nil
}

func (t *sorted[K, T, R]) place(key flow.Slot) *progress {
	if int(key) >= len(t.places) {
		t.places = append(t.places, make([]progress, max(t.keys.Cap(), int(key)+1)-len(t.places))...)
	}
	return &t.places[key]
}

func (t *sorted[K, T, R]) turn(key flow.Slot, at flow.Timestamp) dueTime {
	return dueTime{at, t.keys.Group(key.Page()), key}
}

// ProcessBatch implements flow.KeyedBatchOperator. What the user's functions do with a record they do here, so that their errors are that
// record's.
func (t *sorted[K, T, R]) ProcessBatch(_ context.Context, keys []flow.Slot, in []flow.Record[T], _ *flow.Output[window.Result[K, R]]) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
			if t.fresh > 0 {
				t.acc.release(t.fresh - 1)
				t.fresh = 0
			}
		}
	}()
	for ; n < len(in); n++ {
		if err = t.take(keys[n], &in[n]); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Process is the same for one record.
func (t *sorted[K, T, R]) Process(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[window.Result[K, R]]) error {
	_, err := t.ProcessBatch(ctx, []flow.Slot{t.keys.Find(key)}, []flow.Record[T]{*r}, out)
	return err
}

func (t *sorted[K, T, R]) take(key flow.Slot, r *flow.Record[T]) error {
	p := t.place(key)
	switch {
	case r.Time == flow.None:
		t.refuse(r, "late", "it has no time")
		return nil
	case r.Time <= t.wm:
		t.refuse(r, "late", "the watermark has reached its time, and what comes before it in order of time is decided")
		return nil
	case t.full(key, p):
		t.refuse(r, "over_limit", fmt.Sprintf("%d records of its key are kept already (window.MaxPerKey)", t.limit))
		return nil
	}
	var mark window.Mark
	if t.marks != nil {
		mark = t.marks(r.Value)
	}
	if mark&window.Outside == 0 {
		t.fresh = t.acc.alloc() + 1
		t.acc.Add(t.fresh-1, r)
	}
	if err := t.line.add(key, r.Time, uint8(mark), &t.fresh); err != nil {
		return err
	}
	t.fresh = 0
	t.turns.add(t.turn(key, r.Time))
	return nil
}

// full tells whether a key keeps as many records as it may.
func (t *sorted[K, T, R]) full(key flow.Slot, p *progress) bool {
	es := t.line.at(key)
	if len(es)-p.head < t.limit {
		return false
	}
	next := t.wm // no record before it has its turn any more
	if p.done < len(es) {
		next = min(next, es[p.done].at-1)
	}
	for p.head < p.done && es[p.head].at.Add(t.keep) <= next {
		t.release(&es[p.head])
		p.head++
	}
	return len(es)-p.head >= t.limit
}

func (t *sorted[K, T, R]) refuse(r *flow.Record[T], counter, reason string) {
	t.late.rt.Count(counter, 1)
	*t.late.out.Next(r.Time, r.Meta) = flow.Late[T]{Value: r.Value, Time: r.Time, Reason: reason}
}

// release frees the accumulator of an entry.
func (t *sorted[K, T, R]) release(e *entry[agg.Slot]) {
	if e.v > 0 {
		t.acc.release(e.v - 1)
		e.v = 0
	}
}

// advance notes that a key's entries before done had their turn, and cuts those off whose accumulators are released when they are many. It
// keeps the memory, and one entry at least, with which the log frees it when the key falls silent.
func (t *sorted[K, T, R]) advance(key flow.Slot, done int) {
	p, es := &t.places[key], t.line.of[key]
	p.done = done
	if n := min(p.head, len(es)-1); n >= 32 && 2*n >= len(es) {
		copy(es, es[n:])
		t.line.of[key] = es[:len(es)-n]
		t.line.n -= n
		p.head, p.done = p.head-n, done-n
	}
}

// forgetUpTo releases a key's entries up to e, which the log is about to drop.
func (t *sorted[K, T, R]) forgetUpTo(key flow.Slot, e *entry[agg.Slot]) {
	es, p := t.line.of[key], &t.places[key]
	at := e.at
	n := sort.Search(len(es), func(i int) bool { return es[i].at > at })
	for i := p.head; i < n; i++ {
		t.release(&es[i])
	}
	p.head, p.done = max(p.head-n, 0), p.done-n
	if n == len(es) {
		t.kind.empty(key)
	}
}

// slotCodec stores the accumulator in a slot, which is its number plus 1, or 0 for none.
type slotCodec[T, R any] struct {
	acc *accumulators[T, R]
	one []agg.Slot
}

// Append implements codec.Codec.
func (c *slotCodec[T, R]) Append(b []byte, v *agg.Slot) ([]byte, error) {
	if *v == 0 {
		return b, nil
	}
	c.one[0] = *v - 1
	return c.acc.Append(append(b, 1), c.one), nil
}

// Decode implements codec.Codec.
func (c *slotCodec[T, R]) Decode(data []byte, v *agg.Slot) error {
	if *v = 0; len(data) == 0 {
		return nil
	}
	s := c.acc.alloc()
	*v = s + 1
	c.one[0] = s
	rest, err := c.acc.Read(data[1:], c.one)
	if err == nil && len(rest) > 0 {
		err = errPage
	}
	return err
}

// ID implements codec.Codec.
func (c *slotCodec[T, R]) ID() string { return c.acc.Fingerprint() }

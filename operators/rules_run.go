package operators

import (
	"context"
	"encoding/binary"
	"errors"
	"math/bits"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/operators/rule"
)

// rules is a task of Rules whose set does not change while it runs.
type rules[K comparable, T any] struct {
	lib     *ruleLibrary[T]
	byClock bool
	device  func(T) string
	code    codec.Codec[T]

	rt     flow.Runtime
	keys   flow.Keys[K]
	table  flow.Table
	part   *flow.Part
	timers flow.Timers[K]
	wm     flow.Timestamp
	track  *rule.Tracker[K, T]
	books  []*rule.Book // by slot, nil where there is nothing to remember
	spare  *rule.Book
	told   map[string]bool // rules whose failure was logged

	// due says that next comes in force at the next call; where next is nil, merge makes it.
	due     bool
	next    *rule.Set[T]
	merge   func() *rule.Set[T]
	inForce *rule.Set[T]
	running bool
}

var errRules = errors.New("stored state of rules is damaged")

// Open implements flow.Opener.
func (o *rules[K, T]) Open(_ context.Context, rt flow.Runtime) error {
	if err := o.open(rt); err != nil {
		return err
	}
	initial, err := o.lib.initial()
	if err != nil {
		return err
	}
	return o.begin(initial)
}

func (o *rules[K, T]) open(rt flow.Runtime) (err error) {
	o.rt, o.spare, o.told = rt, &rule.Book{Timer: flow.None}, map[string]bool{}
	o.track = rule.NewTracker[K, T](o.code, o.failed)
	o.track.ByClock = o.byClock
	if err = flow.OpenKeys(rt, &o.keys); err != nil {
		return err
	}
	if o.wm, err = flow.OpenWatermark(rt); err != nil {
		return err
	}
	o.part = &flow.Part{} // while pages are read
	if err = flow.OpenTable(rt, "books", &o.table, o); err != nil {
		return err
	}
	o.part = o.table.Part(0)
	if o.byClock {
		return flow.OpenClockTimers(rt, &o.timers)
	}
	return flow.OpenTimers(rt, &o.timers)
}

// begin sets the rules to begin with. What was stored is brought into line with them at the first call.
func (o *rules[K, T]) begin(initial []rule.Rule) (err error) {
	if o.next, err = o.lib.compiler.Merged(initial); err != nil {
		return err
	}
	o.due = true
	o.observe(initial)
	return nil
}

// observe tells a source that wants to know.
func (o *rules[K, T]) observe(rules []rule.Rule) {
	if o.rt.Task() == 0 {
		o.lib.tell(rules)
	}
}

func (o *rules[K, T]) failed(id string, err error) {
	if !o.told[id] {
		o.told[id] = true
		o.rt.Log().Warn("a rule cannot take a record, which is passed over; further ones are only counted", "rule", id, "err", err)
	}
}

// turn puts the set that is to come in force, if it is time.
func (o *rules[K, T]) turn(out *flow.Output[rule.Alarm[K, T]]) {
	if !o.due {
		return
	}
	o.due = false
	set := o.next
	if o.next = nil; set == nil {
		set = o.merge()
	}
	if set == o.inForce {
		return
	}
	if o.rt.Task() == 0 {
		n := set.Len()
		if o.inForce != nil {
			n -= o.inForce.Len()
		}
		o.rt.Count("rules_in_force", int64(n))
	}
	o.track.Use(set)
	o.inForce = set
	clear(o.told)
	at := o.time(o.wm).Add(1)
	if o.byClock {
		at = flow.TimestampOf(o.rt.Clock().Now())
	}
	for slot, b := range o.books {
		if b == nil {
			continue
		}
		slot := flow.Slot(slot)
		if o.track.Turn(b, o.keys.Key(slot), at) {
			o.settle(slot, b)
		}
		o.emit(out, o.behind(at), nil)
	}
}

// behind is a time for alarms of the clock that is not late, at where the stream has no event time.
func (o *rules[K, T]) behind(at flow.Timestamp) flow.Timestamp {
	if o.wm == flow.None {
		return at
	}
	return o.wm.Add(1)
}

// time is the watermark as rules know it: those that go by the clock do not.
func (o *rules[K, T]) time(wm flow.Timestamp) flow.Timestamp {
	if o.byClock {
		return flow.None
	}
	return wm
}

// emit gives the alarms out: at their own times, or, where those are of the clock, at a time of the stream.
func (o *rules[K, T]) emit(out *flow.Output[rule.Alarm[K, T]], at flow.Timestamp, m *flow.Meta) {
	as := o.track.Alarms
	if len(as) == 0 {
		return
	}
	for i := range as {
		t := at
		if !o.byClock {
			t = as[i].At
		}
		*out.Next(t, m) = as[i]
	}
	clear(as)
	o.track.Alarms = as[:0]
}

// Process implements flow.KeyedOperator.
func (o *rules[K, T]) Process(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[rule.Alarm[K, T]]) error {
	_, err := o.ProcessBatch(ctx, []flow.Slot{o.keys.Find(key)}, []flow.Record[T]{*r}, out)
	return err
}

// ProcessBatch implements flow.KeyedBatchOperator.
func (o *rules[K, T]) ProcessBatch(_ context.Context, keys []flow.Slot, in []flow.Record[T], out *flow.Output[rule.Alarm[K, T]]) (n int, err error) {
	o.turn(out)
	defer func() {
		if p := recover(); p != nil {
			if o.running { // a book may be half changed: only the last epoch is sound
				panic(p)
			}
			err = panicked(p)
		}
		o.count()
	}()
	now := flow.None
	if o.byClock {
		now = flow.TimestampOf(o.rt.Clock().Now())
	}
	wm := o.time(o.wm)
	for ; n < len(in); n++ {
		r, slot, device := &in[n], keys[n], ""
		if o.device != nil {
			device = o.device(r.Value)
		}
		at := r.Time
		if o.byClock {
			at = now
		}
		o.running = true
		b := o.book(slot)
		if b == nil {
			b = o.spare
		}
		if o.track.Record(b, o.keys.Key(slot), device, &r.Value, at, wm) {
			o.settle(slot, b)
			o.emit(out, r.Time, r.Meta)
		}
		o.running = false
	}
	return n, nil
}

func (o *rules[K, T]) count() {
	c := &o.track.Counts
	if *c == (rule.Counts{}) {
		return
	}
	o.rt.Count("rule_errors", c.Errors)
	o.rt.Count("alarms_suppressed", c.Suppressed)
	o.rt.Count("stale_records", c.Stale)
	*c = rule.Counts{}
}

// OnWatermark implements flow.WatermarkHandler.
func (o *rules[K, T]) OnWatermark(_ context.Context, wm flow.Timestamp, out *flow.Output[rule.Alarm[K, T]]) error {
	o.turn(out)
	o.wm = max(o.wm, wm)
	return nil
}

// OnTimer implements flow.TimerHandler.
func (o *rules[K, T]) OnTimer(_ context.Context, key K, at flow.Timestamp, out *flow.Output[rule.Alarm[K, T]]) error {
	o.ring(key, at, out)
	return nil
}

// OnClockTimer implements flow.ClockTimerHandler.
func (o *rules[K, T]) OnClockTimer(_ context.Context, key K, at flow.Timestamp, out *flow.Output[rule.Alarm[K, T]]) error {
	o.ring(key, at, out)
	return nil
}

func (o *rules[K, T]) ring(key K, at flow.Timestamp, out *flow.Output[rule.Alarm[K, T]]) {
	o.turn(out)
	slot := o.keys.Find(key)
	b := o.book(slot)
	if b == nil {
		return
	}
	if b.Timer == at {
		b.Timer = flow.None
	}
	o.track.Due(b, key, at)
	o.settle(slot, b)
	o.emit(out, o.behind(at), nil)
	o.count()
}

func (o *rules[K, T]) book(slot flow.Slot) *rule.Book {
	if int(slot) < len(o.books) {
		return o.books[slot]
	}
	return nil
}

// settle keeps what has become of a key's book: its place, its timer, its page.
func (o *rules[K, T]) settle(slot flow.Slot, b *rule.Book) {
	has := o.book(slot) != nil
	switch {
	case b.Empty() && !has:
		return
	case b.Empty():
		o.clearTimer(slot, b)
		o.books[slot] = nil
		o.keys.Release(slot)
		o.part.Touch(slot.Page())
		return
	case !has:
		o.put(slot, b)
		o.spare = &rule.Book{Timer: flow.None}
	}
	o.part.Touch(slot.Page())
	next := b.Next()
	if next == flow.EndOfTime || b.Timer != flow.None && b.Timer <= next {
		return // one that is too early rings for nothing, and is set anew
	}
	o.clearTimer(slot, b)
	b.Timer = next
	o.timers.Set(o.keys.Key(slot), next)
}

func (o *rules[K, T]) put(slot flow.Slot, b *rule.Book) {
	if int(slot) >= len(o.books) {
		o.books = append(o.books, make([]*rule.Book, max(o.keys.Cap(), int(slot)+1)-len(o.books))...)
	}
	o.books[slot] = b
	o.keys.Retain(slot)
}

func (o *rules[K, T]) clearTimer(slot flow.Slot, b *rule.Book) {
	if b.Timer != flow.None {
		o.timers.Clear(o.keys.Key(slot), b.Timer)
		b.Timer = flow.None
	}
}

// AppendPage implements flow.PageStore: a bit for each key with a book, and the books with their timers.
func (o *rules[K, T]) AppendPage(to []byte, _ int64, page uint32) []byte {
	var live uint64
	first := int(page) * flow.PageSize
	for i := range flow.PageSize {
		if first+i < len(o.books) && o.books[first+i] != nil {
			live |= 1 << i
		}
	}
	if live == 0 {
		return to
	}
	to = binary.LittleEndian.AppendUint64(to, live)
	for ; live != 0; live &= live - 1 {
		b := o.books[first+bits.TrailingZeros64(live)]
		to = binary.LittleEndian.AppendUint64(to, uint64(b.Timer))
		to = b.Append(to)
	}
	return to
}

// ReadPage implements flow.PageStore.
func (o *rules[K, T]) ReadPage(_ int64, page uint32, data []byte) (err error) {
	if len(data) < 8 {
		return errRules
	}
	live := binary.LittleEndian.Uint64(data)
	data = data[8:]
	for ; live != 0; live &= live - 1 {
		if len(data) < 8 {
			return errRules
		}
		b := &rule.Book{}
		timer := flow.Timestamp(binary.LittleEndian.Uint64(data))
		if data, err = b.Read(data[8:]); err != nil {
			return err
		}
		b.Timer = timer
		o.put(flow.Slot(page)*flow.PageSize+flow.Slot(bits.TrailingZeros64(live)), b)
	}
	if len(data) > 0 {
		return errRules
	}
	return nil
}

// Fingerprint implements flow.PageStore.
func (o *rules[K, T]) Fingerprint() string {
	if o.byClock {
		return "rules/1/clock/" + o.code.ID()
	}
	return "rules/1/" + o.code.ID()
}

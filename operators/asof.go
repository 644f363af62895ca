package operators

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/join"
)

// AsOf joins each left record with what the right input last said for its key: the right record of the greatest time that is not later
// than the left one's. Where there is none f gets the zero V and found = false. It is the event-time temporal join of Flink SQL (FOR
// SYSTEM_TIME AS OF), as a left join.
//
// Results do not depend on the order in which the two inputs arrive: a left record waits until the watermark, which is the least of both
// inputs', says that the right input is complete up to its time. So a right input that is silent for long holds results back until it is
// idle (see watermark.Strategy.IdleAfter). Of right records with equal times the one that came last counts. Results come when the watermark
// moves, per key in order of time, with the left record's time and without Meta.
//
// Late records (their time is below the watermark): a left one comes out of LateLeft and is not joined, since what was known at its time
// may be forgotten. A right one always comes out of LateRight; if it is newer than what is known of its key, it is nevertheless what later left
// records find, so that an update that was slow is not lost for ever. The Reason says which.
//
// State: left records until the watermark reaches their time; right ones newer than the watermark; and one right value per key, for ever,
// or, with join.Within, until the watermark is further from its time than that. All is stored as in Join, the last values by pages of 64 keys.
//
// Errors: a panic of f stops the topology, since results come with the watermark. A record that cannot be encoded for the state goes to
// the dead letters. A crash rolls back to the last epoch together with both sources; results of the replayed part come again, and are the
// same.
func AsOf[K comparable, T, V, R any](left flow.KeyedStream[K, T], right flow.KeyedStream[K, V], name string, f func(left T, right V, found bool) R, opts ...join.Option) Joined[T, V, R] {
	cfg := flow.Configure(&join.Config{Tolerance: -1}, opts)
	noLateness(cfg, "an as-of join")
	codecs := settings[T, V](cfg, "as-of", f != nil, max(cfg.Tolerance, 0))
	out := joined[T, V, R](left.Topology(), name)
	out.Stream = flow.ApplyJoin[K, T, V, R](left, right, name, func() *asOf[K, T, V, R] {
		a := &asOf[K, T, V, R]{f: f, late: out.late, tolerance: cfg.Tolerance}
		a.left.width, a.left.code = minWidth, codecs.left()
		a.right.width, a.right.code = minWidth, codecs.right()
		a.known.code = codecs.right()
		return a
	}, flow.With(cfg))
	return out.Joined
}

// asOf is AsOf.
type asOf[K comparable, T, V, R any] struct {
	f         func(T, V, bool) R
	tolerance flow.Timestamp // -1: any age

	late lateSides[T, V]
	keys flow.Keys[K]
	wm   flow.Timestamp
	// left are the records that wait, right those that are newer than known.
	left  timeline[T]
	right timeline[V]
	known lastKnown[V]
	due   dueTimes // of the earliest waiting record, by key
	old   dueTimes // when what is known of a key may be too old
}

// Open implements flow.Opener.
func (a *asOf[K, T, V, R]) Open(_ context.Context, rt flow.Runtime) (err error) {
	a.late.open(rt)
	if err = flow.OpenKeys(rt, &a.keys); err != nil {
		return err
	}
	if a.wm, err = flow.OpenWatermark(rt); err != nil {
		return err
	}
	a.left.restored = func(key flow.Slot, e *entry[T]) bool {
		if freed(e.at, 0, e.flags, a.wm) {
			return false
		}
		a.due.add(dueTime{e.at, a.keys.Group(key.Page()), key})
		return true
	}
	if err = a.left.open(rt, "left", "as-of", &a.keys); err != nil {
		return err
	}
	if err = a.right.open(rt, "right", "as-of", &a.keys); err != nil {
		return err
	}
	a.known.keys = &a.keys
	a.known.changed = func(key flow.Slot, at flow.Timestamp) {
		if a.tolerance >= 0 {
			a.old.add(dueTime{until(at, a.tolerance), a.keys.Group(key.Page()), key})
		}
	}
	return a.known.open(rt)
}

// ProcessLeftBatch implements flow.JoinBatchOperator.
func (a *asOf[K, T, V, R]) ProcessLeftBatch(_ context.Context, keys []flow.Slot, in []flow.Record[T], _ *flow.Output[R]) (int, error) {
	for i := range in {
		r := &in[i]
		if why := tooLate(r.Time, a.wm); why != "" {
			a.late.left.refuse(r, why)
			continue
		}
		if err := a.left.add(keys[i], r.Time, flagsOf(r.Time, 0, a.wm), &r.Value); err != nil {
			return i, err
		}
		a.due.add(dueTime{r.Time, a.keys.Group(keys[i].Page()), keys[i]})
	}
	return len(in), nil
}

// ProcessRightBatch implements flow.JoinBatchOperator.
func (a *asOf[K, T, V, R]) ProcessRightBatch(_ context.Context, keys []flow.Slot, in []flow.Record[V], _ *flow.Output[R]) (int, error) {
	for i := range in {
		r := &in[i]
		switch why := tooLate(r.Time, a.wm); {
		case r.Time == flow.None:
			a.late.right.refuse(r, why)
			continue
		case why != "" && a.newer(keys[i], r.Time):
			a.late.right.refuse(r, why+", and older than what is known")
			continue
		case why != "":
			a.late.right.refuse(r, why+": only later records of the left find it")
		}
		if err := a.right.add(keys[i], r.Time, 0, &r.Value); err != nil {
			return i, err
		}
	}
	return len(in), nil
}

// newer tells whether something newer than at, and not newer than the watermark, is known of a key.
func (a *asOf[K, T, V, R]) newer(key flow.Slot, at flow.Timestamp) bool {
	if k := a.known.get(key); k != nil && k.at > at {
		return true
	}
	_, i, j := a.right.between(key, at+1, a.wm)
	return i < j
}

// ProcessLeft is the same for one record.
func (a *asOf[K, T, V, R]) ProcessLeft(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[R]) error {
	_, err := a.ProcessLeftBatch(ctx, []flow.Slot{a.keys.Find(key)}, []flow.Record[T]{*r}, out)
	return err
}

// ProcessRight is the same for one record.
func (a *asOf[K, T, V, R]) ProcessRight(ctx context.Context, key K, r *flow.Record[V], out *flow.Output[R]) error {
	_, err := a.ProcessRightBatch(ctx, []flow.Slot{a.keys.Find(key)}, []flow.Record[V]{*r}, out)
	return err
}

// OnWatermark joins the records that have waited for it.
func (a *asOf[K, T, V, R]) OnWatermark(_ context.Context, wm flow.Timestamp, out *flow.Output[R]) error {
	if wm <= a.wm { // announced again behind a restore
		return nil
	}
	a.wm = wm
	for {
		d, ok := a.due.pop(wm)
		if !ok {
			break
		}
		a.join(d.key, out)
	}
	over := func(last flow.Timestamp) bool { return last < wm }
	a.left.drop(over, nil)
	a.right.drop(over, func(key flow.Slot, e *entry[V]) { a.known.set(key, e.at, &e.v) })
	for a.tolerance >= 0 {
		d, ok := a.old.pop(wm - 1)
		if !ok {
			break
		}
		a.known.forget(d.key, wm, a.tolerance)
	}
	return nil
}

// join gives the waiting records of a key up to the watermark.
func (a *asOf[K, T, V, R]) join(key flow.Slot, out *flow.Output[R]) {
	es := a.left.at(key)
	n := 0
	for n < len(es) && es[n].at <= a.wm {
		e := &es[n]
		n++
		var zero V
		at, v := flow.None, &zero
		if rs, i, j := a.right.between(key, flow.None, e.at); i < j {
			at, v = rs[j-1].at, &rs[j-1].v
		} else if k := a.known.get(key); k != nil {
			at, v = k.at, &k.v
		}
		found := at != flow.None && (a.tolerance < 0 || at >= e.at.Add(-time.Duration(a.tolerance)))
		if !found {
			v = &zero
		}
		*out.Next(e.at, nil) = a.f(e.v, *v, found)
	}
	if n < len(es) {
		a.due.add(dueTime{es[n].at, a.keys.Group(key.Page()), key})
	}
	a.left.trim(key, n)
}

// lastKnown keeps one value per key with its time, stored by pages.
type lastKnown[V any] struct {
	code  stored[V]
	keys  slotHolder
	table flow.Table
	part  *flow.Part
	of    []known[V]
	// changed is told of each value that is set.
	changed func(key flow.Slot, at flow.Timestamp)
}

// known is a value; at is flow.None where there is none.
type known[V any] struct {
	at flow.Timestamp
	v  V
}

func (k *lastKnown[V]) open(rt flow.Runtime) error {
	if err := flow.OpenTable(rt, "known", &k.table, k); err != nil {
		return err
	}
	k.part = k.table.Part(0)
	return nil
}

func (k *lastKnown[V]) get(key flow.Slot) *known[V] {
	if int(key) >= len(k.of) || k.of[key].at == flow.None {
		return nil
	}
	return &k.of[key]
}

// set makes v the value of a key, if what is known is not newer.
func (k *lastKnown[V]) set(key flow.Slot, at flow.Timestamp, v *V) {
	for n := max(k.keys.Cap(), int(key)+1); len(k.of) < n; {
		k.of = append(k.of, known[V]{at: flow.None})
	}
	o := &k.of[key]
	if o.at == flow.None {
		k.keys.Retain(key)
	} else if o.at > at {
		return
	}
	o.at, o.v = at, *v
	if k.part != nil {
		k.part.Touch(key.Page())
	}
	k.changed(key, at)
}

// forget forgets a key's value if the watermark is further from it than the tolerance.
func (k *lastKnown[V]) forget(key flow.Slot, wm, tolerance flow.Timestamp) {
	o := k.get(key)
	switch {
	case o == nil:
	case until(o.at, tolerance) >= wm:
		k.changed(key, o.at)
	default:
		*o = known[V]{at: flow.None}
		k.keys.Release(key)
		k.part.Touch(key.Page())
	}
}

// AppendPage implements flow.PageStore.
func (k *lastKnown[V]) AppendPage(b []byte, _ int64, page uint32) []byte {
	first := int(page) * flow.PageSize
	for key := first; key < min(first+flow.PageSize, len(k.of)); key++ {
		o := &k.of[key]
		if o.at == flow.None {
			continue
		}
		b = append(b, byte(key-first))
		b = binary.LittleEndian.AppendUint64(b, uint64(o.at))
		var err error
		if b, err = k.code.append(b, &o.v); err != nil { // it was stored once already, as a record
			panic(fmt.Sprintf("%v, but was before", err))
		}
	}
	return b
}

// ReadPage implements flow.PageStore.
func (k *lastKnown[V]) ReadPage(_ int64, page uint32, b []byte) (err error) {
	for len(b) > 0 {
		if len(b) < 9 || b[0] >= flow.PageSize {
			return errTimeline
		}
		var v V
		key, at := flow.Slot(page)*flow.PageSize+flow.Slot(b[0]), flow.Timestamp(binary.LittleEndian.Uint64(b[1:]))
		if b, err = k.code.read(b[9:], &v); err != nil {
			return err
		}
		k.set(key, at, &v)
	}
	return nil
}

// Fingerprint implements flow.PageStore.
func (k *lastKnown[V]) Fingerprint() string { return "known/" + k.code.id() }

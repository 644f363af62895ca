package operators

import (
	"context"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/join"
)

// intervals is Join and OuterJoin. It follows Flink's IntervalJoinOperator.
type intervals[K comparable, T, V, R any] struct {
	// right.time - left.time is between these, both included.
	lower, upper        flow.Timestamp
	keepLeft, keepRight flow.Timestamp
	kind                join.Kind
	f                   func(*T, *V) R
	print               string

	late  lateSides[T, V]
	keys  flow.Keys[K]
	left  timeline[T]
	right timeline[V]
	wm    flow.Timestamp
	// dueLeft and dueRight are when the first records without a partner are given up, by key.
	dueLeft, dueRight dueTimes
}

// Open implements flow.Opener.
func (j *intervals[K, T, V, R]) Open(_ context.Context, rt flow.Runtime) (err error) {
	j.late.open(rt)
	if err = flow.OpenKeys(rt, &j.keys); err != nil {
		return err
	}
	if j.wm, err = flow.OpenWatermark(rt); err != nil {
		return err
	}
	if j.kind.KeepsLeft() {
		j.left.restored = func(key flow.Slot, e *entry[T]) bool {
			e.flags |= j.await(&j.dueLeft, key, e.at, e.flags, j.keepLeft)
			return true
		}
	}
	if j.kind.KeepsRight() {
		j.right.restored = func(key flow.Slot, e *entry[V]) bool {
			e.flags |= j.await(&j.dueRight, key, e.at, e.flags, j.keepRight)
			return true
		}
	}
	if err = j.left.open(rt, "left", j.print, &j.keys); err != nil {
		return err
	}
	return j.right.open(rt, "right", j.print, &j.keys)
}

// await queues a record without a partner for the moment when it is given up. One that has been is marked as done with.
func (j *intervals[K, T, V, R]) await(due *dueTimes, key flow.Slot, at flow.Timestamp, flags uint8, keep flow.Timestamp) uint8 {
	if freed(at, keep, flags, j.wm) {
		return hasPartner
	}
	due.add(dueTime{until(at, keep), j.keys.Group(key.Page()), key})
	return 0
}

// until is the moment at which the watermark frees a record.
func until(at, keep flow.Timestamp) flow.Timestamp { return at.Add(time.Duration(keep)) }

// freed tells whether the watermark has freed a record. One that came when the watermark stood there already is freed by the next.
func freed(at, keep flow.Timestamp, flags uint8, wm flow.Timestamp) bool {
	if wm == flow.None {
		return false
	}
	end := until(at, keep)
	return end < wm || end == wm && flags&onEdge == 0
}

// flagsOf are those of a new record.
func flagsOf(at, keep, wm flow.Timestamp) (flags uint8) {
	if wm != flow.None && until(at, keep) == wm {
		flags = onEdge
	}
	return flags
}

// ProcessLeftBatch implements flow.JoinBatchOperator.
func (j *intervals[K, T, V, R]) ProcessLeftBatch(_ context.Context, keys []flow.Slot, in []flow.Record[T], out *flow.Output[R]) (n int, err error) {
	pairs := 0
	defer func() {
		if p := recover(); p != nil {
			out.Undo(pairs)
			err = panicked(p)
		}
	}()
	for ; n < len(in); n++ {
		key, r := keys[n], &in[n]
		if why := tooLate(r.Time, j.wm); why != "" {
			j.late.left.refuse(r, why)
			continue
		}
		es, from, to := around(&j.right, key, r.Time, j.lower, j.upper)
		for i := from; i < to; i++ {
			if freed(es[i].at, j.keepRight, es[i].flags, j.wm) {
				continue
			}
			v := j.f(&r.Value, &es[i].v)
			*out.Next(max(r.Time, es[i].at), r.Meta) = v
			pairs++
		}
		flags := flagsOf(r.Time, j.keepLeft, j.wm)
		if pairs > 0 {
			flags |= hasPartner
		}
		if err = j.left.add(key, r.Time, flags, &r.Value); err != nil {
			out.Undo(pairs)
			return n, err
		}
		if pairs == 0 && j.kind.KeepsLeft() {
			j.await(&j.dueLeft, key, r.Time, flags, j.keepLeft)
		}
		if j.kind.KeepsRight() {
			for i := from; i < to; i++ {
				if es[i].flags&hasPartner == 0 && !freed(es[i].at, j.keepRight, es[i].flags, j.wm) {
					j.right.partner(key, i)
				}
			}
		}
		pairs = 0
	}
	return n, nil
}

// ProcessRightBatch implements flow.JoinBatchOperator. It is ProcessLeftBatch in the mirror.
func (j *intervals[K, T, V, R]) ProcessRightBatch(_ context.Context, keys []flow.Slot, in []flow.Record[V], out *flow.Output[R]) (n int, err error) {
	pairs := 0
	defer func() {
		if p := recover(); p != nil {
			out.Undo(pairs)
			err = panicked(p)
		}
	}()
	for ; n < len(in); n++ {
		key, r := keys[n], &in[n]
		if why := tooLate(r.Time, j.wm); why != "" {
			j.late.right.refuse(r, why)
			continue
		}
		es, from, to := around(&j.left, key, r.Time, -j.upper, -j.lower)
		for i := from; i < to; i++ {
			if freed(es[i].at, j.keepLeft, es[i].flags, j.wm) {
				continue
			}
			v := j.f(&es[i].v, &r.Value)
			*out.Next(max(r.Time, es[i].at), r.Meta) = v
			pairs++
		}
		flags := flagsOf(r.Time, j.keepRight, j.wm)
		if pairs > 0 {
			flags |= hasPartner
		}
		if err = j.right.add(key, r.Time, flags, &r.Value); err != nil {
			out.Undo(pairs)
			return n, err
		}
		if pairs == 0 && j.kind.KeepsRight() {
			j.await(&j.dueRight, key, r.Time, flags, j.keepRight)
		}
		if j.kind.KeepsLeft() {
			for i := from; i < to; i++ {
				if es[i].flags&hasPartner == 0 && !freed(es[i].at, j.keepLeft, es[i].flags, j.wm) {
					j.left.partner(key, i)
				}
			}
		}
		pairs = 0
	}
	return n, nil
}

// ProcessLeft is the same for one record.
func (j *intervals[K, T, V, R]) ProcessLeft(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[R]) error {
	_, err := j.ProcessLeftBatch(ctx, []flow.Slot{j.keys.Find(key)}, []flow.Record[T]{*r}, out)
	return err
}

// ProcessRight is the same for one record.
func (j *intervals[K, T, V, R]) ProcessRight(ctx context.Context, key K, r *flow.Record[V], out *flow.Output[R]) error {
	_, err := j.ProcessRightBatch(ctx, []flow.Slot{j.keys.Find(key)}, []flow.Record[V]{*r}, out)
	return err
}

// around are a key's entries, and which of them lie from at + lower to at + upper.
func around[T any](t *timeline[T], key flow.Slot, at, lower, upper flow.Timestamp) (es []entry[T], from, to int) {
	if upper < 0 && at+upper > at || lower > 0 && at+lower < at { // outside of time
		return nil, 0, 0
	}
	return t.between(key, at.Add(time.Duration(lower)), at.Add(time.Duration(upper)))
}

// OnWatermark gives the records that found no partner, and frees those that can find none any more.
func (j *intervals[K, T, V, R]) OnWatermark(_ context.Context, wm flow.Timestamp, out *flow.Output[R]) error {
	if wm <= j.wm { // announced again behind a restore
		return nil
	}
	j.wm = wm
	for {
		at := min(j.dueLeft.next(), j.dueRight.next())
		if at > wm || at == flow.EndOfTime && len(j.dueLeft.heap)+len(j.dueRight.heap) == 0 {
			break
		}
		if d, ok := j.dueLeft.pop(at); ok {
			giveUp(&j.left, j.keepLeft, &j.dueLeft, d, func(v *T) { *out.Next(timeOfLast(at), nil) = j.f(v, nil) })
		} else if d, ok := j.dueRight.pop(at); ok {
			giveUp(&j.right, j.keepRight, &j.dueRight, d, func(v *V) { *out.Next(timeOfLast(at), nil) = j.f(nil, v) })
		}
	}
	j.left.drop(func(last flow.Timestamp) bool { return until(last, j.keepLeft) < wm }, nil)
	j.right.drop(func(last flow.Timestamp) bool { return until(last, j.keepRight) < wm }, nil)
	return nil
}

// giveUp emits a key's records without a partner that are freed at a moment, and queues the key for its next.
func giveUp[T any](t *timeline[T], keep flow.Timestamp, due *dueTimes, d dueTime, emit func(*T)) {
	es := t.at(d.key)
	i := 0
	if d.at != flow.EndOfTime {
		i = search(es, d.at.Add(-time.Duration(keep)))
	}
	for ; i < len(es); i++ {
		e := &es[i]
		if e.flags&hasPartner != 0 {
			continue
		}
		switch end := until(e.at, keep); {
		case end == d.at:
			emit(&e.v)
			e.flags |= hasPartner // done with
		case end > d.at:
			due.add(dueTime{end, d.group, d.key})
			return
		}
	}
}

// timeOfLast is a moment as a record's time.
func timeOfLast(at flow.Timestamp) flow.Timestamp { return min(at, flow.EndOfTime-1) }

// next is the earliest moment there may be, EndOfTime if there is none.
func (d *dueTimes) next() flow.Timestamp {
	if len(d.heap) == 0 {
		return flow.EndOfTime
	}
	return d.heap[0].at
}

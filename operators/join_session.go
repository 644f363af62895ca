package operators

import (
	"context"
	"encoding/binary"
	"slices"
	"sort"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/join"
	"github.com/millrace-stream/millrace/operators/window"
)

// sessionJoin is WindowJoin and CoGroup over sessions, which are made of both sides' records: session windows over one stream of records that know
// their side, aggregated into lists.
type sessionJoin[K comparable, T, V, R any] struct {
	w     *windows[K, sided[T, V], *both[T, V]]
	f     func(*join.Group[K, T, V], flow.Timestamp, *flow.Output[R])
	late  lateSides[T, V]
	group join.Group[K, T, V]
	left  stored[T]
	right stored[V]
	// out is that of the call in work.
	out *flow.Output[R]
	one flow.Record[sided[T, V]]
	buf []byte
}

// sided is a record of one of two inputs.
type sided[T, V any] struct {
	at    flow.Timestamp
	right bool
	l     T
	r     V
}

// both are the records of a session, each side in order of time, and of arrival where times are equal.
type both[T, V any] struct {
	left  []entry[T]
	right []entry[V]
}

func newSessionJoin[K comparable, T, V, R any](cfg *window.Config, f func(*join.Group[K, T, V], flow.Timestamp, *flow.Output[R]), codecs joinCodecs[T, V], late lateSides[T, V]) *sessionJoin[K, T, V, R] {
	s := &sessionJoin[K, T, V, R]{f: f, late: late, left: codecs.left(), right: codecs.right()}
	lists := agg.Func((*both[T, V]).add, (*both[T, V]).merge, (*both[T, V]).all, agg.StoredAs[both[T, V]](&bothCodec[T, V]{codecs.left(), codecs.right()}))
	s.w = newWindows[K](cfg, lists.NewStore(), nil, nil)
	s.w.late.to, s.w.give = s.refuse, s.give
	return s
}

// Open implements flow.Opener.
func (s *sessionJoin[K, T, V, R]) Open(ctx context.Context, rt flow.Runtime) error {
	s.late.open(rt)
	return s.w.Open(ctx, rt)
}

// ProcessLeftBatch implements flow.JoinBatchOperator.
func (s *sessionJoin[K, T, V, R]) ProcessLeftBatch(_ context.Context, keys []flow.Slot, in []flow.Record[T], out *flow.Output[R]) (n int, err error) {
	for n = range in {
		r := &in[n]
		if s.left.flat == nil { // a record that cannot be stored is refused now, not when it is too late
			if s.buf, err = s.left.append(s.buf[:0], &r.Value); err != nil {
				return n, err
			}
		}
		s.one = flow.Record[sided[T, V]]{Value: sided[T, V]{at: r.Time, l: r.Value}, Time: r.Time, Meta: r.Meta}
		s.take(keys[n], out)
	}
	return len(in), nil
}

// ProcessRightBatch implements flow.JoinBatchOperator.
func (s *sessionJoin[K, T, V, R]) ProcessRightBatch(_ context.Context, keys []flow.Slot, in []flow.Record[V], out *flow.Output[R]) (n int, err error) {
	for n = range in {
		r := &in[n]
		if s.right.flat == nil {
			if s.buf, err = s.right.append(s.buf[:0], &r.Value); err != nil {
				return n, err
			}
		}
		s.one = flow.Record[sided[T, V]]{Value: sided[T, V]{at: r.Time, right: true, r: r.Value}, Time: r.Time, Meta: r.Meta}
		s.take(keys[n], out)
	}
	return len(in), nil
}

// ProcessLeft is the same for one record.
func (s *sessionJoin[K, T, V, R]) ProcessLeft(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[R]) error {
	_, err := s.ProcessLeftBatch(ctx, []flow.Slot{s.w.keys.Find(key)}, []flow.Record[T]{*r}, out)
	return err
}

// ProcessRight is the same for one record.
func (s *sessionJoin[K, T, V, R]) ProcessRight(ctx context.Context, key K, r *flow.Record[V], out *flow.Output[R]) error {
	_, err := s.ProcessRightBatch(ctx, []flow.Slot{s.w.keys.Find(key)}, []flow.Record[V]{*r}, out)
	return err
}

// take gives a record to its session. Only the gap of a record can be an error, and here there is one gap for all.
func (s *sessionJoin[K, T, V, R]) take(key flow.Slot, out *flow.Output[R]) {
	if s.one.Time == flow.None {
		s.refuse(&s.one, tooLate(flow.None, flow.None))
		return
	}
	s.out = out
	if err := s.w.process(key, &s.one, nil); err != nil {
		panic(err)
	}
	s.one = flow.Record[sided[T, V]]{}
}

// OnWatermark implements flow.WatermarkHandler.
func (s *sessionJoin[K, T, V, R]) OnWatermark(ctx context.Context, wm flow.Timestamp, _ *flow.Output[R]) error {
	return s.w.OnWatermark(ctx, wm, nil)
}

// Step implements flow.WatermarkStepper.
func (s *sessionJoin[K, T, V, R]) Step(ctx context.Context, out *flow.Output[R]) (more bool, err error) {
	s.out = out
	return s.w.Step(ctx, nil)
}

func (s *sessionJoin[K, T, V, R]) refuse(r *flow.Record[sided[T, V]], reason string) {
	if r.Value.right {
		s.late.right.refuse(&flow.Record[V]{Value: r.Value.r, Time: r.Time, Meta: r.Meta}, reason)
	} else {
		s.late.left.refuse(&flow.Record[T]{Value: r.Value.l, Time: r.Time, Meta: r.Meta}, reason)
	}
}

// give calls the function with a session.
func (s *sessionJoin[K, T, V, R]) give(key flow.Slot, w *win, all *both[T, V], kind window.Kind) {
	of := &s.group
	of.Key, of.Start, of.End, of.Kind = s.w.keys.Key(key), w.start, w.end, kind
	of.Left, of.Right = of.Left[:0], of.Right[:0]
	for i := range all.left {
		of.Left = append(of.Left, all.left[i].v)
	}
	for i := range all.right {
		of.Right = append(of.Right, all.right[i].v)
	}
	s.f(of, w.end-1, s.out)
	clear(of.Left)
	clear(of.Right)
}

func (b *both[T, V]) add(r sided[T, V]) {
	if r.right {
		b.right = inOrder(b.right, entry[V]{at: r.at, v: r.r})
	} else {
		b.left = inOrder(b.left, entry[T]{at: r.at, v: r.l})
	}
}

// inOrder puts an entry behind those that are not later.
func inOrder[T any](es []entry[T], e entry[T]) []entry[T] {
	if n := len(es); n == 0 || es[n-1].at <= e.at {
		return append(es, e)
	}
	return slices.Insert(es, sort.Search(len(es), func(i int) bool { return es[i].at > e.at }), e)
}

// merge adds a later session.
func (b *both[T, V]) merge(from *both[T, V]) {
	b.left, b.right = append(b.left, from.left...), append(b.right, from.right...)
}

func (b *both[T, V]) all() *both[T, V] { return b }

// bothCodec stores a session. It belongs to one task.
type bothCodec[T, V any] struct {
	left  stored[T]
	right stored[V]
}

// Append implements codec.Codec.
func (c *bothCodec[T, V]) Append(b []byte, v *both[T, V]) (_ []byte, err error) {
	if b, err = appendEntries(b, &c.left, v.left); err != nil {
		return b, err
	}
	return appendEntries(b, &c.right, v.right)
}

// Decode implements codec.Codec.
func (c *bothCodec[T, V]) Decode(data []byte, v *both[T, V]) (err error) {
	if data, v.left, err = readEntries(data, &c.left); err != nil {
		return err
	}
	if data, v.right, err = readEntries(data, &c.right); err == nil && len(data) > 0 {
		err = errTimeline
	}
	return err
}

// ID implements codec.Codec.
func (c *bothCodec[T, V]) ID() string { return "session of " + c.left.id() + " and " + c.right.id() }

func appendEntries[T any](b []byte, c *stored[T], es []entry[T]) (_ []byte, err error) {
	b = binary.AppendUvarint(b, uint64(len(es)))
	before := flow.Timestamp(0)
	for i := range es {
		b = binary.AppendVarint(b, int64(es[i].at-before))
		before = es[i].at
		if b, err = c.append(b, &es[i].v); err != nil {
			return b, err
		}
	}
	return b, nil
}

func readEntries[T any](b []byte, c *stored[T]) (_ []byte, es []entry[T], err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)) {
		return nil, nil, errTimeline
	}
	b = b[w:]
	before := flow.Timestamp(0)
	es = make([]entry[T], n)
	for i := range es {
		since, w := binary.Varint(b)
		if w <= 0 {
			return nil, nil, errTimeline
		}
		before += flow.Timestamp(since)
		es[i].at = before
		if b, err = c.read(b[w:], &es[i].v); err != nil {
			return nil, nil, err
		}
	}
	return b, es, nil
}

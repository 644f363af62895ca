package flow

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/millrace-stream/millrace/flow/codec"
)

// State is free-form state of one value per key, each written by itself: for values that are not dense. Open it by OpenState.
//
// State: one entry per key that was set and not deleted. Order and concurrency: it belongs to its task.
type State[K comparable, V any] struct {
	keys  Keys[K]
	own   *Keys[K]
	vals  map[Slot]*V
	code  codec.Codec[V]
	dirty map[Slot]struct{}
	gone  map[string]uint16 // key bytes of deleted entries, with their group
	s     *nodeState
	space byte
}

// StateOption configures OpenState.
type StateOption func(Configurable)

// StateCodec sets how values are stored. Defaults to CBOR by field name.
func StateCodec[V any](c codec.Codec[V]) StateOption {
	return StateOption(SetOption(func(cfg *stateConfig) { cfg.codec = c }))
}

type stateConfig struct {
	NodeConfig
	codec any
}

// OpenState opens the named state of a keyed operator. Call it in Open; the keys are opened if they are not.
func OpenState[K comparable, V any](rt Runtime, name string, s *State[K, V], opts ...StateOption) error {
	code, err := stateCodecOf[V](name, opts)
	if err != nil {
		return err
	}
	s.s, s.code = rt.n.state(), code
	if own, ok := s.s.keys.(*Keys[K]); ok {
		s.own = own
	} else if err := OpenKeys(rt, &s.keys); err != nil {
		return err
	} else {
		s.own = &s.keys
	}
	s.vals, s.dirty, s.gone = map[Slot]*V{}, map[Slot]struct{}{}, map[string]uint16{}
	s.space = s.s.nextSpace("state", name, s.code.ID(), s)
	return s.s.load(s.space, func(_ uint16, rest, value []byte) error {
		k, ok := s.own.t.code.decode(rest)
		if !ok {
			return errCorrupt
		}
		v := new(V)
		if err := s.code.Decode(value, v); err != nil {
			return fmt.Errorf("state %q: %w", name, err)
		}
		slot := s.own.Find(k)
		s.own.Retain(slot)
		s.vals[slot] = v
		return nil
	}, nil)
}

// stateCodecOf is the codec that the options name, or the default.
func stateCodecOf[V any](name string, opts []StateOption) (codec.Codec[V], error) {
	cfg := Configure(&stateConfig{}, opts)
	if len(cfg.problems) > 0 {
		return nil, fmt.Errorf("state %q: %s", name, cfg.problems[0])
	}
	if cfg.codec == nil {
		return codec.CBOR[V](), nil
	}
	c, ok := cfg.codec.(codec.Codec[V])
	if !ok {
		return nil, fmt.Errorf("state %q: the codec is %T, not one of %T", name, cfg.codec, *new(V))
	}
	return c, nil
}

// Get returns the key's value to be changed in place, new and zero if there was none; it is written with the epoch. The pointer is
// valid until the call it was asked in returns.
func (s *State[K, V]) Get(key K) *V {
	slot := s.own.Find(key)
	v := s.vals[slot]
	if v == nil {
		v = new(V)
		s.vals[slot] = v
		s.own.Retain(slot)
	}
	s.dirty[slot] = struct{}{}
	return v
}

// Peek returns the key's value, nil if there is none. It must not be changed.
func (s *State[K, V]) Peek(key K) *V { return s.vals[s.own.Find(key)] }

// Delete forgets the key's value.
func (s *State[K, V]) Delete(key K) {
	slot := s.own.Find(key)
	if s.vals[slot] == nil {
		return
	}
	delete(s.vals, slot)
	delete(s.dirty, slot)
	if s.s.u.db != nil {
		s.gone[string(s.own.t.code.append(nil, key))] = s.own.groupOf(slot)
	}
	s.own.Release(slot)
}

// Len is the number of keys with a value.
func (s *State[K, V]) Len() int { return len(s.vals) }

func (s *State[K, V]) collect(w *changes) {
	for k, group := range s.gone {
		w.key(s.s.id, s.space, group)
		w.buf = append(w.buf, k...)
		w.delete()
	}
	clear(s.gone)
	for slot := range s.dirty {
		w.key(s.s.id, s.space, s.own.groupOf(slot))
		w.buf = s.own.t.code.append(w.buf, s.own.Key(slot))
		w.value()
		b, err := s.code.Append(w.buf, s.vals[slot])
		if err != nil {
			s.s.u.fail(&NodeError{s.s.u.t.name, s.s.n.name, fmt.Errorf("state of key %v cannot be encoded: %w", s.own.Key(slot), err)})
			return
		}
		w.buf = b
		w.put()
	}
	clear(s.dirty)
}

// Timers are timers per key, in event time (OpenTimers) or processing time (OpenClockTimers). The operator is called when the watermark
// or the clock reaches them, in order of time, key group and slot. One timer per key and time.
//
// State: one entry per timer that is set.
type Timers[K comparable] struct {
	own   *Keys[K]
	keys  Keys[K]
	space byte
	heap  []timerEntry
	set   map[timerEntry]bool
	s     *nodeState
	fresh map[timerEntry]bool // changed since the last epoch: true set, false gone
	names map[timerEntry]string
}

type timerEntry struct {
	at    Timestamp
	group uint16
	slot  Slot
}

func (a timerEntry) less(b timerEntry) bool {
	if a.at != b.at {
		return a.at < b.at
	}
	if a.group != b.group {
		return a.group < b.group
	}
	return a.slot < b.slot
}

// timerQueue is what a keyed stage asks when the watermark or the clock advances.
type timerQueue interface {
	next() Timestamp
	pop(upTo Timestamp) (slot Slot, at Timestamp, ok bool)
	done(slot Slot)
	back(slot Slot, at Timestamp)
}

// OpenTimers opens the node's event-time timers. Call it in Open, once; the operator must be a TimerHandler.
func OpenTimers[K comparable](rt Runtime, t *Timers[K]) error {
	if rt.n.timers != nil {
		return errors.New("OpenTimers was called twice: one Timers serves all of an operator's event times")
	}
	rt.n.timers = t
	return t.open(rt, spaceTimes, "timers")
}

// OpenClockTimers opens the node's timers in processing time, that of Runtime.Clock. Call it in Open, once; the operator must be a
// ClockTimerHandler.
//
// They stand still while an epoch drains, and are stored with the state: those that came due while the topology was down fire at its
// start. What a crash takes back they do again, perhaps at another time. The end of the stream does not fire them.
func OpenClockTimers[K comparable](rt Runtime, t *Timers[K]) error {
	if rt.n.alarms != nil {
		return errors.New("OpenClockTimers was called twice: one Timers serves all of an operator's processing times")
	}
	rt.n.alarms = t
	return t.open(rt, spaceAlarm, "clock timers")
}

func (t *Timers[K]) open(rt Runtime, space byte, print string) error {
	t.s, t.space = rt.n.state(), space
	if own, ok := t.s.keys.(*Keys[K]); ok {
		t.own = own
	} else if err := OpenKeys(rt, &t.keys); err != nil {
		return err
	} else {
		t.own = &t.keys
	}
	t.set, t.fresh, t.names = map[timerEntry]bool{}, map[timerEntry]bool{}, map[timerEntry]string{}
	t.s.fingerprint(print)
	t.s.tables = append(t.s.tables, t)
	return t.s.load(space, func(_ uint16, rest, _ []byte) error {
		if len(rest) < 8 {
			return errCorrupt
		}
		k, ok := t.own.t.code.decode(rest[8:])
		if !ok {
			return errCorrupt
		}
		t.push(t.own.Find(k), Timestamp(timeOf(binary.BigEndian.Uint64(rest))))
		return nil
	}, func() { clear(t.fresh); clear(t.names) })
}

// Set sets a timer; setting it again does nothing.
func (t *Timers[K]) Set(key K, at Timestamp) { t.push(t.own.Find(key), at) }

func (t *Timers[K]) push(slot Slot, at Timestamp) {
	e := timerEntry{at, t.own.groupOf(slot), slot}
	if t.set[e] {
		return
	}
	t.own.Retain(slot)
	t.insert(e)
}

// back puts a timer back that was popped and not done.
func (t *Timers[K]) back(slot Slot, at Timestamp) {
	t.insert(timerEntry{at, t.own.groupOf(slot), slot})
}

func (t *Timers[K]) insert(e timerEntry) {
	t.set[e] = true
	t.change(e, true)
	t.heap = append(t.heap, e)
	h := t.heap
	for i := len(h) - 1; i > 0 && h[i].less(h[(i-1)/2]); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
}

func (t *Timers[K]) change(e timerEntry, set bool) {
	if t.s.u.db == nil {
		return
	}
	t.fresh[e] = set
	t.names[e] = string(t.own.t.code.append(nil, t.own.Key(e.slot)))
}

// Clear takes a timer back.
func (t *Timers[K]) Clear(key K, at Timestamp) {
	slot := t.own.Find(key)
	e := timerEntry{at, t.own.groupOf(slot), slot}
	if !t.set[e] {
		return
	}
	delete(t.set, e) // its place in the heap is passed over
	t.change(e, false)
	t.own.Release(slot)
}

func (t *Timers[K]) pop(wm Timestamp) (Slot, Timestamp, bool) {
	for len(t.heap) > 0 && t.heap[0].at <= wm {
		e := t.heap[0]
		h := t.heap
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
		t.heap = h
		if t.set[e] {
			delete(t.set, e)
			t.change(e, false)
			return e.slot, e.at, true
		}
	}
	return 0, 0, false
}

func (t *Timers[K]) done(slot Slot) { t.own.Release(slot) }

// next is the earliest timer's time, EndOfTime if there is none. A timer that was taken back may still be in the heap.
func (t *Timers[K]) next() Timestamp {
	if len(t.heap) == 0 {
		return EndOfTime
	}
	return t.heap[0].at
}

func (t *Timers[K]) collect(w *changes) {
	for e, set := range t.fresh {
		w.key(t.s.id, t.space, e.group)
		w.appendUint64(orderedTime(int64(e.at)))
		w.buf = append(w.buf, t.names[e]...)
		if set {
			w.value()
			w.put()
		} else {
			w.delete()
		}
	}
	clear(t.fresh)
	clear(t.names)
}

package flow

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// Waiting inputs of an async operator are stored as one value per task, anew when they have changed: a head with what shared them out,
// then inputs and marks in order. A task takes up what was stored under its name, unless the records were shared out otherwise then (another
// parallelism, an exchange that came or went): the first task takes all of that, and the others wait until it is answered, so that
// nothing is lost or overtaken.

const spaceAsync = 2

const (
	asyncInput = iota
	asyncMark
	asyncHead
)

// asyncGate is closed while the first task of an async operator answers what other tasks left.
type asyncGate struct {
	foreign bool
	opened  atomic.Bool
	waiting []asyncPart
}

// asyncTaken is what a stage knows of inputs that were stored by other tasks.
type asyncTaken struct {
	// foreign are the keys of what this task took over, until it is stored as its own; the gate opens when number until has gone on.
	foreign [][]byte
	opens   *asyncGate
	until   uint64
	// gate is closed for this task.
	gate *asyncGate
}

// shares names how records are shared out to tasks.
func (t *task) shares() string {
	if t.behind != nil {
		return fmt.Sprintf("exchange/%d", t.behind.parts)
	}
	return "partition"
}

// passGate opens the gate when what other tasks left has gone on, and goes through it when it is open.
func (s *asyncStage[In, Out]) passGate() {
	if g := s.opens; g != nil && (len(s.ring) == 0 || s.ring[0].number >= s.until) {
		s.opens = nil
		g.opened.Store(true)
		for _, w := range g.waiting {
			w.nudge()
		}
	}
	if s.gate == nil || !s.gate.opened.Load() {
		return
	}
	u := s.t.u
	u.inflight.Add(1)
	defer u.finished()
	if u.paused.Load() { // go through when the pause is over
		return
	}
	s.gate = nil
	s.release()
	s.t.endMessage()
}

func (s *asyncStage[In, Out]) collect(w *changes) (int, error) {
	if !s.dirty {
		return 0, nil
	}
	s.dirty = false
	n := 1
	for _, k := range s.foreign {
		w.begin(k)
		w.delete()
		n++
	}
	s.foreign = nil
	w.space(s.t.u.nodeID(s.node), spaceAsync)
	w.buf = append(w.buf, s.t.id...)
	w.value()
	if len(s.ring) == 0 {
		w.delete()
		return n, nil
	}
	shares := s.t.shares()
	w.buf = append(append(w.buf, asyncHead, byte(len(shares))), shares...)
	var b []byte
	for i := range s.ring {
		slot := &s.ring[i]
		if slot.gone {
			continue
		}
		if slot.isMark {
			w.buf = append(w.buf, asyncMark, byte(slot.m.kind))
			w.appendUint64(uint64(slot.m.wm))
			continue
		}
		var err error
		if b, err = s.code.Append(b[:0], &slot.rec.Value); err != nil {
			return n, &NodeError{s.topology, s.node, fmt.Errorf("a waiting input cannot be encoded: %w", err)}
		}
		w.buf = append(w.buf, asyncInput)
		w.appendUint64(uint64(slot.rec.Time))
		w.buf = binary.AppendUvarint(w.buf, uint64(len(b)))
		w.buf = append(w.buf, b...)
	}
	w.put()
	return n, nil
}

// restore reads what waited. Tasks are restored one after the other.
func (s *asyncStage[In, Out]) restore() error {
	u := s.t.u
	if u.db == nil {
		return nil
	}
	g := u.gates[s.n]
	first := g == nil
	if first {
		g = &asyncGate{}
		u.gates[s.n] = g
	}
	id := u.nodeID(s.node)
	err := u.db.Scan(nodePrefix(id, spaceAsync), nodePrefix(id, spaceAsync+1), func(k, v []byte) error {
		shares := s.t.shares() // stores of an older layout have no head
		if len(v) > 1 && v[0] == asyncHead && len(v) >= 2+int(v[1]) {
			shares, v = string(v[2:2+v[1]]), v[2+v[1]:]
		}
		switch {
		case shares == s.t.shares():
			if string(k[4:]) == s.t.id {
				return s.load(v, true)
			}
		case first:
			g.foreign = true
			s.foreign = append(s.foreign, bytes.Clone(k))
			return s.load(v, false)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.dirty = false // it is stored so
	switch {
	case !g.foreign:
	case first:
		s.opens, s.until, s.dirty = g, s.count, true
	case s.t.behind != nil: // partitions come and go, and nothing holds them in order
		s.gate = g
		g.waiting = append(g.waiting, s)
	}
	s.setPending()
	return nil
}

// load appends stored inputs to the ring. Marks of another task say nothing about the inputs that this one holds besides.
func (s *asyncStage[In, Out]) load(v []byte, marks bool) error {
	bad := &NodeError{s.topology, s.node, errCorrupt}
	for len(v) > 0 {
		kind := v[0]
		v = v[1:]
		if len(v) < 9 {
			return bad
		}
		if kind == asyncMark {
			if marks {
				s.hold(asyncSlot[In, Out]{isMark: true, m: mark{markKind(v[0]), Timestamp(binary.BigEndian.Uint64(v[1:]))}})
			}
			v = v[9:]
			continue
		}
		t := Timestamp(binary.BigEndian.Uint64(v))
		n, w := binary.Uvarint(v[8:])
		if w <= 0 || uint64(len(v)-8-w) < n {
			return bad
		}
		v = v[8+w:]
		slot := asyncSlot[In, Out]{rec: Record[In]{Time: t}}
		if err := s.code.Decode(v[:n], &slot.rec.Value); err != nil {
			return &NodeError{s.topology, s.node, err}
		}
		v = v[n:]
		s.ask = append(s.ask, s.count)
		s.hold(slot)
		s.waits++
	}
	return nil
}

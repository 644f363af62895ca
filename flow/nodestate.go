package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/millrace-stream/millrace/flow/state"
)

// Layout of the store. Every key starts with a letter: M for what concerns the whole topology, P for positions (source node,
// partition), V for the merged watermarks of an exchange, N for a node's state: node id (2 bytes), space (1 byte), then what the
// space's owner puts there. All numbers in keys are big-endian, so that ranges are ranges.
const (
	prefixMeta     = 'M'
	prefixPosition = 'P'
	prefixValve    = 'V'
	prefixNode     = 'N'
)

const (
	spaceKeys  = 0
	spaceTimes = 1
	spaceAlarm = 4
	spaceFirst = 16
)

var errCorrupt = errors.New("stored state is corrupt")

// collector is a part of a node's state that writes what changed since the last epoch.
type collector interface{ collect(w *changes) }

// nodeState is the state of one node within one task: the key groups [lo, hi).
type nodeState struct {
	u        *unit
	n        *node
	id       uint16
	lo, hi   int
	keys     interface{ collector }
	tables   []collector
	space    byte
	prints   []string
	restored []func()
	wm       Timestamp
	keepWM   bool
}

// state returns the node's state, registering it at first use.
func (nt *nodeTask) state() *nodeState {
	if nt.group == nil {
		lo, hi := nt.t.groupRange()
		nt.group = &nodeState{u: nt.t.u, n: nt.n, id: nt.t.u.nodeID(nt.n.name), lo: lo, hi: hi, space: spaceFirst, wm: None}
		nt.t.states = append(nt.t.states, nt.group)
	}
	return nt.group
}

func (s *nodeState) fingerprint(parts ...string) {
	s.prints = append(s.prints, strings.Join(parts, ":"))
}

// nextSpace numbers the tables of a node by the order in which they are opened; the fingerprint holds their names.
func (s *nodeState) nextSpace(kind, name, print string, c collector) byte {
	s.fingerprint(kind, name, print)
	sp := s.space
	s.space++
	s.tables = append(s.tables, c)
	return sp
}

func nodePrefix(id uint16, space byte) []byte {
	b := []byte{prefixNode, 0, 0, space}
	binary.BigEndian.PutUint16(b[1:], id)
	return b
}

// load reads a space whose keys go on with the key group; done runs once the operator is open.
func (s *nodeState) load(space byte, f func(group uint16, rest, value []byte) error, done func()) error {
	if done != nil {
		s.restored = append(s.restored, done)
	}
	if s.u.db == nil {
		return nil
	}
	lo := binary.BigEndian.AppendUint16(nodePrefix(s.id, space), uint16(s.lo))
	hi := binary.BigEndian.AppendUint16(nodePrefix(s.id, space), uint16(s.hi))
	return s.u.db.Scan(lo, hi, func(k, v []byte) error {
		if len(k) < 6 {
			return errCorrupt
		}
		if err := f(binary.BigEndian.Uint16(k[4:]), k[6:], v); err != nil {
			return fmt.Errorf("node %q: %w", s.n.name, err)
		}
		return nil
	})
}

// scan reads a whole space.
func (s *nodeState) scan(space byte, f func(rest, value []byte) error) error {
	if s.u.db == nil {
		return nil
	}
	return s.u.db.Scan(nodePrefix(s.id, space), nodePrefix(s.id, space+1), func(k, v []byte) error {
		if err := f(k[4:], v); err != nil {
			return fmt.Errorf("node %q: %w", s.n.name, err)
		}
		return nil
	})
}

const spaceWatermark = 3

// OpenWatermark returns the watermark that the operator had seen when its state was stored, None if there is none. The engine
// keeps it from then on.
func OpenWatermark(rt Runtime) (Timestamp, error) {
	s := rt.n.state()
	s.keepWM = true
	if s.u.db == nil {
		return None, nil
	}
	b, ok, err := s.u.db.Get(s.watermarkKey())
	if err != nil || !ok || len(b) != 8 {
		return None, err
	}
	s.wm = Timestamp(binary.BigEndian.Uint64(b))
	return s.wm, nil
}

// watermarkKey is one for all tasks: at an epoch they have all seen the same. Co-partitioned units have one each.
func (s *nodeState) watermarkKey() []byte {
	k := nodePrefix(s.id, spaceWatermark)
	if s.u.scope >= 0 {
		k = binary.BigEndian.AppendUint16(k, uint16(s.u.scope))
	}
	return k
}

// collectWatermark stores it once for all tasks of a unit.
func (s *nodeState) collectWatermark(w *changes) {
	if s.keepWM && (s.lo == 0 || s.u.scope >= 0) && s.wm != None {
		w.begin(s.watermarkKey())
		w.value()
		w.appendUint64(uint64(s.wm))
		w.put()
	}
}

func (s *nodeState) collect(w *changes) {
	for _, t := range s.tables {
		t.collect(w)
	}
	if s.keys != nil {
		s.keys.collect(w)
	}
}

// changes gathers what an epoch writes, as one run of bytes that the commit replays into the store's batch.
type changes struct {
	buf   []byte
	start int // of the change being written
	split int // end of its key
	n     int
}

const (
	changePut byte = iota
	changeDelete
	changeDeleteRange
)

const changeHead = 9 // kind, key length, value length

func (w *changes) begin(b []byte) {
	w.start = len(w.buf)
	w.buf = append(w.buf, make([]byte, changeHead)...)
	w.buf = append(w.buf, b...)
}

// key begins a change of a node's space that is addressed by key group.
func (w *changes) key(id uint16, space byte, group uint16) {
	w.start = len(w.buf)
	w.buf = append(w.buf, 0, 0, 0, 0, 0, 0, 0, 0, 0, prefixNode, byte(id>>8), byte(id), space, byte(group>>8), byte(group))
}

// space begins a change of a node's space.
func (w *changes) space(id uint16, space byte) {
	w.start = len(w.buf)
	w.buf = append(w.buf, 0, 0, 0, 0, 0, 0, 0, 0, 0, prefixNode, byte(id>>8), byte(id), space)
}

func (w *changes) appendUint32(v uint32) { w.buf = binary.BigEndian.AppendUint32(w.buf, v) }
func (w *changes) appendUint64(v uint64) { w.buf = binary.BigEndian.AppendUint64(w.buf, v) }

// value ends the key: what is appended to buf from now on is the value.
func (w *changes) value() { w.split = len(w.buf) }

func (w *changes) put() { w.end(changePut, w.split) }

func (w *changes) delete() { w.end(changeDelete, len(w.buf)) }

func (w *changes) end(kind byte, split int) {
	h := w.buf[w.start:]
	h[0] = kind
	binary.LittleEndian.PutUint32(h[1:], uint32(split-w.start-changeHead))
	binary.LittleEndian.PutUint32(h[5:], uint32(len(w.buf)-split))
	w.n++
}

func (w *changes) deleteRange(lo, hi []byte) {
	w.begin(lo)
	w.value()
	w.buf = append(w.buf, hi...)
	w.end(changeDeleteRange, w.split)
}

func (w *changes) reset() { w.buf, w.n = w.buf[:0], 0 }

// replay puts the changes into a batch.
func (w *changes) replay(b state.Batch) {
	for p := w.buf; len(p) > 0; {
		kind := p[0]
		kl, vl := binary.LittleEndian.Uint32(p[1:]), binary.LittleEndian.Uint32(p[5:])
		k := p[changeHead : changeHead+kl]
		v := p[changeHead+kl : changeHead+kl+vl]
		switch kind {
		case changePut:
			b.Put(k, v)
		case changeDelete:
			b.Delete(k)
		case changeDeleteRange:
			b.DeleteRange(k, v)
		}
		p = p[changeHead+kl+vl:]
	}
}

// orderedTime makes a timestamp sort as bytes.
func orderedTime(t int64) uint64 { return uint64(t) ^ 1<<63 }

func timeOf(u uint64) int64 { return int64(u ^ 1<<63) }

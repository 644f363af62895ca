package operators

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/internal/nfa"
)

// errUnknown says that a set lacks a pattern.
var errUnknown = errors.New("partial matches of a pattern are stored that the set does not have: keep each version in the set until it is drained, or drop it by a Change")

// storedValues are the values of events of partial matches.
type storedValues[T any] struct{ s *stored[T] }

func (v storedValues[T]) Append(b []byte, x *T) ([]byte, error) { return v.s.append(b, x) }
func (v storedValues[T]) Read(b []byte, x *T) ([]byte, error)   { return v.s.read(b, x) }

// A part of the table is a pattern and the place of a key in its page, so that each key is stored by itself.

// AppendPage implements flow.PageStore.
func (p *patterns[K, T, R]) AppendPage(b []byte, part int64, page uint32) []byte {
	l := p.laneOf(part)
	if l == nil {
		return b
	}
	r := l.run(flow.Slot(page)*flow.PageSize + flow.Slot(part&(flow.PageSize-1)))
	if r == nil {
		return b
	}
	n := len(b)
	if l.name != "" {
		b = binary.LittleEndian.AppendUint64(b, l.print)
	}
	b, err := r.Append(b, storedValues[T]{&p.values})
	if err != nil { // it was encoded before, when it came
		p.rt.Log().Error("partial matches of a key cannot be stored", "err", err)
		return b[:n]
	}
	return b
}

func (p *patterns[K, T, R]) laneOf(part int64) *lane[T] {
	for _, l := range p.lanes {
		if l.id == part>>6 {
			return l
		}
	}
	return nil
}

// ReadPage implements flow.PageStore.
func (p *patterns[K, T, R]) ReadPage(part int64, page uint32, b []byte) error {
	l := p.laneOf(part)
	if l == nil {
		return errUnknown
	}
	if l.name != "" {
		if len(b) < 8 {
			return nfa.ErrDamaged
		}
		if binary.LittleEndian.Uint64(b) != l.print {
			return fmt.Errorf("pattern %q version %q has partial matches of another structure stored: give the changed pattern a new version, and keep the old one until they are gone", l.name, l.version)
		}
		b = b[8:]
	}
	r, err := l.machine.Read(b, storedValues[T]{&p.values})
	if err != nil {
		return err
	}
	p.set(l, flow.Slot(page)*flow.PageSize+flow.Slot(part&(flow.PageSize-1)), r)
	p.total += r.Partials()
	return nil
}

// Fingerprint implements flow.PageStore. A set says of each pattern by itself whether it is the one that was stored.
func (p *patterns[K, T, R]) Fingerprint() string {
	of := "set"
	if p.lanes[0].name == "" {
		of = p.lanes[0].prog.Fingerprint()
	}
	return fmt.Sprintf("cep.1/%s/%s/%s", of, p.cfg.Version, p.values.id())
}

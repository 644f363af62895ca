package nfa

import (
	"encoding/binary"
	"errors"

	"github.com/millrace-stream/millrace/flow"
)

// Values turns the values of events into bytes and back.
type Values[T any] interface {
	Append(b []byte, v *T) ([]byte, error)
	Read(b []byte, v *T) (rest []byte, err error)
}

// ErrDamaged says that stored partial matches cannot be read.
var ErrDamaged = errors.New("stored partial matches are damaged")

// Append appends a key's state to b. Each event and each link is there once, however many partial matches share it.
func (r *Run[T]) Append(b []byte, values Values[T]) (_ []byte, err error) {
	events, links := map[*Event[T]]uint64{}, map[*link[T]]uint64{}
	var evs []*Event[T]
	var order []*link[T]
	note := func(ps []partial[T]) {
		for i := range ps {
			from := len(order)
			for l := ps[i].last; l != nil && links[l] == 0; l = l.prev {
				order = append(order, l)
				links[l] = 1 // placed below
			}
			for i, j := from, len(order)-1; i < j; i, j = i+1, j-1 {
				order[i], order[j] = order[j], order[i]
			}
			for k := from; k < len(order); k++ {
				links[order[k]] = uint64(k) + 1
				if e := order[k].ev; events[e] == 0 {
					evs = append(evs, e)
					events[e] = uint64(len(evs))
				}
			}
		}
	}
	note(r.parts)
	note(r.done)
	b = binary.AppendUvarint(b, r.seq)
	b = binary.AppendVarint(b, int64(r.since))
	b = binary.AppendUvarint(b, uint64(len(evs)))
	for _, e := range evs {
		b = binary.AppendVarint(b, int64(e.At))
		b = binary.AppendUvarint(b, e.seq)
		if b, err = values.Append(b, &e.Value); err != nil {
			return b, err
		}
	}
	b = binary.AppendUvarint(b, uint64(len(order)))
	for _, l := range order {
		b = binary.AppendUvarint(b, events[l.ev])
		b = binary.AppendUvarint(b, links[l.prev])
		b = binary.AppendUvarint(b, uint64(l.stage))
	}
	for _, ps := range [][]partial[T]{r.parts, r.done} {
		b = binary.AppendUvarint(b, uint64(len(ps)))
		for i := range ps {
			p := &ps[i]
			b = binary.AppendVarint(b, int64(p.node))
			b = binary.AppendUvarint(b, links[p.last])
			b = binary.AppendVarint(b, int64(p.first.at))
			b = binary.AppendUvarint(b, p.first.seq)
			b = binary.AppendVarint(b, int64(p.prev))
		}
	}
	return b, nil
}

// reader reads numbers; after an error it gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) u() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) i() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// n is a count of things that take at least one byte each.
func (r *reader) n() int {
	v := r.u()
	if v > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(v)
}

// Read restores what Append has written.
func (m *Machine[T]) Read(b []byte, values Values[T]) (*Run[T], error) {
	p := m.Program
	in := &reader{b: b}
	r := m.Run()
	r.seq, r.since = in.u(), flow.Timestamp(in.i())
	events := make([]*Event[T], in.n())
	for k := range events {
		e := &Event[T]{At: flow.Timestamp(in.i()), seq: in.u()}
		if in.bad {
			return nil, ErrDamaged
		}
		var err error
		if in.b, err = values.Read(in.b, &e.Value); err != nil {
			return nil, err
		}
		events[k] = e
	}
	links := make([]*link[T], in.n()+1)
	for k := 1; k < len(links); k++ {
		ev, prev, stage := in.u(), in.u(), in.u()
		if in.bad || ev == 0 || ev > uint64(len(events)) || prev >= uint64(k) || stage >= uint64(len(p.stages)) {
			return nil, ErrDamaged
		}
		l := &link[T]{ev: events[ev-1], prev: links[prev], stage: int32(stage), depth: 1}
		if l.prev != nil {
			l.depth += l.prev.depth
		}
		links[k] = l
	}
	for _, ps := range []*[]partial[T]{&r.parts, &r.done} {
		n := in.n()
		for range n {
			node, last := in.i(), in.u()
			q := partial[T]{first: id{flow.Timestamp(in.i()), in.u()}, prev: flow.Timestamp(in.i()), node: int32(node), due: flow.None}
			if in.bad || last >= uint64(len(links)) || node < -1 || node >= int64(len(p.nodes)) || node < 0 && ps == &r.parts {
				return nil, ErrDamaged
			}
			q.last = links[last]
			*ps = append(*ps, q)
		}
	}
	if in.bad || len(in.b) > 0 || r.since != flow.None && p.lead == nil {
		return nil, ErrDamaged
	}
	r.due = m.earliest(r)
	m.note(r)
	return r, nil
}

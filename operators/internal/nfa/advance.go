package nfa

import (
	"fmt"
	"slices"

	"github.com/millrace-stream/millrace/flow"
)

// deadline is when something happens to a partial match by time alone, EndOfTime for never.
func (m *Machine[T]) deadline(p *partial[T]) (at flow.Timestamp, completes bool) {
	at = flow.EndOfTime
	n := &m.nodes[p.node]
	if n.kind == begin {
		return at, false
	}
	if n.kind == absent {
		at, completes = addTicks(p.prev, n.wait), true
	}
	if m.within > 0 {
		if t := addTicks(p.first.at, m.within); t < at {
			at, completes = t, false
		}
	}
	if n.bound > 0 {
		if t := addTicks(p.prev, n.bound); t < at {
			at, completes = t, false
		}
	}
	return at, completes
}

func addTicks(t, d flow.Timestamp) flow.Timestamp {
	if s := t + d; s >= t {
		return s
	}
	return flow.EndOfTime
}

func (m *Machine[T]) earliest(r *Run[T]) flow.Timestamp {
	at := flow.EndOfTime
	if !m.timed {
		return at
	}
	for i := range r.parts {
		t, _ := m.deadline(&r.parts[i])
		at = min(at, t)
	}
	if r.since != flow.None {
		at = min(at, addTicks(r.since, m.lead.wait))
	}
	return at
}

// Advance tells that time has come to now: partial matches run out of time, absences are complete. Where there are absences, time comes
// moment by moment, so that what they bring comes in order of time, however far now is.
func (m *Machine[T]) Advance(r *Run[T], now flow.Timestamp, out Emit[T]) (changed bool, err error) {
	for r.due <= now && r.due != flow.EndOfTime {
		at := now
		if m.stepwise {
			at = r.due
		}
		changed = true
		if err := m.advance(r, at, out); err != nil {
			return true, err
		}
	}
	return changed, nil
}

func (m *Machine[T]) advance(r *Run[T], now flow.Timestamp, out Emit[T]) error {
	m.next, m.ripe = m.next[:0], m.ripe[:0]
	if r.since != flow.None && m.NoStarts {
		r.since = flow.None
	}
	if r.since != flow.None {
		if at := addTicks(r.since, m.lead.wait); at <= now && at != flow.EndOfTime {
			r.since = flow.None
			r.parts = append(r.parts, partial[T]{first: id{at, r.seq}, prev: at, node: m.start, due: at, fresh: true})
			r.seq++
		}
	}
	for i := range r.parts {
		if err := m.pass(r.parts[i], now, out); err != nil {
			return err
		}
	}
	if m.lead != nil {
		if err := m.bound(r); err != nil {
			return err
		}
	}
	m.settle(r)
	return m.release(r, now, out)
}

// pass lets time go by for one partial match.
func (m *Machine[T]) pass(p partial[T], now flow.Timestamp, out Emit[T]) error {
	for {
		if p.due != flow.None && (m.nodes[p.node].kind == final || m.reachesEnd(p.node, map[int32]bool{})) {
			m.ripe = append(m.ripe, p)
			if m.nodes[p.node].kind == final {
				return nil
			}
		}
		if p.due != flow.None && m.nodes[p.node].kind == normal {
			var err error
			m.absences(p.node, nil, func(n int32) {
				q := p
				q.node, q.due, q.fresh = n, flow.None, true
				if err == nil {
					err = m.pass(q, now, out)
				}
			})
			if err != nil {
				return err
			}
		}
		p.due = flow.None
		at, completes := m.deadline(&p)
		switch {
		case at > now || at == flow.EndOfTime:
			m.next = append(m.next, p)
			return nil
		case completes:
			p.node, p.prev, p.due = m.nodes[p.node].sink, at, at
		case m.nodes[p.node].kind == pending:
			m.ripe = append(m.ripe, p)
			return nil
		default:
			m.trace("timed out", &p)
			return out.TimedOut(m.match(&p), at)
		}
	}
}

// release gives out finished matches: all of them without a strategy, else those that no partial match may still prevent.
func (m *Machine[T]) release(r *Run[T], now flow.Timestamp, out Emit[T]) error {
	if m.pattern.Skip == SkipNone {
		for i := range m.ripe {
			if err := m.emit(&m.ripe[i], now, out); err != nil {
				return err
			}
		}
		clear(m.ripe)
		return nil
	}
	r.done = append(r.done, m.ripe...)
	clear(m.ripe)
	byFirst(r.done)
	for len(r.done) > 0 {
		p := r.done[0]
		if len(r.parts) > 0 && r.parts[0].first.less(p.first) {
			break
		}
		r.done = slices.Delete(r.done, 0, 1)
		if err := m.prune(r, &p); err != nil {
			return err
		}
		if err := m.emit(&p, now, out); err != nil {
			return err
		}
	}
	for i := range r.done {
		r.done[i].due = flow.None
	}
	return nil
}

func (m *Machine[T]) emit(p *partial[T], now flow.Timestamp, out Emit[T]) error {
	if p.due != flow.None {
		now = p.due
	}
	if m.Trace != nil {
		m.Trace("matched", -1, m.match(p))
	}
	return out.Match(m.match(p), now)
}

// prune removes what the strategy says after a match.
func (m *Machine[T]) prune(r *Run[T], p *partial[T]) error {
	var limit id
	including := false
	switch m.pattern.Skip {
	case SkipToNext:
		limit, including = p.first, true
	case SkipPastLast:
		limit, including = p.first, true
		if p.last != nil {
			if last := (id{p.last.ev.At, p.last.ev.seq}); limit.less(last) {
				limit = last
			}
		}
	default:
		at, ok := m.skipTo(p)
		switch {
		case !ok && m.pattern.Strict:
			return &SkipError{m.pattern.Target, "has no event in the match"}
		case !ok:
			return nil
		case m.pattern.Strict && at == p.first:
			return &SkipError{m.pattern.Target, "has the first event of the match"}
		}
		limit = at
	}
	gone := func(q partial[T]) bool {
		if q.first.less(limit) || including && q.first == limit {
			m.trace("skipped after a match", &q)
			return true
		}
		return false
	}
	r.parts = slices.DeleteFunc(r.parts, gone)
	r.done = slices.DeleteFunc(r.done, gone)
	return nil
}

func (m *Machine[T]) skipTo(p *partial[T]) (at id, ok bool) {
	for l := p.last; l != nil; l = l.prev {
		if l.stage == m.target {
			at, ok = id{l.ev.At, l.ev.seq}, true
			if m.pattern.Skip == SkipToLast {
				break
			}
		}
	}
	return at, ok
}

// SkipError says that a match has no place to skip to.
type SkipError struct{ Step, Why string }

// Error implements error.
func (e *SkipError) Error() string {
	return fmt.Sprintf("cannot skip to step %q, which %s: let that be (leave OrFail out), or skip to a step that every match has behind its first", e.Step, e.Why)
}

package nfa

import (
	"math/bits"

	"github.com/millrace-stream/millrace/flow"
)

// quick says ahead which events change nothing, by what the conditions say of them: most events are such. It is there for programs whose
// conditions ask the event alone, and are few.
type quick struct {
	// asks are, by node, the conditions that what happens there depends on.
	asks []uint16
	// inert are, by what the conditions say, the nodes at which nothing changes.
	inert []uint64
	// ends are, by the same, the nodes at which a partial match ends and gives nothing.
	ends []uint64
	// fates are, by the same, what becomes of an event at the most.
	fates []Fate
}

// Said is what the conditions of a program say of an event, a bit for each.
type Said uint16

// Unsaid says that the conditions were not asked yet.
const Unsaid Said = 1 << 15

// Fate is what becomes of an event at the most, whatever a key has.
type Fate uint8

const (
	// Passed changes nothing.
	Passed Fate = iota
	// Timed changes nothing but that time comes to it: see Untouched.
	Timed
	// Seen may end partial matches, and is taken by none.
	Seen
	// Kept may be taken.
	Kept
)

const (
	quickLeaves = 8
	quickNodes  = 64
)

func (p *Program[T]) quicken() *quick {
	if len(p.leaves) > quickLeaves || len(p.nodes) > quickNodes || p.lead != nil || p.cyclic {
		return nil
	}
	for _, l := range p.leaves {
		if l.Given != nil {
			return nil
		}
	}
	q := &quick{asks: make([]uint16, len(p.nodes)), inert: make([]uint64, 1<<len(p.leaves)), ends: make([]uint64, 1<<len(p.leaves)), fates: make([]Fate, 1<<len(p.leaves))}
	for n := range p.nodes {
		q.asks[n] = p.asksAt(int32(n))
		for said := range q.inert {
			inert, ends := p.at(int32(n), uint16(said))
			if inert {
				q.inert[said] |= 1 << n
			}
			if ends {
				q.ends[said] |= 1 << n
			}
		}
	}
	for said := range q.fates {
		q.fates[said] = p.fate(uint16(said), q.inert[said])
	}
	return q
}

func (p *Program[T]) fate(said uint16, inert uint64) Fate {
	// What time lets out has the time of the event that shows that it is up, or of the watermark: those of a strategy that were waiting, and
	// those that are pending. There no event may pass unseen.
	byTime := p.pattern.Skip != SkipNone && p.timed
	still := true
	for i, n := range p.nodes {
		for _, e := range n.edges {
			if e.action == take && p.said(e.when, said) {
				return Kept
			}
		}
		switch n.kind {
		case final, stop: // partial matches are never there
			continue
		case pending:
			byTime = true
		}
		still = still && inert>>i&1 != 0
	}
	switch {
	case still && !byTime:
		return Passed
	case still && p.spanned():
		return Timed
	}
	return Seen
}

// spanned tells whether partial matches end by the time since their first event, and by no other.
func (p *Program[T]) spanned() bool {
	for _, n := range p.nodes {
		if n.bound > 0 || n.kind == absent {
			return false
		}
	}
	return p.within > 0
}

// asksAt is what conditions may be asked at a node, those included that it leads to without an event.
func (p *Program[T]) asksAt(n int32) (asks uint16) {
	for _, e := range p.nodes[n].edges {
		asks |= p.asksIn(e.when)
		if e.action == proceed {
			asks |= p.asksAt(e.to)
		}
	}
	return asks
}

func (p *Program[T]) asksIn(e int32) uint16 {
	switch x := p.exprs[e]; x.op {
	case leaf:
		return 1 << x.a
	case not:
		return p.asksIn(x.a)
	case and:
		return p.asksIn(x.a) | p.asksIn(x.b)
	}
	return 0
}

func (p *Program[T]) said(e int32, said uint16) bool {
	switch x := p.exprs[e]; x.op {
	case leaf:
		return said>>x.a&1 != 0
	case not:
		return !p.said(x.a, said)
	case and:
		return p.said(x.a, said) && p.said(x.b, said)
	}
	return true
}

// at tells whether a partial match at a node stays what it is, or ends, with what the conditions say of an event: follow and step for it.
func (p *Program[T]) at(n int32, said uint16) (inert, ends bool) {
	begins := p.nodes[n].kind == begin
	takes, skips, elsewhere := 0, 0, false
	stack := []int32{n}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, e := range p.nodes[at].edges {
			if !p.said(e.when, said) {
				continue
			}
			switch {
			case e.action == take:
				takes++
			case e.action == ignore:
				skips++
				elsewhere = elsewhere || e.to != n
			case p.nodes[e.to].kind == stop:
				elsewhere = true
			case p.nodes[e.to].kind != absent:
				stack = append(stack, e.to)
			}
		}
	}
	if begins {
		return takes == 0, false
	}
	return takes == 0 && skips == 1 && !elsewhere, takes == 0 && skips == 0
}

// inert are the nodes at which the event in work changes nothing.
func (m *Machine[T]) inert(asks uint16) uint64 {
	var said uint16
	for ; asks != 0; asks &= asks - 1 {
		if i := bits.TrailingZeros16(asks); m.ask(int32(i), nil) {
			said |= 1 << i
		}
	}
	return m.quick.inert[said]
}

// Still is what decides whether an event changes anything for a key: what time brings, and by where its partial matches are. It lies outside of
// Run, which need not be touched for most events.
type Still struct {
	due   flow.Timestamp
	nodes uint64
	asks  uint16
}

// Still is that of a key.
func (r *Run[T]) Still() Still { return Still{r.due, r.nodes, r.asks} }

// Deadline is when time brings something for a key at the earliest, EndOfTime for never.
func (s *Still) Deadline() flow.Timestamp { return s.due }

// Due tells whether time brings something up to now.
func (s *Still) Due(now flow.Timestamp) bool { return s.due <= now && s.due != flow.EndOfTime }

// Untouched tells whether a Timed event at a time changes nothing for a key, of which s is nil where it has nothing, when all events up to
// done have had their turn: partial matches that are still to begin end behind it, and none of those that are there has ended by then.
func (m *Machine[T]) Untouched(s *Still, at, done flow.Timestamp) bool {
	return at <= addTicks(done, m.within) && (s == nil || !s.Due(at))
}

// Quiet tells whether an event changes nothing for a key, and whether it has become the event in work.
func (m *Machine[T]) Quiet(s *Still, at flow.Timestamp, v *T) (quiet, looked bool) {
	if m.quick == nil || m.Trace != nil || s.Due(at) {
		return false, false
	}
	m.Look(at, v)
	_, quiet = m.still(s)
	return quiet, true
}

// Ahead tells whether Say can tell ahead what becomes of events.
func (m *Machine[T]) Ahead() bool { return m.quick != nil }

// Say asks an event all conditions, and tells what becomes of it at the most.
func (m *Machine[T]) Say(v *T) (said Said, fate Fate) {
	for i, l := range m.leaves {
		if l.Is(*v) {
			said |= 1 << i
		}
	}
	return said, m.quick.fates[said]
}

// Recall makes an event the one in work of which the conditions were asked before. Its value may be nil where it is not Kept.
func (m *Machine[T]) Recall(at flow.Timestamp, v *T, said Said) {
	m.Look(at, v)
	for i := range m.memo {
		m.memo[i] = m.asked<<1 | uint64(said>>i&1)
	}
}

// Begins tells whether an event changes anything for a key that has nothing.
func (m *Machine[T]) Begins(said Said) bool {
	return !m.NoStarts && m.quick.inert[said]>>m.start&1 == 0
}

// Changes tells whether an event changes anything for a key.
func (m *Machine[T]) Changes(s *Still, at flow.Timestamp, said Said) bool {
	return s.Due(at) || s.nodes&^m.quick.inert[said] != 0 || m.Begins(said)
}

// Ends tells whether an event ends all that a key has, and gives nothing.
func (m *Machine[T]) Ends(s *Still, at flow.Timestamp, said Said) bool {
	return !s.Due(at) && s.nodes&^m.quick.ends[said] == 0 && !m.Begins(said)
}

// End makes a run empty, if none of its matches is done and waits. It returns how many partial matches there were.
func (r *Run[T]) End() (n int, ok bool) {
	if len(r.done) > 0 {
		return 0, false
	}
	n = len(r.parts)
	clear(r.parts)
	r.parts = r.parts[:0]
	return n, true
}

// still tells at which nodes the event in work changes nothing, and whether those are all at which a key has something.
func (m *Machine[T]) still(s *Still) (inert uint64, all bool) {
	asks, nodes := s.asks, s.nodes
	if !m.NoStarts {
		asks, nodes = asks|m.quick.asks[m.start], nodes|1<<m.start
	}
	inert = m.inert(asks)
	return inert, nodes&^inert == 0
}

// note writes down at which nodes a key has partial matches.
func (m *Machine[T]) note(r *Run[T]) {
	r.nodes, r.asks = 0, 0
	if m.quick == nil {
		return
	}
	for i := range r.parts {
		n := r.parts[i].node
		r.nodes |= 1 << n
		r.asks |= m.quick.asks[n]
	}
}

package nfa

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/millrace-stream/millrace/flow"
)

// Run is what one key has: its partial matches, and matches that wait for the end of partial matches that began before them.
type Run[T any] struct {
	parts []partial[T] // by first event
	done  []partial[T] // by first event
	seq   uint64
	// since is when the absence at the start of the pattern began, None if it does not run.
	since flow.Timestamp
	// due is when time brings something at the earliest, EndOfTime for never.
	due flow.Timestamp
	// nodes are those at which partial matches are, or were until a match has ended them; asks are the conditions that matter there.
	nodes uint64
	asks  uint16
	// few is where the first partial matches lie, own the first event that is taken while there is something.
	few  [2]partial[T]
	own  kept[T]
	owns bool
}

// NewRun is the state of a key without events.
func NewRun[T any]() *Run[T] {
	r := &Run[T]{since: flow.None, due: flow.EndOfTime}
	r.parts = r.few[:0]
	return r
}

// Run is the state of a key without events: one that Spare was given, if there is one.
func (m *Machine[T]) Run() *Run[T] {
	n := len(m.spare)
	if n == 0 {
		return NewRun[T]()
	}
	r := m.spare[n-1]
	m.spare = m.spare[:n-1]
	return r
}

// Spare takes back a run that is empty.
func (m *Machine[T]) Spare(r *Run[T]) {
	if len(m.spare) == spareRuns || cap(r.parts) > 16 || cap(r.done) > 16 {
		return
	}
	r.seq, r.due, r.nodes, r.asks = 0, flow.EndOfTime, 0, 0
	if r.owns {
		r.own, r.owns = kept[T]{}, false
	}
	m.spare = append(m.spare, r)
}

// spareRuns is how many empty runs a machine keeps.
const spareRuns = 1024

// Empty tells whether there is nothing to be kept.
func (r *Run[T]) Empty() bool { return len(r.parts) == 0 && len(r.done) == 0 && r.since == flow.None }

// Partials is the number of partial matches, those included that wait to be let out.
func (r *Run[T]) Partials() int { return len(r.parts) + len(r.done) }

// partial is a partial match.
type partial[T any] struct {
	last  *link[T]
	first id // its first event, or when its first absence was complete
	prev  flow.Timestamp
	node  int32
	// fresh: it was not there before the event in work, or there is another one in the place of the one that was.
	fresh bool
	// due is when time completed it, None where an event does.
	due flow.Timestamp
}

// Match is a match or a partial one that ran out of time.
type Match[T any] struct {
	m    *Machine[T]
	last *link[T]
	// First and Last are the times of the first and last event.
	First, Last flow.Timestamp
}

// Each calls f for each event in order, with the number of its stage.
func (m Match[T]) Each(f func(stage int, e *Event[T])) {
	if m.last == nil {
		return
	}
	m.m.path = m.m.path[:0]
	for l := m.last; l != nil; l = l.prev {
		m.m.path = append(m.m.path, l)
	}
	for _, l := range slices.Backward(m.m.path) {
		f(int(l.stage), l.ev)
	}
}

// Len is the number of events.
func (m Match[T]) Len() int {
	if m.last == nil {
		return 0
	}
	return int(m.last.depth)
}

// Emit receives what a machine finds; matches are valid during the call.
type Emit[T any] interface {
	Match(m Match[T], at flow.Timestamp) error
	TimedOut(m Match[T], at flow.Timestamp) error
}

// Tracer is told what happens to partial matches.
type Tracer[T any] func(what string, stage int, m Match[T])

// Limits bound what a machine keeps.
type Limits struct {
	// PerKey bounds the partial matches of a key, 0 does not; Room is how many there may be of it by the limit of all keys.
	PerKey, Room int
	Full         Full
}

// Machine runs a program. It belongs to one goroutine.
type Machine[T any] struct {
	*Program[T]
	Limits Limits
	Trace  Tracer[T]
	// NoStarts lets partial matches go on, and none begin.
	NoStarts bool
	// Dropped counts partial matches that a limit has ended or refused.
	Dropped int64

	// ev is the event in work, made to be kept when it is first taken.
	at    flow.Timestamp
	v     *T
	taken *Event[T]
	link  *link[T] // beside taken, for the first partial match that takes it
	seq   uint64
	run   *Run[T] // in work

	// memo holds what leaves said of the event (and partial match) in work: the low bit, beside the number of the question.
	memo    []uint64
	asked   uint64 // of the event
	askedOf uint64 // of the partial match
	sofar   Taken[T]
	none    partial[T] // at the start

	stack   []int32
	onPath  []bool // nodes that a walk without an event has come through
	edges   []found
	kids    []partial[T]
	next    []partial[T]
	ripe    []partial[T]
	path    []*link[T]
	targets map[string]int32
	spare   []*Run[T]
}

// kept is an event that was taken, and its first link.
type kept[T any] struct {
	ev   Event[T]
	link link[T]
}

type found struct {
	edge
	from int32
}

// NewMachine makes a machine for a program.
func NewMachine[T any](p *Program[T]) *Machine[T] {
	m := &Machine[T]{Program: p, memo: make([]uint64, len(p.leaves)), onPath: make([]bool, len(p.nodes)), targets: map[string]int32{}, none: partial[T]{node: p.start, due: flow.None}}
	for i, name := range p.stages {
		m.targets[name] = int32(i)
	}
	return m
}

func (m *Machine[T]) stageNamed(name string) int32 {
	if i, ok := m.targets[name]; ok {
		return i
	}
	panic(fmt.Errorf("a condition asks for the events of %q, and the pattern has no such step: it has %q", name, m.stages))
}

// Look makes an event the one in work: of it, conditions are asked once.
func (m *Machine[T]) Look(at flow.Timestamp, v *T) {
	m.at, m.v, m.taken, m.link = at, v, nil, nil
	m.asked++
	m.askedOf++
}

func (m *Machine[T]) holds(e int32, p *partial[T]) bool {
	switch x := &m.exprs[e]; x.op {
	case always:
		return true
	case not:
		return !m.holds(x.a, p)
	case and:
		return m.holds(x.a, p) && m.holds(x.b, p)
	default:
		return m.ask(x.a, p)
	}
}

// ask asks a leaf, once per event or, where it depends on it, partial match.
func (m *Machine[T]) ask(i int32, p *partial[T]) bool {
	f := m.leaves[i]
	q := m.asked
	if f.Given != nil {
		q = m.askedOf
	}
	if had := m.memo[i]; had>>1 == q {
		return had&1 != 0
	}
	var is bool
	if f.Given != nil {
		m.sofar = Taken[T]{m, p.last}
		is = f.Given(*m.v, &m.sofar)
	} else {
		is = f.Is(*m.v)
	}
	m.memo[i] = q << 1
	if is {
		m.memo[i]++
	}
	return is
}

// Starts tells whether an event could change anything for a key that has nothing.
func (m *Machine[T]) Starts(at flow.Timestamp, v *T) bool {
	if m.NoStarts {
		return false
	}
	m.Look(at, v)
	switch {
	case m.lead != nil:
		return m.holds(m.lead.fits, nil)
	case m.quick != nil && m.Trace == nil:
		return m.inert(m.quick.asks[m.start])>>m.start&1 == 0
	}
	_, any := m.follow(&m.none)
	return any
}

// Take gives a key the event in work, the times before which Advance has been told. It tells whether anything changed.
func (m *Machine[T]) Take(r *Run[T], at flow.Timestamp, out Emit[T]) (changed bool, err error) {
	var inert uint64
	if m.quick != nil && m.Trace == nil {
		s := r.Still()
		var all bool
		if inert, all = m.still(&s); all {
			return false, nil
		}
	}
	m.seq, m.run = r.seq, r
	m.next, m.ripe = m.next[:0], m.ripe[:0]
	for i := range r.parts {
		p := &r.parts[i]
		if inert>>p.node&1 != 0 {
			m.next = append(m.next, *p)
			m.next[len(m.next)-1].fresh = false
			continue
		}
		if m.step(p) {
			changed = true
		}
	}
	switch {
	case m.NoStarts || inert>>m.start&1 != 0:
	case m.lead == nil:
		if m.step(&m.none) {
			changed = true
		}
	case m.holds(m.lead.fits, nil):
		r.since, changed = at, true
	}
	if !changed {
		return false, nil
	}
	if m.taken != nil {
		r.seq++
	}
	if err := m.bound(r); err != nil {
		return true, err
	}
	m.settle(r)
	return true, m.release(r, at, out)
}

// settle makes what was collected the partial matches of a key.
func (m *Machine[T]) settle(r *Run[T]) {
	clear(r.parts)
	r.parts = append(r.parts[:0], m.next...)
	clear(m.next)
	byFirst(r.parts)
	r.due = m.earliest(r)
	m.note(r)
}

// byFirst sorts partial matches by their first event. They mostly are.
func byFirst[T any](ps []partial[T]) {
	for i := 1; i < len(ps); i++ {
		if ps[i].first.less(ps[i-1].first) {
			slices.SortStableFunc(ps, func(a, b partial[T]) int { return a.first.compare(b.first) })
			return
		}
	}
}

func (a id) compare(b id) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq)) }

// follow finds the ways that are open to a partial match: those that take the event and those that skip it. any tells whether there is one
// that takes; stopped, that the event ends the partial match.
func (m *Machine[T]) follow(p *partial[T]) (stopped, any bool) {
	m.askedOf++
	m.edges = m.edges[:0]
	if m.cyclic {
		return m.walk(p.node, p)
	}
	m.stack = append(m.stack[:0], p.node)
	for len(m.stack) > 0 {
		n := m.stack[len(m.stack)-1]
		m.stack = m.stack[:len(m.stack)-1]
		for _, e := range m.nodes[n].edges {
			if !m.holds(e.when, p) {
				continue
			}
			switch e.action {
			case proceed:
				switch m.nodes[e.to].kind {
				case stop:
					stopped = true
				case absent: // it began with the event before, in a partial match of its own
				default:
					m.stack = append(m.stack, e.to)
				}
			case take:
				any = true
				m.edges = append(m.edges, found{e, n})
			case ignore:
				m.edges = append(m.edges, found{e, n})
			}
		}
	}
	return stopped, any || stopped
}

// walk is follow for programs in which a way without an event may come back to where it was: a group that repeats, all of whose steps may be
// left out.
func (m *Machine[T]) walk(n int32, p *partial[T]) (stopped, any bool) {
	m.onPath[n] = true
	defer func() { m.onPath[n] = false }() // a condition may panic
	for _, e := range m.nodes[n].edges {
		if !m.holds(e.when, p) {
			continue
		}
		switch kind := m.nodes[e.to].kind; {
		case e.action != proceed:
			any = any || e.action == take
			m.edges = append(m.edges, found{e, n})
		case kind == stop:
			stopped = true
		case kind != absent && !m.onPath[e.to]:
			s, a := m.walk(e.to, p)
			stopped, any = stopped || s, any || a
		}
	}
	return stopped, any || stopped
}

// step moves one partial match on; what it becomes is collected in next and ripe.
func (m *Machine[T]) step(p *partial[T]) (changed bool) {
	stopped, _ := m.follow(p)
	begins := m.nodes[p.node].kind == begin
	if len(m.edges) == 1 && m.edges[0].action == ignore && m.edges[0].to == p.node && !stopped && !begins && m.Trace == nil {
		m.next = append(m.next, *p) // most events are skipped
		m.next[len(m.next)-1].fresh = false
		return false
	}
	m.kids = m.kids[:0]
	var ripe int
	for _, e := range m.edges {
		switch {
		case e.action == take:
			if m.taken == nil {
				k := &m.run.own
				if m.run.owns {
					k = new(kept[T])
				}
				m.run.owns = true
				k.ev = Event[T]{At: m.at, seq: m.seq, Value: *m.v}
				m.taken, m.link = &k.ev, &k.link
			}
			l := m.link
			if m.link = nil; l == nil {
				l = new(link[T])
			}
			*l = link[T]{ev: m.taken, prev: p.last, stage: e.stage, depth: 1}
			kid := partial[T]{last: l, first: p.first, prev: m.at, node: e.to, due: flow.None}
			if p.last != nil {
				kid.last.depth = p.last.depth + 1
			}
			if begins {
				kid.first = id{m.at, m.seq}
			}
			m.kids = append(m.kids, kid)
			m.tell("taken", e.stage, &kid)
			if m.nodes[e.to].kind != final && m.endsAt(e.to, p) {
				kid.node = -1
				m.kids = append(m.kids, kid)
			}
			if m.stepwise {
				m.absences(e.to, p, func(n int32) {
					kid.node = n
					m.kids = append(m.kids, kid)
				})
			}
		case !begins:
			kid := *p
			kid.node = e.to
			m.kids = append(m.kids, kid)
			if !stopped {
				m.tell("waits", m.nodes[e.to].stage, &kid)
			}
		}
	}
	heir := begins
	for i := range m.kids {
		kid := &m.kids[i]
		if kid.node == -1 || m.nodes[kid.node].kind == final {
			m.ripe = append(m.ripe, *kid)
			ripe++
		} else if !stopped { // an event that must not come may still complete the match
			kid.fresh = heir
			heir = true
			m.next = append(m.next, *kid)
		}
	}
	if stopped && !begins {
		m.trace("stopped", p)
		return true
	}
	if begins {
		return len(m.kids) > 0
	}
	if len(m.kids) == 0 {
		m.trace("died", p)
	}
	return len(m.kids) != 1 || ripe > 0 || m.kids[0].node != p.node || m.kids[0].last != p.last
}

// endsAt tells whether the end can be reached from a node without a further event.
func (m *Machine[T]) endsAt(n int32, p *partial[T]) bool {
	if m.cyclic {
		if m.onPath[n] {
			return false
		}
		m.onPath[n] = true
		defer func() { m.onPath[n] = false }()
	}
	for _, e := range m.nodes[n].edges {
		if e.action == proceed && m.holds(e.when, p) {
			if m.nodes[e.to].kind == final || m.endsAt(e.to, p) {
				return true
			}
		}
	}
	return false
}

// absences calls f for the absences that begin with an event that leads to a node, besides the node itself. p is the partial match that took
// it, nil where time led there and no event is in work.
func (m *Machine[T]) absences(n int32, p *partial[T], f func(n int32)) {
	if m.onPath[n] {
		return
	}
	m.onPath[n] = true
	defer func() { m.onPath[n] = false }()
	for _, e := range m.nodes[n].edges {
		switch {
		case e.action != proceed || m.nodes[e.to].kind == stop || p != nil && !m.holds(e.when, p):
		case m.nodes[e.to].kind == absent:
			f(e.to)
		default:
			m.absences(e.to, p, f)
		}
	}
}

func (m *Machine[T]) trace(what string, p *partial[T]) {
	if m.Trace != nil {
		stage := int32(-1)
		if p.node >= 0 {
			stage = m.nodes[p.node].stage
		}
		m.tell(what, stage, p)
	}
}

func (m *Machine[T]) tell(what string, stage int32, p *partial[T]) {
	if m.Trace != nil {
		m.Trace(what, int(stage), m.match(p))
	}
}

func (m *Machine[T]) match(p *partial[T]) Match[T] {
	return Match[T]{m: m, last: p.last, First: p.first.at, Last: p.prev}
}

// bound applies the limit of a key to what was collected.
func (m *Machine[T]) bound(r *Run[T]) error {
	if m.Limits.PerKey <= 0 {
		return nil
	}
	over := len(m.next) + len(r.done) - min(m.Limits.PerKey, m.Limits.Room)
	if m.pattern.Skip != SkipNone {
		over += len(m.ripe) // they may have to wait
	}
	if over = min(over, len(m.next)); over <= 0 {
		return nil
	}
	switch m.Limits.Full {
	case Fail:
		return &FullError{Limit: m.Limits.PerKey, Total: m.Limits.Room < m.Limits.PerKey}
	case RefuseStarts:
		// What was there stays; of what the event has made, the last is refused first.
		for i := len(m.next) - 1; i >= 0 && over > 0; i-- {
			if m.next[i].fresh {
				m.cut(i, i+1)
				over--
			}
		}
	default:
		byFirst(m.next)
		m.cut(0, over)
	}
	return nil
}

func (m *Machine[T]) cut(i, j int) {
	for k := i; k < j; k++ {
		m.trace("dropped at the limit", &m.next[k])
	}
	m.Dropped += int64(j - i)
	m.next = slices.Delete(m.next, i, j)
}

// FullError says that a key, or all keys together, have more partial matches than may be.
type FullError struct {
	Limit int
	Total bool
}

// Error implements error.
func (e *FullError) Error() string {
	if e.Total {
		return "the keys together have more partial matches than cep.MaxTotal lets be: bound the pattern by Within or a skip strategy, raise it, or let the oldest be dropped (cep.DropOldest)"
	}
	return fmt.Sprintf("a key has more than %d partial matches: bound the pattern by Within or a skip strategy, raise cep.MaxPartials, or let the oldest be dropped (cep.DropOldest)", e.Limit)
}

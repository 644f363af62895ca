package nfa

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Compile makes a program of a pattern that Check has found to be right. The automaton is built from the end to the start, as that of Apache
// Flink is, since what a stage may do depends on what follows it.
func Compile[T any](p Pattern[T]) *Program[T] {
	c := &compiler[T]{Program: &Program[T]{pattern: p, exprs: []expr{{op: always}}, within: flow.Timestamp(p.Within), target: -1}, leafOf: map[*Condition[T]]int32{}}
	c.print = fingerprint(p)
	c.name(p.Stages)
	stages := p.Stages
	if stages[0].Kind == Absence {
		c.lead = &lead{fits: c.leaf(stages[0].Where), wait: flow.Timestamp(stages[0].Wait)}
		c.timed, c.stepwise = true, true
	}
	end := c.node(final, -1)
	s := &scope[T]{stages: stages}
	sink := c.middle(s, end)
	switch {
	case c.lead != nil:
		c.start = sink
	default:
		c.start = c.convert(s, 0, sink)
		c.nodes[c.start].kind = begin
	}
	for i := range c.nodes {
		n := &c.nodes[i]
		c.timed = c.timed || n.bound > 0 || n.kind == absent
		c.stepwise = c.stepwise || n.kind == absent
	}
	c.timed = c.timed || p.Within > 0
	for n := range c.nodes {
		c.cyclic = c.cyclic || c.comesBack(int32(n), int32(n), map[int32]bool{})
	}
	if p.Target != "" {
		c.target = int32(slices.Index(c.stages, p.Target))
	}
	c.quick = c.quicken()
	return c.Program
}

// comesBack tells whether a way without an event leads from a node to another.
func (p *Program[T]) comesBack(n, to int32, seen map[int32]bool) bool {
	for _, e := range p.nodes[n].edges {
		if e.action != proceed || seen[e.to] {
			continue
		}
		seen[e.to] = true
		if e.to == to || p.comesBack(e.to, to, seen) {
			return true
		}
	}
	return false
}

// compiler builds a program.
type compiler[T any] struct {
	*Program[T]
	leafOf map[*Condition[T]]int32
	// firstOfLoop says of groups whether their first repetition is being built.
	firstOfLoop map[*Stage[T]]bool
	// untilCopy are nodes as they were before greedy conditions: where a greedy repetition goes that its until has ended.
	untilCopy map[int32]int32
}

// scope is the sequence of stages that is being built: the pattern or a group.
type scope[T any] struct {
	stages []Stage[T]
	group  *Stage[T] // nil at the top
	// follows is the stage behind the group that the scope is of.
	follows *Stage[T]
}

func (s *scope[T]) following(i int) *Stage[T] {
	if i+1 < len(s.stages) {
		return &s.stages[i+1]
	}
	return s.follows
}

func (s *scope[T]) head(i int) bool { return s.group != nil && i == 0 }

func (c *compiler[T]) name(stages []Stage[T]) {
	for i := range stages {
		switch s := &stages[i]; s.Kind {
		case Group, AllOf, AnyOf:
			c.name(s.Stages)
		default:
			c.stages = append(c.stages, s.Name)
		}
	}
}

func (c *compiler[T]) stageOf(s *Stage[T]) int32 { return int32(slices.Index(c.stages, s.Name)) }

func (c *compiler[T]) node(kind nodeKind, stage int32) int32 {
	c.nodes = append(c.nodes, node{kind: kind, stage: stage, sink: -1})
	return int32(len(c.nodes) - 1)
}

// taking makes a node that waits for an event of a stage. repeated nodes wait for a repetition.
func (c *compiler[T]) taking(s *Stage[T], repeated bool) int32 {
	n := c.node(normal, c.stageOf(s))
	switch {
	case repeated && s.Gap > 0:
		c.nodes[n].bound = flow.Timestamp(s.Gap)
	case !repeated && s.Bound > 0:
		c.nodes[n].bound = flow.Timestamp(s.Bound)
	}
	return n
}

func (c *compiler[T]) edge(from int32, a action, to, when int32) {
	c.nodes[from].edges = append(c.nodes[from].edges, edge{a, c.nodes[from].stage, to, when})
}

// Expressions.

func (c *compiler[T]) expr(e expr) int32 {
	if i := slices.Index(c.exprs, e); i >= 0 {
		return int32(i)
	}
	c.exprs = append(c.exprs, e)
	return int32(len(c.exprs) - 1)
}

func (c *compiler[T]) leaf(f *Condition[T]) int32 {
	if f == nil {
		return yes
	}
	i, ok := c.leafOf[f]
	if !ok {
		i = int32(len(c.leaves))
		c.leaves = append(c.leaves, f)
		c.leafOf[f] = i
	}
	return c.expr(expr{op: leaf, a: i})
}

func (c *compiler[T]) not(a int32) int32 { return c.expr(expr{op: not, a: a}) }

func (c *compiler[T]) and(a, b int32) int32 {
	switch {
	case a == yes:
		return b
	case b == yes:
		return a
	}
	return c.expr(expr{op: and, a: a, b: b})
}

// unless extends a condition by one that must not hold; never marks a condition that is not there.
func (c *compiler[T]) unless(when int32, until *Condition[T]) int32 {
	if until == nil || when == never {
		return when
	}
	return c.and(c.not(c.leaf(until)), when)
}

// never stands for the condition of an edge that does not exist.
const never = -1

// takes is the condition to take an event of a stage.
func (c *compiler[T]) takes(s *scope[T], i int) int32 {
	when := c.leaf(s.stages[i].Where)
	if s.group != nil {
		when = c.unless(when, s.group.Until)
	}
	return when
}

// skips is the condition to skip an event while waiting for the first of a stage.
func (c *compiler[T]) skips(s *scope[T], i int) int32 {
	how := s.stages[i].Link
	if s.head(i) {
		if how = s.group.Inner; c.isFirstOfLoop(s.group) {
			how = s.group.Link
		}
	}
	return c.skipsBy(s, i, how)
}

// repeats is the condition to skip an event between two repetitions of a stage. That of the first stage of a group is the group's.
func (c *compiler[T]) repeats(s *scope[T], i int) int32 {
	how := s.stages[i].Inner
	if s.head(i) {
		how = s.group.Inner
	}
	return c.skipsBy(s, i, how)
}

func (c *compiler[T]) isFirstOfLoop(g *Stage[T]) bool {
	first, ok := c.firstOfLoop[g]
	return !ok || first
}

func (c *compiler[T]) setFirstOfLoop(g *Stage[T], first bool) {
	if g.Kind == Group {
		if c.firstOfLoop == nil {
			c.firstOfLoop = map[*Stage[T]]bool{}
		}
		c.firstOfLoop[g] = first
	}
}

func (c *compiler[T]) skipsBy(s *scope[T], i int, how Link) int32 {
	var when int32
	switch how {
	case Relaxed:
		when = c.not(c.fits(&s.stages[i]))
	case AnySkip:
		when = yes
	default:
		return never
	}
	if s.group != nil {
		when = c.unless(when, s.group.Until)
	}
	return when
}

// fits is the condition that an event could be taken by a stage.
func (c *compiler[T]) fits(s *Stage[T]) int32 {
	if s.Kind != AllOf && s.Kind != AnyOf {
		return c.leaf(s.Where)
	}
	none := int32(yes)
	for i := range s.Stages {
		none = c.and(none, c.not(c.leaf(s.Stages[i].Where)))
	}
	return c.not(none)
}

func (c *compiler[T]) optional(s *scope[T], i int) bool {
	return s.stages[i].Optional || s.head(i) && c.isFirstOfLoop(s.group) && s.group.Optional
}

// middle builds all stages of a scope but the first in front of a sink.
func (c *compiler[T]) middle(s *scope[T], sink int32) int32 {
	for i := len(s.stages) - 1; i > 0; i-- {
		st := &s.stages[i]
		switch {
		case st.Kind == Absence:
			sink = c.absence(s, i, sink)
		case st.Link == NotFollowed:
			// It becomes a condition of its neighbours; only at the end of a pattern it is a node, where the time bound is waited for.
			if c.nodes[sink].kind == final && (c.within > 0 || st.Bound > 0) {
				fits := c.takes(s, i)
				n := c.node(pending, c.stageOf(st))
				c.stopAt(n, fits)
				c.edge(n, ignore, n, c.not(fits))
				if st.Bound > 0 {
					c.nodes[n].bound = flow.Timestamp(st.Bound)
				}
				sink = n
			}
		case st.Link == NotNext:
			fits := c.takes(s, i)
			n := c.node(normal, c.stageOf(st))
			if c.nodes[sink].kind == final {
				c.edge(n, ignore, sink, c.not(fits)) // the event that does not fit is looked at, and completes
			} else {
				c.edge(n, proceed, sink, c.not(fits))
			}
			c.stopAt(n, fits)
			sink = n
		default:
			sink = c.convert(s, i, sink)
		}
	}
	return sink
}

// absence builds a node that an event kills and time leaves.
func (c *compiler[T]) absence(s *scope[T], i int, sink int32) int32 {
	st := &s.stages[i]
	fits := c.takes(s, i)
	n := c.node(absent, c.stageOf(st))
	c.nodes[n].wait, c.nodes[n].sink = flow.Timestamp(st.Wait), sink
	c.stopAt(n, fits)
	c.edge(n, ignore, n, c.not(fits))
	return n
}

// stopAt adds the way to the end of a partial match.
func (c *compiler[T]) stopAt(n, when int32) {
	c.edge(n, proceed, c.node(stop, -1), when)
}

// nots are the notFollowedBy stages that are in force while a stage waits: those before it, as far as what lies between is optional.
func (c *compiler[T]) nots(s *scope[T], i int) (fits []int32) {
	for i--; i >= 0; i-- {
		switch st := &s.stages[i]; {
		case st.Link == NotFollowed && i > 0:
			fits = append(fits, c.takes(s, i))
		case !st.Optional:
			return fits
		}
	}
	return fits
}

// convert builds a stage with its repetitions.
func (c *compiler[T]) convert(s *scope[T], i int, sink int32) (n int32) {
	st := &s.stages[i]
	switch {
	case st.Repeats && st.Max == 0:
		c.setFirstOfLoop(st, false)
		loop := c.looping(s, i, c.withoutNots(s, i, sink))
		c.setFirstOfLoop(st, true)
		n = c.times(s, i, loop, sink, st.Min, st.Min)
	case st.Repeats:
		n = c.times(s, i, sink, sink, st.Min, st.Max)
	default:
		n = c.single(s, i, sink, sink, c.takes(s, i), c.skips(s, i), c.optional(s, i), false)
	}
	for _, fits := range c.nots(s, i) {
		c.stopAt(n, fits)
	}
	return n
}

// times builds from repetitions that must be, and those up to another number that may be.
func (c *compiler[T]) times(s *scope[T], i int, sink, past int32, from, to int) int32 {
	st := &s.stages[i]
	c.setFirstOfLoop(st, false)
	ignores := c.unless(c.repeats(s, i), st.Until)
	takes := c.unless(c.takes(s, i), st.Until)
	if st.Greedy && from != to {
		if st.Until != nil {
			c.keepCopy(sink)
		}
		c.yieldTo(sink, takes)
	}
	for range to - from {
		sink = c.single(s, i, sink, past, takes, ignores, true, true)
		c.stopInLoop(s, i, sink)
	}
	for range from - 1 {
		sink = c.single(s, i, sink, never, takes, ignores, false, true)
		c.stopInLoop(s, i, sink)
	}
	c.setFirstOfLoop(st, true)
	return c.single(s, i, sink, past, takes, c.skips(s, i), c.optional(s, i), false)
}

// single builds one take of a stage. past is where a partial match goes that leaves the stage out.
func (c *compiler[T]) single(s *scope[T], i int, sink, past, takes, ignores int32, optional, repeated bool) int32 {
	st := &s.stages[i]
	switch st.Kind {
	case Group:
		return c.group(s, i, sink, past, optional && (repeated || st.Optional))
	case AllOf, AnyOf:
		return c.choice(s, i, sink, past, ignores, optional, repeated)
	}
	n := c.taking(st, repeated)
	sink = c.withoutNots(s, i, sink) // an event taken ends what had to be absent until then
	c.edge(n, take, sink, takes)
	c.leaveOut(s, i, n, past, optional, repeated)
	if ignores == never {
		return n
	}
	wait := n
	if optional {
		// Once an event was skipped, the stage cannot be left out any more.
		wait = c.taking(st, repeated)
		c.edge(wait, take, sink, takes)
		c.edge(wait, ignore, wait, ignores)
		for _, fits := range c.nots(s, i) {
			c.stopAt(wait, fits)
		}
	}
	c.edge(n, ignore, wait, ignores)
	return n
}

// leaveOut adds the way around an optional stage.
func (c *compiler[T]) leaveOut(s *scope[T], i int, n, past int32, optional, repeated bool) {
	st := &s.stages[i]
	if !optional || past == never || !repeated && !st.Optional { // a group is left out as a whole
		return
	}
	if st.Greedy && st.Until != nil {
		if before, ok := c.untilCopy[past]; ok {
			c.edge(n, proceed, before, c.leaf(st.Until))
		}
		c.edge(n, proceed, past, c.not(c.leaf(st.Until)))
		return
	}
	c.edge(n, proceed, past, yes)
}

// looping builds the node that any number of further repetitions come back to.
func (c *compiler[T]) looping(s *scope[T], i int, sink int32) int32 {
	st := &s.stages[i]
	if st.Kind == Group {
		return c.loopingGroup(s, i, sink)
	}
	ignores := c.unless(c.repeats(s, i), st.Until)
	takes := c.unless(c.takes(s, i), st.Until)
	n := c.taking(st, true)
	if st.Greedy {
		leave := int32(yes)
		if st.Until != nil {
			c.edge(n, proceed, c.keepCopy(sink), c.leaf(st.Until))
			leave = c.not(c.leaf(st.Until))
		}
		c.edge(n, proceed, sink, leave)
		c.yieldTo(sink, c.takes(s, i))
	} else {
		c.edge(n, proceed, sink, yes)
	}
	c.edge(n, take, n, takes)
	c.stopInLoop(s, i, n)
	if ignores != never {
		wait := c.taking(st, true)
		c.edge(wait, take, n, takes)
		c.edge(wait, ignore, wait, ignores)
		c.edge(n, ignore, wait, ignores)
		c.stopInLoop(s, i, wait)
	}
	return n
}

// group builds one repetition of a group.
func (c *compiler[T]) group(s *scope[T], i int, sink, past int32, optional bool) int32 {
	g := &s.stages[i]
	in := &scope[T]{stages: g.Stages, group: g, follows: s.following(i)}
	first := c.convert(in, 0, c.middle(in, sink))
	if optional {
		c.edge(first, proceed, past, yes)
	}
	return first
}

func (c *compiler[T]) loopingGroup(s *scope[T], i int, sink int32) int32 {
	g := &s.stages[i]
	in := &scope[T]{stages: g.Stages, group: g, follows: s.following(i)}
	again := c.node(normal, -1)
	first := c.convert(in, 0, c.middle(in, again))
	c.edge(first, proceed, sink, yes)
	c.edge(again, proceed, first, yes)
	return first
}

// stopInLoop makes a notFollowedBy behind a repetition hold also while the repetition could go on.
func (c *compiler[T]) stopInLoop(s *scope[T], i int, n int32) {
	if f := s.following(i); f != nil && f.Link == NotFollowed {
		fits := c.leaf(f.Where)
		if s.group != nil {
			fits = c.unless(fits, s.group.Until)
		}
		c.stopAt(n, fits)
	}
}

// yieldTo makes what waits in a node give way to a greedy repetition that could take the event.
func (c *compiler[T]) yieldTo(n, takes int32) {
	for k := range c.nodes[n].edges {
		e := &c.nodes[n].edges[k]
		e.when = c.and(e.when, c.not(takes))
	}
}

// keepCopy keeps a node as it is now.
func (c *compiler[T]) keepCopy(n int32) int32 {
	if c.untilCopy == nil {
		c.untilCopy = map[int32]int32{}
	}
	to := c.copy(n)
	c.untilCopy[n] = to
	return to
}

func (c *compiler[T]) copy(n int32) int32 {
	to := c.node(c.nodes[n].kind, c.nodes[n].stage)
	c.nodes[to].bound, c.nodes[to].wait, c.nodes[to].sink = c.nodes[n].bound, c.nodes[n].wait, c.nodes[n].sink
	for _, e := range c.nodes[n].edges {
		if e.to == n {
			e.to = to
		}
		c.nodes[to].edges = append(c.nodes[to].edges, e)
	}
	return to
}

// withoutNots is a node without the ways to a stop that the stages before it have brought.
func (c *compiler[T]) withoutNots(s *scope[T], i int, n int32) int32 {
	if len(c.nots(s, i)) == 0 {
		return n
	}
	return c.freed(n, map[int32]int32{})
}

func (c *compiler[T]) freed(n int32, done map[int32]int32) int32 {
	if to, ok := done[n]; ok {
		return to
	}
	to := c.node(c.nodes[n].kind, c.nodes[n].stage)
	done[n] = to
	c.nodes[to].bound, c.nodes[to].wait, c.nodes[to].sink = c.nodes[n].bound, c.nodes[n].wait, c.nodes[n].sink
	for _, e := range slices.Clone(c.nodes[n].edges) {
		switch {
		case e.action == proceed && c.nodes[e.to].kind == stop:
			continue
		case e.to == n:
			e.to = to
		case e.action == proceed:
			e.to = c.freed(e.to, done)
		}
		c.nodes[to].edges = append(c.nodes[to].edges, e)
	}
	return to
}

// choice builds AllOf and AnyOf: a node for each set of stages that are still to come.
func (c *compiler[T]) choice(s *scope[T], i int, sink, past, ignores int32, optional, repeated bool) int32 {
	st := &s.stages[i]
	sink = c.withoutNots(s, i, sink)
	nodes := map[uint]int32{0: sink}
	var build func(left uint) int32
	build = func(left uint) int32 {
		if n, ok := nodes[left]; ok {
			return n
		}
		n := c.taking(st, repeated)
		nodes[left] = n
		none := int32(yes)
		for k := range st.Stages {
			if left>>k&1 == 0 {
				continue
			}
			rest := left &^ (1 << k)
			if st.Kind == AnyOf {
				rest = 0
			}
			when := c.unless(c.leaf(st.Stages[k].Where), st.Until)
			if s.group != nil {
				when = c.unless(when, s.group.Until)
			}
			to := build(rest)
			c.nodes[n].edges = append(c.nodes[n].edges, edge{take, c.stageOf(&st.Stages[k]), to, when})
			none = c.and(none, c.not(c.leaf(st.Stages[k].Where)))
		}
		if left != 1<<len(st.Stages)-1 {
			switch st.Inner {
			case Relaxed:
				c.edge(n, ignore, n, none)
			case AnySkip:
				c.edge(n, ignore, n, yes)
			}
		}
		return n
	}
	n := build(1<<len(st.Stages) - 1)
	c.leaveOut(s, i, n, past, optional, repeated)
	if ignores == never {
		return n
	}
	wait := n
	if optional {
		wait = c.node(normal, -1)
		c.nodes[wait].bound = c.nodes[n].bound
		for _, e := range slices.Clone(c.nodes[n].edges) {
			if e.action == take {
				c.nodes[wait].edges = append(c.nodes[wait].edges, e)
			}
		}
		c.edge(wait, ignore, wait, ignores)
		for _, fits := range c.nots(s, i) {
			c.stopAt(wait, fits)
		}
	}
	c.edge(n, ignore, wait, ignores)
	return n
}

// fingerprint describes a pattern as far as it can be: conditions are functions.
func fingerprint[T any](p Pattern[T]) string {
	var b strings.Builder
	var all func(stages []Stage[T])
	all = func(stages []Stage[T]) {
		for i := range stages {
			s := &stages[i]
			fmt.Fprintf(&b, "%q%d%d", s.Name, s.Kind, s.Link)
			if s.Repeats {
				fmt.Fprintf(&b, "{%d,%d}%d", s.Min, s.Max, s.Inner)
			}
			for _, f := range []struct {
				on   bool
				name string
			}{{s.Greedy, "g"}, {s.Optional, "?"}, {s.Until != nil, "u"}, {s.Where != nil && s.Where.Given != nil, "i"}} {
				if f.on {
					b.WriteString(f.name)
				}
			}
			for _, d := range []time.Duration{s.Gap, s.Bound, s.Wait} {
				fmt.Fprintf(&b, "/%v", d)
			}
			if len(s.Stages) > 0 {
				b.WriteByte('(')
				all(s.Stages)
				b.WriteByte(')')
			}
			b.WriteByte(';')
		}
	}
	all(p.Stages)
	fmt.Fprintf(&b, "%v/%d/%q", p.Within, p.Skip, p.Target)
	return b.String()
}

// Names counts how often each stage name is used, and lists them sorted.
func Names[T any](stages []Stage[T]) (names []string, times map[string]int) {
	times = map[string]int{}
	var all func(stages []Stage[T])
	all = func(stages []Stage[T]) {
		for i := range stages {
			times[stages[i].Name]++
			all(stages[i].Stages)
		}
	}
	all(stages)
	return slices.Sorted(maps.Keys(times)), times
}

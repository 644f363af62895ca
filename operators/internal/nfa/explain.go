package nfa

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Explain draws the automaton as a Mermaid state diagram: one state per thing to wait for.
func (p *Program[T]) Explain() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n")
	seen := map[int32]bool{}
	order := []int32{p.start}
	seen[p.start] = true
	reach := func(n int32) {
		if !seen[n] && p.nodes[n].kind != final && p.nodes[n].kind != stop {
			seen[n] = true
			order = append(order, n)
		}
	}
	for i := 0; i < len(order); i++ {
		n := order[i]
		for _, e := range p.nodes[n].edges {
			reach(e.to)
		}
		if p.nodes[n].kind == absent {
			reach(p.nodes[n].sink)
		}
	}
	for _, n := range order {
		fmt.Fprintf(&b, "    s%d: %s\n", n, p.label(n))
	}
	if p.lead != nil {
		fmt.Fprintf(&b, "    lead: %s absent for %v\n    [*] --> lead\n    lead --> %s: time\n", p.pattern.Stages[0].Name, time.Duration(p.lead.wait), p.place(p.start))
	} else {
		fmt.Fprintf(&b, "    [*] --> s%d\n", p.start)
	}
	for _, n := range order {
		if p.nodes[n].kind == final {
			continue
		}
		p.ways(&b, n)
	}
	return b.String()
}

func (p *Program[T]) place(n int32) string {
	if p.nodes[n].kind == final {
		return "[*]"
	}
	return fmt.Sprintf("s%d", n)
}

func (p *Program[T]) label(n int32) string {
	x := &p.nodes[n]
	switch {
	case x.kind == absent:
		return fmt.Sprintf("%s absent for %v", p.stages[x.stage], time.Duration(x.wait))
	case x.kind == pending:
		return fmt.Sprintf("no %s until the time is up", p.stages[x.stage])
	case x.stage < 0:
		var names []string
		for _, e := range x.edges {
			if e.action == take && !slices.Contains(names, p.stages[e.stage]) {
				names = append(names, p.stages[e.stage])
			}
		}
		if len(names) == 0 {
			return "go on"
		}
		return "wait for " + strings.Join(names, " or ")
	case x.bound > 0:
		return fmt.Sprintf("wait for %s, at most %v", p.stages[x.stage], time.Duration(x.bound))
	}
	return "wait for " + p.stages[x.stage]
}

// ways prints what leads out of a state; ways to the same state with the same word are one.
func (p *Program[T]) ways(b *strings.Builder, n int32) {
	x := &p.nodes[n]
	said := map[string]bool{}
	say := func(to, word string) {
		line := fmt.Sprintf("    s%d --> %s: %s\n", n, to, word)
		if !said[line] {
			said[line] = true
			b.WriteString(line)
		}
	}
	for _, e := range x.edges {
		switch {
		case p.nodes[e.to].kind == stop:
			say("stopped", "an event that must not come")
		case e.action == take:
			say(p.place(e.to), "take "+p.stages[e.stage])
		case e.action == ignore && e.to != n:
			say(p.place(e.to), "skip")
		case e.action == ignore:
			if x.kind != begin {
				say(p.place(n), "skip")
			}
		default:
			say(p.place(e.to), "or at once")
		}
	}
	switch {
	case x.kind == absent:
		say(p.place(x.sink), "time")
	case x.kind == pending:
		say("[*]", "time")
	case x.kind != begin && (x.bound > 0 || p.within > 0):
		say("timed_out", "time")
	}
}

package flow

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// Validate lists everything that is wrong with the topology, joined in one error, nil if nothing is. Each is a Problem: node, what,
// cure. Run and AddTo call it.
func (t *Topology) Validate() error {
	ps := append([]Problem(nil), t.problems...)
	add := func(node, what, cure string) { ps = append(ps, Problem{node, what, cure}) }
	for _, n := range t.nodes {
		for _, p := range n.cfg.problems {
			add(n.name, p, "")
		}
		if n.cfg.Traits.Stateful && t.cfg.store == nil {
			add(n.name, "the node keeps state but the topology has no store", "add flow.WithStore(pebble.Dir(…)), or flow.WithStore(state.InMemory()) to lose it knowingly")
		}
	}
	if len(t.sources) == 0 {
		add("", "there is no source", "add one by flow.From")
	}
	if len(t.sinks) == len(t.dead.sinks) {
		add("", "there is no sink", "add one by flow.To")
	}
	if p := t.cfg.parallelism; p < 1 || p > KeyGroups {
		add("", fmt.Sprintf("the parallelism %d is not between 1 and %d", p, KeyGroups), "mend flow.WithParallelism")
	}
	if t.cfg.maxPending < MaxBatch {
		add("", fmt.Sprintf("MaxPending %d is less than one batch of %d", t.cfg.maxPending, MaxBatch), "mend flow.WithMaxPending")
	}
	if t.cfg.epochInterval < 0 || t.cfg.stopTimeout <= 0 {
		add("", "the epoch interval is negative or the stop timeout is not positive", "mend flow.WithEpochInterval or flow.WithStopTimeout")
	}
	for _, p := range t.ports {
		from, label, optional, used := p.info()
		switch {
		case from == nil:
			add("", fmt.Sprintf("the side output %q belongs to no node", label), "add the operator it was made for")
		case used == 0 && !optional:
			what := "its stream is not used"
			if label != "" {
				what = fmt.Sprintf("its output %q is not used", label)
			}
			add(from.name, what, "send it to a sink with flow.To, or remove the node")
		}
	}
	for _, k := range t.keyings {
		if from, used, kept := k.used(); used == 0 {
			if kept {
				add(from.name, "its stream is not used", "send it to a sink with flow.To, or remove the node")
			} else {
				add("", fmt.Sprintf("the KeyBy behind %s is not used", nameOf(from)), "add a keyed operator, or remove it")
			}
		}
	}
	if len(t.dead.port.consumers) > 0 {
		add("", "the dead letters go through an operator", "only flow.To may follow DeadLetters()")
	}
	ps = append(ps, t.mixed()...)
	ps = append(ps, t.repeats()...)
	if len(ps) == 0 {
		return nil
	}
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return &NodeError{Topology: t.name, Err: errors.Join(errs...)}
}

// repeats finds counting nodes that a redelivering source reaches without a Dedup that remembers for long enough.
func (t *Topology) repeats() (ps []Problem) {
	if t.cfg.acceptRepeats {
		return nil
	}
	for _, n := range t.nodes {
		if !n.cfg.Traits.Counts {
			continue
		}
		seen := map[*node]bool{}
		var walk func(at *node) *Problem
		walk = func(at *node) *Problem {
			if seen[at] {
				return nil
			}
			seen[at] = true
			for _, up := range t.upstream(at) {
				tr := up.cfg.Traits
				horizon := n.cfg.Traits.Horizon
				switch {
				case tr.DedupTTL > 0 && tr.DedupTTL < horizon && t.redelivered(up):
					return &Problem{n.name, fmt.Sprintf("the Dedup %q above it remembers for %v, shorter than its horizon of %v (window and lateness)", up.name, tr.DedupTTL, horizon), "raise the Dedup's ttl"}
				case tr.DedupTTL > 0:
					continue
				case up.redelivers:
					return &Problem{n.name, fmt.Sprintf("it counts what the source %q may deliver again after a crash", up.name), "put operators.Dedup by event id between them, or accept it with flow.AcceptRepeats()"}
				}
				if p := walk(up); p != nil {
					return p
				}
			}
			return nil
		}
		if p := walk(n); p != nil {
			ps = append(ps, *p)
		}
	}
	return ps
}

// redelivered tells whether a source that redelivers stands above a node.
func (t *Topology) redelivered(n *node) bool {
	for _, up := range t.upstream(n) {
		if up.redelivers || t.redelivered(up) {
			return true
		}
	}
	return false
}

func (t *Topology) upstream(n *node) (up []*node) {
	for _, e := range t.edges {
		if e.to == n && e.from != nil {
			up = append(up, e.from)
		}
	}
	return up
}

func (t *Topology) stateful() bool {
	for _, n := range t.nodes {
		if n.cfg.Traits.Stateful {
			return true
		}
	}
	return false
}

// Losses says per node what a crash loses because state is kept in memory only, for a topology with state.InMemory().
func (t *Topology) Losses() []Problem {
	if t.cfg.store == nil || t.cfg.store.Durable() {
		return nil
	}
	var ps []Problem
	for _, n := range t.nodes {
		if n.cfg.Traits.Stateful {
			what := n.cfg.Traits.Loses
			if what == "" {
				what = "its state"
			}
			ps = append(ps, Problem{n.name, "a crash loses " + what, "use pebble.Dir for a durable store"})
		}
	}
	sort.Slice(ps, func(i, j int) bool { return ps[i].Node < ps[j].Node })
	return ps
}

// reaches tells whether a node is one of others or stands above one.
func (t *Topology) reaches(n *node, others []*node) bool {
	seen := map[*node]bool{}
	var walk func(at *node) bool
	walk = func(at *node) bool {
		if at == n {
			return true
		}
		if at == nil || seen[at] {
			return false
		}
		seen[at] = true
		return slices.ContainsFunc(t.upstream(at), walk)
	}
	return slices.ContainsFunc(others, walk)
}

// spread tells whether a node has several tasks behind a KeyBy.
func (t *Topology) spread(n *node) bool {
	for _, k := range t.keyings {
		p := k.partition()
		if slices.Contains(p.nodes, n.name) && cmp.Or(p.parallelism, t.cfg.parallelism) != 1 {
			return true
		}
	}
	return false
}

// singlePartition tells whether everything that reaches a keyed edge comes from one source with one partition for ever, over no
// other exchange.
func (t *Topology) singlePartition(k anyKeying) bool {
	total := 0
	seen := map[*node]bool{}
	var walk func(n *node) bool
	walk = func(n *node) bool {
		if seen[n] {
			return true
		}
		seen[n] = true
		for _, s := range t.sources {
			if s.node() == n {
				f := s.fixed()
				total += f
				return f == 1
			}
		}
		if n.cfg.Traits.Async || t.spread(n) {
			return false
		}
		for _, up := range t.upstream(n) {
			if !walk(up) {
				return false
			}
		}
		return true
	}
	for _, from := range k.froms() {
		if from == nil || !walk(from) {
			return false
		}
	}
	return total == 1
}

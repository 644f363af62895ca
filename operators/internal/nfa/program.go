package nfa

import (
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Program is a compiled pattern. It is not changed any more and may be shared.
type Program[T any] struct {
	pattern Pattern[T]
	nodes   []node
	exprs   []expr
	leaves  []*Condition[T]
	// stages are the names, in order of the pattern; events of a path lie under the number of their stage.
	stages []string
	start  int32
	target int32
	within flow.Timestamp
	// lead is the absence that the pattern begins with.
	lead *lead
	// timed: something happens by time alone.
	timed bool
	// stepwise: there are absences.
	stepwise bool
	// cyclic: there is a way from a node to itself without an event.
	cyclic bool
	print  string
	quick  *quick // nil where it is not known ahead what changes nothing
}

// lead is an absence at the start: the start node is then where a partial match is after it.
type lead struct {
	fits int32
	wait flow.Timestamp
}

type nodeKind uint8

const (
	normal nodeKind = iota
	begin
	final
	stop
	// pending waits for the time bound with nothing left to take.
	pending
	// absent waits for its time, and goes on to its sink.
	absent
)

type node struct {
	kind  nodeKind
	stage int32
	edges []edge
	// bound is how long a partial match may stay here since its last event, 0 for ever.
	bound flow.Timestamp
	// wait and sink are those of an absence.
	wait flow.Timestamp
	sink int32
}

type action uint8

const (
	take action = iota
	ignore
	proceed
)

type edge struct {
	action action
	stage  int32 // what a take is taken as
	to     int32
	when   int32 // an expression
}

// expr is a condition made of leaves.
type expr struct {
	op   exprOp
	a, b int32
}

type exprOp uint8

const (
	always exprOp = iota
	leaf
	not
	and
)

const yes = 0 // the expression that always holds

// Within is the bound from the first event to the last, 0 for none.
func (p *Program[T]) Within() time.Duration { return p.pattern.Within }

// Timed tells whether partial matches run out of time or complete by it.
func (p *Program[T]) Timed() bool { return p.timed }

// Stages are the names of the stages that take events, in order of the pattern.
func (p *Program[T]) Stages() []string { return p.stages }

// Fingerprint names the structure of the pattern: stored partial matches of another one have no meaning in it.
func (p *Program[T]) Fingerprint() string { return p.print }

// CanBeEmpty tells whether the pattern accepts no event at all.
func (p *Program[T]) CanBeEmpty() bool {
	return p.lead == nil && p.reachesEnd(p.start, map[int32]bool{})
}

func (p *Program[T]) reachesEnd(n int32, seen map[int32]bool) bool {
	if p.nodes[n].kind == final {
		return true
	}
	if seen[n] {
		return false
	}
	seen[n] = true
	for _, e := range p.nodes[n].edges {
		if e.action == proceed && p.reachesEnd(e.to, seen) {
			return true
		}
	}
	return false
}

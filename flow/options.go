package flow

import (
	"fmt"
	"time"
)

// Option configures a node of any kind. It is an alias of an unnamed func type, so that it fits every operator's own option
// type (NodeOption, operators.DedupOption, window.Option …), while those do not fit each other.
type Option = func(Configurable)

type (
	// NodeOption configures operators that have no options of their own.
	NodeOption func(Configurable)
	// SourceOption configures From.
	SourceOption func(Configurable)
	// SinkOption configures To.
	SinkOption func(Configurable)
	// KeyOption configures KeyBy.
	KeyOption func(Configurable)
)

// TimeOption configures AssignTime.
type TimeOption[T any] func(Configurable)

// Configurable is a node's configuration: a NodeConfig, or a struct that embeds one.
type Configurable interface{ Node() *NodeConfig }

// NodeConfig is what every node can be told.
type NodeConfig struct {
	// Description is shown on diagrams and pages.
	Description string
	// Parallelism is the number of tasks of the node's KeyBy; 0 means the topology's (Defaults to GOMAXPROCS).
	Parallelism int
	// OnError says what a permanent error does. Defaults to DeadLetterOrStop.
	OnError ErrorPolicy
	// Traits are set by the operator for Validate, never by users.
	Traits Traits

	problems []string
}

// Node returns c itself.
func (c *NodeConfig) Node() *NodeConfig { return c }

// Traits tell Validate what an operator needs.
type Traits struct {
	// Kind is the operator's name, shown on diagrams ("window").
	Kind string
	// EventTime: the operator needs records with event time.
	EventTime bool
	// Stateful: the operator keeps state and needs a store.
	Stateful bool
	// Counts: repeats of a record change the operator's results.
	Counts bool
	// Horizon is how long a record can still change a result: window size and lateness.
	Horizon time.Duration
	// DedupTTL is how long the operator remembers ids, 0 if it does not.
	DedupTTL time.Duration
	// Async: the operator waits for answers outside its task.
	Async bool
	// Loses says in a few words what a crash loses when state is kept in memory only.
	Loses string
}

// ErrorPolicy says what happens to a record whose processing failed for good.
type ErrorPolicy int

const (
	// DeadLetterOrStop sends it to the dead letters, or stops the topology where there are none.
	DeadLetterOrStop ErrorPolicy = iota
	// StopOnError stops the topology.
	StopOnError
	// DropOnError drops and counts it: loss by choice.
	DropOnError
)

// Description sets the node's description.
func Description(s string) Option { return func(c Configurable) { c.Node().Description = s } }

// Parallelism sets how many tasks share the keys of the node's KeyBy. The last one given on a KeyBy's operators wins; n must be
// between 1 and 1,024.
func Parallelism(n int) Option {
	return func(c Configurable) {
		c.Node().Parallelism = n
		if n < 1 || n > KeyGroups {
			c.Node().problems = append(c.Node().problems, fmt.Sprintf("Parallelism(%d) is not between 1 and %d", n, KeyGroups))
		}
	}
}

// OnError sets what a permanent error of the node does.
func OnError(p ErrorPolicy) Option { return func(c Configurable) { c.Node().OnError = p } }

// Options joins several options into one, for sharing them between nodes of different kinds.
func Options(o ...Option) Option {
	return func(c Configurable) {
		for _, f := range o {
			f(c)
		}
	}
}

// Problem adds something that is wrong with the configuration, for Validate to report; cure says what to do.
func (c *NodeConfig) Problem(what, cure string) {
	if cure != "" {
		what += ": " + cure
	}
	c.problems = append(c.problems, what)
}

// Configure applies opts to c and returns it. Operators call it once, when the graph is built.
func Configure[C Configurable, O ~func(Configurable)](c C, opts []O) C {
	for _, o := range opts {
		if o != nil {
			o(c)
		}
	}
	return c
}

// SetOption makes an option for one operator's own configuration. Used on another operator it is a problem that Validate reports.
func SetOption[C Configurable](set func(C)) func(Configurable) {
	return func(c Configurable) {
		if own, ok := c.(C); ok {
			set(own)
			return
		}
		var want C
		n := c.Node()
		n.problems = append(n.problems, fmt.Sprintf("an option for %T does not fit this node (%T): take it off, or put it on the operator it belongs to", want, c))
	}
}

// With makes the node use a configuration made elsewhere: a *NodeConfig whose fields replace the node's.
func With(cfg Configurable) Option {
	return func(c Configurable) {
		from, to := cfg.Node(), c.Node()
		if from.Description != "" {
			to.Description = from.Description
		}
		if from.Parallelism != 0 {
			to.Parallelism = from.Parallelism
		}
		if from.OnError != DeadLetterOrStop {
			to.OnError = from.OnError
		}
		if from.Traits != (Traits{}) {
			to.Traits = from.Traits
		}
		to.problems = append(to.problems, from.problems...)
	}
}

package cep

import (
	"fmt"
	"strings"

	"github.com/millrace-stream/millrace/flow"
)

// Trace tells, for one key, what becomes of each event and partial match: why there was no match. to is called from the operator's task,
// after a crash again for what is replayed. It costs nothing for other keys but a comparison.
func Trace[K comparable, T any](key K, to func(Line[T])) Option {
	return flow.SetOption(func(c *Config) {
		c.Traces = append(c.Traces, Tracing[K, T]{key, to})
		if to == nil {
			c.Problem("the function of cep.Trace is nil", "pass one that logs the line")
		}
	})
}

// Tracing is what Trace sets.
type Tracing[K comparable, T any] struct {
	Key K
	To  func(Line[T])
}

// Line says what happened to an event or a partial match.
type Line[T any] struct {
	// At is the time that the operator had come to.
	At flow.Timestamp
	// Pattern is its name in a set.
	Pattern string
	// What happened: "fits no start", "taken", "waits" (the event is skipped), "died" (the event did not fit a step that must be next), "stopped" (an event came that must not),
	// "timed out", "matched", "skipped after a match", "dropped at the limit", "late".
	What string
	// Step is the step that it waits in or was taken as, "" where there is none.
	Step string
	// Event is what came; nil where only time went by.
	Event *T
	// Taken are the steps of the partial match so far.
	Taken []Events[T]
}

// String prints the line, as a log has it.
func (l Line[T]) String() string {
	var b strings.Builder
	b.WriteString(l.At.String())
	if l.Pattern != "" {
		fmt.Fprintf(&b, " %s:", l.Pattern)
	}
	switch {
	case l.Event == nil:
	case l.What == "taken":
		fmt.Fprintf(&b, " %v taken as %q", *l.Event, l.Step)
	default:
		fmt.Fprintf(&b, " %v", *l.Event)
	}
	if l.What != "taken" || l.Event == nil {
		fmt.Fprintf(&b, " %s", l.What)
		if l.Step != "" {
			fmt.Fprintf(&b, " in %q", l.Step)
		}
	}
	for i, s := range l.Taken {
		if i == 0 {
			b.WriteString(", having")
		}
		fmt.Fprintf(&b, " %s×%d", s.Step, len(s.Values))
	}
	return b.String()
}

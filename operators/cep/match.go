package cep

import (
	"fmt"
	"strings"

	"github.com/millrace-stream/millrace/flow"
)

// Events are the events that were taken as one step, in order.
type Events[T any] struct {
	Step   string
	Values []T
}

// Match is what a pattern has found: a match, or a partial match that ran out of time.
type Match[K comparable, T any] struct {
	Key K
	// Start and End are the times of the first and last event; of a pattern that begins with an absence, Start is when that was complete.
	Start, End flow.Timestamp
	// Time is when the match was complete: its last event's time, or, for one that time completes or lets out, the time that the operator
	// had come to then: that of the key's next event if that was due, else the watermark (EndOfTime at the end of a stream). An absence
	// at the end completes when it is over. A partial match's is when its time was up.
	Time flow.Timestamp
	// Steps are those that have taken events, by their first event.
	Steps []Events[T]
	// Pattern and Version name the pattern in a set, "" where there is one pattern.
	Pattern, Version string
	// known are the names of all steps.
	known []string
}

// NewMatch is for the operator: known are the names of all steps of the pattern.
func NewMatch[K comparable, T any](key K, known []string) Match[K, T] {
	return Match[K, T]{Key: key, known: known}
}

// Of are the events that a step has taken, nil if none. A name that is no step of the pattern panics with the steps there are.
func (m Match[K, T]) Of(step string) []T {
	for i := range m.Steps {
		if m.Steps[i].Step == step {
			return m.Steps[i].Values
		}
	}
	for _, k := range m.known {
		if k == step {
			return nil
		}
	}
	panic(fmt.Errorf("cep: the match is asked for step %q, and the pattern has the steps %q", step, m.known))
}

// First is the first event that a step has taken, the zero value if none.
func (m Match[K, T]) First(step string) (v T) {
	if vs := m.Of(step); len(vs) > 0 {
		return vs[0]
	}
	return v
}

// Last is the last event that a step has taken, the zero value if none.
func (m Match[K, T]) Last(step string) (v T) {
	if vs := m.Of(step); len(vs) > 0 {
		return vs[len(vs)-1]
	}
	return v
}

// Has tells whether a step has taken an event.
func (m Match[K, T]) Has(step string) bool { return len(m.Of(step)) > 0 }

// Len is the number of events.
func (m Match[K, T]) Len() (n int) {
	for i := range m.Steps {
		n += len(m.Steps[i].Values)
	}
	return n
}

// String prints the steps with their numbers of events.
func (m Match[K, T]) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v:", m.Key)
	for _, s := range m.Steps {
		fmt.Fprintf(&b, " %s×%d", s.Step, len(s.Values))
	}
	return b.String()
}

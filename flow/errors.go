package flow

import (
	"errors"
	"fmt"
	"strings"

	"github.com/millrace-stream/millrace/flow/state"
)

// Errors that a caller may want to tell apart, by errors.Is.
var (
	// ErrInvalid marks every problem that Validate reports.
	ErrInvalid = errors.New("invalid topology")
	// ErrStopped says that the topology has stopped or is stopping.
	ErrStopped = errors.New("topology stopped")
	// ErrFinished says that the store belongs to a run that was flushed to its end. Cure: a new topology name, or DropState.
	ErrFinished = errors.New("topology is finished")
	// ErrStateElsewhere says that the broker knows a position of this topology but the store has no state for it.
	// Cure: the directory with the state, or AllowColdStart.
	ErrStateElsewhere = errors.New("state is elsewhere")
	// ErrStateMismatch says that a node's stored state was written by a different node: other kind, codec or layout.
	// Cure: a new node name, Renamed, or DropState.
	ErrStateMismatch = errors.New("stored state does not fit")
	// ErrLocked says that another process holds the store.
	ErrLocked = state.ErrLocked
	// ErrPanic marks a panic of user code that was turned into an error.
	ErrPanic = errors.New("panic")
)

// NodeError is how every error of a topology arrives: it names the topology and the node. Err is the cause.
type NodeError struct {
	Topology string
	Node     string
	Err      error
}

// Error names topology, node and cause.
func (e *NodeError) Error() string {
	if e.Node == "" {
		return fmt.Sprintf("topology %q: %v", e.Topology, e.Err)
	}
	return fmt.Sprintf("topology %q: node %q: %v", e.Topology, e.Node, e.Err)
}

// Unwrap gives the cause.
func (e *NodeError) Unwrap() error { return e.Err }

// Transient marks err as passing: the engine retries the failing call in place, with backoff, for as long as it takes.
// Errors of user functions that are not marked are permanent: the record goes to the dead letters, or the topology stops
// where there are none. Transient(nil) is nil.
func Transient(err error) error {
	if err == nil {
		return nil
	}
	return &transientError{err}
}

// IsTransient tells whether err, or an error it wraps, was marked by Transient.
func IsTransient(err error) bool {
	var t *transientError
	return errors.As(err, &t)
}

type transientError struct{ err error }

func (e *transientError) Error() string { return e.err.Error() }
func (e *transientError) Unwrap() error { return e.err }

// Problem is one thing that Validate found. It names the node, what is wrong and the cure.
type Problem struct {
	Node string
	What string
	Cure string
}

// Error puts the three parts in one line.
func (p Problem) Error() string {
	var b strings.Builder
	if p.Node != "" {
		fmt.Fprintf(&b, "node %q: ", p.Node)
	}
	b.WriteString(p.What)
	if p.Cure != "" {
		b.WriteString(": ")
		b.WriteString(p.Cure)
	}
	return b.String()
}

// Is makes every Problem an ErrInvalid.
func (p Problem) Is(target error) bool { return target == ErrInvalid }

var errNoEncoding = errors.New("a SinkFunc's blocks have no encoding: write a Sink to use the outbox")

var errSwallowed = errors.New("a batch was acked 4 times without reaching its handler: a middleware of the router swallows messages (IgnoreErrors, PoisonQueue, Deduplicator …); take it off this topology's handlers")

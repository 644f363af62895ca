package flow

import "log/slog"

// Runtime is what the engine gives an operator at Open: who it is, its clock and its log. Pass it to OpenKeys, OpenTable, OpenSet,
// OpenState, OpenTimers and Side.Open; it must not be kept beyond Open for that purpose.
type Runtime struct {
	n *nodeTask
}

// Topology is the topology's name.
func (r Runtime) Topology() string { return r.n.topology }

// Node is the node's name.
func (r Runtime) Node() string { return r.n.node }

// Task is the number of the task within the node, from 0.
func (r Runtime) Task() int { return r.n.task }

// Clock is the topology's clock.
func (r Runtime) Clock() Clock { return r.n.clock }

// Log has the topology and node as attributes.
func (r Runtime) Log() *slog.Logger { return r.n.log }

// AtEpoch registers f, to be called in the operator's task each time an epoch ends: all that came before is processed, and the state as it was
// before the call is what the epoch commits, if nothing fails. What f changes belongs to the next epoch; it must not emit. Call it in Open.
func (r Runtime) AtEpoch(f func()) { r.n.t.boundaries = append(r.n.t.boundaries, f) }

// Count adds n to a counter of the node. Names are snake_case. Call it per batch, not per record.
func (r Runtime) Count(name string, n int64) { r.n.count(name, n) }

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

// Count adds n to a counter of the node. Names are snake_case. Call it per batch, not per record.
func (r Runtime) Count(name string, n int64) { r.n.count(name, n) }

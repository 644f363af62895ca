package flow

import "log/slog"

// Runtime is what the engine gives an operator at Open: who it is, its clock and its log. Pass it to OpenKeys, OpenTable, OpenSet,
// OpenState, OpenTimers and Side.Open; it must not be kept beyond Open for that purpose.
type Runtime struct {
	n *nodeTask
}

// nodeTask is one node within one task.
type nodeTask struct {
	topology string
	node     string
	task     int
	clock    Clock
	log      *slog.Logger
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

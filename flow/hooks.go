package flow

import "time"

// EpochHook is told about every committed epoch, by one goroutine at a time.
type EpochHook interface{ OnEpoch(EpochInfo) }

// ErrorHook is told about every permanent error of a node, before its fate.
type ErrorHook interface {
	OnError(topology, node string, err error)
}

// EpochInfo describes a committed epoch.
type EpochInfo struct {
	Topology string
	// Unit is the partition of a co-partitioned topology's unit, empty in others.
	Unit  string
	Epoch uint64
	// Records were read in it.
	Records int64
	// Trigger says why it ended: interval, window, sink, idle, pending, stop, manual.
	Trigger string
	// Drain, Collect, Deliver, Write and Ack are how long its parts took.
	Drain, Collect, Deliver, Write, Ack time.Duration
	// Changes and ChangeBytes are what the store took.
	Changes, ChangeBytes int
	// Blocks, Rows went to the sinks.
	Blocks, Rows int
	DeadLetters  int
}

func (e *engine) hookError(node string, err error) {
	for _, h := range e.t.cfg.hooks {
		if h, ok := h.(ErrorHook); ok {
			h.OnError(e.t.name, node, err)
		}
	}
}

func (e *engine) hookEpoch(i EpochInfo) {
	e.hookMu.Lock()
	defer e.hookMu.Unlock()
	for _, h := range e.t.cfg.hooks {
		if h, ok := h.(EpochHook); ok {
			h.OnEpoch(i)
		}
	}
}

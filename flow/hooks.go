package flow

import "time"

// EpochHook is told about every committed epoch.
type EpochHook interface{ OnEpoch(EpochInfo) }

// ErrorHook is told about every permanent error of a node, before its fate.
type ErrorHook interface {
	OnError(topology, node string, err error)
}

// EpochInfo describes a committed epoch.
type EpochInfo struct {
	Topology string
	Epoch    uint64
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

func (u *unit) hookError(node string, err error) {
	for _, h := range u.t.cfg.hooks {
		if e, ok := h.(ErrorHook); ok {
			e.OnError(u.t.name, node, err)
		}
	}
}

func (u *unit) hookEpoch(i EpochInfo) {
	for _, h := range u.t.cfg.hooks {
		if e, ok := h.(EpochHook); ok {
			e.OnEpoch(i)
		}
	}
}

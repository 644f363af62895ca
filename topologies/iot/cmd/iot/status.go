package main

import (
	"encoding/json"
	"os"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// status is what a box says about itself in the file of -status, once a second.
type status struct {
	PID      int
	Time     time.Time
	Read     int64
	Unacked  int64
	Lag      int64
	Counters []flow.Counter
}

// simulateStatus is what the simulator says.
type simulateStatus struct {
	Published, Acked, Retries int64
	WarmedUp                  bool
}

func statusOf(b box, r *flow.Running) status {
	return status{
		PID: os.Getpid(), Time: time.Now(), Read: counter(r, b.source, "out"), Unacked: r.Unacked(), Lag: r.Lag(), Counters: r.Counters(),
	}
}

// writeStatus replaces the file in one step, so that a reader never sees half of it. No path, no file.
func writeStatus(path string, status any) error {
	if path == "" {
		return nil
	}
	text, err := json.Marshal(status)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// warn logs that the status file cannot be written: no reason to end a run.
func warn(c *call, err error) {
	if err != nil {
		c.log.Warn("the status file cannot be written", "err", err)
	}
}

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// mark is a file by which one process of the path tells the next that it has ended.
type mark struct{ dir, name string }

func (m mark) path() string { return filepath.Join(m.dir, m.name+".ended") }

// clear says that the process runs.
func (m mark) clear() error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return fmt.Errorf("store.dir: %w", err)
	}
	if err := os.Remove(m.path()); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("store.dir: %w", err)
	}
	return nil
}

// set says that the process has ended, with all its work done.
func (m mark) set() error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return fmt.Errorf("store.dir: %w", err)
	}
	return os.WriteFile(m.path(), []byte(time.Now().UTC().Format(time.RFC3339Nano)+"\n"), 0o644)
}

func (m mark) isSet() bool {
	_, err := os.Stat(m.path())
	return err == nil
}

// finisher finds out when a box has nothing more to do.
type finisher struct {
	running *flow.Running
	source  string
	// after is the end that has to come first; the zero mark is there already.
	after mark
	// poll is how often it looks, quiet how many times in a row there must be nothing: a source that connects anew says nothing for a
	// moment either.
	poll  time.Duration
	quiet int
}

// done waits until everything is read and durable and the box before has ended. It returns false when the topology or ctx ended first.
func (f *finisher) done(ctx context.Context) bool {
	tick := time.NewTicker(f.poll)
	defer tick.Stop()
	last, quiet := int64(-1), 0
	for {
		select {
		case <-ctx.Done():
			return false
		case <-f.running.Done():
			return false
		case <-tick.C:
		}
		read := counter(f.running, f.source, "out")
		if (f.after != mark{} && !f.after.isSet()) || read != last || f.running.Lag() > 0 || f.running.Unacked() > 0 {
			last, quiet = read, 0
			continue
		}
		if quiet++; quiet >= f.quiet {
			return true
		}
	}
}

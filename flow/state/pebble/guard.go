package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
)

// guard remembers the first error after which nothing may be written, and stops all writing from then on. Pebble expects the
// process to end on such errors; with a file system that refuses every change it can do no harm while it goes on.
type guard struct {
	dir    string
	log    *slog.Logger
	broken atomic.Pointer[error]

	mu      sync.Mutex
	cond    *sync.Cond
	flushes uint64
	// files are the open files that may be written.
	files map[*guardedFile]struct{}
}

func newGuard(dir string, log *slog.Logger) *guard {
	g := &guard{dir: dir, log: log, files: map[*guardedFile]struct{}{}}
	g.cond = sync.NewCond(&g.mu)
	return g
}

func (g *guard) err() error {
	if p := g.broken.Load(); p != nil {
		return *p
	}
	return nil
}

func (g *guard) fail(cause error) {
	err := fmt.Errorf("state in %s can no longer be written: %w: make room on that file system or mend it, then start again; "+
		"what was committed is safe", g.dir, cause)
	if g.broken.CompareAndSwap(nil, &err) {
		g.log.Error("state: writing has failed, nothing more is written", "err", cause)
	}
	g.wake()
}

// flushed counts the flushes so far, for wait.
func (g *guard) flushed() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.flushes
}

func (g *guard) wake() {
	g.mu.Lock()
	g.flushes++
	g.mu.Unlock()
	g.cond.Broadcast()
}

// wait returns when there was a flush since, or the error that makes waiting pointless.
func (g *guard) wait(since uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.flushes == since && g.err() == nil {
		g.cond.Wait()
	}
	return g.err()
}

// closeFiles closes what Pebble has left open when it failed.
func (g *guard) closeFiles() error {
	g.mu.Lock()
	left := g.files
	g.files = map[*guardedFile]struct{}{}
	g.mu.Unlock()
	var all error
	for f := range left {
		all = errors.Join(all, f.File.Close())
	}
	return all
}

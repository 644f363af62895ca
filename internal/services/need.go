package services

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// needLimit bounds Need and Isolated: first downloads included.
const needLimit = 10 * time.Minute

// Need returns the shared set with the named servers ready, and starts what does not run; no names mean all. They stay up
// for the next test. Name topics, tables and client ids after the test, since others use the same servers.
func Need(t testing.TB, names ...string) *Set {
	t.Helper()
	s, err := Open(Options{Names: names, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	up(t, s)
	return s
}

// Isolated returns a set that only this test uses, on free ports, empty and with the named servers ready; no names mean
// those of the options. All its servers are killed when the test ends. The state folder stays until the next test takes the
// same ports, for a look at the logs. Dir and PortOffset of the options are chosen here.
func Isolated(t testing.TB, opts Options, names ...string) *Set {
	t.Helper()
	if opts.Logf == nil {
		opts.Logf = t.Logf
	}
	opts.Dir = ""
	if len(names) > 0 {
		opts.Names = names
	}
	for offset := portOffsetStep; offset <= maxPortOffset; offset += portOffsetStep {
		opts.PortOffset = offset
		s, err := Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		if s.claim(t) {
			up(t, s)
			return s
		}
	}
	t.Fatalf("services: no port offset up to %d is free; see what listens with: ss -ltnp", maxPortOffset)
	return nil
}

// claim makes the set ours until the test ends: by a lock, without servers that a dead test left, and with all ports free.
func (s *Set) claim(t testing.TB) bool {
	t.Helper()
	now, cancel := context.WithCancel(context.Background())
	cancel() // do not wait for the lock
	unlock, err := lock(now, filepath.Join(s.base, "set-"+strconv.Itoa(s.opts.PortOffset)+".lock"))
	if err != nil {
		return false
	}
	if err := s.clear(); err != nil {
		unlock()
		t.Logf("%v", err)
		return false
	}
	t.Cleanup(func() {
		defer unlock()
		if err := s.killAll(); err != nil {
			t.Error(err)
		}
	})
	return true
}

func (s *Set) clear() error {
	if err := s.killAll(); err != nil {
		return err
	}
	if err := os.RemoveAll(s.opts.Dir); err != nil {
		return err
	}
	return each(s.known, func(svc service) error { return s.portsFree(context.Background(), svc) })
}

func (s *Set) killAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return each(s.known, func(svc service) error { return s.stop(ctx, svc, 0) })
}

func up(t testing.TB, s *Set) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), needLimit)
	defer cancel()
	if err := s.Up(ctx); err != nil {
		t.Fatal(err)
	}
}

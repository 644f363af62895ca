// Package pebble keeps the state of topologies in embedded Pebble databases, one directory per topology.
package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace-stream/millrace/flow/state"
)

// Dir is a store below the directory path: the topology "device-metrics" has its database in path/device-metrics and its lock
// in path/device-metrics.lock. Missing directories are made.
//
// A database is held by one process at a time. The lock is the operating system's and ends with the process, however it ends;
// the lock file tells its pid to the next one, who gets an error that is state.ErrLocked. The directory must be on a file
// system with locks that work, which network file systems often have not.
//
// A commit returns when its changes are synced to the disk: after kill -9 or a power failure all of a committed batch is there,
// and all or nothing of the one that was under way.
//
// A full disk: a commit that would leave less than MinFree is refused before anything is written, with an error that is
// syscall.ENOSPC; the store remains usable and the changes can be committed again once there is room. If the disk
// fails all the same (another process filled it, a device error), nothing is written any more: every later call returns the
// first error, until the store is closed and opened again. What was committed before is safe.
//
// Memory: about MemTable times three, plus Cache.
func Dir(path string, opts ...Option) state.Store {
	s := &store{path: path, cfg: config{
		memTable: 32 << 20,
		cache:    8 << 20,
		minFree:  128 << 20,
		log:      slog.Default(),
	}}
	for _, o := range opts {
		o(&s.cfg)
	}
	return s
}

// Option configures Dir.
type Option func(*config)

type config struct {
	memTable uint64
	cache    int64
	minFree  uint64
	log      *slog.Logger
}

// MemTable sets the bytes of changes that are collected in memory before they are written as a sorted table. More means fewer
// rewrites and a longer recovery. Defaults to 32 MiB; at least 1 MiB.
func MemTable(bytes int) Option {
	return func(c *config) { c.memTable = uint64(max(bytes, 1<<20)) }
}

// Cache sets the bytes of the block cache. State is in memory while a topology runs, so it serves little but the restart.
// Defaults to 8 MiB.
func Cache(bytes int) Option {
	return func(c *config) { c.cache = int64(max(bytes, 0)) }
}

// MinFree sets the bytes of disk that a commit must leave free, for the rewriting in the background and for recovery. 0 turns the
// check off. Defaults to 128 MiB.
func MinFree(bytes int) Option {
	return func(c *config) { c.minFree = uint64(max(bytes, 0)) }
}

// Log sets the log for warnings and errors of the database; it is silent otherwise. Defaults to slog.Default().
func Log(log *slog.Logger) Option {
	return func(c *config) { c.log = log }
}

type store struct {
	path string
	cfg  config
}

func (s *store) Durable() bool { return true }

func (s *store) Open(topology string) (state.DB, error) {
	if topology == "" || topology == "." || topology == ".." || strings.ContainsAny(topology, `/\:`) {
		return nil, fmt.Errorf("state of topology %q: the name cannot be a directory's: use letters, digits and hyphens", topology)
	}
	dir := filepath.Join(s.path, topology)
	if err := makeDir(s.path, dir); err != nil {
		return nil, fmt.Errorf("state of topology %q: %w: check that %s can be written", topology, err, s.path)
	}
	lock, err := takeLock(dir + ".lock")
	if err != nil {
		return nil, fmt.Errorf("state of topology %q in %s: %w", topology, dir, err)
	}
	log := s.cfg.log.With("topology", topology, "dir", dir)
	d := &db{dir: dir, cfg: s.cfg, lock: lock, guard: newGuard(dir, log)}
	d.p, err = pebble.Open(dir, d.options(log))
	broken := d.guard.err()
	switch {
	case broken != nil && err == nil:
		// A log that pretended, see guardedFS.
		err = errors.Join(broken, d.Close())
		return nil, fmt.Errorf("open state of topology %q: %w", topology, err)
	case broken != nil:
		err = fmt.Errorf("open state of topology %q: %w", topology, broken)
	case err != nil:
		err = fmt.Errorf("open state of topology %q in %s: %w", topology, dir, err)
	}
	if err != nil {
		return nil, errors.Join(err, d.guard.closeFiles(), lock.release())
	}
	return d, nil
}

// makeDir makes dir below path, so that its name survives a power failure too.
func makeDir(path, dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	parent, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

func (d *db) options(log *slog.Logger) *pebble.Options {
	o := &pebble.Options{
		FS:                         guardedFS{vfs.Default, d.guard},
		Logger:                     logger{log, d.guard},
		FormatMajorVersion:         pebble.FormatNewest,
		CacheSize:                  d.cfg.cache,
		MemTableSize:               d.cfg.memTable,
		MaxOpenFiles:               200,
		BytesPerSync:               512 << 10,
		WALBytesPerSync:            512 << 10,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 },
		// Stalls inside Pebble do not end when a flush has failed for good. So they are put out of reach, and commits wait in
		// throttle, which a broken disk ends.
		MemTableStopWritesThreshold: 64,
		L0StopWritesThreshold:       1000,
	}
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) {
			if d.guard.err() == nil {
				log.Error("state: background work failed", "err", err)
			}
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			d.guard.fail(fmt.Errorf("table %s is corrupt: %w", i.Path, i.Details))
		},
		DiskSlow: func(i pebble.DiskSlowInfo) {
			log.Warn("state: the disk is slow", "path", i.Path, "duration", i.Duration)
		},
		FlushEnd: func(pebble.FlushInfo) { d.guard.wake() },
	}
	return o
}

// logger passes Pebble's errors on. Fatalf must end the process by Pebble's contract; here it ends all writing instead.
type logger struct {
	log   *slog.Logger
	guard *guard
}

func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	if l.guard.err() == nil {
		l.log.Warn("state: " + fmt.Sprintf(format, args...))
	}
}

func (l logger) Fatalf(format string, args ...any) {
	l.guard.fail(fmt.Errorf(format, args...))
}

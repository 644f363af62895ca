// Package file makes a table in memory out of a CSV, JSON or YAML file, for operators.Enrich: it answers without waiting, and takes the
// file anew when it has changed.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace-stream/millrace/flow"
)

// Config says which file and how often to look at it.
type Config struct {
	// Path is where the file is. Required.
	Path string `yaml:"path"`
	// Format is csv, tsv, json or yaml. CSV and TSV begin with a line of column names; JSON is an array of objects, YAML a sequence of
	// mappings. Defaults to what the file's name ends with.
	Format string `yaml:"format"`
	// Every is how often the file is looked at while a topology runs. Below 0 it is read once. Defaults to 5 s.
	Every time.Duration `yaml:"every"`
	// AllowUnknown takes files with columns or fields that the value type does not have. Defaults to false: they are an error, so that a
	// misspelt name is found.
	AllowUnknown bool `yaml:"allow_unknown"`
	// MinRows is the fewest rows of a file that is taken for whole. Below 0 the table may be empty. Defaults to 1.
	MinRows int `yaml:"min_rows"`
	// MaxBytes is the size of the largest file that is read. Defaults to 256 MiB.
	MaxBytes int64 `yaml:"max_bytes"`
}

// Validate finds settings that cannot be.
func (c Config) Validate() error {
	if c.Path == "" {
		return errors.New("file lookup: path is empty: name the file")
	}
	if c.MaxBytes < 0 {
		return fmt.Errorf("file lookup %s: max_bytes is negative: leave it 0 for 256 MiB", c.Path)
	}
	_, err := c.format()
	return err
}

// Option configures a Table of values V.
type Option[V any] func(*options[V])

type options[V any] struct{ checks []func(V) error }

// Check makes the table refuse a file with a row for which is returns an error.
func Check[V any](is func(V) error) Option[V] {
	return func(o *options[V]) { o.checks = append(o.checks, is) }
}

// Table holds the rows of a file by key. It is safe for concurrent use.
//
// It is a lookup in memory for operators.Enrich, which makes it look at the file every Config.Every, by modification time and size, then
// by content. A file that has changed is read and checked whole and then takes the place of the old rows in one step: no record sees half
// of it. A file that is bad, is being written or is gone leaves the old rows in force, is told in the log with line and cure, and is
// looked at again when it has changed. Replace a file by renaming a new one over it.
//
// Counters of the node: table_rows, table_reloads, table_reload_errors.
type Table[K comparable, V any] struct {
	cfg  Config
	key  func(V) K
	opts options[V]
	rows atomic.Pointer[map[K]V]
	seen stamp

	mu    sync.Mutex
	users int
	end   context.CancelFunc
	ended chan struct{}
}

// stamp is what is known of the file as it was looked at last.
type stamp struct {
	info fs.FileInfo
	hash uint64
	gone bool
	// sure: its time is old enough for a later change to show in it.
	sure bool
}

// New reads the file. key gives the key of a row, of which no two may have the same. V is a struct, whose fields take the columns of a
// CSV file by the tag csv or their names in snake case (DeviceID is device_id), and those of JSON and YAML as usual there.
func New[K comparable, V any](cfg Config, key func(V) K, opts ...Option[V]) (*Table[K, V], error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if key == nil {
		return nil, fmt.Errorf("file lookup %s: the key function is nil: give one", cfg.Path)
	}
	if cfg.Every == 0 {
		cfg.Every = 5 * time.Second
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 256 << 20
	}
	if cfg.MinRows == 0 {
		cfg.MinRows = 1
	}
	t := &Table[K, V]{cfg: cfg, key: key}
	for _, o := range opts {
		o(&t.opts)
	}
	if _, err := t.load(time.Time{}); err != nil {
		return nil, err
	}
	return t, nil
}

// Get finds the row of a key.
func (t *Table[K, V]) Get(key K) (V, bool) {
	v, ok := (*t.rows.Load())[key]
	return v, ok
}

// Lookup finds the rows of keys, all in one version of the file.
func (t *Table[K, V]) Lookup(_ context.Context, keys []K, vals []V, found []bool) error {
	rows := *t.rows.Load()
	for i, k := range keys {
		vals[i], found[i] = rows[k]
	}
	return nil
}

// Len is the number of rows.
func (t *Table[K, V]) Len() int { return len(*t.rows.Load()) }

// Start looks at the file from time to time until all that it returned for have been stopped. Enrich calls it.
func (t *Table[K, V]) Start(_ context.Context, rt flow.Runtime) (stop func(), err error) {
	return t.watch(host{rt.Clock(), rt.Log(), rt.Count}), nil
}

// host is what the table needs of the node that it runs for.
type host struct {
	clock flow.Clock
	log   *slog.Logger
	count func(name string, n int64)
}

func (t *Table[K, V]) watch(h host) (stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users++; t.users == 1 && t.cfg.Every > 0 {
		ctx, cancel := context.WithCancel(context.Background())
		t.end, t.ended = cancel, make(chan struct{})
		go t.poll(ctx, h, t.ended)
	}
	var once sync.Once
	return func() {
		once.Do(func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.users--; t.users == 0 && t.end != nil {
				t.end()
				<-t.ended
				t.end = nil
			}
		})
	}
}

func (t *Table[K, V]) poll(ctx context.Context, h host, ended chan struct{}) {
	defer close(ended)
	rows := t.Len()
	h.count("table_rows", int64(rows))
	for h.clock.Sleep(ctx, t.cfg.Every) == nil {
		changed, err := t.load(h.clock.Now())
		switch {
		case err != nil:
			h.count("table_reload_errors", 1)
			h.log.Warn("the table's file is not taken, the rows before stay in force", "path", t.cfg.Path, "err", err)
		case changed:
			h.count("table_reloads", 1)
			h.count("table_rows", int64(t.Len()-rows))
			rows = t.Len()
			h.log.Info("table read anew", "path", t.cfg.Path, "count", rows)
		}
	}
}

// load looks at the file and takes it if it has changed. A failure is told once per version of the file.
func (t *Table[K, V]) load(now time.Time) (changed bool, err error) {
	info, err := os.Stat(t.cfg.Path)
	if err != nil {
		if t.seen.gone {
			return false, nil
		}
		t.seen = stamp{gone: true}
		return false, fmt.Errorf("file lookup: %w: put the file back", err)
	}
	if s := t.seen; s.sure && s.info != nil && same(s.info, info) {
		return false, nil
	}
	data, after, err := t.read(info)
	if err != nil {
		if !errors.Is(err, errWriting) {
			t.seen = stamp{info: info, sure: true}
		}
		return false, err
	}
	info = after
	hash := xxhash.Sum64(data)
	before := t.seen
	// Within two seconds of its last change a file can change again under the same time.
	t.seen = stamp{info: info, hash: hash, sure: now.Sub(info.ModTime()) > 2*time.Second}
	if before.info != nil && before.hash == hash {
		return false, nil
	}
	rows, err := t.parse(data)
	if err != nil {
		return false, fmt.Errorf("file lookup %s: %w", t.cfg.Path, err)
	}
	t.rows.Store(&rows)
	return true, nil
}

var errWriting = errors.New("is being written")

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func (t *Table[K, V]) read(info fs.FileInfo) ([]byte, fs.FileInfo, error) {
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("file lookup: %s is not a file: name one", t.cfg.Path)
	}
	if info.Size() > t.cfg.MaxBytes {
		return nil, nil, fmt.Errorf("file lookup: %s has %d bytes, more than max_bytes allows (%d): raise it, or use a database",
			t.cfg.Path, info.Size(), t.cfg.MaxBytes)
	}
	data, err := os.ReadFile(t.cfg.Path)
	if err != nil {
		return nil, nil, fmt.Errorf("file lookup: %w", err)
	}
	after, err := os.Stat(t.cfg.Path)
	if err != nil {
		return nil, nil, fmt.Errorf("file lookup: %w", err)
	}
	if !same(info, after) || int64(len(data)) != after.Size() {
		return nil, nil, fmt.Errorf("file lookup: %s %w: write another file and rename it over this one", t.cfg.Path, errWriting)
	}
	return data, after, nil
}

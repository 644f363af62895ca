package rule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace-stream/millrace/flow"
)

// FileOption configures File.
type FileOption func(*fileSource)

// Every is how often the file is looked at, 5 s by default. 0 or less reads it once at each start, where it must be good; it is then not part of
// the checkpoint, and the topology can end with its other sources, for which a watched file would let it wait for ever.
func Every(d time.Duration) FileOption { return func(f *fileSource) { f.every = d } }

// MaxBytes is the size of the largest file that is read, 64 MiB by default.
func MaxBytes(n int64) FileOption { return func(f *fileSource) { f.max = n } }

// File takes rules from a YAML file, and takes it anew when it has changed.
//
// The file is looked at by modification time and size, then by content. A new one is read, compiled against the record type and checked
// whole; then it takes the place of the old rules in all tasks at the next end of an epoch. A file that is bad, is being written or is
// gone leaves the old rules in force, is told in the log with line, column and cure and counted (rules_file_errors), and is looked at again
// when it has changed. Replace a file by renaming a new one over it.
//
// The rules in force are part of the checkpoint. At a start with stored rules these are in force until the file has been found to differ,
// also where it is bad; without, the file must be good.
//
// Counters of the node name/rules: rules_file_reloads, rules_file_errors.
func File(path string, opts ...FileOption) Source {
	f := &fileSource{path: path, every: 5 * time.Second, max: 64 << 20}
	for _, o := range opts {
		o(f)
	}
	return f
}

// fileSource is File, and the flow.Source of its changes.
type fileSource struct {
	path  string
	every time.Duration
	max   int64
	// first is the hash of what Initial has read.
	first atomic.Uint64
}

// Initial implements Source.
func (f *fileSource) Initial(check func(Change) error) ([]Rule, error) {
	if f.path == "" {
		return nil, errors.New("rules: the file's path is empty: name the file")
	}
	data, _, err := f.read()
	if err != nil {
		return nil, err
	}
	f.first.Store(xxhash.Sum64(data))
	return readRules(f.path, data, check)
}

// Control implements Source.
func (f *fileSource) Control(t *flow.Topology, name string, check func(Change) error) flow.Stream[Change] {
	if f.every <= 0 {
		return nil
	}
	return flow.From(t, name+"/rules", flow.Source[Change](&fileWatch{fileSource: f, check: check}))
}

func (f *fileSource) read() ([]byte, fs.FileInfo, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, nil, unread(err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("rules: %s is not a file: name one", f.path)
	}
	if info.Size() > f.max {
		return nil, nil, fmt.Errorf("rules: %s has %d bytes, more than rule.MaxBytes allows (%d): raise it", f.path, info.Size(), f.max)
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil, nil, unread(err)
	}
	after, err := os.Stat(f.path)
	if err != nil {
		return nil, nil, unread(err)
	}
	if !same(info, after) || int64(len(data)) != after.Size() {
		return nil, nil, fmt.Errorf("rules: %s %w: write another file and rename it over this one", f.path, errWriting)
	}
	return data, after, nil
}

// unread says what to do about a file that cannot be read. It may vanish at any moment.
func unread(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rules: %w: put the file back", err)
	}
	return fmt.Errorf("rules: %w: make it readable", err)
}

var errWriting = errors.New("is being written")

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// fileWatch is the control stream of a file: one partition, whose positions have the hash of what was taken.
type fileWatch struct {
	*fileSource
	check func(Change) error
	rt    flow.SourceRuntime
	seen  fs.FileInfo
	gone  bool
	// sure: the file's time is old enough for a later change to show in it.
	sure bool
}

// Open implements flow.Source.
func (w *fileWatch) Open(_ context.Context, rt flow.SourceRuntime) error {
	w.rt, w.seen, w.gone, w.sure = rt, nil, false, false
	return nil
}

// Run implements flow.Source.
func (w *fileWatch) Run(ctx context.Context, a flow.Assign) error {
	if err := a.Add(flow.Partition{ID: "file"}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// Read implements flow.Source.
func (w *fileWatch) Read(ctx context.Context, _ flow.Partition, from flow.Position, in *flow.Intake[Change]) error {
	taken, n, bad := from.Token, from.Offset, ""
	for {
		data, err := w.look()
		sum := xxhash.Sum64(data)
		switch hash := strconv.FormatUint(sum, 16); {
		case err != nil:
			w.refuse(err)
		case data == nil || hash == taken || hash == bad:
		default:
			rules, err := readRules(w.path, data, w.check)
			if err != nil {
				bad = hash
				w.refuse(err)
				break
			}
			n++
			batch := append(in.Buffer(), flow.Record[Change]{Value: Change{Whole: true, Put: rules}, Time: flow.None})
			if err := in.Emit(ctx, batch, flow.Position{Offset: n, Token: hash}); err != nil {
				return nil
			}
			if taken != "" || sum != w.first.Load() {
				w.rt.Count("rules_file_reloads", 1)
				w.rt.Log.Info("rules read anew", "path", w.path, "count", len(rules))
			}
			taken, bad = hash, ""
		}
		in.Idle()
		if w.rt.Clock.Sleep(ctx, w.every) != nil {
			return nil
		}
	}
}

func (w *fileWatch) refuse(err error) {
	w.rt.Count("rules_file_errors", 1)
	w.rt.Log.Warn("the rules' file is not taken, the rules before stay in force", "path", w.path, "err", err)
}

// look returns the file's content if it may have changed. What cannot be read is told once.
func (w *fileWatch) look() ([]byte, error) {
	info, err := os.Stat(w.path)
	if err == nil && w.sure && w.seen != nil && same(w.seen, info) {
		return nil, nil
	}
	data, after, err := w.read()
	if err != nil {
		if again := w.gone; again && !errors.Is(err, errWriting) {
			return nil, nil
		}
		w.gone, w.seen = !errors.Is(err, errWriting), nil
		return nil, err
	}
	// Within two seconds of its last change a file can change again under the same time.
	w.gone, w.seen, w.sure = false, after, w.rt.Clock.Now().Sub(after.ModTime()) > 2*time.Second
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// Commit implements flow.Source.
func (w *fileWatch) Commit(context.Context, flow.Partition, flow.Position) error { return nil }

// Replay implements flow.Source.
func (w *fileWatch) Replay() flow.Replay { return flow.Seek }

// Close implements flow.Source.
func (w *fileWatch) Close(context.Context) error { return nil }

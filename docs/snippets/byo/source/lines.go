package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// [source]

// Lines reads the lines of all .log files of a directory, and goes on as they grow and as new files come. Each file is a partition,
// read in its order. Files may only grow.
//
// Delivery: a position is the number of bytes read (flow.Seek), so nothing is lost and nothing comes twice. A line that c cannot
// decode goes to the dead letters. A line of more than a mebibyte stops the topology.
func Lines[T any](dir string, c codec.Codec[T]) flow.Source[T] {
	return &lines[T]{dir: dir, codec: c, added: map[string]bool{}}
}

type lines[T any] struct {
	dir   string
	codec codec.Codec[T]
	clock flow.Clock
	added map[string]bool // of Run, which may be called again after an error
}

const (
	poll    = 50 * time.Millisecond
	maxLine = 1 << 20
)

// Open checks what can be checked without the directory.
func (s *lines[T]) Open(_ context.Context, rt flow.SourceRuntime) error {
	if s.dir == "" {
		return errors.New("lines: dir is empty: name the directory with the .log files")
	}
	if codec.Aliases(s.codec) { // Read reuses its buffer
		return fmt.Errorf("lines: values of the codec %s point into the payload: take one that copies", s.codec.ID())
	}
	s.clock = rt.Clock // never package time's: a test may hold it still
	return nil
}

// [run]

// Run looks for files, and again for new ones, until ctx ends. A directory that cannot be read now is no reason to stop.
func (s *lines[T]) Run(ctx context.Context, a flow.Assign) error {
	for {
		entries, err := os.ReadDir(s.dir)
		if err != nil {
			return flow.Transient(fmt.Errorf("lines: %w", err))
		}
		var fresh []flow.Partition
		for _, e := range entries {
			if name := e.Name(); filepath.Ext(name) == ".log" && !s.added[name] {
				fresh = append(fresh, flow.Partition{ID: name})
			}
		}
		if len(fresh) > 0 {
			if err := a.Add(fresh...); err != nil { // together, so that they hold the watermark from the start
				return err
			}
			for _, p := range fresh {
				s.added[p.ID] = true
			}
		}
		if s.clock.Sleep(ctx, poll) != nil {
			return nil
		}
	}
}

// [read]

// Read goes on behind from until ctx ends.
func (s *lines[T]) Read(ctx context.Context, p flow.Partition, from flow.Position, in *flow.Intake[T]) error {
	f, err := os.Open(filepath.Join(s.dir, p.ID))
	if err != nil {
		return flow.Transient(fmt.Errorf("lines: %w", err))
	}
	defer func() { _ = f.Close() }()
	at, buf := from.Offset, make([]byte, maxLine)
	for {
		n, err := f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return flow.Transient(fmt.Errorf("lines: %s at byte %d: %w", p.ID, at, err))
		}
		whole := bytes.LastIndexByte(buf[:n], '\n') + 1 // the last line may still be being written
		switch {
		case whole > 0:
			if at, err = s.emit(ctx, in, buf[:whole], at); err != nil {
				return err
			}
			continue
		case n == len(buf):
			return fmt.Errorf("lines: %s: the line at byte %d has more than %d bytes: split it", p.ID, at, maxLine)
		}
		if err := s.checkGrown(f, p.ID, at); err != nil {
			return err
		}
		in.Idle() // connected, asked, nothing there
		if err := s.clock.Sleep(ctx, poll); err != nil {
			return err
		}
	}
}

// emit hands whole lines over in batches and returns the byte behind them.
func (s *lines[T]) emit(ctx context.Context, in *flow.Intake[T], text []byte, at int64) (int64, error) {
	batch := in.Buffer()
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		at += int64(len(line)) + 1
		batch = append(batch, flow.Record[T]{Time: flow.None})
		if err := s.codec.Decode(line, &batch[len(batch)-1].Value); err != nil {
			batch = batch[:len(batch)-1]
			in.Reject(line, err, flow.Position{Offset: at})
		}
		if len(batch) == flow.MaxBatch {
			if err := in.Emit(ctx, batch, flow.Position{Offset: at}); err != nil {
				return at, err
			}
			batch = in.Buffer()
		}
	}
	// Also without records: what was rejected, and the position, go with it.
	return at, in.Emit(ctx, batch, flow.Position{Offset: at})
}

// [rest]

// Commit has nothing to tell anybody: the position in the topology's store is all there is.
func (s *lines[T]) Commit(context.Context, flow.Partition, flow.Position) error { return nil }

// Replay says that Read goes on exactly behind its position.
func (s *lines[T]) Replay() flow.Replay { return flow.Seek }

// Close has nothing to release: each Read closes its file.
func (s *lines[T]) Close(context.Context) error { return nil }

// [end]

// checkGrown refuses a file that has become shorter than what was read of it.
func (s *lines[T]) checkGrown(f *os.File, name string, at int64) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return flow.Transient(fmt.Errorf("lines: %w", err))
	case info.Size() < at:
		return fmt.Errorf("lines: %s has %d bytes, and %d were read of it: files may only grow; give a new file a new name", name, info.Size(), at)
	}
	return nil
}

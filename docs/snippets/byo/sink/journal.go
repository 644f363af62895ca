package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// [sink]

// Journal appends records to a file, one line each, in the order of each task.
//
// Delivery: a block is in the file, and synced, before its epoch's records are acked. A write that fails half-way is taken back
// before it is done again, so within one run nothing comes twice; after a crash the blocks of the epoch that was not committed come
// again. A record whose encoding holds a line break is refused: it would be two lines.
func Journal[T any](path string, c codec.Codec[T]) flow.Sink[T] {
	return &journal[T]{path: path, codec: c}
}

type journal[T any] struct {
	path  string
	codec codec.Codec[T]
	file  *os.File
	size  int64 // of what is known to be whole
}

// Open also cuts off a line that a crash has left unfinished.
func (s *journal[T]) Open(_ context.Context, _ flow.SinkRuntime) error {
	if s.path == "" {
		return errors.New("journal: path is empty: name the file to append to")
	}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return flow.Transient(fmt.Errorf("journal: %w", err))
	}
	size, err := wholeLines(f)
	if err != nil {
		return flow.Transient(errors.Join(fmt.Errorf("journal: %w", err), f.Close()))
	}
	s.file, s.size = f, size
	return nil
}

// [writer]

// Writer makes the writer of one task: it is called by that task alone, so it needs no lock.
func (s *journal[T]) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[T], error) {
	return &journalWriter[T]{codec: s.codec}, nil
}

type journalWriter[T any] struct {
	codec codec.Codec[T]
	block *lines
}

// Write encodes at once: the batch is the engine's, and reused.
func (w *journalWriter[T]) Write(_ context.Context, batch []flow.Record[T]) error {
	if w.block == nil {
		w.block = &lines{}
	}
	for i := range batch {
		before := len(w.block.text)
		text, err := w.codec.Append(w.block.text, &batch[i].Value)
		if err == nil && bytes.IndexByte(text[before:], '\n') >= 0 {
			err = errors.New("journal: the record has a line break in it")
		}
		if err != nil {
			w.block.text = w.block.text[:before]
			return &flow.RecordError{Index: i, Err: err} // this one only: the engine goes on behind it
		}
		text = append(text, '\n')
		w.block.text = text
		w.block.rows++
	}
	return nil
}

// Seal hands over what there is. The task waits for it, so it does no work.
func (w *journalWriter[T]) Seal(context.Context) ([]flow.Block, error) {
	if w.block == nil || w.block.rows == 0 {
		return nil, nil
	}
	b := w.block
	w.block = nil
	return []flow.Block{b}, nil
}

// [deliver]

// Deliver appends the blocks that are not there yet. It is never called twice at once.
func (s *journal[T]) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var text []byte
	for _, b := range blocks {
		if l := b.(*lines); !l.done {
			text = append(text, l.text...)
		}
	}
	if len(text) == 0 {
		return nil, nil
	}
	if err := s.append(text); err != nil {
		return nil, flow.Transient(fmt.Errorf("journal: %w", err)) // a full disk may be emptied: tried again, the same blocks
	}
	for _, b := range blocks {
		b.(*lines).done = true
	}
	return nil, nil
}

// append writes text behind what is whole and syncs it. Whatever a failed call has left there is overwritten.
func (s *journal[T]) append(text []byte) error {
	if err := s.file.Truncate(s.size); err != nil {
		return err
	}
	if _, err := s.file.WriteAt(text, s.size); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	s.size += int64(len(text))
	return nil
}

// [block]

// lines is a block: whole lines, and whether they have been delivered.
type lines struct {
	rows int
	text []byte
	done bool
}

func (l *lines) Rows() int  { return l.rows }
func (l *lines) Bytes() int { return len(l.text) }

// AppendBinary is for an outbox, which keeps blocks over a crash.
func (l *lines) AppendBinary(b []byte) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(l.rows))
	b = binary.AppendUvarint(b, uint64(len(l.text)))
	return append(b, l.text...), nil
}

// DecodeBlock is the inverse. It copies: the bytes are the outbox's.
func (s *journal[T]) DecodeBlock(data []byte) (flow.Block, error) {
	rows, n := binary.Uvarint(data)
	size, m := binary.Uvarint(data[max(n, 0):])
	if n <= 0 || m <= 0 || size != uint64(len(data)-n-m) {
		return nil, errors.New("journal: not a block")
	}
	l := &lines{rows: int(rows), text: bytes.Clone(data[n+m:])}
	if rows == 0 || uint64(bytes.Count(l.text, []byte("\n"))) != rows || l.text[len(l.text)-1] != '\n' {
		return nil, errors.New("journal: a block with lines missing")
	}
	return l, nil
}

// Close closes the file. A second call does nothing.
func (s *journal[T]) Close(context.Context) error {
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// [end]

// wholeLines is the length of a file up to its last line break.
func wholeLines(f *os.File) (int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 64<<10)
	for end > 0 {
		from := max(0, end-int64(len(buf)))
		n, err := f.ReadAt(buf[:end-from], from)
		if err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

package clickhouse

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
	"unsafe"

	"github.com/millrace-stream/millrace/flow"
)

// writer collects one task's rows in columns.
type writer[T, R any] struct {
	s    *core
	row  func(T) R
	rows []R // a batch's rows, between row and the columns

	set     *buffers
	n       int // rows in set
	version uint64
	oldest  time.Time // when the oldest row since the last Seal came
	waiting bool      // oldest is set
	asked   bool      // an epoch was requested since the last Seal
	sealed  []flow.Block
}

const versionBits = 40

// Writer makes the columns of one task.
func (s *sink[T, R]) Writer(_ context.Context, task flow.TaskInfo) (flow.SinkWriter[T], error) {
	if task.Generation >= 1<<(64-versionBits) {
		return nil, fmt.Errorf("store generation %d does not fit a version column", task.Generation)
	}
	set, err := s.takeBuffers()
	if err != nil {
		return nil, err
	}
	return &writer[T, R]{s: s.core, row: s.row, set: set, version: task.Generation << versionBits}, nil
}

// Write copies a batch into the columns.
func (w *writer[T, R]) Write(_ context.Context, batch []flow.Record[T]) error {
	if len(batch) == 0 {
		return nil
	}
	now := w.s.rt.Clock.Now()
	if !w.waiting {
		w.oldest, w.waiting = now, true
	}
	for from := 0; from < len(batch); {
		part := batch[from:min(len(batch), from+flow.MaxBatch, from+w.s.maxRows-w.n)]
		k, err := w.write(part)
		if k > 0 {
			if err := w.cut(); err != nil {
				return err
			}
		}
		if err != nil {
			return &flow.RecordError{Index: from + k, Err: err}
		}
		from += k
	}
	if w.s.maxAge > 0 && now.Sub(w.oldest) >= w.s.maxAge {
		w.ask()
	}
	return nil
}

// write appends records that fit into the current block and says how many it took.
func (w *writer[T, R]) write(part []flow.Record[T]) (int, error) {
	var (
		base   unsafe.Pointer
		stride uintptr
		n      = len(part)
		cause  error
	)
	if w.row == nil { // T is R: the columns read the records themselves
		base, stride = unsafe.Pointer(&part[0].Value), unsafe.Sizeof(part[0])
	} else {
		if cap(w.rows) < n {
			w.rows = make([]R, max(n, flow.MaxBatch))
		}
		w.rows = w.rows[:n]
		n, cause = w.convert(part)
		defer clear(w.rows)
		if n == 0 {
			return 0, cause
		}
		base, stride = unsafe.Pointer(&w.rows[0]), unsafe.Sizeof(w.rows[0])
	}
	for i, app := range w.set.app {
		k, err := app(base, stride, n)
		if err == nil {
			continue
		}
		cause = fmt.Errorf("column %q: %w", w.s.names[i], err)
		n = k
		for j := range i + 1 { // the rows before the bad one stay
			w.set.cols[j].Truncate(w.n + n)
		}
		if n == 0 {
			return 0, cause
		}
	}
	if v := w.set.version; v != nil {
		for range n {
			w.version++
			v.data = append(v.data, w.version)
		}
	}
	for i := range part[:n] {
		w.set.times = append(w.set.times, part[i].Time)
	}
	w.n += n
	return n, cause
}

// convert calls the user's function; a panic is the error of its record.
func (w *writer[T, R]) convert(part []flow.Record[T]) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w in the row function: %v\n%s", flow.ErrPanic, p, debug.Stack())
		}
	}()
	for n = range part {
		w.rows[n] = w.row(part[n].Value)
	}
	return len(part), nil
}

// cut seals the block when it is full.
func (w *writer[T, R]) cut() error {
	if w.n < w.s.maxRows && w.set.bytes() < w.s.maxBytes {
		return nil
	}
	if err := w.seal(); err != nil {
		return err
	}
	w.ask()
	return nil
}

func (w *writer[T, R]) ask() {
	if !w.asked {
		w.asked = true
		w.s.rt.RequestEpoch()
	}
}

func (w *writer[T, R]) seal() error {
	next, err := w.s.takeBuffers()
	if err != nil {
		return err
	}
	w.sealed = append(w.sealed, &block{
		names: w.s.names, cols: w.set.cols, times: w.set.times, rows: w.n, bytes: w.set.bytes(), token: w.s.token(), set: w.set,
	})
	w.set, w.n = next, 0
	return nil
}

// Seal hands over what came since the last Seal.
func (w *writer[T, R]) Seal(context.Context) ([]flow.Block, error) {
	if w.n > 0 {
		if err := w.seal(); err != nil {
			return nil, err
		}
	}
	out := w.sealed
	w.sealed, w.waiting, w.asked = nil, false, false
	return out, nil
}

func (b *buffers) bytes() int {
	n := 8 * len(b.times)
	for _, c := range b.cols {
		n += c.Bytes()
	}
	return n
}

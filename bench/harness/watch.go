package harness

import (
	"context"
	"sync"

	"github.com/millrace-stream/millrace/flow"
)

// Watch is a sink that tells what has become durable: note makes a number of each record, and done gets the numbers of those whose blocks the
// sink has delivered, in calls one after the other. Meter.Done of the numbers of events is such a done.
func Watch[T any](s flow.Sink[T], note func(*T) int64, done func([]int64)) flow.Sink[T] {
	return &watched[T]{Sink: s, note: note, done: done, of: map[flow.Block][]int64{}}
}

type watched[T any] struct {
	flow.Sink[T]
	note func(*T) int64
	done func([]int64)

	mu   sync.Mutex
	of   map[flow.Block][]int64
	free [][]int64
}

func (s *watched[T]) Writer(ctx context.Context, task flow.TaskInfo) (flow.SinkWriter[T], error) {
	w, err := s.Sink.Writer(ctx, task)
	return &watchedWriter[T]{w: w, s: s}, err
}

func (s *watched[T]) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	rejects, err := s.Sink.Deliver(ctx, blocks)
	if err != nil {
		return rejects, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range blocks {
		if notes := s.of[b]; notes != nil {
			delete(s.of, b)
			s.done(notes)
			s.free = append(s.free, notes[:0])
		}
	}
	return rejects, nil
}

type watchedWriter[T any] struct {
	w     flow.SinkWriter[T]
	s     *watched[T]
	notes []int64
}

func (w *watchedWriter[T]) Write(ctx context.Context, batch []flow.Record[T]) error {
	if err := w.w.Write(ctx, batch); err != nil {
		return err
	}
	for i := range batch {
		w.notes = append(w.notes, w.s.note(&batch[i].Value))
	}
	return nil
}

func (w *watchedWriter[T]) Seal(ctx context.Context) ([]flow.Block, error) {
	blocks, err := w.w.Seal(ctx)
	if err != nil || len(blocks) == 0 {
		return blocks, err
	}
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[blocks[len(blocks)-1]] = w.notes // an epoch's blocks are delivered together
	w.notes = nil
	if n := len(s.free); n > 0 {
		w.notes, s.free = s.free[n-1], s.free[:n-1]
	}
	return blocks, nil
}

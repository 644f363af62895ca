package flowtest

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/millrace-stream/millrace/flow"
)

// Sink collects what is delivered to it. Like the Source it outlives crashes of the topology.
type Sink[T any] struct {
	// Fail, when set, is called at each Deliver; its error is Deliver's.
	Fail func() error

	mu   sync.Mutex
	rows []flow.Record[T]
	read int
}

// NewSink returns an empty sink.
func NewSink[T any]() *Sink[T] { return &Sink[T]{} }

// Records are all records delivered so far, in order of delivery.
func (s *Sink[T]) Records() []flow.Record[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]flow.Record[T](nil), s.rows...)
}

// Values are the values of Records.
func (s *Sink[T]) Values() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return values(s.rows)
}

// Next are the values delivered since the last call of Next.
func (s *Sink[T]) Next() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := values(s.rows[s.read:])
	s.read = len(s.rows)
	return v
}

func values[T any](rs []flow.Record[T]) []T {
	var v []T
	for _, r := range rs {
		v = append(v, r.Value)
	}
	return v
}

// Open implements flow.Sink.
func (s *Sink[T]) Open(context.Context, flow.SinkRuntime) error { return nil }

// Close implements flow.Sink.
func (s *Sink[T]) Close(context.Context) error { return nil }

// Writer implements flow.Sink.
func (s *Sink[T]) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[T], error) {
	return &writer[T]{}, nil
}

// Deliver implements flow.Sink.
func (s *Sink[T]) Deliver(_ context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	if s.Fail != nil {
		if err := s.Fail(); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range blocks {
		s.rows = append(s.rows, b.(*block[T]).Recs...)
	}
	return nil, nil
}

// DecodeBlock implements flow.Sink.
func (s *Sink[T]) DecodeBlock(data []byte) (flow.Block, error) {
	b := &block[T]{}
	return b, json.Unmarshal(data, b)
}

type writer[T any] struct{ b *block[T] }

func (w *writer[T]) Write(_ context.Context, batch []flow.Record[T]) error {
	if w.b == nil {
		w.b = &block[T]{}
	}
	w.b.Recs = append(w.b.Recs, batch...)
	return nil
}

func (w *writer[T]) Seal(context.Context) ([]flow.Block, error) {
	if w.b == nil {
		return nil, nil
	}
	b := w.b
	w.b = nil
	return []flow.Block{b}, nil
}

type block[T any] struct{ Recs []flow.Record[T] }

func (b *block[T]) Rows() int  { return len(b.Recs) }
func (b *block[T]) Bytes() int { return 0 }

func (b *block[T]) AppendBinary(to []byte) ([]byte, error) {
	j, err := json.Marshal(b)
	return append(to, j...), err
}

package harness

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/millrace-stream/millrace/flow"
)

// Total is how many results came out, and the sum of their values: what a run is checked by.
type Total struct {
	mu  sync.Mutex
	all []*part
}

// part is one task's.
type part struct {
	out int64
	sum float64
}

// Out is how many results there were. Out and Sum may be asked when the topology has ended.
func (t *Total) Out() (n int64) {
	for _, p := range t.all {
		n += p.out
	}
	return n
}

// Sum is that of their values.
func (t *Total) Sum() (s float64) {
	for _, p := range t.all {
		s += p.sum
	}
	return s
}

// Check compares with what should have come out. Sums may differ by the order of additions.
func (t *Total) Check(out int64, sum float64) error {
	if off := math.Abs(t.Sum() - sum); t.Out() != out || !(off <= 1e-9*max(math.Abs(sum), 1)) {
		return fmt.Errorf("%d results came out and their sum is %.3f; it should be %d and %.3f", t.Out(), t.Sum(), out, sum)
	}
	return nil
}

// Sum is a sink that adds value of all results up, and else is like To. Where the load is closed it takes no numbers: it costs an addition.
func Sum[T any](m *Meter, value func(T) float64, number func(T) int64) (flow.Sink[T], *Total) {
	t := &Total{}
	return &summing[T]{m, value, number, t}, t
}

type summing[T any] struct {
	meter  *Meter
	value  func(T) float64
	number func(T) int64
	total  *Total
}

func (s *summing[T]) Open(context.Context, flow.SinkRuntime) error { return nil }
func (s *summing[T]) Close(context.Context) error                  { return nil }
func (s *summing[T]) DecodeBlock([]byte) (flow.Block, error)       { return &delivery{}, nil }
func (d *delivery) Rows() int                                      { return d.n }
func (d *delivery) Bytes() int                                     { return 8 * len(d.numbers) }
func (d *delivery) AppendBinary(b []byte) ([]byte, error)          { return b, nil }
func (s *summing[T]) Deliver(_ context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	for _, b := range blocks {
		if d := b.(*delivery); len(d.numbers) > 0 {
			s.meter.Done(d.numbers...)
		} else {
			s.meter.Count(int64(d.n))
		}
	}
	return nil, nil
}

func (s *summing[T]) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[T], error) {
	w := &summer[T]{s: s, part: &part{}, open: s.meter.load.Open()}
	s.total.mu.Lock()
	s.total.all = append(s.total.all, w.part)
	s.total.mu.Unlock()
	return w, nil
}

// delivery is a block: how many results, and the numbers of their events where they count.
type delivery struct {
	n       int
	numbers []int64
}

type summer[T any] struct {
	s    *summing[T]
	part *part
	open bool
	now  delivery
}

func (w *summer[T]) Write(_ context.Context, batch []flow.Record[T]) error {
	sum := w.part.sum
	for i := range batch {
		sum += w.s.value(batch[i].Value)
	}
	w.part.sum = sum
	w.part.out += int64(len(batch))
	w.now.n += len(batch)
	if w.open {
		for i := range batch {
			w.now.numbers = append(w.now.numbers, w.s.number(batch[i].Value))
		}
	}
	return nil
}

func (w *summer[T]) Seal(context.Context) ([]flow.Block, error) {
	if w.now.n == 0 {
		return nil, nil
	}
	d := w.now
	w.now = delivery{}
	return []flow.Block{&d}, nil
}

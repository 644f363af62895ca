// Package gen makes records in the process: bounded or endless, as fast as they are taken or at a rate, for tests, demonstrations
// and load.
//
// Record i is a function of its number, so that a source continues exactly behind the last durable record after a crash. What
// should look random must come from the number too (see At), not from a generator that goes on from call to call.
package gen

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Source emits next(0), next(1) and so on. next is called by the goroutines of all partitions, must be pure and safe for concurrent
// use. Without Count the source is endless.
//
// Delivery: Replay is flow.Seek; a position's Offset is the number of the next record of its partition. Nothing is ever lost or
// repeated as long as next and Partitions stay the same.
func Source[T any](next func(i int64) T, opts ...Option) flow.Source[T] {
	s := newSource[T](opts)
	if next == nil {
		s.cfg.problem = errors.New("gen.Source: next is nil: give a function")
		return s
	}
	s.fill = func(from, step, n int64, r *run[T]) error {
		for i := range n {
			r.batch = append(r.batch, flow.Record[T]{Value: next(from + i*step), Time: flow.None})
		}
		return nil
	}
	return s
}

// Func emits whatever f emits for 0, 1 and so on: for each number none, one or up to flow.MaxBatch records, which reach the topology
// together. More are an error, which stops the topology. Rate, Count and positions count numbers, not records. emit belongs to the
// call.
func Func[T any](f func(i int64, emit func(T)), opts ...Option) flow.Source[T] {
	s := newSource[T](opts)
	if f == nil {
		s.cfg.problem = errors.New("gen.Func: f is nil: give a function")
		return s
	}
	s.fill = func(from, step, n int64, r *run[T]) error { return r.fillFunc(f, from, step, n) }
	return s
}

// Slice emits values and ends.
func Slice[T any](values ...T) flow.Source[T] {
	return Source(func(i int64) T { return values[i] }, Count(int64(len(values))))
}

// Option configures a source of this package.
type Option func(*config)

type config struct {
	count      int64
	rate       float64
	partitions int
	stamp      bool
	problem    error
}

// Count ends the source, and with it the stream, after the numbers 0 to n-1. The default is an endless source.
func Count(n int64) Option {
	return func(c *config) {
		if n < 0 {
			c.problem = fmt.Errorf("gen.Count(%d): give 0 or more", n)
		}
		c.count = n
	}
}

// Rate emits so many numbers per second, over all partitions together. Each number has its due time, reckoned from the start of
// reading, so that the rate does not drift; what became due while the topology took no more is emitted as soon as it
// does. Records that are due within the same millisecond come in one batch. The default is as fast as they are taken.
func Rate(perSecond float64) Option {
	return func(c *config) {
		if !(perSecond > 0) || math.IsInf(perSecond, 1) {
			c.problem = fmt.Errorf("gen.Rate(%v): give a number above 0, or leave it out for no limit", perSecond)
		}
		c.rate = perSecond
	}
}

// Partitions splits the source: number i belongs to partition i%n. Defaults to 1. It cannot change while the topology has state.
func Partitions(n int) Option {
	return func(c *config) {
		if n < 1 {
			c.problem = fmt.Errorf("gen.Partitions(%d): give 1 or more", n)
		}
		c.partitions = n
	}
}

// Stamp gives the records the time of their emission as reference time. It is a new one when they are read again after a
// crash. By default they have none.
func Stamp() Option {
	return func(c *config) { c.stamp = true }
}

type source[T any] struct {
	cfg config
	// fill appends what n numbers from from on, step apart, have to say.
	fill  func(from, step, n int64, r *run[T]) error
	clock flow.Clock
}

func newSource[T any](opts []Option) *source[T] {
	s := &source[T]{cfg: config{count: math.MaxInt64, partitions: 1}}
	for _, o := range opts {
		o(&s.cfg)
	}
	return s
}

func (s *source[T]) Open(_ context.Context, rt flow.SourceRuntime) error {
	s.clock = rt.Clock
	return s.cfg.problem
}

func (s *source[T]) Run(_ context.Context, a flow.Assign) error {
	all := make([]flow.Partition, s.cfg.partitions)
	for i := range all {
		all[i].ID = strconv.Itoa(i)
	}
	return a.Add(all...)
}

// Partitions makes the source a flow.FixedPartitions.
func (s *source[T]) Partitions() int { return max(1, s.cfg.partitions) }

func (s *source[T]) Commit(context.Context, flow.Partition, flow.Position) error { return nil }

func (s *source[T]) Replay() flow.Replay { return flow.Seek }

func (s *source[T]) Close(context.Context) error { return nil }

// start is the first number to emit. The token of a position tells the number of partitions where it is not 1.
func (s *source[T]) start(p flow.Partition, from flow.Position) (int64, error) {
	id, err := strconv.Atoi(p.ID)
	if err != nil || id < 0 || id >= s.cfg.partitions {
		return 0, fmt.Errorf("partition %q is none of the %d of this source: set gen.Partitions to what it was, or drop the state",
			p.ID, s.cfg.partitions)
	}
	if from.IsZero() {
		return int64(id), nil
	}
	if from.Token != s.token() {
		return 0, fmt.Errorf("partition %q was read with another number of partitions than %d: set gen.Partitions to what it was, "+
			"or drop the state", p.ID, s.cfg.partitions)
	}
	return from.Offset, nil
}

func (s *source[T]) token() string {
	if s.cfg.partitions == 1 {
		return ""
	}
	return "of " + strconv.Itoa(s.cfg.partitions)
}

func (s *source[T]) Read(ctx context.Context, p flow.Partition, from flow.Position, in *flow.Intake[T]) error {
	i, err := s.start(p, from)
	if err != nil {
		return err
	}
	r := &run[T]{ctx: ctx, in: in, token: s.token()}
	pace := pace{rate: s.cfg.rate, began: s.clock.Now(), first: i}
	step := int64(s.cfg.partitions)
	for i < s.cfg.count {
		n := min((s.cfg.count-i+step-1)/step, flow.MaxBatch)
		if s.cfg.rate > 0 {
			due := pace.due(s.clock.Now(), i, step)
			if due == 0 {
				in.Lag(0)
				in.Idle()
				if err := s.clock.Sleep(ctx, pace.wait(s.clock.Now(), i)); err != nil {
					return err
				}
				continue
			}
			n = min(n, due)
			in.Lag(due - n)
		} else if s.cfg.count != math.MaxInt64 {
			in.Lag((s.cfg.count-i+step-1)/step - n)
		}
		if s.cfg.stamp {
			in.Reference(s.clock.Now())
		}
		r.batch = in.Buffer()
		if err := s.fill(i, step, n, r); err != nil {
			return err
		}
		i += n * step
		if err := r.emit(i); err != nil {
			return err
		}
	}
	in.Lag(0)
	return nil
}

// run is one Read.
type run[T any] struct {
	// ctx is the Read's: a run does not outlive it.
	ctx   context.Context
	in    *flow.Intake[T]
	token string
	batch []flow.Record[T]
	// one holds what f emits for one number.
	one []T
}

func (r *run[T]) emit(next int64) error {
	b := r.batch
	r.batch = nil
	return r.in.Emit(r.ctx, b, flow.Position{Offset: next, Token: r.token})
}

func (r *run[T]) fillFunc(f func(int64, func(T)), from, step, n int64) error {
	take := func(v T) { r.one = append(r.one, v) }
	for j := range n {
		i := from + j*step
		clear(r.one)
		r.one = r.one[:0]
		f(i, take)
		if len(r.one) > flow.MaxBatch {
			return fmt.Errorf("gen.Func emitted %d records for number %d: emit at most %d, spread over more numbers",
				len(r.one), i, flow.MaxBatch)
		}
		// The records of a number stay together, so that a position never cuts them.
		if len(r.batch)+len(r.one) > flow.MaxBatch {
			if err := r.emit(i); err != nil {
				return err
			}
			r.batch = r.in.Buffer()
		}
		for _, v := range r.one {
			r.batch = append(r.batch, flow.Record[T]{Value: v, Time: flow.None})
		}
	}
	return nil
}

// pace knows when numbers are due: number i at began + (i-first)/rate.
type pace struct {
	rate  float64
	began time.Time
	first int64
}

// due tells how many numbers from i on, step apart, are due.
func (p pace) due(now time.Time, i, step int64) int64 {
	until := p.first + int64(now.Sub(p.began).Seconds()*p.rate)
	if until < i {
		return 0
	}
	return (until-i)/step + 1
}

// wait is how long it takes until number i is due, at least a millisecond, so that a high rate comes in batches.
func (p pace) wait(now time.Time, i int64) time.Duration {
	at := time.Duration(float64(i-p.first) / p.rate * float64(time.Second))
	return max(at-now.Sub(p.began), time.Millisecond)
}

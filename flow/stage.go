package flow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"time"
)

// receiver is what stands downstream within a task: typed direct calls. Errors are sticky in the task (task.fail), so that neither
// call returns one; after a failure both do nothing.
type receiver[T any] interface {
	// push takes a batch. The callee must not change or keep it.
	push(batch []Record[T])
	// mark takes what happens to time between batches.
	mark(m mark)
}

// mark is an event of time that travels with the data.
type mark struct {
	kind markKind
	wm   Timestamp
}

type markKind uint8

const (
	markWatermark markKind = iota
	markIdle
	markActive
	// markSilent says how long (wm, as a duration) the source has had nothing: only AssignTime uses it.
	markSilent
)

type discard[T any] struct{}

func (discard[T]) push([]Record[T]) {}
func (discard[T]) mark(mark)        {}

type fan[T any] []receiver[T]

func (f fan[T]) push(batch []Record[T]) {
	for _, r := range f {
		r.push(batch)
	}
}

func (f fan[T]) mark(m mark) {
	for _, r := range f {
		r.mark(m)
	}
}

// nodeTask is one node within one task: what its stage and its operator's Runtime share.
type nodeTask struct {
	topology string
	node     string
	task     int
	clock    Clock
	log      *slog.Logger

	n      *node
	t      *task
	b      *builder
	keys   any // *keyTable[K] of a keyed node
	group  *nodeState
	sides  []flusher
	timers timerQueue
	alarms timerQueue // in processing time
	stats  *nodeStats
	// attempts counts the tries of the record that is failing now.
	attempts int
}

type flusher interface{ flushAll() }

func newNodeTask(b *builder, n *node) *nodeTask {
	u := b.u
	nt := &nodeTask{
		topology: u.t.name, node: n.name, task: b.t.index, clock: u.t.cfg.clock,
		log: u.log.With("node", n.name), n: n, t: b.t, b: b, stats: u.statsOf(n),
	}
	return nt
}

// open calls the operator's Open, if it has one, once all of the task's stages stand.
func (nt *nodeTask) open(op any) {
	nt.t.onClose = append(nt.t.onClose, func() {
		if c, ok := op.(io.Closer); ok {
			if err := c.Close(); err != nil {
				nt.log.Warn("close", "err", err)
			}
		}
	})
	o, ok := op.(Opener)
	if !ok {
		return
	}
	nt.t.openers = append(nt.t.openers, func(ctx context.Context) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = panicError(p)
			}
			if err != nil {
				err = &NodeError{nt.topology, nt.node, err}
			}
		}()
		return o.Open(ctx, Runtime{nt})
	})
}

func (nt *nodeTask) flushSides() {
	for _, s := range nt.sides {
		s.flushAll()
	}
}

func panicError(p any) error {
	return fmt.Errorf("%w: %v\n%s", ErrPanic, p, debug.Stack())
}

// fate decides what happens after a record failed. It returns true when the record is to be tried again.
func (nt *nodeTask) fate(err error, letter func() DeadLetter) (again bool) {
	nt.attempts++
	ctx := nt.t.ctx
	if ctx.Err() != nil {
		nt.t.fail(&NodeError{nt.topology, nt.node, ErrStopped})
		return false
	}
	if IsTransient(err) {
		nt.stats.retries.Add(1)
		if nt.attempts == 1 || nt.attempts%20 == 0 {
			nt.log.Warn("transient error, trying again", "err", err, "attempt", nt.attempts)
		}
		if nt.clock.Sleep(ctx, backoff(nt.attempts)) != nil {
			nt.t.fail(&NodeError{nt.topology, nt.node, ErrStopped})
			return false
		}
		return true
	}
	attempts := nt.attempts
	nt.attempts = 0
	nt.stats.errors.Add(1)
	u := nt.t.u
	u.hookError(nt.node, err)
	policy := nt.n.cfg.OnError
	switch {
	case policy == DropOnError:
		nt.stats.dropped.Add(1)
		nt.log.Warn("record dropped by OnError", "err", err)
	case policy == DeadLetterOrStop && u.t.dead.connected():
		d := letter()
		d.Topology, d.Node, d.Cause, d.Attempts, d.At = nt.topology, nt.node, err.Error(), attempts, TimestampOf(nt.clock.Now())
		nt.t.dead = append(nt.t.dead, Record[DeadLetter]{Value: d, Time: d.Time})
		nt.stats.deadLetters.Add(1)
		nt.log.Debug("record to the dead letters", "err", err)
	default:
		nt.t.fail(&NodeError{nt.topology, nt.node, err})
	}
	return false
}

// backoff is the pause before try n+1: 20 ms doubling to 5 s, with jitter of a quarter.
func backoff(n int) time.Duration {
	d := 20 * time.Millisecond << min(n-1, 8)
	d = min(d, 5*time.Second)
	return d - time.Duration(jitter(uint64(d)/4))
}

func letterOf[T any](r *Record[T]) func() DeadLetter {
	return func() DeadLetter {
		d := DeadLetter{Time: r.Time}
		b, err := encodeValue(&r.Value)
		if err != nil {
			b = fmt.Appendf(nil, "%+v", r.Value)
		}
		d.Record = b
		if r.Meta != nil {
			d.Key, d.Partition, d.Position = r.Meta.Key, r.Meta.Partition, r.Meta.Position
		}
		return d
	}
}

// truncate takes back what was emitted behind n.
func (o *Output[T]) truncate(n int) {
	o.buf = o.buf[:n]
}

// opStage runs an Operator.
type opStage[In, Out any] struct {
	*nodeTask
	op    Operator[In, Out]
	batch BatchOperator[In, Out]
	wmh   WatermarkHandler[Out]
	out   Output[Out]
	next  receiver[Out]
	at    int
}

func newOpStage[In, Out any](b *builder, n *node, op Operator[In, Out], p *port[Out]) receiver[In] {
	s := &opStage[In, Out]{nodeTask: newNodeTask(b, n), op: op, next: p.build(b)}
	s.batch, _ = op.(BatchOperator[In, Out])
	s.wmh, _ = op.(WatermarkHandler[Out])
	s.out.buf = make([]Record[Out], 0, 64)
	s.open(op)
	return s
}

func (s *opStage[In, Out]) push(in []Record[In]) {
	if s.t.err != nil {
		return
	}
	s.stats.in.Add(int64(len(in)))
	for len(in) > 0 && s.t.err == nil {
		n, err := s.run(in)
		in = in[n:]
		if n > 0 {
			s.attempts = 0
		}
		if err != nil && !s.fate(err, letterOf(&in[0])) {
			in = in[1:]
		}
	}
	s.flush()
	s.flushSides()
}

// run processes records until one fails: n were processed, record n failed.
func (s *opStage[In, Out]) run(in []Record[In]) (n int, err error) {
	before := len(s.out.buf)
	s.at = -1
	defer func() {
		if p := recover(); p != nil {
			err = panicError(p)
			if s.at < 0 { // somewhere in the batch: find it record by record
				s.out.truncate(before)
				n, err = s.runEach(in)
				return
			}
			n = s.at
			s.out.truncate(before)
		}
	}()
	if s.batch != nil {
		n, err = s.batch.ProcessBatch(s.t.ctx, in, &s.out)
		if err == nil {
			n = len(in)
		}
		return n, err
	}
	for i := range in {
		s.at, before = i, len(s.out.buf)
		if err := s.op.Process(s.t.ctx, &in[i], &s.out); err != nil {
			s.out.truncate(before)
			return i, err
		}
		if len(s.out.buf) >= MaxBatch {
			s.flush()
		}
	}
	return len(in), nil
}

func (s *opStage[In, Out]) runEach(in []Record[In]) (n int, err error) {
	before := 0
	defer func() {
		if p := recover(); p != nil {
			s.out.truncate(before)
			err = panicError(p)
		}
	}()
	for n = range in {
		before = len(s.out.buf)
		if err := s.op.Process(s.t.ctx, &in[n], &s.out); err != nil {
			s.out.truncate(before)
			return n, err
		}
	}
	return len(in), nil
}

func (s *opStage[In, Out]) flush() {
	s.out.buf = flushTo(s.out.buf, s.next, s.stats)
}

// flushTo pushes buf on and returns it empty. What it held stays reachable until it is overwritten: at most a few batches per stage.
func flushTo[T any](buf []Record[T], next receiver[T], stats *nodeStats) []Record[T] {
	if len(buf) == 0 {
		return buf
	}
	stats.out.Add(int64(len(buf)))
	for rest := buf; len(rest) > 0; {
		n := min(len(rest), MaxBatch)
		next.push(rest[:n])
		rest = rest[n:]
	}
	if cap(buf) > 16*MaxBatch { // one huge record: do not keep its memory
		return make([]Record[T], 0, MaxBatch)
	}
	return buf[:0]
}

func (s *opStage[In, Out]) mark(m mark) {
	if s.t.err != nil {
		return
	}
	if m.kind == markWatermark && s.wmh != nil {
		onWatermark(s.nodeTask, s.wmh, m.wm, &s.out, s.next)
		s.flush()
		s.flushSides()
	}
	s.next.mark(m)
}

// onWatermark calls an operator's watermark handler with an output that flushes as it fills.
func onWatermark[Out any](nt *nodeTask, h WatermarkHandler[Out], wm Timestamp, out *Output[Out], next receiver[Out]) {
	streaming(nt, out, next, func() error { return h.OnWatermark(nt.t.ctx, wm, out) })
}

// streaming runs f with an output that may take any number of records. An error or panic stops the topology: there is no record
// to blame.
func streaming[Out any](nt *nodeTask, out *Output[Out], next receiver[Out], f func() error) {
	out.flush = func(b []Record[Out]) []Record[Out] {
		if len(b) < MaxBatch {
			// grow to a full batch first
			n := make([]Record[Out], len(b), MaxBatch)
			copy(n, b)
			return n
		}
		return flushTo(b, next, nt.stats)
	}
	defer func() {
		out.flush = nil
		if p := recover(); p != nil {
			nt.t.fail(&NodeError{nt.topology, nt.node, panicError(p)})
		}
	}()
	for {
		err := f()
		if err == nil {
			nt.attempts = 0
			return
		}
		if !IsTransient(err) {
			nt.t.fail(&NodeError{nt.topology, nt.node, err})
			return
		}
		nt.attempts++
		if nt.clock.Sleep(nt.t.ctx, backoff(nt.attempts)) != nil {
			nt.t.fail(&NodeError{nt.topology, nt.node, ErrStopped})
			return
		}
	}
}

// splitStage sends records two ways.
type splitStage[T any] struct {
	*nodeTask
	is      func(T) bool
	yes, no Output[T]
	y, n    receiver[T]
	at      int
}

func newSplitStage[T any](b *builder, n *node, is func(T) bool, yes, no *port[T]) receiver[T] {
	s := &splitStage[T]{nodeTask: newNodeTask(b, n), is: is, y: yes.build(b), n: no.build(b)}
	s.yes.buf, s.no.buf = make([]Record[T], 0, 64), make([]Record[T], 0, 64)
	return s
}

func (s *splitStage[T]) push(in []Record[T]) {
	if s.t.err != nil {
		return
	}
	s.stats.in.Add(int64(len(in)))
	for len(in) > 0 && s.t.err == nil {
		n, err := s.run(in)
		in = in[n:]
		if err != nil && !s.fate(err, letterOf(&in[0])) {
			in = in[1:]
		}
	}
	s.yes.buf = flushTo(s.yes.buf, s.y, s.stats)
	s.no.buf = flushTo(s.no.buf, s.n, s.stats)
}

func (s *splitStage[T]) run(in []Record[T]) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			n, err = s.at, panicError(p)
		}
	}()
	for i := range in {
		s.at = i
		if s.is(in[i].Value) {
			s.yes.Emit(in[i])
		} else {
			s.no.Emit(in[i])
		}
	}
	return len(in), nil
}

func (s *splitStage[T]) mark(m mark) {
	s.y.mark(m)
	s.n.mark(m)
}

// unionStage merges what reaches it within one task; across tasks the next exchange or sink merges.
type unionStage[T any] struct {
	*nodeTask
	next  receiver[T]
	valve valve
}

func newUnionStage[T any](b *builder, n *node, p *port[T]) *unionStage[T] {
	return &unionStage[T]{nodeTask: newNodeTask(b, n), next: p.build(b)}
}

func (u *unionStage[T]) input() receiver[T] {
	return &unionInput[T]{u, u.valve.add()}
}

type unionInput[T any] struct {
	u  *unionStage[T]
	in int
}

func (i *unionInput[T]) push(batch []Record[T]) {
	i.u.stats.in.Add(int64(len(batch)))
	i.u.stats.out.Add(int64(len(batch)))
	i.u.next.push(batch)
}

func (i *unionInput[T]) mark(m mark) {
	if m.kind == markSilent {
		return
	}
	i.u.valve.take(i.in, m, i.u.next.mark)
}

// sideStage is a side output within a task.
type sideStage[T any] struct {
	n    *nodeTask
	out  Output[T]
	next receiver[T]
	used bool
}

func (s *sideStage[T]) flush(b []Record[T]) []Record[T] {
	if !s.used {
		s.n.stats.dropped.Add(int64(len(b)))
	}
	return flushTo(b, s.next, &nodeStats{})
}

func (s *sideStage[T]) flushAll() {
	if len(s.out.buf) > 0 {
		s.out.buf = s.flush(s.out.buf)
	}
}

// sinkStage hands batches to a sink's writer.
type sinkStage[T any] struct {
	*nodeTask
	w SinkWriter[T]
}

func newSinkStage[T any](b *builder, impl *sinkImpl[T]) receiver[T] {
	s := &sinkStage[T]{nodeTask: newNodeTask(b, impl.n)}
	b.t.openers = append(b.t.openers, func(ctx context.Context) error {
		w, err := impl.sink.Writer(ctx, TaskInfo{Task: impl.nextTask(), Generation: b.u.generation})
		if err != nil {
			return &NodeError{s.topology, s.node, err}
		}
		s.w = w
		return nil
	})
	b.t.seals = append(b.t.seals, func(ctx context.Context) (sealed, error) {
		blocks, err := s.w.Seal(ctx)
		if err != nil {
			err = &NodeError{s.topology, s.node, err}
		}
		return sealed{impl, blocks}, err
	})
	return s
}

func (s *sinkStage[T]) push(in []Record[T]) {
	if s.t.err != nil || len(in) == 0 {
		return
	}
	s.stats.in.Add(int64(len(in)))
	for len(in) > 0 && s.t.err == nil {
		n, err := s.write(in)
		in = in[n:]
		if n > 0 {
			s.attempts = 0
		}
		if err != nil && !s.fate(err, letterOf(&in[0])) {
			in = in[1:]
		}
	}
}

func (s *sinkStage[T]) write(in []Record[T]) (n int, err error) {
	defer func() {
		if p := recover(); p != nil { // which record it was is unknown, and so is what the writer holds
			s.t.fail(&NodeError{s.topology, s.node, panicError(p)})
			n, err = len(in), nil
		}
	}()
	err = s.w.Write(s.t.ctx, in)
	if err == nil {
		return len(in), nil
	}
	var re *RecordError
	if errors.As(err, &re) && re.Index >= 0 && re.Index < len(in) {
		return re.Index, re.Err
	}
	if IsTransient(err) {
		return 0, err
	}
	s.t.fail(&NodeError{s.topology, s.node, err})
	return len(in), nil
}

func (s *sinkStage[T]) mark(mark) {}

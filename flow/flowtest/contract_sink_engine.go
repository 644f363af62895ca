package flowtest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/millrace-stream/millrace/flow"
)

// sinkRun drives one instance of a sink as the engine does: one goroutine per writer, one Deliver at a time, again after a
// transient error. What it sees that must not be fails the test.
type sinkRun[T any] struct {
	t     testing.TB
	setup *SinkSetup[T]
	sink  flow.Sink[T]
	log   *logBook

	life   context.Context
	end    context.CancelFunc
	closed bool
	epochs atomic.Int64 // requested

	written int
	letters []letter
	retries int
}

// letter is a dead letter.
type letter struct {
	row   []byte
	cause error
}

// target is a case with the things that outlive an instance of its sink.
type target[T any] struct {
	SinkCase[T]
	t           testing.TB
	setup       *SinkSetup[T]
	name        string
	storeID     string
	incarnation uint64
}

func newTarget[T any](t testing.TB, s *SinkSetup[T]) *target[T] {
	t.Helper()
	return &target[T]{SinkCase: s.New(t), t: t, setup: s, name: unique(), storeID: unique()}
}

// make makes a sink, and opens it not.
func (p *target[T]) make() *sinkRun[T] {
	r := &sinkRun[T]{t: p.t, setup: p.setup, sink: p.Sink(), log: &logBook{}}
	r.log.showIn(p.t)
	r.life, r.end = context.WithCancel(context.Background())
	p.t.Cleanup(r.kill)
	return r
}

// runtime is that of the next start.
func (p *target[T]) runtime(r *sinkRun[T]) flow.SinkRuntime {
	p.incarnation++
	return flow.SinkRuntime{
		Topology: p.name, Node: "out", Clock: flow.SystemClock(), Log: r.log.logger(), StoreID: p.storeID, Incarnation: p.incarnation,
		RequestEpoch: func() { r.epochs.Add(1) }, Count: func(string, int64) {},
	}
}

// start opens a sink.
func (p *target[T]) start() *sinkRun[T] {
	p.t.Helper()
	r := p.make()
	rt := p.runtime(r)
	ctx, cancel := context.WithTimeout(r.life, p.setup.Recover)
	defer cancel()
	if err := again(ctx, func() error { return r.sink.Open(ctx, rt) }); err != nil {
		p.t.Fatalf("Open: %v", err)
	}
	return r
}

// again calls f until it succeeds, fails for good, or ctx ends.
func again(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if err == nil || !flow.IsTransient(err) {
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if e := flow.SystemClock().Sleep(ctx, wait(n)); e != nil {
			return errors.Join(err, e)
		}
	}
}

func (r *sinkRun[T]) writer(task int) flow.SinkWriter[T] {
	r.t.Helper()
	w, err := r.sink.Writer(r.life, flow.TaskInfo{Task: task, Generation: 1})
	if err != nil {
		r.t.Fatalf("Writer: %v", err)
	}
	return w
}

// records are records with these ids.
func (r *sinkRun[T]) records(ids []int) []flow.Record[T] {
	batch := make([]flow.Record[T], len(ids))
	for i, id := range ids {
		batch[i] = flow.Record[T]{Value: r.setup.Record(id), Time: flow.Millis(1_700_000_000_000 + int64(id))}
	}
	return batch
}

// write writes records in batches, and takes the memory of each away afterwards, as an engine that reuses it does.
func (r *sinkRun[T]) write(w flow.SinkWriter[T], ids []int) {
	r.t.Helper()
	const size = 100
	for len(ids) > 0 {
		n := min(size, len(ids))
		r.writeBatch(w, r.records(ids[:n]))
		ids = ids[n:]
	}
}

// writeBatch writes a batch; a refused record goes to the dead letters, and the rest is written on.
func (r *sinkRun[T]) writeBatch(w flow.SinkWriter[T], batch []flow.Record[T]) {
	r.t.Helper()
	for rest := batch; len(rest) > 0; {
		err := w.Write(r.life, rest)
		var refused *flow.RecordError
		switch {
		case err == nil:
			r.written += len(rest)
			rest = nil
		case errors.As(err, &refused):
			if refused.Index < 0 || refused.Index >= len(rest) || refused.Err == nil {
				r.t.Fatalf("Write of %d records returned a RecordError of index %d with the cause %v", len(rest), refused.Index, refused.Err)
			}
			r.letters = append(r.letters, letter{cause: refused.Err})
			r.written += refused.Index
			rest = rest[refused.Index+1:]
		default:
			r.t.Fatalf("Write: %v; one bad record is a *flow.RecordError", err)
		}
	}
	clear(batch)
}

// seal seals a writer's blocks and looks whether they hold what was written.
func (r *sinkRun[T]) seal(w flow.SinkWriter[T]) []flow.Block {
	r.t.Helper()
	began := flow.SystemClock().Now()
	var blocks []flow.Block
	var err error
	if !returns(r.setup.Recover, func() { blocks, err = w.Seal(r.life) }) {
		r.t.Fatalf("Seal has not returned within %s: the task waits for it, and the network may be away", r.setup.Recover)
	}
	if err != nil {
		r.t.Fatalf("Seal: %v", err)
	}
	if took := flow.SystemClock().Now().Sub(began); took > r.setup.SealWithin {
		r.t.Errorf("Seal took %s: the task waits for it; SealWithin is %s", took, r.setup.SealWithin)
	}
	rows := 0
	for i, b := range blocks {
		if b.Rows() <= 0 {
			r.t.Errorf("Seal returned a block of %d rows, number %d of %d", b.Rows(), i, len(blocks))
		}
		rows += b.Rows()
	}
	if rows != r.written {
		r.t.Errorf("%d records were written and Seal returned blocks of %d rows", r.written, rows)
	}
	r.written = 0
	return blocks
}

// deliver delivers blocks until they are delivered, within Recover, and collects the rejects.
func (r *sinkRun[T]) deliver(blocks []flow.Block) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.life, r.setup.Recover)
	defer cancel()
	r.deliverBefore(ctx, blocks)
}

func (r *sinkRun[T]) deliverBefore(ctx context.Context, blocks []flow.Block) {
	r.t.Helper()
	var rejects []flow.Reject
	err := again(ctx, func() (err error) {
		rejects, err = r.sink.Deliver(ctx, blocks)
		if err != nil {
			r.retries++
		}
		return err
	})
	switch {
	case err == nil:
	case ctx.Err() != nil:
		r.t.Fatalf("Deliver has not succeeded within %s: %v", r.setup.Recover, err)
	default:
		r.t.Fatalf("Deliver failed for good: %v; if trying again may mend it, wrap it by flow.Transient", err)
	}
	for _, e := range rejects {
		switch {
		case e.Block < 0 || e.Block >= len(blocks) || e.Row < 0 || e.Row >= blocks[e.Block].Rows():
			r.t.Errorf("a Reject of row %d of block %d; there are %d blocks", e.Row, e.Block, len(blocks))
		case e.Err == nil:
			r.t.Errorf("a Reject without an error: row %d of block %d", e.Row, e.Block)
		case len(e.Record) == 0:
			r.t.Errorf("a Reject without the row, which a person is to read and replay: row %d of block %d: %v", e.Row, e.Block, e.Err)
		}
		r.letters = append(r.letters, letter{row: e.Record, cause: e.Err})
	}
}

// epoch writes ids by a writer, seals and delivers.
func (r *sinkRun[T]) epoch(w flow.SinkWriter[T], ids []int) {
	r.t.Helper()
	r.write(w, ids)
	r.deliver(r.seal(w))
}

func (r *sinkRun[T]) close() {
	r.t.Helper()
	if r.closed {
		return
	}
	r.closed = true
	r.end()
	ctx, cancel := context.WithTimeout(context.Background(), r.setup.closing)
	defer cancel()
	var errs [2]error
	if !returns(r.setup.closing+r.setup.prompt, func() { errs[0] = r.sink.Close(ctx); errs[1] = r.sink.Close(ctx) }) {
		r.t.Fatalf("Close has not returned within %s", r.setup.closing+r.setup.prompt)
	}
	for i, err := range errs {
		if err != nil {
			r.t.Errorf("Close, call %d: %v", i+1, err)
		}
	}
}

// kill ends what a failed check has left.
func (r *sinkRun[T]) kill() {
	if r.closed {
		return
	}
	r.closed = true
	r.end()
	ctx, cancel := context.WithTimeout(context.Background(), r.setup.closing)
	defer cancel()
	returns(r.setup.closing, func() { _ = r.sink.Close(ctx) })
}

// stored waits until all of want is there, as a system shows what it has confirmed a moment later, and judges what is there.
func (p *target[T]) stored(want []int, mayRepeat func(id int) bool) {
	p.t.Helper()
	var got []int
	if !within(p.t, p.setup.Recover, (&notice{}).wait, func() bool { got = p.Stored(p.t); return len(missing(want, got)) == 0 }) {
		m := missing(want, got)
		p.t.Errorf("%d of %d delivered records are not stored: %s", len(m), len(want), brief(m))
	}
	if m := missing(got, want); len(m) > 0 {
		p.t.Errorf("%d records are stored that were never delivered: %s", len(m), brief(m))
	}
	var bad []int
	for _, id := range repeated(got) {
		if mayRepeat == nil || !mayRepeat(id) {
			bad = append(bad, id)
		}
	}
	if len(bad) > 0 {
		p.t.Errorf("%d records are stored more than once: %s", len(bad), brief(bad))
	}
}

// storedInOrder demands that the first appearances of the ids stand in their order.
func (p *target[T]) storedInOrder() {
	p.t.Helper()
	if p.setup.Unordered {
		return
	}
	last, seen := map[string]int{}, map[int]bool{}
	for _, id := range p.Stored(p.t) {
		if seen[id] {
			continue
		}
		seen[id] = true
		key := ""
		if p.setup.Key != nil {
			key = p.setup.Key(id)
		}
		if before, some := last[key]; some && id < before {
			p.t.Errorf("record %d is stored behind %d, which was written later", id, before)
			return
		}
		last[key] = id
	}
}

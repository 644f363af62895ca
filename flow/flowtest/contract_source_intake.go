package flowtest

import (
	"context"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// partRun is a partition that is being read.
type partRun[T any] struct {
	run    *sourceRun[T]
	p      flow.Partition
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // reading has ended

	// Of the goroutine of Read.
	free  []flow.Record[T]
	held  []flow.Record[T]
	kept  []int
	fresh bool // Read has just begun

	// Guarded by run.mu.
	batches   []emitted
	rejects   []reject
	open      int // rejects that no Emit has covered yet
	last      flow.Position
	committed int // batches
	blocked   bool
	idle      bool
	lag       int64
	lagTold   bool
	over      bool // Read has returned nil by itself

	committing sync.Mutex
}

// emitted is a batch.
type emitted struct {
	ids  []int
	upTo flow.Position
}

// reject is a message that could not be decoded.
type reject struct {
	raw   string
	cause error
	at    flow.Position
	batch int // the batch it belongs to
}

func (p *partRun[T]) reading() {
	defer close(p.done)
	r := p.run
	for n := 1; ; n++ {
		r.mu.Lock()
		from := p.last
		r.mu.Unlock()
		p.fresh = true
		err := r.src.Read(p.ctx, p.p, from, flow.NewIntake[T](p))
		switch {
		case p.ctx.Err() != nil:
			return
		case err == nil:
			r.mu.Lock()
			p.over = true
			if p.open > 0 {
				r.t.Errorf("Read of partition %q has ended with a Reject that no Emit covers", p.p.ID)
			}
			r.mu.Unlock()
			r.changed.tell()
			return
		case !flow.IsTransient(err):
			r.t.Errorf("Read of partition %q failed for good: %v; if trying again may mend it, wrap it by flow.Transient", p.p.ID, err)
			return
		}
		r.mu.Lock()
		if p.last != from {
			n = 1
		}
		p.rejects, p.open = p.rejects[:len(p.rejects)-p.open], 0 // they come again
		r.mu.Unlock()
		if flow.SystemClock().Sleep(p.ctx, wait(n)) != nil {
			return
		}
	}
}

// committer commits whatever is emitted.
func (p *partRun[T]) committer() {
	for {
		c := p.run.changed.wait()
		p.run.mu.Lock()
		behind := p.committed < len(p.batches)
		p.run.mu.Unlock()
		if behind {
			if p.commitAll(p.run.read) != nil {
				return
			}
			continue
		}
		select {
		case <-c:
		case <-p.ctx.Done():
			return
		}
	}
}

// commitAll commits everything emitted so far.
func (p *partRun[T]) commitAll(ctx context.Context) error {
	p.run.mu.Lock()
	n := len(p.batches)
	p.run.mu.Unlock()
	return p.commit(ctx, n)
}

// commit makes the first n batches durable, and acks them.
func (p *partRun[T]) commit(ctx context.Context, n int) error {
	p.committing.Lock()
	defer p.committing.Unlock()
	r := p.run
	r.mu.Lock()
	if n <= p.committed {
		r.mu.Unlock()
		return nil
	}
	upTo := p.batches[n-1].upTo
	r.mu.Unlock()
	r.state.set(p.p.ID, upTo) // the state is durable before the ack
	for try := 1; ; try++ {
		err := r.src.Commit(ctx, p.p, upTo)
		switch {
		case err == nil:
			r.mu.Lock()
			p.committed = n
			r.mu.Unlock()
			r.changed.tell()
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !flow.IsTransient(err):
			r.t.Errorf("Commit of partition %q failed for good: %v; if trying again may mend it, wrap it by flow.Transient", p.p.ID, err)
			return err
		}
		if err := flow.SystemClock().Sleep(ctx, wait(try)); err != nil {
			return err
		}
	}
}

// Buffer implements flow.IntakeBackend.
func (p *partRun[T]) Buffer() []flow.Record[T] {
	b := p.free
	p.free = nil
	if b == nil {
		b = make([]flow.Record[T], 0, flow.MaxBatch)
	}
	return b[:0]
}

// Emit implements flow.IntakeBackend.
func (p *partRun[T]) Emit(ctx context.Context, batch []flow.Record[T], upTo flow.Position) error {
	r := p.run
	if len(batch) > flow.MaxBatch {
		r.t.Errorf("a batch of %d records: emit at most flow.MaxBatch (%d) at once", len(batch), flow.MaxBatch)
	}
	p.release()
	ids := make([]int, len(batch))
	for i := range batch {
		ids[i] = r.setup.ID(batch[i].Value)
	}
	r.mu.Lock()
	if len(batch) > 0 {
		p.idle = false
	}
	if r.shut {
		p.blocked = true
		r.changed.tell()
	}
	for r.shut {
		c := r.changed.wait()
		r.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		}
		r.mu.Lock()
	}
	defer r.changed.tell()
	defer r.mu.Unlock()
	p.blocked = false
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if len(batch) > 0 || p.open > 0 {
		if why := p.fall(upTo); why != "" {
			r.t.Errorf("partition %q: position %+v behind %+v: %s", p.p.ID, upTo, p.last, why)
		}
	}
	for i := len(p.rejects) - p.open; i < len(p.rejects); i++ {
		if at := p.rejects[i].at; at.Token == upTo.Token && at.Offset > upTo.Offset {
			r.t.Errorf("partition %q: a message was rejected at %+v, and the next batch ends before it, at %+v", p.p.ID, at, upTo)
		}
		p.rejects[i].batch = len(p.batches)
	}
	p.open = 0
	p.batches = append(p.batches, emitted{ids, upTo})
	p.last, p.fresh = upTo, false
	p.held, p.kept = batch, ids
	return nil
}

// fall says what is wrong with a position behind the last one, "" if nothing is.
func (p *partRun[T]) fall(upTo flow.Position) string {
	switch {
	case upTo.IsZero():
		return "zero means that nothing is known"
	case p.fresh && p.run.src.Replay() == flow.Redeliver:
		return "" // the system begins where it wants
	case upTo.Token != p.last.Token:
		return "" // nobody can compare them
	case upTo.Offset <= p.last.Offset:
		return "positions must rise with the records"
	}
	return ""
}

// release looks whether the batch before is as it was handed over, and takes its memory away, as an engine that reuses it does.
func (p *partRun[T]) release() {
	for i, id := range p.kept {
		if got := p.run.setup.ID(p.held[i].Value); got != id {
			p.run.t.Errorf("partition %q: a batch was changed after Emit had taken it: record %d of it was %d and is %d", p.p.ID, i, id, got)
			break
		}
	}
	if p.held != nil {
		clear(p.held)
		if cap(p.held) >= flow.MaxBatch {
			p.free = p.held[:0]
		}
	}
	p.held, p.kept = nil, nil
}

// Reject implements flow.IntakeBackend.
func (p *partRun[T]) Reject(raw []byte, cause error, at flow.Position) {
	r := p.run
	r.mu.Lock()
	defer r.mu.Unlock()
	if cause == nil {
		r.t.Errorf("partition %q: a message was rejected without a cause", p.p.ID)
	}
	if at.IsZero() {
		r.t.Errorf("partition %q: a message was rejected without a position", p.p.ID)
	}
	p.rejects = append(p.rejects, reject{raw: string(raw), cause: cause, at: at, batch: -1})
	p.open++
}

// Reference implements flow.IntakeBackend.
func (p *partRun[T]) Reference(time.Time) {}

// Idle implements flow.IntakeBackend.
func (p *partRun[T]) Idle() {
	p.run.mu.Lock()
	p.idle = true
	p.run.mu.Unlock()
	p.run.changed.tell()
}

// Busy implements flow.IntakeBackend.
func (p *partRun[T]) Busy() {
	p.run.mu.Lock()
	p.idle = false
	p.run.mu.Unlock()
	p.run.changed.tell()
}

// Lag implements flow.IntakeBackend.
func (p *partRun[T]) Lag(n int64) {
	if n < 0 {
		p.run.t.Errorf("partition %q: a lag of %d", p.p.ID, n)
	}
	p.run.mu.Lock()
	p.lag, p.lagTold = n, true
	p.run.mu.Unlock()
	p.run.changed.tell()
}

// Window implements flow.IntakeBackend.
func (p *partRun[T]) Window(n int) {
	if n < 0 {
		p.run.t.Errorf("partition %q: a window of %d", p.p.ID, n)
	}
}

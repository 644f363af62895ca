package flowtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// sourceRun drives one instance of a source as the engine does: a goroutine per partition, Read again behind the last batch
// after a transient error, commits in order. What it sees that must not be fails the test.
type sourceRun[T any] struct {
	t     testing.TB
	setup *SourceSetup[T]
	src   flow.Source[T]
	name  string
	log   *logBook
	state *sourceState
	auto  bool // commit everything at once

	life    context.Context // until the last commit
	endLife context.CancelFunc
	read    context.Context // until the source is to stop
	endRead context.CancelFunc
	wg      sync.WaitGroup
	ran     chan struct{}
	closed  bool

	changed notice
	mu      sync.Mutex
	parts   map[string]*partRun[T]
	past    []*partRun[T] // removed
	shut    bool          // Emit waits
	ended   bool          // Run has returned nil by itself
	onEmpty func()        // called in Remove before it waits
}

// sourceState is what survives a crash of the topology: the positions in its store.
type sourceState struct {
	mu sync.Mutex
	at map[string]flow.Position
}

func newSourceState() *sourceState { return &sourceState{at: map[string]flow.Position{}} }

func (s *sourceState) get(partition string) flow.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[partition]
}

func (s *sourceState) set(partition string, at flow.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[partition] = at
}

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

// place is a case with the things that outlive an instance of its source.
type place[T any] struct {
	SourceCase[T]
	t     testing.TB
	setup *SourceSetup[T]
	name  string // the topology's
	state *sourceState
	sent  int
}

func newPlace[T any](t testing.TB, s *SourceSetup[T]) *place[T] {
	t.Helper()
	p := &place[T]{SourceCase: s.New(t), t: t, setup: s, name: unique(), state: newSourceState()}
	if p.Publish == nil {
		p.sent = s.Count
	}
	return p
}

// publish puts n more records there and returns their ids.
func (p *place[T]) publish(n int) []int {
	p.t.Helper()
	ids := numbers(p.sent, p.sent+n)
	p.sent += n
	p.Publish(p.t, ids)
	return ids
}

// made tells that the source makes its records itself.
func (p *place[T]) made() bool { return p.Publish == nil }

// portions publishes the check's records in n portions, each awaited, so that there are as many batches.
func (p *place[T]) portions(r *sourceRun[T], n int) []int {
	p.t.Helper()
	if p.made() {
		ids := numbers(0, p.setup.Count)
		r.await(ids)
		return ids
	}
	var all []int
	for range n {
		all = append(all, p.publish(max(1, p.setup.Count/n))...)
		r.await(all)
	}
	return all
}

// start opens and runs the source; auto commits whatever is emitted at once.
func (p *place[T]) start(auto bool) *sourceRun[T] {
	p.t.Helper()
	r := p.open(p.Source(), auto)
	r.start()
	return r
}

// open opens a source and starts nothing.
func (p *place[T]) open(src flow.Source[T], auto bool) *sourceRun[T] {
	p.t.Helper()
	r := &sourceRun[T]{
		t: p.t, setup: p.setup, src: src, name: p.name, log: &logBook{}, state: p.state, auto: auto,
		ran: make(chan struct{}), parts: map[string]*partRun[T]{},
	}
	r.log.showIn(p.t)
	r.life, r.endLife = context.WithCancel(context.Background())
	r.read, r.endRead = context.WithCancel(r.life)
	p.t.Cleanup(r.kill)
	var err error
	if !returns(r.setup.prompt, func() { err = src.Open(r.life, r.runtime()) }) {
		r.t.Fatalf("Open has not returned within %s: connecting belongs to Run", r.setup.prompt)
	}
	if err != nil {
		r.t.Fatalf("Open: %v", err)
	}
	return r
}

func (r *sourceRun[T]) runtime() flow.SourceRuntime {
	return flow.SourceRuntime{
		Topology: r.name, Node: "in", Clock: flow.SystemClock(), Log: r.log.logger(), Count: func(string, int64) {},
	}
}

func (r *sourceRun[T]) start() {
	r.wg.Go(func() {
		defer close(r.ran)
		for n := 1; ; n++ {
			err := r.src.Run(r.read, assign[T]{r})
			switch {
			case r.read.Err() != nil:
				if err != nil {
					r.t.Errorf("Run returned %v when its context ended: return nil then", err)
				}
				return
			case err == nil:
				r.mu.Lock()
				r.ended = true
				r.mu.Unlock()
				r.changed.tell()
				return
			case !flow.IsTransient(err):
				r.t.Errorf("Run failed for good: %v; if trying again may mend it, wrap it by flow.Transient", err)
				r.endRead()
				return
			}
			if flow.SystemClock().Sleep(r.read, wait(n)) != nil {
				return
			}
		}
	})
}

// wait is the pause before try n+1.
func wait(n int) time.Duration {
	return min(time.Duration(n)*20*time.Millisecond, 200*time.Millisecond)
}

// assign is the flow.Assign of a run.
type assign[T any] struct{ r *sourceRun[T] }

func (a assign[T]) Add(ps ...flow.Partition) error {
	r := a.r
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fp := range ps {
		if fp.ID == "" {
			r.t.Errorf("a partition without an ID was added")
		}
		if r.parts[fp.ID] != nil {
			return fmt.Errorf("partition %q is assigned already", fp.ID)
		}
		from := r.state.get(fp.ID)
		if from.IsZero() {
			from = fp.Committed
		}
		p := &partRun[T]{run: r, p: fp, last: from, done: make(chan struct{})}
		p.ctx, p.cancel = context.WithCancel(r.read)
		r.parts[fp.ID] = p
		r.wg.Go(p.reading)
		if r.auto {
			r.wg.Go(p.committer)
		}
	}
	r.changed.tell()
	return nil
}

func (a assign[T]) Remove(ctx context.Context, ps ...flow.Partition) error {
	for _, fp := range ps {
		if err := a.r.remove(ctx, fp.ID); err != nil {
			return err
		}
	}
	return nil
}

func (r *sourceRun[T]) remove(ctx context.Context, id string) error {
	r.mu.Lock()
	p, hook := r.parts[id], r.onEmpty
	r.mu.Unlock()
	if p == nil {
		return fmt.Errorf("partition %q is not assigned", id)
	}
	p.cancel()
	if !closed(p.done, r.setup.prompt) {
		r.t.Errorf("Read of partition %q has not returned within %s of the end of its context", id, r.setup.prompt)
	}
	if hook != nil {
		hook()
	}
	if err := p.commitAll(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.parts, id)
	r.past = append(r.past, p)
	r.mu.Unlock()
	r.changed.tell()
	return nil
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

// all are the partitions, those removed too, in order of their IDs.
func (r *sourceRun[T]) all() []*partRun[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.past)
	for _, p := range r.parts {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *partRun[T]) int { return compare(a.p.ID, b.p.ID) })
	return all
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// ids are those of all emitted records, in order per partition.
func (r *sourceRun[T]) ids() []int {
	var ids []int
	for _, p := range r.all() {
		ids = append(ids, p.ids(0)...)
	}
	return ids
}

// ids are those of the batches from one on.
func (p *partRun[T]) ids(from int) []int {
	p.run.mu.Lock()
	defer p.run.mu.Unlock()
	var ids []int
	for _, b := range p.batches[from:] {
		ids = append(ids, b.ids...)
	}
	return ids
}

// rejected are the bytes of the messages that were rejected.
func (r *sourceRun[T]) rejected() []string {
	var raw []string
	for _, p := range r.all() {
		r.mu.Lock()
		for _, e := range p.rejects {
			raw = append(raw, e.raw)
		}
		r.mu.Unlock()
	}
	return raw
}

// await waits until all these records have come.
func (r *sourceRun[T]) await(want []int) {
	r.t.Helper()
	if !within(r.t, r.setup.Recover, r.changed.wait, func() bool { return len(missing(want, r.ids())) == 0 }) {
		m := missing(want, r.ids())
		r.t.Fatalf("%d of %d records have not come within %s: %s", len(m), len(want), r.setup.Recover, brief(m))
	}
}

// durable are the ids in committed batches.
func (r *sourceRun[T]) durable() []int {
	var ids []int
	for _, p := range r.all() {
		r.mu.Lock()
		n := p.committed
		r.mu.Unlock()
		all, rest := p.ids(0), p.ids(n)
		ids = append(ids, all[:len(all)-len(rest)]...)
	}
	return ids
}

// uncommitted are the ids that were emitted and are in no committed batch.
func (r *sourceRun[T]) uncommitted() []int {
	return missing(slices.Compact(slices.Sorted(slices.Values(r.ids()))), r.durable())
}

// commitSome commits part of what came: the first half of each partition's batches.
func (r *sourceRun[T]) commitSome(ctx context.Context) {
	r.t.Helper()
	for _, p := range r.all() {
		r.mu.Lock()
		n := len(p.batches) / 2
		r.mu.Unlock()
		if err := p.commit(ctx, n); err != nil {
			r.t.Fatalf("Commit: %v", err)
		}
	}
}

// commitAll commits everything that came, within Recover.
func (r *sourceRun[T]) commitAll() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.life, r.setup.Recover)
	defer cancel()
	for _, p := range r.all() {
		if err := p.commitAll(ctx); err != nil {
			r.t.Fatalf("Commit has not succeeded within %s: %v", r.setup.Recover, err)
		}
	}
}

// gate makes Emit wait, or go on.
func (r *sourceRun[T]) gate(shut bool) {
	r.mu.Lock()
	r.shut = shut
	r.mu.Unlock()
	r.changed.tell()
}

// end stops Run and every Read.
func (r *sourceRun[T]) end() {
	r.t.Helper()
	r.endRead()
	if !returns(r.setup.prompt, r.wg.Wait) {
		r.t.Fatalf("Run, Read or Commit have not returned within %s of the end of their context", r.setup.prompt)
	}
}

// stop ends the source in order: reading, the last commits, Close.
func (r *sourceRun[T]) stop() {
	r.t.Helper()
	r.end()
	r.commitAll()
	r.close()
}

// crash ends the source without another commit.
func (r *sourceRun[T]) crash(n Network) {
	r.t.Helper()
	if n != nil {
		n.Cut() // no goodbye
		defer n.Restore()
	}
	r.end()
	r.close()
}

func (r *sourceRun[T]) close() {
	r.t.Helper()
	if r.closed {
		return
	}
	r.closed = true
	r.endLife()
	ctx, cancel := context.WithTimeout(context.Background(), r.setup.closing)
	defer cancel()
	var errs [2]error
	if !returns(r.setup.closing+r.setup.prompt, func() { errs[0] = r.src.Close(ctx); errs[1] = r.src.Close(ctx) }) {
		r.t.Fatalf("Close has not returned within %s", r.setup.closing+r.setup.prompt)
	}
	for i, err := range errs {
		if err != nil {
			r.t.Errorf("Close, call %d: %v", i+1, err)
		}
	}
}

// kill ends what a failed check has left.
func (r *sourceRun[T]) kill() {
	if r.closed {
		return
	}
	r.closed = true
	r.endRead()
	r.gate(false)
	r.endLife()
	if !returns(r.setup.closing, r.wg.Wait) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.setup.closing)
	defer cancel()
	returns(r.setup.closing, func() { _ = r.src.Close(ctx) })
}

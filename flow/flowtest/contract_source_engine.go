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

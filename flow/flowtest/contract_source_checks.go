package flowtest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
)

// exactly fails unless the ids that came are those wanted, each once.
func exactly(t testing.TB, want, got []int, what string) {
	t.Helper()
	if m := missing(want, got); len(m) > 0 {
		t.Errorf("%s: %d records are missing: %s", what, len(m), brief(m))
	}
	if m := missing(got, want); len(m) > 0 {
		t.Errorf("%s: %d records came that should not: %s", what, len(m), brief(m))
	}
	if r := repeated(got); len(r) > 0 {
		t.Errorf("%s: %d records came more than once: %s", what, len(r), brief(r))
	}
}

// inOrder fails when records of a partition came in another order than they were published; repeats may follow later.
func (r *sourceRun[T]) inOrder() {
	r.t.Helper()
	if r.setup.Unordered {
		return
	}
	for _, p := range r.all() {
		last, seen := -1, map[int]bool{}
		for _, id := range p.ids(0) {
			if seen[id] {
				continue
			}
			seen[id] = true
			if id < last {
				r.t.Errorf("partition %q: record %d came behind %d, which was published later", p.p.ID, id, last)
				break
			}
			last = id
		}
	}
}

func wrongSource[T any](t testing.TB, s *SourceSetup[T]) {
	for word, make := range s.Wrong {
		src := make()
		var err error
		r := &sourceRun[T]{log: &logBook{}, name: unique()}
		if !returns(s.prompt, func() { err = src.Open(context.Background(), r.runtime()) }) {
			t.Errorf("Open of a source with a wrong configuration (%s) does not return", word)
			continue
		}
		switch {
		case err == nil:
			t.Errorf("Open accepts a wrong configuration; want an error with the word %q", word)
		case flow.IsTransient(err):
			t.Errorf("Open calls a wrong configuration transient, so it is tried for ever: %v", err)
		case !strings.Contains(err.Error(), word):
			t.Errorf("Open's error does not say %q: %v", word, err)
		}
		if err := src.Close(context.Background()); err != nil {
			t.Errorf("Close after a failed Open: %v", err)
		}
	}
}

func everythingOnce[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	r := p.start(true)
	all := p.portions(r, 5)
	if p.made() {
		r.awaitEnd()
	}
	r.stop()
	exactly(t, all, r.ids(), "read once")
	r.inOrder()
}

// awaitEnd waits until all partitions have been read to their end, and Run has returned.
func (r *sourceRun[T]) awaitEnd() {
	r.t.Helper()
	if !within(r.t, r.setup.Recover, r.changed.wait, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		over := r.ended && len(r.parts) > 0
		for _, p := range r.parts {
			over = over && p.over
		}
		return over
	}) {
		r.t.Fatalf("a source without Publish ends: Run and every Read return nil")
	}
}

func crashWithoutCommit[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	r := p.start(false)
	all := p.portions(r, 3)
	r.crash(p.Network)
	again := p.start(true)
	again.await(all) // nothing was durable, so nothing may be gone
	again.stop()
	exactly(t, all, again.ids(), "read again after a crash")
	again.inOrder()
}

func crashBetweenCommits[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	r := p.start(false)
	all := p.portions(r, 6)
	r.commitSome(r.life)
	want := r.uncommitted()
	r.crash(p.Network)
	again := p.start(true)
	again.await(want)
	again.stop()
	got := again.ids()
	if r.src.Replay() == flow.Seek {
		exactly(t, want, got, "read behind the committed positions")
	} else if m := missing(got, all); len(m) > 0 {
		t.Errorf("records came that were never published: %s", brief(m))
	}
	again.inOrder()

	if !s.Remembers || r.src.Replay() == flow.Redeliver {
		return
	}
	// A topology without state goes on where the system says.
	p.state = newSourceState()
	r = p.start(false)
	more := p.portions(r, 6)
	r.commitSome(r.life)
	want = r.uncommitted()
	r.crash(p.Network)
	p.state = newSourceState()
	again = p.start(true)
	again.await(want)
	again.stop()
	exactly(t, want, again.ids(), fmt.Sprintf("read behind what the system remembers as committed, of %d", len(more)))
}

func cleanStop[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	r := p.start(true)
	p.portions(r, 3)
	r.stop()
	if p.made() {
		leftOut(t, "Publish")
		return
	}
	p.forget(r.src)
	again := p.start(true)
	more := p.portions(again, 2)
	again.stop()
	exactly(t, more, again.ids(), "read after a clean stop")
}

func backpressure[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	r := p.open(p.Source(), true)
	r.gate(true)
	r.start()
	all := numbers(0, s.Count)
	if !p.made() {
		all = p.publish(s.Count)
	}
	r.awaitBlocked()
	pause(s.Hold)
	if got := r.ids(); len(got) > 0 {
		t.Errorf("records were emitted past a blocked Emit: %s", brief(got))
	}
	r.gate(false)
	r.await(all)
	r.stop()
	exactly(t, all, r.ids(), "read after the topology took nothing for a while")
	r.inOrder()
}

// awaitBlocked waits until a partition waits in Emit, and gives it.
func (r *sourceRun[T]) awaitBlocked() *partRun[T] {
	r.t.Helper()
	var blocked *partRun[T]
	if !within(r.t, r.setup.Recover, r.changed.wait, func() bool {
		for _, p := range r.all() {
			r.mu.Lock()
			if p.blocked {
				blocked = p
			}
			r.mu.Unlock()
		}
		return blocked != nil
	}) {
		r.t.Fatalf("no record has come within %s", r.setup.Recover)
	}
	return blocked
}

func idleAndLag[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	if p.made() {
		leftOut(t, "Publish")
		return
	}
	r := p.start(true)
	r.await(p.publish(s.Count / 2))
	r.awaitQuiet(s, "everything was read")
	r.gate(true)
	p.publish(s.Count / 2)
	blocked := r.awaitBlocked()
	pause(s.Hold)
	r.mu.Lock()
	idle := blocked.idle
	r.mu.Unlock()
	if idle {
		t.Errorf("partition %q says that it is idle while a batch waits in Emit", blocked.p.ID)
	}
	r.gate(false)
	r.await(numbers(0, p.sent))
	r.awaitQuiet(s, "a backlog was read")
	if p.Network == nil {
		r.stop()
		return
	}
	p.Network.Cut()
	if !s.NoIdle && !within(t, s.Recover, r.changed.wait, func() bool { return !r.isIdle() }) {
		t.Errorf("the source says that it is idle %s after its connection was cut: watermarks pass what it cannot read", s.Recover)
	}
	p.Network.Restore()
	r.awaitQuiet(s, "the connection was restored")
	r.stop()
}

// isIdle tells whether any partition is.
func (r *sourceRun[T]) isIdle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.parts {
		if p.idle {
			return true
		}
	}
	return false
}

// awaitQuiet waits until all partitions say that there is nothing.
func (r *sourceRun[T]) awaitQuiet(s *SourceSetup[T], after string) {
	r.t.Helper()
	if !within(r.t, s.Recover, r.changed.wait, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		quiet := true
		for _, p := range r.parts {
			quiet = quiet && (p.idle || s.NoIdle) && (!p.lagTold || p.lag == 0)
		}
		return quiet
	}) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for id, p := range r.parts {
			r.t.Errorf("%s after %s, partition %q: idle %t, lag %d; want idle and no lag", s.Recover, after, id, p.idle, p.lag)
		}
	}
}

func poison[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	if p.Poison == nil || p.made() {
		leftOut(t, "Poison and Publish")
		return
	}
	r := p.start(true)
	good := p.publish(10)
	const many = 60
	var bad []string
	for i := range many {
		bad = append(bad, fmt.Sprintf("\x00\xffnot a record %d", i))
		p.Poison(t, []byte(bad[i]))
	}
	good = append(good, p.publish(10)...)
	r.await(good)
	last := "\x00\xffthe last message"
	p.Poison(t, []byte(last))
	bad = append(bad, last)
	covered := func() bool {
		if len(missingText(bad, r.rejected())) > 0 {
			return false
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, p := range r.parts {
			if p.open > 0 {
				return false
			}
		}
		return true
	}
	if !within(t, s.Recover, r.changed.wait, covered) {
		m := missingText(bad, r.rejected())
		t.Errorf("%d of %d messages that cannot be decoded were not rejected with their bytes and covered by an Emit (which may be empty), first %q", len(m), len(bad), slices.Concat(m, []string{""})[0])
	}
	r.stop()
	exactly(t, good, r.ids(), "read beside messages that cannot be decoded")
	again := p.start(true)
	again.await(p.publish(10))
	again.stop()
	if n := len(again.rejected()); n > 0 && r.src.Replay() == flow.Seek {
		t.Errorf("%d messages that cannot be decoded came again after they were committed", n)
	}
}

// missingText are the wanted texts that are not there.
func missingText(want, got []string) []string {
	var m []string
	for _, w := range want {
		if !slices.Contains(got, w) {
			m = append(m, w)
		}
	}
	return m
}

func endsWhenTold[T any](t testing.TB, s *SourceSetup[T]) {
	// With a batch that nobody takes.
	p := newPlace(t, s)
	r := p.open(p.Source(), false)
	r.gate(true)
	r.start()
	if !p.made() {
		p.publish(s.Count)
	}
	r.awaitBlocked()
	r.end()
	r.close()
	// With nothing to do.
	again := p.start(true)
	again.await(numbers(0, p.sent))
	again.stop()
	if p.Network == nil {
		leftOut(t, "a Network")
		return
	}
	// On a connection that carries nothing, and without one.
	for _, f := range []fault{{"half-open", Network.HalfOpen}, {"cut", Network.Cut}} {
		r := p.start(true)
		r.await(p.publish(5))
		f.cause(p.Network)
		r.end()
		r.close()
		p.Network.Restore()
	}
	// Before it was ever connected.
	p.Network.Cut()
	r = p.start(true)
	pause(s.Hold / 4)
	r.end()
	r.close()
	p.Network.Restore()
}

func leavesNoGoroutine[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	if !p.made() {
		p.publish(10)
	}
	known := []goleak.Option{goleak.IgnoreCurrent()}
	for _, f := range s.Leaky {
		known = append(known, goleak.IgnoreAnyFunction(f))
	}
	r := p.start(true)
	r.await(numbers(0, p.sent))
	r.stop()
	if err := goleak.Find(known...); err != nil {
		t.Errorf("goroutines outlive Close: %v", err)
	}
}

func boundedMemory[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	if p.Large == nil || p.made() {
		leftOut(t, "Large and Publish")
		return
	}
	r := p.open(p.Source(), true)
	r.gate(true)
	r.start()
	before := heap()
	const size = 16 << 10
	n := 3 * s.MaxHeap / size
	p.Large(t, numbers(0, n), size)
	r.awaitBlocked()
	pause(s.Hold)
	if grown := heap() - before; grown > int64(s.MaxHeap) {
		t.Errorf("the source holds %d MiB of %d that were published while the topology takes nothing; MaxHeap is %d MiB", grown>>20, n*size>>20, s.MaxHeap>>20)
	}
	r.gate(false)
	r.await(numbers(0, n))
	r.stop()
	exactly(t, numbers(0, n), r.ids(), "read after a backlog")
}

// heap is what is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func removeWaits[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	if p.Member == nil || p.made() {
		leftOut(t, "Member and Publish")
		return
	}
	r := p.open(p.Source(), false)
	waited := make(chan struct{}, 64)
	r.onEmpty = func() { // the engine takes its time for the epoch
		pause(s.Hold)
		select {
		case waited <- struct{}{}:
		default:
		}
	}
	r.start()
	first := p.publish(s.Count / 2)
	r.await(first)
	other := p.open(p.Member(), true)
	other.state = newSourceState() // another process: it goes by what the system was told
	other.start()
	end := flow.SystemClock().NewTimer(s.Recover)
	defer end.Stop()
	select {
	case <-waited:
	case <-end.C():
		t.Fatalf("no partition was removed within %s after another member of the group began", s.Recover)
	}
	all := slices.Concat(first, p.publish(s.Count/2))
	if !within(t, s.Recover, r.changed.wait, func() bool { return len(missing(all, append(r.ids(), other.ids()...))) == 0 }) {
		m := missing(all, append(r.ids(), other.ids()...))
		t.Errorf("%d records came to no member of the group: %s", len(m), brief(m))
	}
	// One of them ends. It commits behind the end of Run and Read, so only Close may leave the group.
	r.end()
	pause(s.Hold)
	r.commitAll()
	r.close()
	more := p.publish(20)
	other.await(more)
	all = append(all, more...)
	other.stop()
	if m := missing(all, append(r.ids(), other.ids()...)); len(m) > 0 {
		t.Errorf("%d records came to no member of the group after one has left it: %s", len(m), brief(m))
	}
	if rep := repeated(append(r.ids(), other.ids()...)); len(rep) > 0 && r.src.Replay() == flow.Seek {
		t.Errorf("%d records came to two members: a partition was given away before Remove had returned, or before the last commit: %s", len(rep), brief(rep))
	}
}

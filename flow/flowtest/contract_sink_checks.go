package flowtest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
)

func wrongSink[T any](t testing.TB, s *SinkSetup[T]) {
	for word, make := range s.Wrong {
		sink := make()
		p := &target[T]{name: unique(), storeID: unique()}
		rt := p.runtime(&sinkRun[T]{log: &logBook{}})
		var err error
		if !returns(s.Recover, func() { err = sink.Open(context.Background(), rt) }) {
			t.Errorf("Open of a sink with a wrong configuration (%s) does not return", word)
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
		if err := sink.Close(context.Background()); err != nil {
			t.Errorf("Close after a failed Open: %v", err)
		}
	}
}

func storesOnce[T any](t testing.TB, s *SinkSetup[T]) {
	p := newTarget(t, s)
	r := p.start()
	w := r.writer(0)
	all := numbers(0, s.Count)
	for part := range slices.Chunk(all, max(1, s.Count/3)) {
		r.epoch(w, part)
	}
	r.deliver(nil)
	r.close()
	p.stored(all, nil)
	p.storedInOrder()
	// A later process goes on.
	r = p.start()
	more := numbers(s.Count, s.Count+20)
	r.epoch(r.writer(0), more)
	r.close()
	p.stored(append(all, more...), nil)
}

func severalWriters[T any](t testing.TB, s *SinkSetup[T]) {
	p := newTarget(t, s)
	r := p.start()
	const tasks = 4
	writers := make([]flow.SinkWriter[T], tasks)
	for i := range writers {
		writers[i] = r.writer(i)
	}
	all := numbers(0, s.Count)
	var wg sync.WaitGroup
	blocks := make([][]flow.Block, tasks)
	errs := make([]error, tasks)
	for i, w := range writers {
		wg.Go(func() {
			var mine []int
			for id := i; id < s.Count; id += tasks {
				mine = append(mine, id)
			}
			for part := range slices.Chunk(mine, 50) {
				if errs[i] = w.Write(r.life, r.records(part)); errs[i] != nil {
					return
				}
			}
			blocks[i], errs[i] = w.Seal(r.life)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("writer %d, beside others: %v", i, err)
		}
	}
	r.deliver(slices.Concat(blocks...))
	r.close()
	p.stored(all, nil)
}

// writeCopies writes from one slice again and again, before anything is sealed.
func writeCopies[T any](t testing.TB, s *SinkSetup[T]) {
	p := newTarget(t, s)
	r := p.start()
	w := r.writer(0)
	batch := make([]flow.Record[T], 10)
	for from := 0; from < 100; from += len(batch) {
		copy(batch, r.records(numbers(from, from+len(batch))))
		if err := w.Write(r.life, batch); err != nil {
			t.Fatalf("Write: %v", err)
		}
	}
	clear(batch)
	r.written = 100
	r.deliver(r.seal(w))
	r.close()
	p.stored(numbers(0, 100), nil)
}

func seals[T any](t testing.TB, s *SinkSetup[T]) {
	p := newTarget(t, s)
	r := p.start()
	w := r.writer(0)
	if blocks := r.seal(w); len(blocks) > 0 {
		t.Errorf("Seal of a writer that has written nothing returned %d blocks", len(blocks))
	}
	if p.Network != nil {
		p.Network.HalfOpen() // a Seal that talks to the system now waits
	}
	r.write(w, numbers(0, 50))
	first := r.seal(w)
	if blocks := r.seal(w); len(blocks) > 0 {
		t.Errorf("a second Seal returned %d blocks again", len(blocks))
	}
	r.write(w, numbers(50, 60))
	second := r.seal(w)
	if p.Network != nil {
		p.Network.Restore()
	}
	// Blocks of several epochs at once, oldest first.
	r.deliver(append(first, second...))
	r.close()
	p.stored(numbers(0, 60), nil)
	p.storedInOrder()
}

func encoding[T any](t testing.TB, s *SinkSetup[T]) {
	if s.NoEncoding {
		return
	}
	p := newTarget(t, s)
	r := p.start()
	w := r.writer(0)
	r.write(w, numbers(0, 120))
	blocks := r.seal(w)
	r.write(w, numbers(120, 200))
	blocks = append(blocks, r.seal(w)...)
	const prefix = "what is there already"
	var encoded [][]byte
	for _, b := range blocks {
		data, err := b.AppendBinary([]byte(prefix))
		if err != nil {
			t.Fatalf("AppendBinary: %v", err)
		}
		if !bytes.HasPrefix(data, []byte(prefix)) {
			t.Fatalf("AppendBinary has not appended: it changed what the slice held")
		}
		encoded = append(encoded, bytes.Clone(data[len(prefix):]))
		clear(data)
	}
	r.close() // the process ends before it has delivered anything

	r = p.start()
	var again []flow.Block
	for i, data := range encoded {
		damaged(t, r.sink, data)
		b, err := r.sink.DecodeBlock(data)
		if err != nil {
			t.Fatalf("DecodeBlock of what AppendBinary made: %v", err)
		}
		if b.Rows() != blocks[i].Rows() {
			t.Errorf("a block of %d rows has %d after its encoding", blocks[i].Rows(), b.Rows())
		}
		clear(data) // the outbox's memory
		again = append(again, b)
	}
	r.deliver(again)
	r.close()
	p.stored(numbers(0, 200), nil)
	p.storedInOrder()
}

// damaged decodes what is not a block.
func damaged[T any](t testing.TB, sink flow.Sink[T], data []byte) {
	t.Helper()
	try := func(what string, data []byte, must bool) {
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("DecodeBlock of %s panics: %v", what, p)
			}
		}()
		if _, err := sink.DecodeBlock(data); err == nil && must {
			t.Errorf("DecodeBlock takes %s for a block", what)
		}
	}
	try("nothing", nil, true)
	try("garbage", []byte("\xff\xfe garbage"), true)
	for _, n := range []int{1, len(data) / 3, len(data) / 2, len(data) - 1} {
		if n > 0 && n < len(data) {
			try(fmt.Sprintf("the first %d of %d bytes", n, len(data)), data[:n:n], true)
		}
	}
	for i := 0; i < len(data); i += 1 + len(data)/64 {
		flipped := bytes.Clone(data)
		flipped[i] ^= 0x55
		try(fmt.Sprintf("a block with a damaged byte %d", i), flipped, false)
	}
}

func refusedRecords[T any](t testing.TB, s *SinkSetup[T]) {
	for what, bad := range s.Refused {
		p := newTarget(t, s)
		r := p.start()
		w := r.writer(0)
		var good []int
		var batch []flow.Record[T]
		for id := range 60 {
			rec := r.records([]int{id})[0]
			if id == 0 || id == 20 || id == 21 || id == 59 { // at the ends, and beside each other
				rec.Value = bad(id)
			} else {
				good = append(good, id)
			}
			batch = append(batch, rec)
		}
		r.writeBatch(w, batch)
		r.deliver(r.seal(w))
		if len(r.letters) != 4 {
			t.Errorf("%s: 4 of 60 records cannot be stored, and %d were refused: each is a RecordError of Write or a Reject of Deliver", what, len(r.letters))
		}
		for _, l := range r.letters {
			if l.cause == nil || l.cause.Error() == "" {
				t.Errorf("%s: refused without a cause", what)
			}
		}
		more := numbers(60, 70)
		r.epoch(w, more) // nothing of it remains
		r.close()
		p.stored(append(good, more...), nil)
	}
}

func sinkLeavesNoGoroutine[T any](t testing.TB, s *SinkSetup[T]) {
	p := newTarget(t, s)
	p.Stored(t) // the reader's own goroutines
	known := []goleak.Option{goleak.IgnoreCurrent()}
	for _, f := range s.Leaky {
		known = append(known, goleak.IgnoreAnyFunction(f))
	}
	r := p.start()
	r.epoch(r.writer(0), numbers(0, 50))
	r.close()
	if err := goleak.Find(known...); err != nil {
		t.Errorf("goroutines outlive Close: %v", err)
	}
}

func sinkEndsWhenTold[T any](t testing.TB, s *SinkSetup[T]) {
	p := newTarget(t, s)
	r := p.start()
	if p.Network == nil {
		r.close()
		return
	}
	w := r.writer(0)
	r.epoch(w, numbers(0, 10))
	r.write(w, numbers(10, 20))
	blocks := r.seal(w)
	p.Network.HalfOpen()
	ctx, cancel := context.WithCancel(r.life)
	done := make(chan error, 1)
	go func() {
		_, err := r.sink.Deliver(ctx, blocks)
		done <- err
	}()
	pause(s.Hold / 4)
	cancel()
	end := flow.SystemClock().NewTimer(s.prompt)
	defer end.Stop()
	select {
	case err := <-done:
		if err == nil {
			t.Errorf("Deliver says that blocks are durable which cannot have reached the system")
		}
	case <-end.C():
		t.Fatalf("Deliver has not returned within %s of the end of its context", s.prompt)
	}
	r.close()
	p.Network.Restore()
}

// sinkInATopology runs the sink in the engine, which is killed and started again.
func sinkInATopology[T any](t testing.TB, s *SinkSetup[T]) {
	p := newTarget(t, s)
	log := &logBook{}
	log.showIn(t)
	e := &killable{t: t, store: NewStore(), log: log, within: s.Recover, patience: s.patience}
	src := NewSource[int]()
	overlaps := &atomic.Int64{}
	build := func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New(p.name, append(opts, flow.WithParallelism(2))...)
		records := flow.Apply[int, T](flow.From(top, "in", src), "record", func() flow.OperatorFunc[int, T] {
			return func(_ context.Context, r *flow.Record[int], out *flow.Output[T]) error {
				*out.Next(r.Time, r.Meta) = s.Record(r.Value)
				return nil
			}
		})
		flow.To(records, "out", flow.Sink[T](&oneAtATime[T]{Sink: p.Sink(), overlaps: overlaps}))
		return top
	}
	fed := 0
	feed := func(n int) {
		src.Feed(numbers(fed, fed+n)...)
		fed += n
	}
	for range 2 {
		e.start(build)
		feed(s.Count / 3)
		if !within(t, s.Recover, (&notice{}).wait, func() bool { return len(p.Stored(t)) > 0 || e.over() }) || e.over() {
			t.Fatalf("nothing is stored within %s; the topology says: %v", s.Recover, e.running.Err())
		}
		feed(s.Count / 6)
		e.kill()
	}
	e.start(build)
	feed(10)
	if !within(t, s.Recover, (&notice{}).wait, func() bool { return int(src.Committed("0")) == fed || e.over() }) || e.over() {
		t.Fatalf("%d of %d records are committed within %s; the topology says: %v", src.Committed("0"), fed, s.Recover, e.running.Err())
	}
	e.stop()
	if n := overlaps.Load(); n > 0 {
		t.Errorf("Deliver was called %d times while another call was under way", n)
	}
	p.stored(numbers(0, fed), func(int) bool { return true }) // at least once
}

// oneAtATime counts calls of Deliver that overlap.
type oneAtATime[T any] struct {
	flow.Sink[T]
	busy     atomic.Int32
	overlaps *atomic.Int64
}

func (o *oneAtATime[T]) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	if o.busy.Add(1) > 1 {
		o.overlaps.Add(1)
	}
	defer o.busy.Add(-1)
	return o.Sink.Deliver(ctx, blocks)
}

// opensWithout has the system away at Open.
func opensWithout[T any](t testing.TB, s *SinkSetup[T]) {
	p := newTarget(t, s)
	if p.Network == nil {
		leftOut(t, "a Network")
		return
	}
	p.Network.Cut()
	r := p.make()
	rt := p.runtime(r)
	var err error
	if !returns(s.Recover, func() { err = r.sink.Open(r.life, rt) }) {
		t.Fatalf("Open has not returned within %s while its system is away: return a transient error, which is tried again", s.Recover)
	}
	if err != nil && !flow.IsTransient(err) {
		t.Errorf("Open fails for good while its system is away; wrap the error by flow.Transient: %v", err)
	}
	p.Network.Restore()
	ctx, cancel := context.WithTimeout(r.life, s.Recover)
	defer cancel()
	if err != nil {
		if err := again(ctx, func() error { return r.sink.Open(ctx, rt) }); err != nil {
			t.Fatalf("Open again, now that its system is there: %v", err)
		}
	}
	r.epoch(r.writer(0), numbers(0, 20))
	r.close()
	p.stored(numbers(0, 20), nil)
}

// errorIsTransient looks at Deliver's error while the system is away.
func errorIsTransient[T any](t testing.TB, s *SinkSetup[T]) {
	p := newTarget(t, s)
	if p.Network == nil {
		leftOut(t, "a Network")
		return
	}
	r := p.start()
	w := r.writer(0)
	r.write(w, numbers(0, 20))
	blocks := r.seal(w)
	p.Network.Cut()
	var err error
	if !returns(s.Recover, func() { _, err = r.sink.Deliver(r.life, blocks) }) {
		t.Fatalf("Deliver has not returned within %s while its system is away: return a transient error, which is tried again", s.Recover)
	}
	if err == nil {
		t.Errorf("Deliver says that blocks are durable which cannot have reached the system")
	} else if !flow.IsTransient(err) {
		t.Errorf("Deliver fails for good while its system is away; wrap the error by flow.Transient: %v", err)
	}
	p.Network.Restore()
	r.deliver(blocks)
	r.close()
	p.stored(numbers(0, 20), nil)
}

// faultInDelivery breaks the connection before or in a delivery.
func faultInDelivery[T any](t testing.TB, s *SinkSetup[T], f fault) {
	p := newTarget(t, s)
	if p.Network == nil {
		leftOut(t, "a Network")
		return
	}
	r := p.start()
	w := r.writer(0)
	third := max(1, s.Count/3)
	r.epoch(w, numbers(0, third))
	r.write(w, numbers(third, 2*third))
	blocks := r.seal(w)
	inMiddle := f.cause == nil
	if inMiddle {
		p.Network.Slow()
	} else {
		f.cause(p.Network)
	}
	ctx, cancel := context.WithTimeout(r.life, s.Hold+s.Recover)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		again := again(ctx, func() error {
			rejects, err := r.sink.Deliver(ctx, blocks)
			if len(rejects) > 0 && err == nil {
				t.Errorf("Deliver rejects %d rows after a fault of the network: %v", len(rejects), rejects[0].Err)
			}
			return err
		})
		if again != nil {
			t.Errorf("Deliver has not succeeded within %s after the fault: %v", s.Recover, again)
		}
	}()
	if inMiddle {
		pause(s.Hold / 3)
		p.Network.Cut()
	}
	pause(s.Hold)
	p.Network.Restore()
	if !closed(done, s.Hold+s.Recover+s.prompt) {
		t.Fatalf("Deliver hangs after the fault")
	}
	r.epoch(w, numbers(2*third, 3*third))
	r.close()
	p.stored(numbers(0, 3*third), func(id int) bool { return s.Repeats && id >= third && id < 2*third })
	p.storedInOrder()
}

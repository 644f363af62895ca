package flowtest

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-stream/millrace/flow"
)

// beginsWithout has the system away when the source begins.
func beginsWithout[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	if p.Network == nil || p.made() {
		leftOut(t, "a Network and Publish")
		return
	}
	all := p.publish(s.Count)
	p.Network.Cut()
	r := p.start(true) // fails when Open waits for the network
	pause(s.Hold)
	p.Network.Restore()
	r.await(all)
	r.stop()
	exactly(t, all, r.ids(), "read after the system was away at the start")
}

// faultBeforeAck breaks the connection while records are emitted and not acked.
func faultBeforeAck[T any](t testing.TB, s *SourceSetup[T], f fault) {
	p := newPlace(t, s)
	if p.Network == nil || p.made() {
		leftOut(t, "a Network and Publish")
		return
	}
	r := p.start(false)
	all := p.publish(s.Count / 6)
	r.await(all)
	all = append(all, p.publish(s.Count/6)...)
	r.await(all)
	f.cause(p.Network)
	all = append(all, p.publish(s.Count/3)...)
	acked := make(chan struct{})
	go func() { // half of it becomes durable meanwhile
		defer close(acked)
		for _, part := range r.all() {
			r.mu.Lock()
			n := len(part.batches) / 2
			r.mu.Unlock()
			_ = part.commit(r.life, n)
		}
	}()
	pause(s.Hold)
	p.Network.Restore()
	began := flow.SystemClock().Now()
	r.await(all)
	all = append(all, p.publish(s.Count/3)...)
	r.await(all)
	if !closed(acked, s.Recover-flow.SystemClock().Now().Sub(began)) {
		t.Fatalf("Commit has not succeeded within %s after the fault", s.Recover)
	}
	r.inOrder()
	if !s.RepeatsOnFault || r.src.Replay() == flow.Seek {
		rep := repeated(r.ids())
		if s.RepeatsAcks {
			rep = missing(rep, r.durable())
		}
		if len(rep) > 0 {
			t.Errorf("%d records came again after the fault though the source still had them: %s", len(rep), brief(rep))
		}
	}
	// What was acked is what was durable: the rest comes again.
	want := r.uncommitted()
	r.crash(p.Network)
	p.forget(r.src)
	again := p.start(true)
	again.await(want)
	again.stop()
	if r.src.Replay() == flow.Seek {
		exactly(t, want, again.ids(), "read behind the committed positions")
	}
}

// forget takes the topology's positions away where the system knows them, to see what it was told.
func (p *place[T]) forget(src flow.Source[T]) {
	if p.setup.Remembers && src.Replay() == flow.Seek {
		p.state = newSourceState()
	}
}

// cutAfterAck breaks the connection right after a commit, and crashes.
func cutAfterAck[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	if p.Network == nil || p.made() {
		leftOut(t, "a Network and Publish")
		return
	}
	r := p.start(false)
	p.portions(r, 4)
	r.commitSome(r.life)
	want := r.uncommitted()
	r.crash(p.Network) // cuts first
	p.forget(r.src)
	again := p.start(true)
	again.await(want)
	more := p.publish(10)
	again.await(more)
	again.stop()
	if r.src.Replay() == flow.Seek {
		exactly(t, append(want, more...), again.ids(), "read behind the last ack")
	}
}

// inATopology runs the source in the engine, which is killed and started again.
func inATopology[T any](t testing.TB, s *SourceSetup[T]) {
	p := newPlace(t, s)
	log := &logBook{}
	log.showIn(t)
	e := &killable{t: t, store: NewStore(), log: log, within: s.Recover, patience: s.patience}
	out := NewSink[T]()
	build := func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New(p.name, opts...)
		flow.To(flow.From(top, "in", p.Source()), "out", out)
		return top
	}
	ids := func() []int {
		var ids []int
		for _, v := range out.Values() {
			ids = append(ids, s.ID(v))
		}
		return ids
	}
	all := numbers(0, s.Count)
	rounds := 3
	if p.made() {
		rounds = 1 // it ends, and a finished topology does not start again
	}
	for round := range rounds {
		e.start(build)
		if !p.made() {
			all = numbers(0, p.sent+s.Count/3)
			p.publish(s.Count / 3)
		}
		if !within(t, s.Recover, (&notice{}).wait, func() bool { return len(missing(all, ids())) == 0 || e.over() }) || len(missing(all, ids())) > 0 {
			m := missing(all, ids())
			t.Fatalf("round %d: %d of %d records have not come within %s: %s; the topology says: %v", round, len(m), len(all), s.Recover, brief(m), e.running.Err())
		}
		switch {
		case p.made():
			if !closed(e.running.Done(), s.Recover) {
				t.Errorf("the topology has not ended with its source")
			}
			e.wait()
		case round < rounds-1:
			e.kill()
		default:
			e.stop()
		}
	}
	if m := missing(ids(), all); len(m) > 0 {
		t.Errorf("records came that were never published: %s", brief(m))
	}
}

// killable is a topology on the machine's clock that can be killed.
type killable struct {
	t      testing.TB
	store  *Store
	log    *logBook
	within time.Duration
	patience

	running *flow.Running
	cancel  context.CancelFunc
	ended   chan struct{}
}

func (k *killable) start(build func(opts ...flow.TopologyOption) *flow.Topology) {
	k.t.Helper()
	top := build(flow.WithStore(k.store), flow.WithLogger(k.log.logger()), flow.WithEpochInterval(50*time.Millisecond), flow.AcceptRepeats())
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		k.t.Fatal(err)
	}
	running, err := top.AddTo(context.Background(), router)
	if err != nil {
		k.t.Fatalf("the topology does not start: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	k.running, k.cancel, k.ended = running, cancel, ended
	go func() {
		defer close(ended)
		if err := router.Run(ctx); err != nil {
			k.t.Errorf("the router: %v", err)
		}
	}()
	k.t.Cleanup(func() { running.Abort(); cancel(); closed(ended, k.closing) })
}

// over tells whether the topology has ended by itself, by an error.
func (k *killable) over() bool {
	select {
	case <-k.running.Done():
		return k.running.Err() != nil
	default:
		return false
	}
}

// kill ends the topology as kill -9 would.
func (k *killable) kill() {
	k.t.Helper()
	k.running.Abort()
	k.wait()
}

func (k *killable) stop() {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), k.within)
	defer cancel()
	if err := k.running.Stop(ctx); err != nil {
		k.t.Errorf("Stop: %v", err)
	}
	k.wait()
}

func (k *killable) wait() {
	k.t.Helper()
	k.cancel()
	if !closed(k.ended, k.closing+k.prompt) {
		k.t.Fatalf("the topology does not end")
	}
}

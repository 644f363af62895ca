package flow

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

// Run runs the topology on a router of its own until ctx ends, a bounded input has been read to its end, or it fails. It returns
// nil when the last epoch was committed, else the cause, as a *NodeError where a node is to blame.
func (t *Topology) Run(ctx context.Context) error {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: t.cfg.stopTimeout * 5 / 4}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	r, err := t.AddTo(ctx, router)
	if err != nil {
		return err
	}
	routerDone := make(chan error, 1)
	go func() { routerDone <- router.Run(context.WithoutCancel(ctx)) }()
	select {
	case <-r.Done():
	case err := <-routerDone:
		if err != nil {
			r.u.fail(err)
		}
		<-r.Done()
		return r.Err()
	}
	// The handlers have ended, and with the last of them the router; Close in case it had not got that far.
	<-router.Running()
	if err := router.Close(); err != nil {
		return errors.Join(r.Err(), err)
	}
	if err := <-routerDone; err != nil {
		return errors.Join(r.Err(), err)
	}
	return r.Err()
}

// AddTo adds the topology to a router: one consumer handler per source, named topology/source. It may be called before the router
// runs or while it does. The topology starts when the router subscribes to its sources and stops when ctx ends, when Stop is called, or
// with the router.
func (t *Topology) AddTo(ctx context.Context, router *message.Router) (*Running, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.started {
		return nil, &NodeError{Topology: t.name, Err: errors.New("the topology was started before: build a new one to run it again")}
	}
	if router.IsClosed() {
		return nil, &NodeError{Topology: t.name, Err: errRouterClosed}
	}
	u, err := newUnit(t)
	if err != nil {
		return nil, err
	}
	t.started = true
	h := &handlers{u: u, router: router, started: make(chan struct{})}
	if err := h.add(ctx); err != nil {
		u.fail(err)
		<-u.closed
		return nil, err
	}
	r := &Running{u: u, done: make(chan struct{})}
	go func() {
		select {
		case <-ctx.Done():
			u.requestStop(stopRequest{})
			<-u.closed
		case <-u.closed:
		}
		h.wait()
		close(r.done)
	}()
	return r, nil
}

func (t *Topology) handlerName(s sourceNode) string { return t.name + "/" + s.node().name }

func newSubscriber(u *unit, s sourceNode) *subscriber {
	return &subscriber{u: u, src: s, out: make(chan *message.Message)}
}

// Running is a topology that was started.
type Running struct {
	u    *unit
	done chan struct{}
}

// Done is closed when everything of the topology has ended, its handlers on the router included.
func (r *Running) Done() <-chan struct{} { return r.done }

// Err is nil before Done, and after it when the last epoch was committed; else the cause of the end.
func (r *Running) Err() error {
	select {
	case <-r.done:
		return r.u.failure()
	default:
		return nil
	}
}

// StopOption configures Stop.
type StopOption func(*stopRequest)

// Flush makes Stop end the stream: the final watermark is emitted, open windows fire, and the store is marked finished, so that the
// next start refuses.
func Flush() StopOption { return func(r *stopRequest) { r.flush = true } }

// Stop stops the topology in order: sources stop reading, what they handed out is processed and committed. Open windows stay in the
// state, unless Flush is given. It returns when all has ended or ctx has.
func (r *Running) Stop(ctx context.Context, opts ...StopOption) error {
	var req stopRequest
	for _, o := range opts {
		o(&req)
	}
	r.u.requestStop(req)
	select {
	case <-r.done:
		return r.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Abort ends the topology at once, without a last epoch, as a crash would: for tests.
func (r *Running) Abort() {
	r.u.fail(&NodeError{Topology: r.u.t.name, Err: errAborted})
	<-r.done
}

// Epoch ends the epoch now and returns when it is committed.
func (r *Running) Epoch(ctx context.Context) error {
	done := make(chan struct{})
	if !r.u.do(func() {
		r.u.afterCommit = append(r.u.afterCommit, func() { close(done) })
		r.u.kickNow(triggerManual)
	}) {
		return r.u.stoppedErr()
	}
	select {
	case <-done:
		return nil
	case <-r.u.closed:
		return r.u.stoppedErr()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ready returns when the state is restored and every partition that the sources have named so far is being read.
func (r *Running) Ready(ctx context.Context) error {
	for {
		parts := 0
		if !r.u.do(func() { parts = len(r.u.parts) }) {
			return r.u.stoppedErr()
		}
		if parts > 0 {
			return nil
		}
		select {
		case <-r.u.added:
		case <-r.u.closed:
			return r.u.stoppedErr()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Idle returns when everything that the sources have emitted is processed and nothing is in flight. More may come in right after.
func (r *Running) Idle(ctx context.Context) error {
	for {
		var err error
		left := int64(0)
		if !r.u.do(func() {
			err = r.u.drain()
			left = r.u.handed.Load()
			r.u.resume()
		}) {
			return r.u.stoppedErr()
		}
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-r.u.handedQ:
		case <-r.u.ctx.Done():
			return r.u.stoppedErr()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Pending is how many inputs wait for answers in async operators, as Idle leaves them.
func (r *Running) Pending() int {
	n := 0
	r.u.do(func() {
		for _, t := range r.u.tasks {
			if t.async != nil {
				n += t.async.size()
			}
		}
	})
	return n
}

// Counters returns the counters of all nodes, those of connectors included, sorted by node and name.
func (r *Running) Counters() []Counter { return r.u.counterList() }

// Lag sums what the sources say their systems hold beyond what was read.
func (r *Running) Lag() int64 {
	var n int64
	r.u.do(func() {
		for _, p := range r.u.parts {
			n += p.lag.Load()
		}
	})
	return n
}

// Unacked is how many source records are read and not yet durable.
func (r *Running) Unacked() int64 { return r.u.accepted.Load() - r.u.committed.Load() }

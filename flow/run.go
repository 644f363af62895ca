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
			r.e.fail(err)
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
	e, err := newEngine(t)
	if err != nil {
		return nil, err
	}
	t.started = true
	h := &handlers{e: e, router: router, started: make(chan struct{})}
	if err := h.add(ctx); err != nil {
		e.fail(err)
		<-e.closed
		return nil, err
	}
	r := &Running{e: e, done: make(chan struct{})}
	go func() {
		select {
		case <-ctx.Done():
			e.requestStop(stopRequest{})
			<-e.closed
		case <-e.closed:
		}
		h.wait()
		close(r.done)
	}()
	return r, nil
}

func (t *Topology) handlerName(s sourceNode) string { return t.name + "/" + s.node().name }

func newSubscriber(e *engine, s sourceNode) *subscriber {
	return &subscriber{e: e, src: s, out: make(chan *message.Message), byPayload: map[string]*delivery{}}
}

// Running is a topology that was started.
type Running struct {
	e    *engine
	done chan struct{}
}

// Done is closed when everything of the topology has ended, its handlers on the router included.
func (r *Running) Done() <-chan struct{} { return r.done }

// Err is nil before Done, and after it when the last epoch was committed; else the cause of the end.
func (r *Running) Err() error {
	select {
	case <-r.done:
		return r.e.failure()
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
	r.e.requestStop(req)
	select {
	case <-r.done:
		return r.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Abort ends the topology at once, without a last epoch, as a crash would: for tests.
func (r *Running) Abort() {
	r.e.fail(&NodeError{Topology: r.e.t.name, Err: errAborted})
	<-r.done
}

// Epoch ends the epoch now, of every unit, and returns when all are committed.
func (r *Running) Epoch(ctx context.Context) error {
	var waits []chan struct{}
	for _, u := range r.e.all() {
		done := make(chan struct{})
		if u.do(func() {
			u.afterCommit = append(u.afterCommit, func() { close(done) })
			u.kickNow(triggerManual)
		}) {
			waits = append(waits, done)
		} else if u == r.e.root {
			return r.e.stoppedErr()
		}
	}
	for _, done := range waits {
		select {
		case <-done:
		case <-r.e.closed:
			return r.e.stoppedErr()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Ready returns when the state is restored and every partition that the sources have named so far is being read.
func (r *Running) Ready(ctx context.Context) error {
	select {
	case <-r.e.added:
	case <-r.e.closed:
		return r.e.stoppedErr()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !r.e.root.do(func() {}) {
		return r.e.stoppedErr()
	}
	return nil
}

// Idle returns when everything that the sources have emitted is processed and nothing is in flight. More may come in right after.
func (r *Running) Idle(ctx context.Context) error {
	for _, u := range r.e.all() {
		if err := u.idle(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (u *unit) idle(ctx context.Context) error {
	for {
		var err error
		left, due := int64(0), false
		if !u.do(func() {
			u.tick()
			err = u.drain()
			left, due = u.handed.Load()+u.stepping.Load(), u.nextAlarm() <= TimestampOf(u.t.cfg.clock.Now())
			u.resume()
		}) {
			return u.stoppedErr()
		}
		if due && err == nil {
			continue
		}
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-u.handedQ:
		case <-u.engine.ctx.Done():
			return u.stoppedErr()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Pending is how many inputs wait for answers in async operators, as Idle leaves them.
func (r *Running) Pending() int {
	n := 0
	for _, u := range r.e.all() {
		u.do(func() {
			for _, t := range u.tasks {
				if t.async != nil {
					n += t.async.size()
				}
			}
		})
	}
	return n
}

// Counters returns the counters of all nodes, those of connectors included, sorted by node and name.
func (r *Running) Counters() []Counter { return r.e.counterList() }

// Lag sums what the sources say their systems hold beyond what was read.
func (r *Running) Lag() int64 {
	var n int64
	for _, u := range r.e.all() {
		u.do(func() {
			for _, p := range u.parts {
				n += p.lag.Load()
			}
		})
	}
	return n
}

// Unacked is how many source records are read and not yet durable.
func (r *Running) Unacked() int64 {
	var n int64
	for _, u := range r.e.all() {
		n += u.accepted.Load() - u.committed.Load()
	}
	return n
}

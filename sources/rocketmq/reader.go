package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// reader polls one queue. While a batch is decoded and taken by the engine the next pull is already under way.
type reader struct {
	hub    *hub
	queue  rocketmq.Queue
	sink   intake
	offset int64 // the next one to read
	// aliased: what sink decodes points into the answers.
	aliased bool

	failures  int // in a row
	behindEnd int // answers in a row that say that the queue ends before offset
	capped    int // pulls in a row that brought few messages though many were waiting
	backoff   backoff
}

// Answers that come after the broker's own patience and this long are given up: the connection is dead.
const pollGrace = 5 * time.Second

// zeroToken makes a position of offset 0 one that is known: a queue that was empty when it was begun at its end must not be
// begun at its later end after a restart.
const zeroToken = "start"

// begin finds the offset to start at: the engine's position, the broker's, or the configured one.
func (r *reader) begin(ctx context.Context, committed, from flow.Position) error {
	for _, p := range []flow.Position{from, committed} {
		if !p.IsZero() {
			r.offset = p.Offset
			return nil
		}
	}
	err := r.retry(ctx, func() error {
		addr, err := r.hub.addr(r.queue.Broker)
		if err != nil {
			return err
		}
		switch c, topic := r.hub.client, r.hub.cfg.Topic; {
		case r.hub.start.last:
			r.offset, err = c.MaxOffset(ctx, addr, topic, r.queue)
		case !r.hub.start.at.IsZero():
			r.offset, err = c.OffsetAt(ctx, addr, topic, r.queue, r.hub.start.at)
		default:
			r.offset, err = c.MinOffset(ctx, addr, topic, r.queue)
		}
		return err
	})
	if err != nil {
		return err
	}
	// Kept with the first epoch, so that a restart before the first message begins at the same place.
	p := flow.Position{Offset: r.offset}
	if p.Offset == 0 {
		if !r.hub.start.last && r.hub.start.at.IsZero() {
			return nil
		}
		p.Token = zeroToken
	}
	return r.sink.pin(ctx, p)
}

func (r *reader) run(ctx context.Context) error {
	return r.retry(ctx, func() error { return r.poll(ctx) })
}

// retry calls f until it succeeds, ctx ends or its error is permanent.
func (r *reader) retry(ctx context.Context, f func() error) error {
	for {
		began := r.hub.rt.Clock.Now()
		err := f()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		case rocketmq.IsCode(err, rocketmq.TopicNotExist): // it was there when we began
		case !flow.IsTransient(err):
			return fmt.Errorf("rocketmq source: queue %s of topic %q: %w", r.queue, r.hub.cfg.Topic, err)
		}
		r.sink.Busy()
		r.hub.rt.Count("reconnects", 1)
		// One failure may be an idle connection that the broker closed while the engine took nothing; two are an outage.
		if r.failures++; r.failures > 1 {
			r.hub.down(r.queue.Broker, began, err)
		}
		if err := r.hub.rt.Clock.Sleep(ctx, r.backoff.next()); err != nil {
			return err
		}
		r.hub.refresh(ctx)
	}
}

// poll pulls on one connection until something fails.
func (r *reader) poll(ctx context.Context) error {
	addr, err := r.hub.addr(r.queue.Broker)
	if err != nil {
		return err
	}
	if err := r.hub.client.CheckFilter(ctx, addr, r.hub.cfg.Group, r.hub.cfg.Topic, r.hub.filter.Filter); err != nil {
		return err
	}
	conn, err := r.hub.client.Dial(ctx, addr)
	if err != nil {
		return transientUnlessClosed(err)
	}
	defer conn.Close()
	for {
		call, err := r.pull(conn, r.offset)
		if err != nil {
			return err
		}
		for call != nil {
			if call, err = r.answer(ctx, conn, call); err != nil {
				return err
			}
		}
	}
}

func (r *reader) pull(conn *rocketmq.Conn, offset int64) (*rocketmq.Call, error) {
	call, err := conn.Start(rocketmq.Pull{
		Group: r.hub.cfg.Group, Topic: r.hub.cfg.Topic, Queue: r.queue,
		Offset: offset, Max: r.hub.cfg.Batch, Filter: r.hub.filter.Filter, Suspend: r.hub.cfg.PollTimeout,
	}.Request())
	return call, flow.Transient(err)
}

// answer waits for a pull's answer and hands its messages over. It returns the next pull when that is already under way.
func (r *reader) answer(ctx context.Context, conn *rocketmq.Conn, call *rocketmq.Call) (*rocketmq.Call, error) {
	wait, cancel := context.WithTimeoutCause(ctx, r.hub.cfg.PollTimeout+pollGrace, errSilent)
	defer cancel()
	resp, err := call.Wait(wait)
	if err != nil {
		return nil, flow.Transient(err)
	}
	if !r.aliased { // else decoded records point into the answer's memory, which must not be used again
		defer resp.Release()
	}
	switch resp.Code {
	case rocketmq.Success, rocketmq.PullNotFound, rocketmq.PullRetryAtOnce, rocketmq.PullOffsetMoved:
	default:
		return nil, resp.Err()
	}
	p, err := resp.Pulled()
	if err != nil {
		return nil, flow.Transient(err)
	}
	r.hub.up(r.queue.Broker)
	r.failures, r.backoff = 0, backoff{}
	if resp.Code != rocketmq.PullOffsetMoved {
		r.behindEnd = 0
	}
	switch resp.Code {
	case rocketmq.Success:
		return r.found(ctx, conn, resp, p)
	case rocketmq.PullOffsetMoved:
		return nil, r.moved(ctx, p)
	}
	// Nothing there, or only messages that are not wanted or whose file is gone.
	switch {
	case p.Next > r.offset && resp.Unwanted():
		return nil, r.read(ctx, nil, p)
	case p.Next > r.offset:
		r.lost(p.Next)
	case resp.Code == rocketmq.PullRetryAtOnce:
		return nil, r.hub.rt.Clock.Sleep(ctx, minBackoff)
	case p.Max == r.offset:
		r.sink.Lag(0)
		r.sink.Idle()
	}
	return nil, nil
}

var errSilent = errors.New("no answer to a pull in time")

func (r *reader) found(ctx context.Context, conn *rocketmq.Conn, resp *rocketmq.Response, p rocketmq.Pulled) (*rocketmq.Call, error) {
	if p.Next <= r.offset {
		return nil, flow.Transient(fmt.Errorf("%s: pull at %d goes on at %d", resp.Addr, r.offset, p.Next))
	}
	// A failure of this pull is the next round's: the messages at hand are good.
	next, failed := r.pull(conn, p.Next)
	if err := r.read(ctx, resp.Body, p); err != nil {
		return nil, err
	}
	return next, failed
}

// read hands the messages of a pull over and goes on behind them.
func (r *reader) read(ctx context.Context, body []byte, p rocketmq.Pulled) error {
	if err := r.sink.emit(ctx, body, r.offset, p.Next); err != nil {
		return err
	}
	passed := p.Next - r.offset
	r.offset = p.Next
	lag := max(p.Max-p.Next, 0)
	r.sink.Lag(lag)
	if lag == 0 {
		r.sink.Idle() // the broker said so: asked, and nothing there behind these
	} else {
		r.sink.Busy() // also where nothing was emitted because nothing was wanted
	}
	r.checkCap(passed, lag)
	return nil
}

// moved handles an offset outside the queue's bounds.
func (r *reader) moved(ctx context.Context, p rocketmq.Pulled) error {
	switch {
	case r.offset < p.Min:
		r.lost(p.Min)
		return nil
	case r.offset > p.Max:
		// A broker that recovers may say this for a moment; five answers over some seconds are the truth.
		if r.behindEnd++; r.behindEnd >= 5 {
			return fmt.Errorf("the position is offset %d, but the queue ends at %d: the topic was deleted and created again, or "+
				"the broker lost messages; to read what is there now, start under a new group and a new topology name "+
				"(or flow.DropState), or reset the group (mqadmin resetOffsetByTime)", r.offset, p.Max)
		}
	}
	r.sink.Busy()
	return r.hub.rt.Clock.Sleep(ctx, maxBackoff)
}

// lost counts messages that the broker deleted before they were read, and goes on behind them.
func (r *reader) lost(next int64) {
	r.hub.lost(r.queue, r.offset, next)
	r.offset = next
}

// checkCap finds out that the broker gives few messages a pull though many are waiting.
func (r *reader) checkCap(n, lag int64) {
	const small = 32
	if n > small || r.hub.cfg.Batch <= small || lag < int64(r.hub.cfg.Batch) {
		r.capped = 0
		return
	}
	if r.capped++; r.capped == 10 {
		r.hub.warnCap(r.queue.Broker, n)
	}
}

// backoff is the pause between two tries: 50 ms, doubled up to 1 s, which bounds how late a queue notices that its broker is back.
type backoff struct{ last time.Duration }

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, minBackoff), maxBackoff)
	return b.last
}

func transientUnlessClosed(err error) error {
	if errors.Is(err, rocketmq.ErrClosed) {
		return err
	}
	return flow.Transient(err)
}

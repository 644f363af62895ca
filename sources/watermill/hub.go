package watermill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cenkalti/backoff/v5"

	"github.com/millrace-stream/millrace/flow"
)

const (
	// ackGrace is how long the subscriber may take to see the last acks before its subscription ends.
	ackGrace = time.Second
	// endGrace is how long it may then take to close its channel.
	endGrace = 5 * time.Second
	// shortLife: a subscription that ends sooner counts as failed.
	shortLife = 15 * time.Second
	// maxPause is the longest pause between two tries to subscribe.
	maxPause = 5 * time.Second
)

// hub keeps the subscription and sorts its messages into the inboxes of their partitions.
type hub struct {
	sub   message.Subscriber
	topic string
	cfg   config
	rt    flow.SourceRuntime

	// waiting: a message cannot be handed on now. up: there is a subscription.
	waiting, up atomic.Bool
	held        atomic.Int64
	room        chan struct{}

	mu    sync.Mutex
	boxes map[string]*inbox
	end   context.CancelFunc // ends the subscription
	calls sync.WaitGroup     // of Subscribe under way
	in    <-chan *message.Message
}

func newHub(sub message.Subscriber, topic string) *hub {
	return &hub{sub: sub, topic: topic, cfg: config{maxUnacked: DefaultMaxUnacked}}
}

func (h *hub) open(rt flow.SourceRuntime) {
	h.rt = rt
	h.boxes, h.room, h.end, h.in = map[string]*inbox{}, make(chan struct{}, 1), nil, nil
	h.held.Store(0)
}

func (h *hub) box(id string) *inbox {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.boxes[id]
}

// window is what the engine is told: how many messages of a partition the subscriber lets be unacked.
func (h *hub) window(peak int) int {
	switch h.cfg.window {
	case NoWindow:
		return 0
	case 0:
		return max(peak, 1)
	}
	return h.cfg.window
}

// quiet tells whether the subscriber could give a message and gives none.
func (h *hub) quiet() bool { return h.up.Load() && !h.waiting.Load() }

// changed lets every reader look again.
func (h *hub) changed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.boxes {
		b.signal()
	}
}

// acked makes room.
func (h *hub) acked(n int) {
	h.held.Add(-int64(n))
	select {
	case h.room <- struct{}{}:
	default:
	}
}

// run keeps a subscription and takes its messages until ctx ends.
func (h *hub) run(ctx context.Context, a flow.Assign) error {
	known := h.cfg.known
	if h.cfg.partition == nil {
		known = []string{only}
	}
	// The subscription outlives ctx: what is committed after it must still be acked.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	h.mu.Lock()
	h.end = end
	h.mu.Unlock()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.Multiplier = 20*time.Millisecond, maxPause, 2
	pause.Reset()
	failures := 0
	for {
		in, err := h.subscribe(ctx, life)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			since := h.rt.Clock.Now()
			h.up.Store(true)
			h.changed()
			// Partitions come with the subscription: a topology that is ready has subscribed.
			if err := h.add(a, known...); err != nil {
				return endOf(ctx, err)
			}
			known = nil
			err = h.take(ctx, a, in)
			if !errors.Is(err, errEnded) {
				return endOf(ctx, err)
			}
			h.up.Store(false)
			h.changed()
			if h.rt.Clock.Now().Sub(since) >= shortLife {
				failures = 0
				pause.Reset()
			}
		} else if h.cfg.permanent != nil && h.cfg.permanent(err) {
			return fmt.Errorf("watermill source: subscribe to %q: %w", h.topic, err)
		}
		failures++
		if failures == 1 || failures%12 == 0 {
			h.rt.Log.Warn("watermill: no subscription, trying again", "topic", h.topic, "err", err, "attempt", failures)
		}
		if h.rt.Clock.Sleep(ctx, pause.NextBackOff()) != nil {
			return nil
		}
		h.rt.Count("resubscribed", 1)
	}
}

var errEnded = errors.New("the subscriber closed the channel")

// subscribe calls Subscribe beside us: it may block for as long as it likes, but not beyond ctx.
func (h *hub) subscribe(ctx, life context.Context) (<-chan *message.Message, error) {
	type result struct {
		in  <-chan *message.Message
		err error
	}
	done := make(chan result, 1)
	h.calls.Add(1)
	go func() {
		defer h.calls.Done()
		in, err := h.sub.Subscribe(life, h.topic)
		if err == nil {
			h.mu.Lock()
			h.in = in
			h.mu.Unlock()
		}
		done <- result{in, err}
	}()
	select {
	case r := <-done:
		return r.in, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// take hands messages on until ctx ends or the subscriber closes its channel.
func (h *hub) take(ctx context.Context, a flow.Assign, in <-chan *message.Message) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m, ok := <-in:
			if !ok {
				return errEnded
			}
			if err := h.put(ctx, a, m); err != nil {
				return err
			}
		}
	}
}

func (h *hub) put(ctx context.Context, a flow.Assign, m *message.Message) error {
	if m == nil {
		return nil
	}
	at := h.rt.Clock.Now()
	id := only
	if h.cfg.partition != nil {
		id = h.cfg.partition(m)
	}
	box := h.box(id)
	if box == nil {
		if err := h.add(a, id); err != nil {
			return err
		}
		box = h.box(id)
	}
	for h.held.Load() >= int64(h.cfg.maxUnacked) {
		h.waiting.Store(true)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-h.room:
		}
	}
	if h.waiting.CompareAndSwap(true, false) {
		h.changed()
	}
	h.held.Add(1)
	box.put(arrival{m, at})
	return nil
}

// add makes partitions known to the engine, which begins to read them.
func (h *hub) add(a flow.Assign, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	parts := make([]flow.Partition, len(ids))
	h.mu.Lock()
	for i, id := range ids {
		parts[i].ID = id
		h.boxes[id] = newInbox(id)
	}
	h.mu.Unlock()
	return a.Add(parts...)
}

// close waits for the subscriber to see the last acks, ends the subscription and waits for its end.
func (h *hub) close(ctx context.Context) error {
	h.settle(ctx)
	h.mu.Lock()
	end := h.end
	h.mu.Unlock()
	if end != nil {
		end()
	}
	ended := make(chan error, 1)
	go func() { // beside Close: a subscriber may wait for its messages to be taken
		ended <- h.bounded(ctx, "the subscriber has not ended the subscription, though its context has", func() error {
			h.drain()
			return nil
		})
	}()
	var err error
	if h.cfg.own {
		err = h.bounded(ctx, "the subscriber is still closing", h.sub.Close)
	}
	return errors.Join(err, <-ended)
}

// drain takes what the subscriber still gives, neither acked nor nacked: it comes again.
func (h *hub) drain() {
	h.calls.Wait()
	h.mu.Lock()
	in := h.in
	h.mu.Unlock()
	if in == nil {
		return
	}
	for ok := true; ok; {
		_, ok = <-in
	}
}

// settle waits until the messages that were acked last are done with: subscribers end a message's context then, and may forget an
// ack when their own context ends at the same time.
func (h *hub) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ackGrace)
	defer cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.boxes {
		for _, m := range b.lastAcked() {
			done := m.Context().Done()
			if done == nil {
				continue
			}
			select {
			case <-done:
			case <-ctx.Done():
				return
			}
		}
	}
}

// bounded calls f, and goes on without it when it takes too long.
func (h *hub) bounded(ctx context.Context, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, endGrace)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("watermill source: topic %q: %s: %w", h.topic, what, ctx.Err())
	}
}

// endOf is nil when ctx has ended: that is how Run ends.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

package rocketmq

import (
	"context"
	"fmt"
	"sync"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// run finds the topic's queues, adds them, and looks for new ones until ctx ends.
func (h *hub) run(ctx context.Context, a flow.Assign) error {
	route, err := h.firstRoute(ctx)
	if err != nil {
		return endOf(ctx, err)
	}
	deadline := h.rt.Clock.Now().Add(h.cfg.TopicWait)
	var pause backoff
	for first := true; ; {
		h.setMasters(route)
		ready, failed, err := h.ask(ctx, route.Readable)
		if err != nil {
			return endOf(ctx, err)
		}
		// Queues that are known together hold the watermark from the start, so a broker that is only slow is waited for.
		late := !h.rt.Clock.Now().Before(deadline)
		if failed == nil || late {
			if failed != nil && first {
				h.rt.Log.Warn("rocketmq: some queues are not read yet; they are added when their broker answers", "topic", h.cfg.Topic, "err", failed)
			}
			first = false
			if err := h.add(a, ready); err != nil {
				return err
			}
		}
		wait := h.cfg.RouteRefresh
		if failed != nil {
			wait = pause.next()
		}
		if err := h.rt.Clock.Sleep(ctx, wait); err != nil {
			return nil
		}
		next, err := h.client.Route(ctx, h.cfg.Topic)
		switch {
		case err == nil:
			route = next
		case ctx.Err() != nil:
			return nil
		} // else the brokers know more than the name servers now: go on with the old route
	}
}

// firstRoute waits for a name server, and a little while for the topic.
func (h *hub) firstRoute(ctx context.Context) (rocketmq.Route, error) {
	var pause backoff
	deadline := h.rt.Clock.Now().Add(h.cfg.TopicWait)
	for warned := false; ; {
		r, err := h.client.Route(ctx, h.cfg.Topic)
		switch {
		case err == nil && len(r.Readable) > 0:
			return r, nil
		case err == nil:
			err = fmt.Errorf("rocketmq source: topic %q has no readable queue: set its perm to 6 (mqadmin updateTopicPerm)", h.cfg.Topic)
		case ctx.Err() != nil:
			return r, ctx.Err()
		}
		if !flow.IsTransient(err) && !h.rt.Clock.Now().Before(deadline) {
			return r, fmt.Errorf("rocketmq source: %w", err)
		}
		if !warned && flow.IsTransient(err) {
			warned = true
			h.rt.Log.Warn("rocketmq: cannot start to read yet; trying on", "topic", h.cfg.Topic, "name_servers", h.cfg.NameServers, "err", err)
		}
		if err := h.rt.Clock.Sleep(ctx, pause.next()); err != nil {
			return r, err
		}
	}
}

// ask learns the committed offsets of queues that are not added yet, from all brokers at once. failed says why some are missing;
// err is a permanent refusal.
func (h *hub) ask(ctx context.Context, queues []rocketmq.Queue) (ready []flow.Partition, failed, err error) {
	var asked []rocketmq.Queue
	for _, q := range queues {
		if !h.added[q] {
			asked = append(asked, q)
		}
	}
	parts := make([]flow.Partition, len(asked))
	errs := make([]error, len(asked))
	var all sync.WaitGroup
	for i, q := range asked {
		all.Go(func() { parts[i], errs[i] = h.partition(ctx, q) })
	}
	all.Wait()
	for i, e := range errs {
		switch {
		case e == nil:
			ready = append(ready, parts[i])
		case flow.IsTransient(e), rocketmq.IsCode(e, rocketmq.TopicNotExist):
			failed = e
		default:
			return nil, nil, fmt.Errorf("rocketmq source: queue %s of topic %q: %w", asked[i], h.cfg.Topic, e)
		}
	}
	return ready, failed, nil
}

func (h *hub) partition(ctx context.Context, q rocketmq.Queue) (flow.Partition, error) {
	p := flow.Partition{ID: q.String()}
	addr, err := h.addr(q.Broker)
	if err != nil {
		return p, err
	}
	offset, known, err := h.client.Committed(ctx, addr, h.cfg.Group, h.cfg.Topic, q)
	if err != nil || !known {
		return p, err
	}
	p.Committed.Offset = offset
	if offset == 0 && (h.start.last || !h.start.at.IsZero()) {
		p.Committed.Token = zeroToken
	}
	return p, nil
}

func (h *hub) add(a flow.Assign, parts []flow.Partition) error {
	if len(parts) == 0 {
		return nil
	}
	if err := a.Add(parts...); err != nil {
		return err
	}
	for _, p := range parts {
		q, err := parseQueue(p.ID)
		if err != nil {
			return err
		}
		h.added[q] = true
	}
	return nil
}

// endOf is nil when ctx has ended: that is how Run ends.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// hub is what the readers of all queues share: the client, where the brokers are, and who has been told what.
type hub struct {
	cfg    Config
	start  start
	filter filter
	rt     flow.SourceRuntime
	client *rocketmq.Client
	added  map[rocketmq.Queue]bool // of Run alone

	mu        sync.Mutex
	masters   map[string]string
	refreshed time.Time
	outages   map[string]*outage
	gaps      map[rocketmq.Queue]bool
	cap       bool
}

// outage is what is known of a broker's last outage.
type outage struct {
	since time.Time // zero: it answers
	ended time.Time
}

func (h *hub) open(rt flow.SourceRuntime) error {
	err := h.cfg.validate()
	client, e := rocketmq.NewClient(h.cfg.Connection)
	if err = errors.Join(err, e); err != nil {
		return err
	}
	h.start, _ = parseStart(h.cfg.From) // validated
	h.filter, _ = h.cfg.filter()
	h.rt, h.client = rt, client
	h.added, h.outages, h.gaps = map[rocketmq.Queue]bool{}, map[string]*outage{}, map[rocketmq.Queue]bool{}
	return nil
}

// commit stores a position on the broker. The engine repeats it while the broker does not answer.
func (h *hub) commit(ctx context.Context, p flow.Partition, upTo flow.Position) error {
	q, err := parseQueue(p.ID)
	if err != nil {
		return err
	}
	addr, err := h.addr(q.Broker)
	if err != nil {
		return err
	}
	if err := h.client.Commit(ctx, addr, h.cfg.Group, h.cfg.Topic, q, upTo.Offset); err != nil {
		err = fmt.Errorf("rocketmq source: commit %s at %d: %w", p.ID, upTo.Offset, err)
		// The group comes with the first pull where the broker makes groups by itself; where it does not, the pull says so.
		if rocketmq.IsCode(err, rocketmq.TopicNotExist) || rocketmq.IsCode(err, rocketmq.GroupNotExist) {
			err = flow.Transient(err)
		}
		h.refresh(ctx)
		return err
	}
	return nil
}

// addr is where a broker's master is.
func (h *hub) addr(broker string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a := h.masters[broker]; a != "" {
		return a, nil
	}
	return "", flow.Transient(fmt.Errorf("rocketmq: the name servers know no master of broker %q", broker))
}

// setMasters takes the addresses of a new route. A broker that is missing in it keeps its address: it may be back before the
// name servers know.
func (h *hub) setMasters(r rocketmq.Route) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.masters == nil {
		h.masters = map[string]string{}
	}
	for name, addr := range r.Masters {
		h.masters[name] = addr
	}
}

// refresh asks for the brokers' addresses, at most once a second for all queues together.
func (h *hub) refresh(ctx context.Context) {
	now := h.rt.Clock.Now()
	h.mu.Lock()
	fresh := now.Sub(h.refreshed) < time.Second
	if !fresh {
		h.refreshed = now
	}
	h.mu.Unlock()
	if fresh {
		return
	}
	if r, err := h.client.Route(ctx, h.cfg.Topic); err == nil {
		h.setMasters(r)
	} // else the old addresses are tried on
}

// down logs a broker's outage when it begins. A try that began before the broker's return says nothing new.
func (h *hub) down(broker string, began time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.outages[broker]
	if o == nil {
		o = &outage{}
		h.outages[broker] = o
	}
	if !o.since.IsZero() || !o.ended.IsZero() && began.Before(o.ended) {
		return
	}
	o.since = h.rt.Clock.Now()
	h.rt.Count("outages", 1)
	what := "rocketmq: broker does not answer; its queues go on when it is back"
	var refusal *rocketmq.ServerError
	if errors.As(err, &refusal) {
		what = "rocketmq: broker does not serve the topic now; its queues go on when it does"
	}
	h.rt.Log.Warn(what, "broker", broker, "addr", h.masters[broker], "topic", h.cfg.Topic, "err", err)
}

func (h *hub) up(broker string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.outages[broker]
	if o == nil || o.since.IsZero() {
		return
	}
	now := h.rt.Clock.Now()
	h.rt.Log.Info("rocketmq: broker answers again", "broker", broker, "addr", h.masters[broker], "after", now.Sub(o.since))
	o.since, o.ended = time.Time{}, now
}

func (h *hub) lost(q rocketmq.Queue, from, to int64) {
	h.rt.Count("lost_by_retention", to-from)
	h.mu.Lock()
	told := h.gaps[q]
	h.gaps[q] = true
	h.mu.Unlock()
	if !told {
		h.rt.Log.Error("rocketmq: the broker deleted messages before they were read: raise fileReservedTime or disk space, or read faster; "+
			"further gaps of this queue are counted in lost_by_retention only",
			"topic", h.cfg.Topic, "queue", q.String(), "from", from, "to", to, "count", to-from)
	}
}

func (h *hub) warnCap(broker string, n int64) {
	h.mu.Lock()
	told := h.cap
	h.cap = true
	h.mu.Unlock()
	if !told {
		h.rt.Log.Warn("rocketmq: the broker gives few messages a pull though many are waiting: set maxTransferCountOnMessageInMemory and "+
			"maxTransferCountOnMessageInDisk to 1024, maxTransferBytesOnMessageInMemory and maxTransferBytesOnMessageInDisk to 4194304",
			"broker", broker, "count", n, "batch", h.cfg.Batch)
	}
}

func parseQueue(id string) (rocketmq.Queue, error) {
	i := strings.LastIndexByte(id, '/')
	if i > 0 {
		if n, err := strconv.Atoi(id[i+1:]); err == nil {
			return rocketmq.Queue{Broker: id[:i], ID: n}, nil
		}
	}
	return rocketmq.Queue{}, fmt.Errorf("rocketmq source: partition %q is not of the form broker/queue", id)
}

package kafka

import (
	"context"
	"errors"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// hub is what the readers of all partitions share: the client, who leads which partition, and who has been told what.
type hub struct {
	cfg     Config
	start   int64
	pattern *regexp.Regexp
	rt      flow.SourceRuntime
	client  *kgo.Client
	outages kafka.Outages
	commits committer
	added   map[kafka.Key]bool // of Run alone
	looked  atomic.Bool        // the partitions of the start are added

	ctx     context.Context // of the fetchers and the refresher: until Close
	stop    context.CancelFunc
	all     sync.WaitGroup
	begun   sync.Once
	refresh chan struct{}

	mu       sync.Mutex
	topics   map[string]kafka.Topic
	begins   map[kafka.Key]int64 // where partitions without a position are begun
	boxes    map[kafka.Key]*inbox
	fetchers map[int32]*fetcher
	gaps     map[kafka.Key]bool
	vanished map[string]bool
}

func (h *hub) open(rt flow.SourceRuntime) error {
	if err := h.cfg.validate(); err != nil {
		return err
	}
	client, err := kafka.Open(h.cfg.Connection, kgo.RequestRetries(3))
	if err != nil {
		return err
	}
	h.start, _ = parseStart(h.cfg.From) // validated
	h.pattern, _ = h.cfg.pattern()
	h.rt, h.client = rt, client
	h.outages = kafka.Outages{Clock: rt.Clock, Log: rt.Log, Count: rt.Count}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.refresh = make(chan struct{}, 1)
	h.added, h.begins = map[kafka.Key]bool{}, map[kafka.Key]int64{}
	h.topics, h.boxes, h.fetchers = map[string]kafka.Topic{}, map[kafka.Key]*inbox{}, map[int32]*fetcher{}
	h.gaps, h.vanished = map[kafka.Key]bool{}, map[string]bool{}
	h.commits.store = h.store
	return nil
}

func (h *hub) close() {
	if h.client == nil {
		return
	}
	h.stop()
	h.all.Wait()
	h.client.Close()
}

// attach makes a partition one that is fetched, from offset on.
func (h *hub) attach(b *inbox) {
	h.begun.Do(func() { h.all.Go(h.refreshLoop) })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boxes[b.key] = b
	h.place(b)
}

func (h *hub) detach(b *inbox) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.boxes, b.key)
	h.unplace(b)
}

// place gives a box to the fetcher of its leader; with no leader a refresh looks for one. The hub is locked.
func (h *hub) place(b *inbox) {
	p, known := partitionOf(h.topics[b.key.Topic], b.key.Partition)
	if !known || p.Leader < 0 {
		h.unplace(b)
		h.askRefresh()
		return
	}
	b.mu.Lock()
	b.leaderEpoch = p.Epoch
	b.mu.Unlock()
	f := h.fetchers[p.Leader]
	if f == nil {
		f = &fetcher{hub: h, broker: p.Leader, wake: make(chan struct{}, 1)}
		h.fetchers[p.Leader] = f
		h.all.Go(func() { f.run(h.ctx) })
	}
	if b.at != f {
		h.unplace(b)
		b.at = f
		f.boxes = append(f.boxes, b)
	}
	f.signal()
}

// unplace takes a box from its fetcher. The hub is locked.
func (h *hub) unplace(b *inbox) {
	f := b.at
	if f == nil {
		return
	}
	b.at = nil
	for i, x := range f.boxes {
		if x == b {
			f.boxes = append(f.boxes[:i], f.boxes[i+1:]...)
			return
		}
	}
}

func partitionOf(t kafka.Topic, n int32) (kafka.Partition, bool) {
	if t.Err != nil || int(n) >= len(t.Partitions) {
		return kafka.Partition{}, false
	}
	return t.Partitions[n], true
}

func (h *hub) askRefresh() {
	select {
	case h.refresh <- struct{}{}:
	default:
	}
}

// lostLeader takes a box from a leader that says that it is none, or that does not know the partition, until a refresh has found who is.
func (h *hub) lostLeader(b *inbox) {
	h.mu.Lock()
	h.unplace(b)
	h.mu.Unlock()
	b.in.Busy()
	h.askRefresh()
}

// refreshLoop asks who leads the partitions, whenever somebody has found out that it has changed.
func (h *hub) refreshLoop() {
	var pause backoff
	for {
		select {
		case <-h.refresh:
		case <-h.ctx.Done():
			return
		}
		again := h.refreshLeaders()
		if !again {
			pause = backoff{}
		}
		if h.rt.Clock.Sleep(h.ctx, pause.next()) != nil {
			return
		}
		if again {
			h.askRefresh()
		}
	}
}

// refreshLeaders places the partitions anew, and tells whether some have no leader yet.
func (h *hub) refreshLeaders() (again bool) {
	h.mu.Lock()
	names := map[string]bool{}
	for k := range h.boxes {
		names[k.Topic] = true
	}
	h.mu.Unlock()
	if len(names) == 0 {
		return false
	}
	list := make([]string, 0, len(names))
	for n := range names {
		list = append(list, n)
	}
	topics, err := kafka.Topics(h.ctx, h.client, h.cfg.Timeout, list...)
	if err != nil {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, t := range topics {
		h.take(name, t)
	}
	for _, b := range h.boxes {
		t := h.topics[b.key.Topic]
		if t.Err == nil && !b.sameTopic(t.ID) {
			h.unplace(b)
			b.fail(anyRound, errRecreated)
			continue
		}
		h.place(b)
		if b.at == nil {
			b.in.Busy()
			again = true
		}
	}
	return again
}

// take notes what the brokers say of a topic. The hub is locked.
func (h *hub) take(name string, t kafka.Topic) {
	h.topics[name] = t
	switch gone := kafka.IsUnknownTopic(t.Err); {
	case gone && !h.vanished[name] && h.reads(name):
		h.vanished[name] = true
		h.rt.Log.Warn("kafka: the brokers do not know the topic any more; it is read on if it comes back", "topic", name)
	case t.Err == nil && h.vanished[name]:
		delete(h.vanished, name)
	}
}

func (h *hub) reads(topic string) bool {
	for k := range h.boxes {
		if k.Topic == topic {
			return true
		}
	}
	return false
}

var errRecreated = errors.New("the topic was deleted and created again, so that the position means other records; to read what is there now, " +
	"start under a new group and a new topology name (or flow.DropState)")

// lost counts records that the brokers deleted before they were read.
func (h *hub) lost(k kafka.Key, from, to int64) {
	h.rt.Count("lost_by_retention", to-from)
	h.mu.Lock()
	told := h.gaps[k]
	h.gaps[k] = true
	h.mu.Unlock()
	if !told {
		h.rt.Log.Error("kafka: the brokers deleted records before they were read: raise retention.ms or retention.bytes, or read faster; "+
			"further gaps of this partition are counted in lost_by_retention only",
			"topic", k.Topic, "partition", k.Partition, "from", from, "to", to, "count", to-from)
	}
}

// backoff is the pause between two tries.
type backoff struct{ last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, kafka.MinBackoff), kafka.MaxBackoff)
	return b.last
}

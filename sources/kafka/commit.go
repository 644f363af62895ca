package kafka

import (
	"context"
	"maps"
	"sync"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// committer joins the commits of many partitions into few requests: those that come while one is under way go together in the next.
type committer struct {
	store func(ctx context.Context, offsets map[kafka.Key]kafka.Offset) (map[kafka.Key]error, error)

	mu      sync.Mutex
	running bool
	waiting *commits
}

type commits struct {
	offsets map[kafka.Key]kafka.Offset
	done    chan struct{}
	failed  map[kafka.Key]error
	err     error
}

// commit stores a position for the group. The engine repeats it while no broker answers.
func (h *hub) commit(ctx context.Context, p flow.Partition, upTo flow.Position) error {
	k, err := parsePartition(p.ID)
	if err != nil {
		return err
	}
	err = h.commits.commit(ctx, k, kafka.Offset{At: upTo.Offset, Metadata: upTo.Token})
	if kafka.IsUnknownTopic(err) { // deleted: nobody will ask for its offset, and the others' epochs must not wait for it
		h.rt.Count("commits_without_topic", 1)
		return nil
	}
	return err
}

func (h *hub) store(ctx context.Context, offsets map[kafka.Key]kafka.Offset) (map[kafka.Key]error, error) {
	h.mu.Lock()
	ids := make(map[string]kafka.TopicID, len(h.topics))
	for name, t := range h.topics {
		ids[name] = t.ID
	}
	h.mu.Unlock()
	return kafka.Commit(ctx, h.client, h.cfg.Timeout, h.cfg.Group, ids, offsets)
}

func (c *committer) commit(ctx context.Context, k kafka.Key, o kafka.Offset) error {
	c.mu.Lock()
	if c.waiting == nil {
		c.waiting = &commits{offsets: map[kafka.Key]kafka.Offset{}, done: make(chan struct{})}
	}
	mine := c.waiting
	mine.offsets[k] = o
	lead := !c.running
	c.running = true
	c.mu.Unlock()
	if lead {
		c.lead(ctx)
	}
	select {
	case <-mine.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if mine.err != nil {
		return mine.err
	}
	return mine.failed[k]
}

// lead sends what waits until nothing does.
func (c *committer) lead(ctx context.Context) {
	for {
		c.mu.Lock()
		now := c.waiting
		c.waiting = nil
		if now == nil {
			c.running = false
			c.mu.Unlock()
			return
		}
		offsets := maps.Clone(now.offsets)
		c.mu.Unlock()
		now.failed, now.err = c.store(ctx, offsets)
		close(now.done)
	}
}

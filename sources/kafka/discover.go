package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// run finds the topics' partitions, adds them, and looks for new ones until ctx ends.
func (h *hub) run(ctx context.Context, a flow.Assign) error {
	var pause backoff
	deadline := h.rt.Clock.Now().Add(h.cfg.TopicWait)
	for warned := false; ; {
		err := h.discover(ctx, a)
		if ctx.Err() != nil {
			return nil
		}
		var missing *missingError
		late := !h.rt.Clock.Now().Before(deadline)
		wait := h.cfg.TopicRefresh
		switch {
		case err == nil:
			pause = backoff{}
		case errors.As(err, &missing) && late, !errors.As(err, &missing) && !flow.IsTransient(err):
			return err
		default:
			wait = pause.next()
			if flow.IsTransient(err) && !warned {
				warned = true
				h.rt.Log.Warn("kafka: cannot look for partitions now; trying on", "brokers", h.cfg.Brokers, "err", err)
			}
		}
		if h.rt.Clock.Sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// missingError says that topics which were never seen do not exist.
type missingError struct{ topics []string }

func (e *missingError) Error() string {
	return fmt.Sprintf("kafka source: the brokers know no topic %q: create it (kafka-topics --create), or correct topics", e.topics)
}

// discover adds the partitions that are not added yet, all in one call, so that they hold the watermark together.
func (h *hub) discover(ctx context.Context, a flow.Assign) error {
	topics, err := h.find(ctx)
	if err != nil {
		return err
	}
	var fresh []kafka.Key
	var names []string
	for _, t := range topics {
		before := len(fresh)
		for n := range t.Partitions {
			if k := (kafka.Key{Topic: t.Name, Partition: int32(n)}); !h.added[k] {
				fresh = append(fresh, k)
			}
		}
		if len(fresh) > before {
			names = append(names, t.Name)
		}
	}
	if len(fresh) == 0 {
		h.looked.Store(true)
		return nil
	}
	known, err := kafka.Committed(ctx, h.client, h.cfg.Timeout, h.cfg.Group, names...)
	if err != nil {
		return fmt.Errorf("kafka source: %w", err)
	}
	parts := make([]flow.Partition, len(fresh))
	begins := h.where(fresh, known)
	for i, k := range fresh {
		parts[i].ID = partitionID(k)
		if o, ok := known[k]; ok {
			parts[i].Committed = committed(o)
		}
	}
	h.mu.Lock()
	for _, t := range topics {
		h.take(t.Name, t)
	}
	for i, k := range fresh {
		h.begins[k] = begins[i]
	}
	h.mu.Unlock()
	if err := a.Add(parts...); err != nil {
		return err
	}
	for _, k := range fresh {
		h.added[k] = true
	}
	h.looked.Store(true)
	return nil
}

// find asks for the topics to read, sorted by name.
func (h *hub) find(ctx context.Context) (found []kafka.Topic, err error) {
	topics, err := kafka.Topics(ctx, h.client, h.cfg.Timeout, h.cfg.Topics...)
	if err != nil {
		return nil, fmt.Errorf("kafka source: %w", err)
	}
	var missing []string
	for name, t := range topics {
		if h.pattern != nil && !h.pattern.MatchString(name) {
			continue
		}
		switch {
		case t.Err == nil:
			found = append(found, t)
		case h.seen(name): // it vanished, or has no leader: the refresher deals with that
		case kafka.IsUnknownTopic(t.Err):
			missing = append(missing, name)
		default:
			return nil, fmt.Errorf("kafka source: topic %q: %w", name, kafka.Err(ctx, t.Err))
		}
	}
	slices.SortFunc(found, func(a, b kafka.Topic) int { return strings.Compare(a.Name, b.Name) })
	if len(missing) > 0 && h.pattern == nil {
		slices.Sort(missing)
		return nil, &missingError{missing}
	}
	return found, nil
}

func (h *hub) seen(topic string) bool { return h.added[kafka.Key{Topic: topic}] }

// where says for each partition where it is begun if it has no position. From is about the first start: what comes while we run, or is
// new where the group knows something of the topic (for a pattern: of any topic), is begun at its beginning.
func (h *hub) where(fresh []kafka.Key, known map[kafka.Key]kafka.Offset) []int64 {
	begun := map[string]bool{}
	for k := range known {
		begun[k.Topic] = true
	}
	at := make([]int64, len(fresh))
	for i, k := range fresh {
		at[i] = h.start
		if h.looked.Load() || begun[k.Topic] || h.pattern != nil && len(begun) > 0 {
			at[i] = kafka.Earliest
		}
	}
	return at
}

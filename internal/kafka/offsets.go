package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-stream/millrace/flow"
)

// Places that ListOffset knows beside times in milliseconds.
const (
	Earliest int64 = -2
	Latest   int64 = -1
)

// ListOffset finds an offset of a partition: its Earliest, its Latest, or that of the first record with a timestamp of at least at.
// A time behind the last record is the latest. With committed the latest is the last stable offset, before any open transaction.
func ListOffset(ctx context.Context, c *kgo.Client, limit time.Duration, topic string, partition int32, at int64, committed bool) (int64, error) {
	wait, cancel := bounded(ctx, limit)
	defer cancel()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	if committed {
		req.IsolationLevel = 1
	}
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, at
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(wait, c)
	if err != nil {
		return 0, fmt.Errorf("kafka: list offsets: %w", Err(wait, err))
	}
	if len(resp.Topics) == 0 || len(resp.Topics[0].Partitions) == 0 {
		return 0, flow.Transient(errors.New("kafka: list offsets: an answer without the partition"))
	}
	switch p := &resp.Topics[0].Partitions[0]; {
	case p.ErrorCode != 0:
		return 0, fmt.Errorf("kafka: list offsets: %w", Err(wait, kerr.ErrorForCode(p.ErrorCode)))
	case p.Offset >= 0:
		return p.Offset, nil
	case at == Latest:
		return 0, flow.Transient(fmt.Errorf("kafka: list offsets: partition %s/%d has no end", topic, partition))
	}
	return ListOffset(ctx, c, limit, topic, partition, Latest, committed)
}

// Offset is what a group remembers of a partition.
type Offset struct {
	At       int64
	Metadata string
}

// Key is a partition of a topic.
type Key struct {
	Topic     string
	Partition int32
}

// Committed asks what a group remembers of topics.
func Committed(ctx context.Context, c *kgo.Client, limit time.Duration, group string, topics ...string) (map[Key]Offset, error) {
	wait, cancel := bounded(ctx, limit)
	defer cancel()
	resp, err := kadm.NewClient(c).FetchOffsetsForTopics(wait, group, topics...)
	if errors.Is(err, kerr.GroupIDNotFound) { // Kafka says so with an empty answer; others do not
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("kafka: ask for the offsets of group %q: %w", group, Err(wait, err))
	}
	known := map[Key]Offset{}
	for topic, ps := range resp {
		for n, p := range ps {
			switch {
			case p.Err != nil && !IsUnknownTopic(p.Err):
				return nil, fmt.Errorf("kafka: ask for the offset of group %q in partition %s/%d: %w", group, topic, n, Err(wait, p.Err))
			case p.Err == nil && p.At >= 0:
				known[Key{topic, n}] = Offset{At: p.At, Metadata: p.Metadata}
			}
		}
	}
	return known, nil
}

// Commit stores offsets for a group that has no members, and waits until the coordinator has confirmed them. The answer holds an
// error for each partition that was not stored.
func Commit(ctx context.Context, c *kgo.Client, limit time.Duration, group string, ids map[string]TopicID, offsets map[Key]Offset) (map[Key]error, error) {
	wait, cancel := bounded(ctx, limit)
	defer cancel()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = group
	at := map[string]int{}
	for k, o := range offsets {
		i, ok := at[k.Topic]
		if !ok {
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic, t.TopicID = k.Topic, ids[k.Topic]
			i, at[k.Topic] = len(req.Topics), len(req.Topics)
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset = k.Partition, o.At
		if o.Metadata != "" {
			p.Metadata = kmsg.StringPtr(o.Metadata)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	resp, err := req.RequestWith(wait, c)
	if err != nil {
		return nil, fmt.Errorf("kafka: commit for group %q: %w", group, Err(wait, err))
	}
	names := map[TopicID]string{}
	for name := range at {
		names[ids[name]] = name
	}
	failed := map[Key]error{}
	for k := range offsets {
		failed[k] = flow.Transient(errors.New("kafka: commit: an answer without the partition"))
	}
	for _, t := range resp.Topics {
		name := t.Topic
		if name == "" {
			name = names[t.TopicID]
		}
		for _, p := range t.Partitions {
			k := Key{name, p.Partition}
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				failed[k] = fmt.Errorf("kafka: commit %s/%d for group %q: %w", name, p.Partition, group, Err(wait, err))
				continue
			}
			delete(failed, k)
		}
	}
	return failed, nil
}

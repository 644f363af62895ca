package kafka

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// target is a topic that is written to, as it was when it was first.
type target struct {
	name      string
	shards    int
	marks     [][]kgo.RecordHeader // by shard
	maxBytes  int32
	compacted bool
	round     int // records without a key so far
}

// defaultMaxBytes is Kafka's default of max.message.bytes.
const defaultMaxBytes = 1<<20 + 12

// resolve learns about a topic; the answer holds until the sink is closed.
func (p *producer) resolve(ctx context.Context, name string) error {
	if p.target(name) != nil {
		return nil
	}
	topics, err := kafka.Topics(ctx, p.client, p.cfg.Timeout, name)
	if err != nil {
		return fmt.Errorf("kafka sink: %w", err)
	}
	t := topics[name]
	switch {
	case kafka.IsUnknownTopic(t.Err):
		return &missingError{name}
	case t.Err != nil:
		return fmt.Errorf("kafka sink: topic %q: %w", name, kafka.Err(ctx, t.Err))
	case len(t.Partitions) == 0:
		return flow.Transient(fmt.Errorf("kafka sink: topic %q is shown without partitions", name))
	case len(t.Partitions) > flow.KeyGroups:
		return fmt.Errorf("kafka sink: topic %q has %d partitions: keys make %d groups, so more cannot be used", name, len(t.Partitions), flow.KeyGroups)
	}
	set, err := kafka.TopicConfig(ctx, p.client, p.cfg.Timeout, name)
	if flow.IsTransient(err) || ctx.Err() != nil {
		return fmt.Errorf("kafka sink: %w", err)
	}
	if err != nil { // it is nobody's duty to let us look
		p.rt.Log.Info("kafka: the brokers do not tell the topic's settings; records may have 1 MiB unless max_record_bytes says otherwise", "topic", name, "err", err)
	}
	x := &target{name: name, shards: len(t.Partitions), maxBytes: defaultMaxBytes, compacted: strings.Contains(set["cleanup.policy"], "compact")}
	if n, err := strconv.ParseInt(set["max.message.bytes"], 10, 32); err == nil && n > 0 {
		x.maxBytes = int32(n)
	}
	if n := p.cfg.MaxRecordBytes; n > 0 && n <= math.MaxInt32 {
		x.maxBytes = int32(n)
	}
	x.maxBytes = min(x.maxBytes, maxBatchBytes)
	all := []byte(strconv.Itoa(x.shards))
	for i := range x.shards {
		x.marks = append(x.marks, []kgo.RecordHeader{{Key: kafka.Shard, Value: []byte(strconv.Itoa(i))}, {Key: kafka.Shards, Value: all}})
	}
	p.topicsMu.Lock()
	defer p.topicsMu.Unlock()
	if p.targets == nil {
		p.targets = map[string]*target{}
	}
	p.targets[name] = x
	return nil
}

// maxBatchBytes is what a client sends at most at once.
const maxBatchBytes = 64 << 20

func (p *producer) target(name string) *target {
	p.topicsMu.RLock()
	defer p.topicsMu.RUnlock()
	return p.targets[name]
}

// batchBytes is the client's question for a topic's limit.
func (p *producer) batchBytes(topic string) int32 {
	if t := p.target(topic); t != nil {
		return t.maxBytes
	}
	return defaultMaxBytes
}

// missingError says that a topic does not exist.
type missingError struct{ topic string }

func (e *missingError) Error() string {
	return fmt.Sprintf("kafka sink: the brokers know no topic %q: create it (kafka-topics --create)", e.topic)
}

// checkTopic refuses a record whose topic no broker can have.
func checkTopic(name string) error {
	if name == "" || len(name) > 249 || name == "." || name == ".." {
		return fmt.Errorf("kafka sink: %q is no name of a topic: want 1 to 249 letters, digits, dots, dashes and underscores", name)
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			return fmt.Errorf("kafka sink: %q is no name of a topic: %q is not allowed in it", name, c)
		}
	}
	return nil
}

package kafka

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/internal/kafka"
)

// Connection says how to reach a cluster and how to be accepted by it.
type Connection = kafka.Connection

// Secret is a string that prints as "[redacted]".
type Secret = kafka.Secret

// TLS says how connections are encrypted.
type TLS = kafka.TLS

// SASL says who we are to the brokers.
type SASL = kafka.SASL

// Config of a source.
type Config struct {
	Connection `yaml:",inline"`
	// Topics are read whole: all their partitions. Required, unless TopicPattern is set.
	Topics []string `yaml:"topics"`
	// TopicPattern is a regular expression (RE2) that the whole name of a topic must match; topics that match later are found
	// while running. Kafka's internal topics never match. Defaults to none.
	TopicPattern string `yaml:"topic_pattern"`
	// Group is the consumer group under which the brokers remember positions, for tools that show lag and for topologies whose
	// store has none. Nobody else may consume in it. Required.
	Group string `yaml:"group"`
	// From says where a partition is begun when neither the topology nor the group knows a position: "earliest", "latest", or a
	// time in RFC 3339, which means the first record with that timestamp or a later one. Partitions and topics that appear while
	// the topology runs are begun at their beginning. Defaults to earliest.
	From string `yaml:"from"`
	// IsolationLevel is "read_committed", which never shows records of transactions that were aborted or are open, or
	// "read_uncommitted". Defaults to read_committed.
	IsolationLevel string `yaml:"isolation_level"`
	// PollTimeout is how long a broker keeps a fetch when there is nothing, from 10 ms to 1 minute. A new partition waits as long at most for its first
	// fetch. Defaults to 500 ms.
	PollTimeout time.Duration `yaml:"poll_timeout"`
	// PartitionBytes and FetchBytes bound what a broker's answer holds of one partition and as a whole, as it is sent:
	// compressed. A single batch that is larger comes nevertheless. Default to 1 MiB and 16 MiB.
	PartitionBytes int `yaml:"partition_bytes"`
	FetchBytes     int `yaml:"fetch_bytes"`
	// Assignment says who reads which partitions. "all" reads every partition here; nothing else exists yet. Defaults to all.
	Assignment string `yaml:"assignment"`
	// TopicRefresh is how often the brokers are asked for new topics and partitions. Defaults to 30 s.
	TopicRefresh time.Duration `yaml:"topic_refresh"`
	// TopicWait is how long a start waits for a topic that the brokers do not know before it fails. Defaults to 10 s.
	TopicWait time.Duration `yaml:"topic_wait"`
	// Meta fills Record.Meta: headers, key, partition and offset, at some allocations a record. Defaults to false.
	Meta bool `yaml:"meta"`
	// SkipTombstones leaves records without a value out, and counts them as tombstones: a compacted topic deletes a key by
	// one. Otherwise the codec is given an empty payload, which most refuse. Defaults to false.
	SkipTombstones bool `yaml:"skip_tombstones"`
	// CheckShards stops a partition at the first record that our sink wrote when the topic had another number of partitions
	// than before: keys have moved between partitions then. A topology with flow.CoPartitioned, where a key's state stays with its
	// partition, always does so; an exchanged one need not care. Defaults to false.
	CheckShards bool `yaml:"check_shards"`
}

func (c Config) withDefaults() Config {
	c.Connection = c.Connection.WithDefaults()
	if c.From == "" {
		c.From = "earliest"
	}
	if c.IsolationLevel == "" {
		c.IsolationLevel = "read_committed"
	}
	if c.PollTimeout == 0 {
		c.PollTimeout = 500 * time.Millisecond
	}
	if c.PartitionBytes == 0 {
		c.PartitionBytes = 1 << 20
	}
	if c.FetchBytes == 0 {
		c.FetchBytes = 16 << 20
	}
	if c.Assignment == "" {
		c.Assignment = "all"
	}
	if c.TopicRefresh == 0 {
		c.TopicRefresh = 30 * time.Second
	}
	if c.TopicWait == 0 {
		c.TopicWait = 10 * time.Second
	}
	return c
}

// maxFetchBytes is below what a client takes from a connection at once, 100 MiB.
const maxFetchBytes = 64 << 20

// validate lists all that is wrong at once.
func (c Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("kafka source: "+format, args...)) }
	switch {
	case len(c.Topics) == 0 && c.TopicPattern == "":
		bad("topics is empty, and topic_pattern too: set one")
	case len(c.Topics) > 0 && c.TopicPattern != "":
		bad("topics and topic_pattern are both set: set one")
	}
	seen := map[string]bool{}
	for _, t := range c.Topics {
		if t == "" || seen[t] {
			bad("topics holds %q twice, or an empty name", t)
		}
		seen[t] = true
	}
	if _, err := c.pattern(); err != nil {
		errs = append(errs, err)
	}
	if c.Group == "" {
		bad("group is empty: name the consumer group under which positions are kept")
	}
	if _, err := parseStart(c.From); err != nil {
		errs = append(errs, err)
	}
	if c.IsolationLevel != "read_committed" && c.IsolationLevel != "read_uncommitted" {
		bad("isolation_level is %q: want read_committed or read_uncommitted", c.IsolationLevel)
	}
	if c.PollTimeout < 10*time.Millisecond || c.PollTimeout > time.Minute {
		bad("poll_timeout is %s: want 10ms to 1m", c.PollTimeout)
	}
	if c.PartitionBytes < 1<<10 || c.FetchBytes < c.PartitionBytes || c.FetchBytes > maxFetchBytes {
		bad("partition_bytes is %d and fetch_bytes %d: want 1 KiB at least, the second no less than the first and no more than %d", c.PartitionBytes, c.FetchBytes, maxFetchBytes)
	}
	if c.Assignment != "all" {
		bad("assignment is %q: only \"all\" exists", c.Assignment)
	}
	for name, d := range map[string]time.Duration{"topic_refresh": c.TopicRefresh, "topic_wait": c.TopicWait} {
		if d < 0 {
			bad("%s is %s: want a positive duration", name, d)
		}
	}
	return errors.Join(append(errs, c.Check())...)
}

// pattern is nil when topics are named.
func (c Config) pattern() (*regexp.Regexp, error) {
	if c.TopicPattern == "" {
		return nil, nil
	}
	re, err := regexp.Compile(`\A(?:` + c.TopicPattern + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("kafka source: topic_pattern: %w", err)
	}
	return re, nil
}

func (c Config) committed() bool { return c.IsolationLevel == "read_committed" }

func (c Config) isolation() kgo.IsolationLevel {
	if c.committed() {
		return kgo.ReadCommitted()
	}
	return kgo.ReadUncommitted()
}

// parseStart returns where an unknown partition is begun, in the form of kafka.ListOffset.
func parseStart(s string) (int64, error) {
	switch s {
	case "earliest":
		return kafka.Earliest, nil
	case "latest":
		return kafka.Latest, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.UnixMilli() <= 0 {
		return 0, fmt.Errorf("kafka source: from is %q: want earliest, latest or a time such as 2026-01-31T00:00:00Z", s)
	}
	return t.UnixMilli(), nil
}

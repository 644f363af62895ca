package rocketmq

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// Connection says how to reach a cluster and how to be accepted by it.
type Connection = rocketmq.Connection

// Secret is a string that prints as "[redacted]".
type Secret = rocketmq.Secret

// TLS says how connections are encrypted.
type TLS = rocketmq.TLS

// Config of a source.
type Config struct {
	Connection `yaml:",inline"`
	// Topic is read whole: all its queues. Required.
	Topic string `yaml:"topic"`
	// Tags wants only messages with one of these tags, "alarm || warning": the broker leaves the others out, and positions go past
	// them for good. Defaults to all messages.
	Tags string `yaml:"tags"`
	// SQL wants only messages whose properties meet a condition in SQL92, "celsius > 90 AND site = 'north'". It needs
	// enablePropertyFilter=true on the brokers, and no Tags beside it. Defaults to all messages.
	SQL string `yaml:"sql"`
	// Group is the consumer group under which the broker remembers positions. Required.
	Group string `yaml:"group"`
	// From says where a queue is begun when neither the topology nor the broker knows a position: "first", "last", or a time in
	// RFC 3339, which means the first message that the broker stored then or later. Defaults to first.
	From string `yaml:"from"`
	// Batch is the most messages of one pull, up to 1,024. The broker caps it too, at 32 by default: see the warning in the log.
	// Defaults to 256.
	Batch int `yaml:"batch"`
	// PollTimeout is how long the broker keeps a pull when there is nothing, up to 1 minute. Defaults to 15 s.
	PollTimeout time.Duration `yaml:"poll_timeout"`
	// Assignment says who reads which queues. "all" reads every queue here; nothing else exists yet. Defaults to all.
	Assignment string `yaml:"assignment"`
	// RouteRefresh is how often the name servers are asked for new queues. Defaults to 30 s.
	RouteRefresh time.Duration `yaml:"route_refresh"`
	// TopicWait is how long a start waits for a topic that the name servers do not know, and for brokers that do not answer,
	// before it fails or goes on without them. A topic that was just created needs seconds. Defaults to 10 s.
	TopicWait time.Duration `yaml:"topic_wait"`
	// Meta fills Record.Meta: properties, sharding key, queue and offset, at some allocations a record. Defaults to false.
	Meta bool `yaml:"meta"`
	// CheckShards stops a queue at the first message that our sink wrote when the topic had another number of queues than before:
	// keys have moved between queues then. A topology with flow.CoPartitioned, where a key's state stays with its queue, always
	// does so; an exchanged one need not care. Defaults to false.
	CheckShards bool `yaml:"check_shards"`
}

func (c Config) withDefaults() Config {
	if c.From == "" {
		c.From = "first"
	}
	if c.Batch == 0 {
		c.Batch = 256
	}
	if c.PollTimeout == 0 {
		c.PollTimeout = 15 * time.Second
	}
	if c.Assignment == "" {
		c.Assignment = "all"
	}
	if c.RouteRefresh == 0 {
		c.RouteRefresh = 30 * time.Second
	}
	if c.TopicWait == 0 {
		c.TopicWait = 10 * time.Second
	}
	return c
}

// validate lists all that is wrong at once.
func (c Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("rocketmq source: "+format, args...)) }
	if c.Topic == "" {
		bad("topic is empty")
	}
	if c.Group == "" {
		bad("group is empty: name the consumer group under which positions are kept")
	}
	if _, err := c.filter(); err != nil {
		errs = append(errs, err)
	}
	if _, err := parseStart(c.From); err != nil {
		errs = append(errs, err)
	}
	if c.Batch < 1 || c.Batch > flow.MaxBatch {
		bad("batch is %d: want 1 to %d", c.Batch, flow.MaxBatch)
	}
	if c.PollTimeout < 100*time.Millisecond || c.PollTimeout > time.Minute {
		bad("poll_timeout is %s: want 100ms to 1m", c.PollTimeout)
	}
	if c.Assignment != "all" {
		bad("assignment is %q: only \"all\" exists", c.Assignment)
	}
	for name, d := range map[string]time.Duration{"route_refresh": c.RouteRefresh, "topic_wait": c.TopicWait} {
		if d < 0 {
			bad("%s is %s: want a positive duration", name, d)
		}
	}
	return errors.Join(errs...)
}

// start is where an unknown queue is begun.
type start struct {
	last bool
	at   time.Time // zero: not by time
}

func parseStart(s string) (start, error) {
	switch s {
	case "first":
		return start{}, nil
	case "last":
		return start{last: true}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.UnixMilli() <= 0 {
		return start{}, fmt.Errorf("rocketmq source: from is %q: want first, last or a time such as 2026-01-31T00:00:00Z", s)
	}
	return start{at: t}, nil
}

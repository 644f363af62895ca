package rocketmq

import (
	"errors"
	"fmt"

	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// Connection says how to reach a cluster and how to be accepted by it.
type Connection = rocketmq.Connection

// Secret is a string that prints as "[redacted]".
type Secret = rocketmq.Secret

// TLS says how connections are encrypted.
type TLS = rocketmq.TLS

// Config of a sink.
type Config struct {
	Connection `yaml:",inline"`
	// Topic is written to. It must exist: a sink never creates it with a number of queues that nobody chose. Required.
	Topic string `yaml:"topic"`
	// Group is the producer group that brokers and their access control see. With Transactional it is required, and should be no other
	// sink's: brokers ask members of the group what became of a half message. Defaults to millrace.
	Group string `yaml:"group"`
	// Transactional sends each message as RocketMQ's half message and commits it only when the broker has all those of the same
	// Deliver: readers see none of an epoch's messages before all of them are stored. It costs several requests a message, and does
	// not make delivery exactly once. Defaults to false.
	Transactional bool `yaml:"transactional"`
	// Queues is how many queues the topic has on all brokers together: the start waits until the name servers show so many.
	// Set it where there is more than one broker, since with one of them down a key would get another queue. Defaults to 0:
	// as many as there are at the start.
	Queues int `yaml:"queues"`
	// MaxMessageBytes is the broker's maxMessageSize; a larger message is refused before it is sent. Defaults to 4 MiB.
	MaxMessageBytes int `yaml:"max_message_bytes"`
	// BatchBytes is the most that a batch has; a larger message goes alone. Defaults to 1 MiB.
	BatchBytes int `yaml:"batch_bytes"`
	// BatchMessages is the most messages of a batch. Defaults to 1,024.
	BatchMessages int `yaml:"batch_messages"`
	// Parallel is how many queues are written to at the same time. Defaults to 16.
	Parallel int `yaml:"parallel"`
}

func (c Config) withDefaults() Config {
	if c.Group == "" && !c.Transactional {
		c.Group = "millrace"
	}
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = 4 << 20
	}
	if c.BatchBytes == 0 {
		c.BatchBytes = 1 << 20
	}
	if c.BatchMessages == 0 {
		c.BatchMessages = 1024
	}
	if c.Parallel == 0 {
		c.Parallel = 16
	}
	return c
}

// validate lists all that is wrong at once.
func (c Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("rocketmq sink: "+format, args...)) }
	if c.Topic == "" {
		bad("topic is empty")
	}
	if c.Group == "" {
		bad("group is empty: with transactional name a producer group that no other sink has")
	}
	if len(c.Topic) > 127 {
		bad("topic has %d bytes: brokers take 127", len(c.Topic))
	}
	for name, n := range map[string]int{
		"queues": c.Queues, "max_message_bytes": c.MaxMessageBytes, "batch_bytes": c.BatchBytes,
		"batch_messages": c.BatchMessages, "parallel": c.Parallel,
	} {
		if n < 0 {
			bad("%s is negative", name)
		}
	}
	if c.BatchBytes > c.MaxMessageBytes {
		bad("batch_bytes is %d, more than max_message_bytes, %d: a broker counts a batch as one message", c.BatchBytes, c.MaxMessageBytes)
	}
	return errors.Join(errs...)
}

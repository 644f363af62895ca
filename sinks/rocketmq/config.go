package rocketmq

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// Secret is a string that prints as "[redacted]".
type Secret = rocketmq.Secret

// TLS says how connections are encrypted.
type TLS = rocketmq.TLS

// Config of a sink.
type Config struct {
	// NameServers are host:port of the cluster's name servers; one that answers is enough. Required.
	NameServers []string `yaml:"name_servers"`
	// Topic is written to. It must exist: a sink never creates it with a number of queues that nobody chose. Required.
	Topic string `yaml:"topic"`
	// Group is the producer group that brokers and their access control see. Defaults to millrace.
	Group string `yaml:"group"`
	// Queues is how many queues the topic has on all brokers together: the start waits until the name servers show so many.
	// Set it where there is more than one broker, since with one of them down a key would get another queue. Defaults to 0:
	// as many as there are at the start.
	Queues int `yaml:"queues"`
	// MaxMessageBytes is the broker's maxMessageSize; a larger message is refused before it is sent. Defaults to 4 MiB.
	MaxMessageBytes int `yaml:"max_message_bytes"`
	// BatchBytes and BatchMessages cut the batches that are sent. Default to 1 MiB and 1,024.
	BatchBytes    int `yaml:"batch_bytes"`
	BatchMessages int `yaml:"batch_messages"`
	// Parallel is how many queues are written to at the same time. Defaults to 16.
	Parallel int `yaml:"parallel"`
	// Timeout bounds connecting and each request. Defaults to 5 s.
	Timeout time.Duration `yaml:"timeout"`
	// AccessKey, SecretKey and SecurityToken sign requests for brokers with access control. Defaults to none.
	AccessKey     string `yaml:"access_key"`
	SecretKey     Secret `yaml:"secret_key"`
	SecurityToken Secret `yaml:"security_token"`
	// TLS encrypts all connections. Defaults to none.
	TLS TLS `yaml:"tls"`
}

func (c Config) withDefaults() Config {
	if c.Group == "" {
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
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
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
	if len(c.Topic) > 127 {
		bad("topic has %d bytes: brokers take 127", len(c.Topic))
	}
	for name, n := range map[string]int{
		"queues": c.Queues, "max_message_bytes": c.MaxMessageBytes, "batch_bytes": c.BatchBytes,
		"batch_messages": c.BatchMessages, "parallel": c.Parallel, "timeout": int(c.Timeout),
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

func (c Config) client() (*rocketmq.Client, error) {
	t, err := c.TLS.Config()
	if err != nil {
		return nil, err
	}
	return rocketmq.New(rocketmq.Options{
		NameServers: c.NameServers,
		Timeout:     c.Timeout,
		TLS:         t,
		Credentials: rocketmq.Credentials{AccessKey: c.AccessKey, SecretKey: c.SecretKey, SecurityToken: c.SecurityToken},
	})
}

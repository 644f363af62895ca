package kafka

import (
	"errors"
	"fmt"
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

// Config of a sink.
type Config struct {
	Connection `yaml:",inline"`
	// Topic is written to. It must exist: a sink never creates it with a number of partitions that nobody chose. Required,
	// unless the option Topic gives each record its own.
	Topic string `yaml:"topic"`
	// Compression is "zstd", "lz4", "snappy", "gzip" or "none". Defaults to zstd.
	Compression string `yaml:"compression"`
	// MaxRecordBytes is the most that a record, and a batch of records, may have before compression; a larger record is
	// refused before it is sent. Defaults to the topic's max.message.bytes, and to 1 MiB where brokers do not tell it.
	MaxRecordBytes int `yaml:"max_record_bytes"`
	// InFlight is how many records are handed to the client and not acked yet. Defaults to 20,000.
	InFlight int `yaml:"in_flight"`
	// TransactionalID makes all blocks of a delivery one transaction, so that consumers with read_committed never see a half
	// of it. No other sink or process may use the same. Defaults to none.
	TransactionalID string `yaml:"transactional_id"`
	// TransactionTimeout is after how long brokers abort a transaction of a process that is gone; consumers with read_committed
	// wait for it as long. At most the brokers' transaction.max.timeout.ms. Defaults to 60 s.
	TransactionTimeout time.Duration `yaml:"transaction_timeout"`
	// TopicWait is how long a start waits for a topic that the brokers do not know before it fails. Defaults to 10 s.
	TopicWait time.Duration `yaml:"topic_wait"`
}

func (c Config) withDefaults() Config {
	c.Connection = c.Connection.WithDefaults()
	if c.Compression == "" {
		c.Compression = "zstd"
	}
	if c.InFlight == 0 {
		c.InFlight = 20_000
	}
	if c.TransactionTimeout == 0 {
		c.TransactionTimeout = time.Minute
	}
	if c.TopicWait == 0 {
		c.TopicWait = 10 * time.Second
	}
	return c
}

// validate lists all that is wrong at once; byRecord tells that records name their topics.
func (c Config) validate(byRecord bool) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("kafka sink: "+format, args...)) }
	if c.Topic == "" && !byRecord {
		bad("topic is empty")
	}
	if c.Topic != "" && byRecord {
		bad("topic is %q, and the option Topic is there too: take one away", c.Topic)
	}
	if _, ok := compression(c.Compression); !ok {
		bad("compression is %q: want zstd, lz4, snappy, gzip or none", c.Compression)
	}
	const least, most = 1 << 10, 64 << 20
	if c.MaxRecordBytes != 0 && (c.MaxRecordBytes < least || c.MaxRecordBytes > most) {
		bad("max_record_bytes is %d: want %d to %d", c.MaxRecordBytes, least, most)
	}
	if c.InFlight < 1 {
		bad("in_flight is %d: want 1 at least", c.InFlight)
	}
	if c.TransactionTimeout < time.Second {
		bad("transaction_timeout is %s: want 1s at least", c.TransactionTimeout)
	}
	if c.TopicWait < 0 {
		bad("topic_wait is %s: want a positive duration", c.TopicWait)
	}
	return errors.Join(append(errs, c.Check())...)
}

// compression finds a codec by its name.
func compression(name string) (c kgo.CompressionCodec, ok bool) {
	switch name {
	case "zstd":
		return kgo.ZstdCompression(), true
	case "lz4":
		return kgo.Lz4Compression(), true
	case "snappy":
		return kgo.SnappyCompression(), true
	case "gzip":
		return kgo.GzipCompression(), true
	case "none":
		return kgo.NoCompression(), true
	}
	return c, false
}

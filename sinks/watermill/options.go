package watermill

import (
	"errors"
	"fmt"
)

// Option configures a Sink of records of type T.
type Option[T any] func(*config)

// Untyped is an option that fits a Sink of any type.
type Untyped = func(*config)

// config holds functions of the records' type, which Option sees to.
type config struct {
	id, key, topic  any // func(T) string
	metadata        any // func(T) map[string]string
	batch, parallel int
	own             bool
	permanent       func(error) bool
}

// DefaultBatch is how many messages one call of the publisher gets where Batch says nothing.
const DefaultBatch = 100

// MetadataKey is the metadata field that Key fills. A publisher that has partitions can choose them by it, for instance
// watermill-kafka with kafka.NewWithPartitioningMarshaler.
const MetadataKey = "millrace_key"

func (c *config) validate(topic string) error {
	var errs []error
	if topic == "" && c.topic == nil {
		errs = append(errs, errors.New("watermill sink: the topic is empty: name one, or give the option Topic"))
	}
	if c.batch < 1 {
		errs = append(errs, fmt.Errorf("watermill sink: Batch(%d): want at least 1", c.batch))
	}
	if c.parallel < 1 || c.parallel > 1024 {
		errs = append(errs, fmt.Errorf("watermill sink: Parallel(%d): want 1 to 1,024", c.parallel))
	}
	return errors.Join(errs...)
}

// ID gives the message's UUID, the record's event id, so that readers can drop repeats after a crash, too. An empty id is
// refused. It must be safe for concurrent use.
func ID[T any](of func(T) string) Option[T] { return func(c *config) { c.id = of } }

// Key gives the shard key: it goes into the metadata under MetadataKey, and with Parallel messages of one key keep their order. An empty
// key is refused. It must be safe for concurrent use.
func Key[T any](of func(T) string) Option[T] { return func(c *config) { c.key = of } }

// Topic gives each record's topic; where it is empty, the sink's topic counts. It must be safe for concurrent use.
func Topic[T any](of func(T) string) Option[T] { return func(c *config) { c.topic = of } }

// Metadata adds to each message's metadata. It must be safe for concurrent use, and the map is not kept.
func Metadata[T any](of func(T) map[string]string) Option[T] {
	return func(c *config) { c.metadata = of }
}

// Batch sets how many messages of one topic are given to the publisher in one call. Publishers that write one transaction a call
// (watermill-sql) profit from many; after a failure all messages of the call are published again. Defaults to DefaultBatch.
func Batch(n int) Untyped { return func(c *config) { c.batch = n } }

// Parallel sets how many calls go on at once, for publishers that wait for an answer per message (watermill-kafka). Without Key
// it gives up the order. Defaults to 1.
func Parallel(n int) Untyped { return func(c *config) { c.parallel = n } }

// OwnPublisher makes the sink close the publisher when the topology ends. Without it nobody's publisher is closed.
func OwnPublisher() Untyped { return func(c *config) { c.own = true } }

// Permanent tells which errors of the publisher mean that it will never take the message: it goes to the dead letters. All others are
// tried again. Defaults to none.
func Permanent(is func(error) bool) Untyped { return func(c *config) { c.permanent = is } }

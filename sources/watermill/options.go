package watermill

import (
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Option configures a Source.
type Option func(*config)

type config struct {
	partition  func(*message.Message) string
	known      []string
	window     int
	maxUnacked int
	own        bool
	meta       bool
	storedAt   func(*message.Message) time.Time
	permanent  func(error) bool
}

// DefaultMaxUnacked is how many messages a source holds unacked where MaxUnacked says nothing.
const DefaultMaxUnacked = 20_000

// only is the partition of a source whose messages have none.
const only = "0"

func (c *config) validate() error {
	var errs []error
	if c.window < 0 && c.window != NoWindow {
		errs = append(errs, fmt.Errorf("watermill source: Window(%d): want a number of messages, 0 to find it out, or NoWindow", c.window))
	}
	if c.maxUnacked < 1 {
		errs = append(errs, fmt.Errorf("watermill source: MaxUnacked(%d): want at least 1", c.maxUnacked))
	}
	return errors.Join(errs...)
}

// Partition says which partition a message belongs to, for subscribers that join several on one channel; order is kept, and
// watermarks are made, within each. For watermill-kafka it is the number in the message's context
// (kafka.MessagePartitionFromCtx). Partitions are found by their first message; known names those that are to hold the watermark
// from the start. The names must be the same after a restart, and few: a partition is never forgotten.
func Partition(of func(*message.Message) string, known ...string) Option {
	return func(c *config) { c.partition, c.known = of, known }
}

// NoWindow says that the subscriber lets any number of messages be unacked.
const NoWindow = -1

// Window says how many messages of one partition the subscriber gives before the first of them is acked. Epochs end when half
// of it is unacked. 0 finds it out: it is the most that was ever seen unacked, at first 1. With NoWindow epochs end at the
// topology's interval only, which spares sinks; on a subscriber that does wait for acks it would give that many messages per
// interval. Defaults to 0.
func Window(n int) Option { return func(c *config) { c.window = n } }

// MaxUnacked bounds how many messages are held, of all partitions; beyond it nothing is taken from the subscriber. Defaults to
// DefaultMaxUnacked.
func MaxUnacked(n int) Option { return func(c *config) { c.maxUnacked = n } }

// OwnSubscriber makes the source close the subscriber when the topology ends. Without it only the subscription's context ends.
func OwnSubscriber() Option { return func(c *config) { c.own = true } }

// Meta fills Record.Meta: the message's metadata as headers, the topic as key, partition and number. Defaults to none.
func Meta() Option { return func(c *config) { c.meta = true } }

// StoredAt gives a record's reference time, where the system knows when it stored the message (kafka.MessageTimestampFromCtx). A
// zero time means the time of receipt.
func StoredAt(of func(*message.Message) time.Time) Option { return func(c *config) { c.storedAt = of } }

// Permanent tells which errors of Subscribe stop the topology, since trying again does not mend them. Defaults to none of them.
func Permanent(is func(error) bool) Option { return func(c *config) { c.permanent = is } }

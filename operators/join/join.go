// Package join is the vocabulary of operators.Join, OuterJoin, WindowJoin, CoGroup and AsOf.
package join

import (
	"fmt"
	"math"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/operators/window"
)

// Interval says how far from a left record's time those of the right may lie to be joined with it.
type Interval struct {
	lower, upper         time.Duration
	openBelow, openAbove bool
}

// Between joins a left record with the right ones from its time + lower to its time + upper, both ends included. Both may be negative:
// Between(-time.Minute, 0) takes what the right said in the minute before. The zero Interval joins records of equal times.
func Between(lower, upper time.Duration) Interval { return Interval{lower: lower, upper: upper} }

// ExclusiveLower leaves the lower end out.
func (i Interval) ExclusiveLower() Interval { i.openBelow = true; return i }

// ExclusiveUpper leaves the upper end out.
func (i Interval) ExclusiveUpper() Interval { i.openAbove = true; return i }

// String prints the interval, like "[-1m0s, 0s)".
func (i Interval) String() string {
	from, to := "[", "]"
	if i.openBelow {
		from = "("
	}
	if i.openAbove {
		to = ")"
	}
	return fmt.Sprintf("%s%v, %v%s", from, i.lower, i.upper, to)
}

// Bounds are both ends, included, in ticks. It is an error if no time lies between them.
func (i Interval) Bounds() (lower, upper flow.Timestamp, err error) {
	lower, upper = flow.Timestamp(i.lower), flow.Timestamp(i.upper)
	if lower == math.MinInt64 || upper == math.MinInt64 {
		return 0, 0, fmt.Errorf("the interval %v is wider than time", i)
	}
	if i.openBelow && lower < math.MaxInt64 {
		lower++
	}
	if i.openAbove {
		upper--
	}
	if lower > upper || i.openBelow && i.lower == math.MaxInt64 {
		return 0, 0, fmt.Errorf("nothing lies in the interval %v", i)
	}
	return lower, upper, nil
}

// Kind says what becomes of records that find no partner.
type Kind uint8

// Kinds of joins, as in SQL.
const (
	// Inner drops them.
	Inner Kind = iota
	// Left gives those of the left input alone.
	Left
	// Right gives those of the right input alone.
	Right
	// Full gives both.
	Full
)

// String names the kind: "inner", "left", "right", "full".
func (k Kind) String() string {
	switch k {
	case Inner:
		return "inner"
	case Left:
		return "left"
	case Right:
		return "right"
	case Full:
		return "full"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// KeepsLeft tells whether left records without a partner are results.
func (k Kind) KeepsLeft() bool { return k == Left || k == Full }

// KeepsRight tells whether right records without a partner are results.
func (k Kind) KeepsRight() bool { return k == Right || k == Full }

// Group is what both inputs brought for a key in a window.
type Group[K comparable, T, V any] struct {
	Key K
	// Start is the window's first moment, End the first one behind it.
	Start, End flow.Timestamp
	// Left and Right are in order of time, and of arrival where times are equal. One of them may be empty. They are good during the call only.
	Left  []T
	Right []V
	// Kind is window.OnTime when the watermark passed the window's end, and window.Refined for a late record within the allowed lateness.
	Kind window.Kind
}

// Option configures a join.
type Option func(flow.Configurable)

// Config is what options fill. It is for the join operators.
type Config struct {
	flow.NodeConfig
	// Lateness is how long behind its end a window takes late records.
	Lateness flow.Timestamp
	// Tolerance is how old the right value of an as-of join may be, -1 for any age.
	Tolerance flow.Timestamp
	// Step is about how many records one step of a firing reads.
	Step int
	// Left and Right are the codecs of stored records, nil for the default.
	Left, Right any
}

// AllowedLateness lets the windows of WindowJoin and CoGroup take records until the watermark reaches their end plus d. Each late record
// gives its key's window again at once, with everything in it, as Flink does: pairs that were given come again. Defaults to 0.
func AllowedLateness(d time.Duration) Option {
	return flow.SetOption(func(c *Config) {
		c.Lateness = flow.Timestamp(d)
		if d < 0 {
			c.Problem(fmt.Sprintf("the allowed lateness %v is negative", d), "give 0 or more")
		}
	})
}

// FireStep bounds how long a firing of WindowJoin and CoGroup keeps its task: after about n records and pairs the task looks at what else there is to
// do, and an epoch may end, before it goes on. The watermark goes on behind the last of them. One key's window is not cut. Defaults to 16,384.
func FireStep(n int) Option {
	return flow.SetOption(func(c *Config) {
		c.Step = n
		if n <= 0 {
			c.Problem(fmt.Sprintf("firings in steps of %d records", n), "give 1 or more")
		}
	})
}

// Within is how much older than the left record the right value of an AsOf may be; an older one counts as not found, and is forgotten.
// Defaults to any age.
func Within(d time.Duration) Option {
	return flow.SetOption(func(c *Config) {
		c.Tolerance = flow.Timestamp(d)
		if d < 0 {
			c.Problem(fmt.Sprintf("the tolerance %v is negative", d), "give 0 or more, or leave it out for any age")
		}
	})
}

// LeftCodec says how records of the left input are stored. Defaults to columns for types made of numbers, bools, strings, times,
// arrays and structs of them (unexported fields too), and to CBOR by field name for others.
func LeftCodec[T any](c codec.Codec[T]) Option {
	return flow.SetOption(func(cfg *Config) { cfg.Left = c })
}

// RightCodec says how records of the right input are stored. Defaults to what LeftCodec says.
func RightCodec[V any](c codec.Codec[V]) Option {
	return flow.SetOption(func(cfg *Config) { cfg.Right = c })
}

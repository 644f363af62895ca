// Package window is the vocabulary of operators.Window. Semantics are Apache Flink's.
package window

import (
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Assigner says which windows a record belongs to.
type Assigner[T any] func(*Config)

// Plain is an Assigner that does not look at records: it fits every T.
type Plain = func(*Config)

// Option configures operators.Window.
type Option func(flow.Configurable)

// Config is what assigners and options fill. It is for the Window operator.
type Config struct {
	flow.NodeConfig
	// Size and Offset of tumbling windows, in ticks (nanoseconds): a window starts where (time - Offset) is a multiple of Size.
	Size, Offset flow.Timestamp
	// Lateness is how long behind the watermark a window takes late records.
	Lateness flow.Timestamp
}

// Tumbling cuts time into windows of one size: [n*size, (n+1)*size), right also before 1970.
func Tumbling(size time.Duration) Plain {
	return func(c *Config) {
		c.Size = flow.Timestamp(size)
		if size <= 0 {
			c.Problem(fmt.Sprintf("the window size %v is not positive", size), "give a size like time.Minute")
		}
	}
}

// AllowedLateness lets a window take records until the watermark reaches its end plus d; each of them fires it again at once. Later
// ones go to Late(). Defaults to 0.
func AllowedLateness(d time.Duration) Option {
	return flow.SetOption(func(c *Config) {
		c.Lateness = flow.Timestamp(d)
		if d < 0 {
			c.Problem(fmt.Sprintf("the allowed lateness %v is negative", d), "give 0 or more")
		}
	})
}

// Result is what a window gives for one key.
type Result[K comparable, R any] struct {
	Key K
	// Start is the window's first moment, End the first one behind it.
	Start, End flow.Timestamp
	Value      R
	Pane       Pane
}

// Pane says which firing of its window a result is.
type Pane struct {
	// Index counts the firings of this key's window from 0.
	Index int
	Kind  Kind
}

// Kind says why a window fired.
type Kind uint8

// Kinds of firings.
const (
	// OnTime: the watermark passed the window's end.
	OnTime Kind = iota
	// Late: a record came within the allowed lateness.
	Late
	// Early: before the end.
	Early
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case OnTime:
		return "on time"
	case Late:
		return "late"
	}
	return "early"
}

// Package window is the vocabulary of operators.Window. Semantics are Apache Flink's.
package window

import (
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Option configures operators.Window.
type Option func(flow.Configurable)

// Config is what assigners and options fill. It is for the Window operator.
type Config struct {
	flow.NodeConfig
	Shape assigned
	// Size, Slide and Offset of aligned windows, in ticks (nanoseconds): a window starts where (time - Offset) is a multiple of Slide. Size
	// is the gap of sessions.
	Size, Slide, Offset flow.Timestamp
	// Gap is a func(T) time.Duration, nil for sessions of one gap.
	Gap any
	// Bounds are those of the calendar window that a moment lies in, and Name is what they are stored under.
	Bounds func(at flow.Timestamp) (start, end flow.Timestamp)
	Name   string
	// Marks is a func(T) Mark, for state windows.
	Marks any
	// PerKey is how many records of a key wait in order of time, at most.
	PerKey int
	// Last is how many records the windows of Last hold.
	Last int64
	// Trigger says when windows fire, Every is its count or its ticks, and Purge that a window forgets its contents at each firing.
	Trigger Trigger
	Every   int64
	Purge   bool
	// Wait is how long in processing time a count may take to be reached, 0 for ever.
	Wait time.Duration
	// Stagger is over how much processing time a firing is spread.
	Stagger time.Duration
	// Step is about how many accumulators one step of a firing reads.
	Step int
	// Lateness is how long behind the watermark a window takes late records.
	Lateness flow.Timestamp
}

// Trigger says when windows fire.
type Trigger uint8

// Triggers.
const (
	// AtWatermark fires at the window's end, and again for each late record.
	AtWatermark Trigger = iota
	// ByCount fires at every n-th record, and not at the end.
	ByCount
	// Periodic fires every so often in event time, and at the end.
	Periodic
	// AtEnd fires when the stream ends.
	AtEnd
	// OnlyFinal fires once, when the window takes no more records.
	OnlyFinal
	// ByClock fires every so often in processing time, and at the end.
	ByClock
)

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

// Early makes windows fire every d of event time too, before their end: at the least multiple of d above the time of the window's first
// record, then every d, and at the end.
func Early(d time.Duration) Option {
	return flow.SetOption(func(c *Config) {
		c.Trigger, c.Every = Periodic, int64(d)
		if d <= 0 {
			c.Problem(fmt.Sprintf("early firings every %v", d), "give a positive duration")
		}
	})
}

// EarlyClock makes windows fire every d of processing time too, before their end, if records have come since: at multiples of d of the
// clock. A window that is not bounded in time fires so until the stream ends. It is not a function of the records alone: after a crash
// early results may differ.
func EarlyClock(d time.Duration) Option {
	return flow.SetOption(func(c *Config) {
		c.Trigger, c.Every = ByClock, int64(d)
		if d <= 0 {
			c.Problem(fmt.Sprintf("early firings every %v", d), "give a positive duration")
		}
	})
}

// MaxWait bounds how long the first records of Count, Last or OnCount wait for the others: d of processing time after the first record behind
// a firing the window fires with what it has, and its count begins anew. When the stream ends, what is left fires too.
func MaxWait(d time.Duration) Option {
	return flow.SetOption(func(c *Config) {
		c.Wait = d
		if d <= 0 {
			c.Problem(fmt.Sprintf("records that wait for %v", d), "give a positive duration")
		}
	})
}

// Stagger spreads each firing over d of processing time, in order of key groups, so that the windows of very many keys do not reach the
// sink in one instant. The watermark goes on behind the last of them; the end of the stream does not wait. It fits the windows that
// FireStep fits.
func Stagger(d time.Duration) Option {
	return flow.SetOption(func(c *Config) {
		c.Stagger = d
		if d <= 0 {
			c.Problem(fmt.Sprintf("a firing that is spread over %v", d), "give a positive duration")
		}
	})
}

// OnCount makes a window fire at every n-th of its records, and not at its end: what came after the last firing is dropped in silence
// when the window is gone, as in Flink.
func OnCount(n int) Option {
	return flow.SetOption(func(c *Config) {
		c.Trigger, c.Every = ByCount, int64(n)
		if n <= 0 {
			c.Problem(fmt.Sprintf("firings at every %d records", n), "give a count of 1 or more")
		}
	})
}

// Discarding makes a window forget its contents at each firing: later firings hold only what came since. The default accumulates.
func Discarding() Option { return flow.SetOption(func(c *Config) { c.Purge = true }) }

// FinalOnly gives one result per window: when the watermark reaches its end plus the allowed lateness, with all late records.
func FinalOnly() Option { return flow.SetOption(func(c *Config) { c.Trigger = OnlyFinal }) }

// FireStep bounds how long a firing keeps its task: after about n accumulators the task looks at what else there is to do, and an epoch may
// end, before it goes on. The watermark goes on behind the last of them. Defaults to 16,384, a few milliseconds. The windows that are cut
// into slices fire so, Tumbling and Sliding at the watermark or FinalOnly, and, counted by keys, all others.
func FireStep(n int) Option {
	return flow.SetOption(func(c *Config) {
		c.Step = n
		if n <= 0 {
			c.Problem(fmt.Sprintf("firings in steps of %d accumulators", n), "give 1 or more")
		}
	})
}

// Result is what a window gives for one key.
type Result[K comparable, R any] struct {
	Key K
	// Start is the window's first moment, End the first one behind it; both are flow.None where windows are not bounded in time.
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
	// Refined: a late record came within the allowed lateness.
	Refined
	// Speculative: before the end.
	Speculative
)

// String names the kind: "on time", "late", "early".
func (k Kind) String() string {
	switch k {
	case OnTime:
		return "on time"
	case Refined:
		return "late"
	}
	return "early"
}

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

// Kind of windows.
type assigned uint8

// Shapes of windows.
const (
	Aligned assigned = iota // tumbling and sliding
	Sessions
	Unbounded // global and count windows
	LastRecords
	Calendar
	States // While and Between
	Trails // Trailing
)

// Tumbling cuts time into windows of one size: [n*size, (n+1)*size), right also before 1970.
func Tumbling(size time.Duration, opts ...Align) Plain { return Sliding(size, size, opts...) }

// Sliding makes windows of one size that begin every slide: a record belongs to each window that its time lies in. With a slide above
// the size there are gaps between windows, whose records belong to none and are counted (no_window).
func Sliding(size, slide time.Duration, opts ...Align) Plain {
	return func(c *Config) {
		c.Shape, c.Size, c.Slide = Aligned, flow.Timestamp(size), flow.Timestamp(slide)
		for _, o := range opts {
			o(c)
		}
		if size <= 0 {
			c.Problem(fmt.Sprintf("the window size %v is not positive", size), "give a size like time.Minute")
		}
		if slide <= 0 && slide != size {
			c.Problem(fmt.Sprintf("the window slide %v is not positive", slide), "give a slide like 10*time.Second")
		}
	}
}

// Align moves the beginnings of tumbling and sliding windows.
type Align func(*Config)

// Offset makes windows begin where (time - d) is a multiple of the slide: Offset(-8*time.Hour) gives days of UTC+8. Any value is
// legal, also negative ones and those above the slide.
func Offset(d time.Duration) Align { return func(c *Config) { c.Offset = flow.Timestamp(d) } }

// Days cuts time into the days of a place, from one local midnight to the next: 23 or 25 hours long where clocks are changed. A midnight
// that a change of clocks leaves out is the first moment behind it.
func Days(loc *time.Location) Plain {
	return func(c *Config) {
		if loc == nil {
			c.Problem("the location of window.Days is nil", "give one, as of time.LoadLocation")
			return
		}
		c.Shape, c.Name = Calendar, "days of "+loc.String()
		c.Bounds = func(at flow.Timestamp) (start, end flow.Timestamp) {
			y, m, d := at.Time().In(loc).Date()
			return flow.TimestampOf(time.Date(y, m, d, 0, 0, 0, 0, loc)), flow.TimestampOf(time.Date(y, m, d+1, 0, 0, 0, 0, loc))
		}
	}
}

// Session joins records of a key that are at most gap apart: [first, last+gap). Two sessions that touch or overlap, also because a record
// between them came later, become one.
func Session(gap time.Duration) Plain {
	return func(c *Config) {
		c.Shape, c.Size = Sessions, flow.Timestamp(gap)
		if gap <= 0 {
			c.Problem(fmt.Sprintf("the session gap %v is not positive", gap), "give a gap like 5*time.Minute")
		}
	}
}

// SessionBy is Session with a gap that each record says itself. A gap that is not positive makes the record fail. gap must be safe for
// concurrent use.
func SessionBy[T any](gap func(T) time.Duration) Assigner[T] {
	return func(c *Config) {
		c.Shape, c.Gap = Sessions, gap
		if gap == nil {
			c.Problem("the gap function is nil", "give a function from record to time.Duration")
		}
	}
}

// Count gathers n records of a key, by arrival, whatever their time. What is left when the stream ends is dropped in silence, as in Flink.
//
// State: one accumulator per key with a window that is not full.
func Count(n int) Plain {
	return func(c *Config) {
		c.Shape, c.Trigger, c.Every, c.Purge = Unbounded, ByCount, int64(n), true
		if n <= 0 {
			c.Problem(fmt.Sprintf("a window of %d records", n), "give a count of 1 or more")
		}
	}
}

// Last gives, at every m-th record of a key, the last n (fewer at the start), by arrival.
//
// State: n/gcd(n,m) accumulators per key that ever had a record.
func Last(n, m int) Plain {
	return func(c *Config) {
		c.Shape, c.Last, c.Trigger, c.Every = LastRecords, int64(n), ByCount, int64(m)
		if n <= 0 || m <= 0 {
			c.Problem(fmt.Sprintf("the last %d records at every %d", n, m), "give counts of 1 or more")
		}
	}
}

// Global is one window per key without end. It fires by OnCount or Early, or once when the stream ends.
func Global() Plain {
	return func(c *Config) {
		c.Shape = Unbounded
		if c.Trigger == AtWatermark {
			c.Trigger = AtEnd
		}
	}
}

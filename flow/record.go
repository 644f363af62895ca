package flow

import (
	"math"
	"time"
)

// Timestamp is a point of event time or processing time in nanoseconds since the Unix epoch, in UTC. Operators compute with
// it as a plain int64 and saturate at both ends; its unit is a convention that only AssignTime and the clock know, so that
// tests may feed ticks of any length.
type Timestamp int64

const (
	// None is the time of a record that has no time. It sorts before every real time.
	None Timestamp = math.MinInt64
	// EndOfTime is the watermark that ends a bounded stream: no record follows it.
	EndOfTime Timestamp = math.MaxInt64
)

// TimestampOf converts t. Times that int64 nanoseconds cannot hold (outside the years 1678 to 2262) saturate.
func TimestampOf(t time.Time) Timestamp {
	s := t.Unix()
	switch {
	case s < math.MinInt64/int64(time.Second)+1:
		return None + 1
	case s > math.MaxInt64/int64(time.Second)-1:
		return EndOfTime - 1
	}
	return Timestamp(t.UnixNano())
}

// Millis converts milliseconds since the Unix epoch, saturating.
func Millis(ms int64) Timestamp {
	const limit = math.MaxInt64 / int64(time.Millisecond)
	switch {
	case ms > limit:
		return EndOfTime - 1
	case ms < -limit:
		return None + 1
	}
	return Timestamp(ms * int64(time.Millisecond))
}

// Time converts to a time.Time in UTC. None gives the zero Time.
func (t Timestamp) Time() time.Time {
	if t == None {
		return time.Time{}
	}
	return time.Unix(0, int64(t)).UTC()
}

// Add returns t+d, saturating. None and EndOfTime stay what they are.
func (t Timestamp) Add(d time.Duration) Timestamp {
	if t == None || t == EndOfTime {
		return t
	}
	s := t + Timestamp(d)
	switch {
	case d > 0 && s < t:
		return EndOfTime
	case d < 0 && s > t:
		return None + 1
	case s == None:
		return None + 1
	}
	return s
}

// String prints the time in RFC 3339 with nanoseconds; None and EndOfTime by name.
func (t Timestamp) String() string {
	switch t {
	case None:
		return "none"
	case EndOfTime:
		return "end of time"
	}
	return t.Time().Format(time.RFC3339Nano)
}

// Record is one element of a stream. Records of one batch lie in one slice; whoever receives a batch may read it until the
// call returns and must not change or keep it, since branches of the topology share it.
type Record[T any] struct {
	// Value is the user's data.
	Value T
	// Time is the event time behind an AssignTime. Before it, it is the reference time: when the broker stored the record, or,
	// where the broker does not say, when the source received it.
	Time Timestamp
	// Meta is nil where nobody needs it. Derived records share it.
	Meta *Meta
}

// Meta is what travels with a record beside its value. It is immutable: derived records share it.
type Meta struct {
	// Headers are the message's properties as the source read them.
	Headers map[string]string
	// Key is the message's key or topic, where the system has one.
	Key string
	// Partition names the source partition the record came from.
	Partition string
	// Position is the record's place in that partition.
	Position Position
}

// Package watermark holds the strategies that turn the times of a partition's records into watermarks.
//
// A watermark w says: no more records with time <= w are expected. The semantics are Apache Flink's.
package watermark

import "time"

// Strategy says how watermarks follow from records. It is a value: its methods return a changed copy. The zero Strategy is not
// valid; start from BoundedOutOfOrderness or Monotonous.
type Strategy struct {
	bound         time.Duration
	every         time.Duration
	idleAfter     time.Duration
	maxAhead      time.Duration
	maxFutureSkew time.Duration
	closeAfter    time.Duration
	align         time.Duration
	ok            bool
}

// Defaults of a strategy.
const (
	DefaultEvery         = 100 * time.Millisecond
	DefaultIdleAfter     = 30 * time.Second
	DefaultMaxFutureSkew = 24 * time.Hour
)

// Off switches MaxAhead or MaxFutureSkew off, as sources of simulated or replayed time need.
const Off time.Duration = -1

// BoundedOutOfOrderness expects records to be at most d behind the greatest time seen on their partition: the watermark is that
// time - d - 1 ns. It is a function of the partition's sequence of records alone.
func BoundedOutOfOrderness(d time.Duration) Strategy {
	return Strategy{bound: d, every: DefaultEvery, idleAfter: DefaultIdleAfter, maxFutureSkew: DefaultMaxFutureSkew, ok: true}
}

// Monotonous expects times that never fall within a partition. Equal times are in order.
func Monotonous() Strategy { return BoundedOutOfOrderness(0) }

// Every sets how far event time goes on between two marks: a mark stands where the watermark crosses a multiple of d. 0 puts a
// mark behind each record that raises it. Defaults to 100 ms.
func (s Strategy) Every(d time.Duration) Strategy { s.every = d; return s }

// IdleAfter sets after how long without records, while its source says that there are none, a partition no longer holds the
// watermark back. 0 means never. Defaults to 30 s.
func (s Strategy) IdleAfter(d time.Duration) Strategy { s.idleAfter = d; return s }

// MaxAhead bounds how far a record's time may lead the reference time (the broker's store time, else the receive time) in raising the
// watermark, so that one device with a fast clock makes nobody late: the record counts, but for the watermark its time is at
// most reference + d. Off switches the guard off. Defaults to 0.
func (s Strategy) MaxAhead(d time.Duration) Strategy { s.maxAhead = d; return s }

// MaxFutureSkew sets from how far ahead of the reference time a record's time cannot be right: it goes to BadClock. Off
// switches it off. Defaults to 24 h.
func (s Strategy) MaxFutureSkew(d time.Duration) Strategy { s.maxFutureSkew = d; return s }

// CloseIdleAfter lets wall time go on for event time once a partition has had nothing for d, as its source says: from then on the
// watermark is the greatest time seen + how long nothing came - bound - 1 ns, so that the last windows of a stream that has fallen silent
// close. Other partitions that speak hold it back as ever. Records that come later with times of that gap are late. It is not a function
// of the records alone, unlike all else here. 0, the default, switches it off.
func (s Strategy) CloseIdleAfter(d time.Duration) Strategy { s.closeAfter = d; return s }

// Align keeps the topology's partitions together in event time: one whose watermark is more than d ahead of the least of all others that
// have Align is not read on until they have come nearer, so that what waits for the slow ones in windows and joins stays small. Partitions
// that are idle, have ended or have not had a record yet are not waited for. 0, the default, switches it off.
func (s Strategy) Align(d time.Duration) Strategy { s.align = d; return s }

// Simulated is for sources whose event time has nothing to do with the clock: MaxAhead and MaxFutureSkew off.
func (s Strategy) Simulated() Strategy { return s.MaxAhead(Off).MaxFutureSkew(Off) }

// Settings is a strategy in plain figures, for the engine.
type Settings struct {
	Bound, Every, IdleAfter, MaxAhead, MaxFutureSkew, CloseIdleAfter, Align time.Duration
}

// Settings returns the strategy's figures and what is wrong with them, "" if nothing is.
func (s Strategy) Settings() (Settings, string) {
	problem := ""
	switch {
	case !s.ok:
		problem = "the watermark strategy is empty: use watermark.BoundedOutOfOrderness"
	case s.bound < 0:
		problem = "the out-of-orderness bound is negative"
	case s.every < 0:
		problem = "Every is negative"
	case s.idleAfter < 0:
		problem = "IdleAfter is negative"
	case s.closeAfter < 0:
		problem = "CloseIdleAfter is negative"
	case s.align < 0:
		problem = "the drift of Align is negative"
	}
	return Settings{s.bound, s.every, s.idleAfter, s.maxAhead, s.maxFutureSkew, s.closeAfter, s.align}, problem
}

package window

import (
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Trailing gives, at each record, the aggregate of its key's records of the time d up to it: those with times in (t-d, t].
//
//	         0    4     9 11       20      s
//	records  a    b     c  d        e      Trailing(10 s)
//	results  a    ab  abc  bcd      e      (at 11 s a is too old, at 20 s so is everything)
//
// There is one result per record, with the record's time, Start = t-d+1 ns and End = t+1 ns. Records of a key with equal times are peers: each of
// them gives a result, numbered by Pane.Index, and all of these hold all of them. It is RANGE BETWEEN d PRECEDING AND CURRENT ROW of
// SQL, as Flink runs it in event time, except that a record just d old is outside, as in windows of that size; Trailing(d + 1) has it inside.
//
// Results come when the watermark reaches the record, so that the order of arrival does not matter. Late is a record whose time the
// watermark has reached when it comes, since results that were given without it are not taken back; it goes to Late(). So AllowedLateness,
// Early, OnCount, FinalOnly and Discarding are refused.
//
// Cost: at most four merges per record whatever d is, also for aggregates that nothing can be taken out of, like Max.
//
// State: per record an accumulator and 16 bytes, for d, and where a key falls silent for d/8 or 4 s longer; at most MaxPerKey per key. It is stored
// as a log: a record is written once and deleted with its stretch of time. A crash rolls back to the last epoch together with the sources; the
// results of the replayed part come again, and are the same to the last bit.
func Trailing(d time.Duration) Plain {
	return func(c *Config) {
		c.Shape, c.Size = Trails, flow.Timestamp(d)
		if d <= 0 {
			c.Problem(fmt.Sprintf("windows of the last %v", d), "give a positive duration, like 10*time.Minute")
		}
	}
}

// MaxPerKey bounds how many records of one key While, Between and Trailing keep: those that wait for the watermark, and with Trailing those of
// the last d. What comes above it goes to Late() with that as the reason, and is counted (over_limit). Defaults to 1,000,000.
func MaxPerKey(n int) Option {
	return flow.SetOption(func(c *Config) {
		c.PerKey = n
		if n <= 0 {
			c.Problem(fmt.Sprintf("at most %d records per key", n), "give 1 or more")
		}
	})
}

// Package ledger keeps the books of a simulated load: what was published, and what must therefore be in the tables. It knows the
// rules of docs/ledger.md and nothing of the engine, so that a mistake of the one cannot hide in the other.
package ledger

import "time"

// Hundredths is a measured value in hundredths of its unit. Sums of it are exact in whatever order they are made.
type Hundredths int64

// Float is the value as the devices send it and the database holds it.
func (h Hundredths) Float() float64 { return float64(h) / 100 }

// Key names a row of the per-minute table.
type Key struct {
	Device string
	// Minute is the number of the minute since the Unix epoch.
	Minute int64
}

// Start is when the minute begins.
func (k Key) Start() time.Time { return time.Unix(k.Minute*60, 0).UTC() }

// Cell is what is expected of one row.
type Cell struct {
	Site     string
	Count    int64
	Sum      Hundredths
	Min, Max Hundredths
}

func (c *Cell) add(o Cell) {
	if c.Count == 0 {
		*c = o
		return
	}
	c.Count += o.Count
	c.Sum += o.Sum
	c.Min = min(c.Min, o.Min)
	c.Max = max(c.Max, o.Max)
}

// Avg is the mean, rounded once.
func (c Cell) Avg() float64 { return float64(c.Sum) / float64(100*c.Count) }

// Event identifies a reading.
type Event struct {
	Device string
	Seq    int64
}

// Totals counts messages by what they are.
type Totals struct {
	// Published is all messages, Unacked those among them that the broker had not confirmed when the simulator ended: they may have
	// arrived or not, so a ledger with any cannot be compared exactly.
	Published int64 `json:"published"`
	Unacked   int64 `json:"unacked"`
	// Counted is the readings that count in a minute row, those of fast clocks included.
	Counted    int64 `json:"counted"`
	Duplicates int64 `json:"duplicates"`
	Heartbeats int64 `json:"heartbeats"`
	Malformed  int64 `json:"malformed"`
	Invalid    int64 `json:"invalid"`
	Late       int64 `json:"late"`
	BadClock   int64 `json:"bad_clock"`
}

// Ledger is all that is expected.
type Ledger struct {
	Seed      uint64
	Minutes   map[Key]Cell
	Late      map[Event]bool
	BadClock  map[Event]bool
	Invalid   map[Event]bool
	Malformed map[string]bool
	Totals    Totals
}

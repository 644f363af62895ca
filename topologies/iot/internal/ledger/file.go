package ledger

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// line is one line of the file. The file only grows: the cells of a minute may come in several lines, which add up.
type line struct {
	Is     string     `json:"is"`
	Seed   uint64     `json:"seed,omitempty"`
	Device string     `json:"device,omitempty"`
	Minute int64      `json:"minute,omitempty"`
	Site   string     `json:"site,omitempty"`
	Count  int64      `json:"count,omitempty"`
	Sum    Hundredths `json:"sum,omitempty"`
	Min    Hundredths `json:"min,omitempty"`
	Max    Hundredths `json:"max,omitempty"`
	Seq    int64      `json:"seq,omitempty"`
	Bytes  []byte     `json:"bytes,omitempty"`
	Totals *Totals    `json:"totals,omitempty"`
}

// Kinds of lines.
const (
	isLedger    = "ledger"
	isMinute    = "minute"
	isLate      = "late"
	isBadClock  = "bad-clock"
	isInvalid   = "invalid"
	isMalformed = "malformed"
	isEnd       = "end"
)

// Writer writes a ledger while the load runs. Memory holds the cells of the last minutes only. It is not safe for concurrent use.
// The first error sticks and is returned by Close.
type Writer struct {
	f      *os.File
	buf    *bufio.Writer
	enc    *json.Encoder
	cells  map[Key]*openCell
	totals Totals
	err    error
}

type openCell struct {
	Cell
	touched time.Time
}

// Create starts a ledger file, replacing one that is there.
func Create(path string, seed uint64) (*Writer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	w := &Writer{f: f, buf: bufio.NewWriterSize(f, 1<<16), cells: map[Key]*openCell{}}
	w.enc = json.NewEncoder(w.buf)
	w.line(line{Is: isLedger, Seed: seed})
	return w, nil
}

func (w *Writer) line(l line) {
	if w.err == nil {
		w.err = w.enc.Encode(l)
	}
}

// Count books a reading that counts: at is its event time in ms, now the clock.
func (w *Writer) Count(device, site string, at int64, temperature Hundredths, now time.Time) {
	w.totals.Published++
	w.totals.Counted++
	k := Key{device, floorDiv(at, 60_000)}
	c := w.cells[k]
	if c == nil {
		c = &openCell{}
		w.cells[k] = c
	}
	c.add(Cell{Site: site, Count: 1, Sum: temperature, Min: temperature, Max: temperature})
	c.touched = now
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// Duplicate books a message that was published before.
func (w *Writer) Duplicate() { w.totals.Published++; w.totals.Duplicates++ }

// Heartbeat books a heartbeat.
func (w *Writer) Heartbeat() { w.totals.Published++; w.totals.Heartbeats++ }

// Late books a reading that comes too late to count.
func (w *Writer) Late(device string, seq int64) {
	w.totals.Published++
	w.totals.Late++
	w.line(line{Is: isLate, Device: device, Seq: seq})
}

// BadClock books a reading whose time cannot be right.
func (w *Writer) BadClock(device string, seq int64) {
	w.totals.Published++
	w.totals.BadClock++
	w.line(line{Is: isBadClock, Device: device, Seq: seq})
}

// Invalid books a reading with values that no sensor can measure.
func (w *Writer) Invalid(device string, seq int64) {
	w.totals.Published++
	w.totals.Invalid++
	w.line(line{Is: isInvalid, Device: device, Seq: seq})
}

// Malformed books a message that is no reading at all.
func (w *Writer) Malformed(payload []byte) {
	w.totals.Published++
	w.totals.Malformed++
	w.line(line{Is: isMalformed, Bytes: payload})
}

// Totals are the counts so far.
func (w *Writer) Totals() Totals { return w.totals }

// Flush writes the cells that no reading touched since before and frees them. A reading that comes for one of them later opens it again.
func (w *Writer) Flush(before time.Time) {
	for k, c := range w.cells {
		if c.touched.Before(before) {
			w.line(line{Is: isMinute, Device: k.Device, Minute: k.Minute, Site: c.Site, Count: c.Count, Sum: c.Sum, Min: c.Min, Max: c.Max})
			delete(w.cells, k)
		}
	}
}

// Close writes what is left and the last line, without which a ledger is not complete. unacked is how many messages the broker did
// not confirm.
func (w *Writer) Close(unacked int64) error {
	for k, c := range w.cells {
		w.line(line{Is: isMinute, Device: k.Device, Minute: k.Minute, Site: c.Site, Count: c.Count, Sum: c.Sum, Min: c.Min, Max: c.Max})
	}
	w.cells = nil
	w.totals.Unacked = unacked
	w.line(line{Is: isEnd, Totals: &w.totals})
	if err := errors.Join(w.err, w.buf.Flush(), w.f.Sync(), w.f.Close()); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// ErrIncomplete says that the simulator did not write the ledger to its end: it still runs or was killed.
var ErrIncomplete = errors.New("the ledger has no end: the simulator still runs or was killed")

// Read reads a ledger file.
func Read(path string) (*Ledger, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	l, err := Decode(f)
	err = errors.Join(err, f.Close())
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w", path, err)
	}
	return l, nil
}

// Decode reads a ledger.
func Decode(r io.Reader) (*Ledger, error) {
	l := &Ledger{Minutes: map[Key]Cell{}, Late: map[Event]bool{}, BadClock: map[Event]bool{}, Invalid: map[Event]bool{}, Malformed: map[string]bool{}}
	dec := json.NewDecoder(bufio.NewReaderSize(r, 1<<16))
	dec.DisallowUnknownFields()
	for n := 1; ; n++ {
		var x line
		if err := dec.Decode(&x); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, ErrIncomplete
			}
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		switch x.Is {
		case isLedger:
			l.Seed = x.Seed
		case isMinute:
			k := Key{x.Device, x.Minute}
			c := l.Minutes[k]
			c.add(Cell{Site: x.Site, Count: x.Count, Sum: x.Sum, Min: x.Min, Max: x.Max})
			l.Minutes[k] = c
		case isLate:
			l.Late[Event{x.Device, x.Seq}] = true
		case isBadClock:
			l.BadClock[Event{x.Device, x.Seq}] = true
		case isInvalid:
			l.Invalid[Event{x.Device, x.Seq}] = true
		case isMalformed:
			l.Malformed[string(x.Bytes)] = true
		case isEnd:
			if x.Totals == nil {
				return nil, fmt.Errorf("line %d: an end without totals", n)
			}
			l.Totals = *x.Totals
			return l, nil
		default:
			return nil, fmt.Errorf("line %d: unknown kind %q", n, x.Is)
		}
	}
}

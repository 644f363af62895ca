package rule

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/millrace-stream/millrace/flow"
)

// Book is what the rules remember of one key: an entry for each rule and device whose condition is true, whose alarm is raised, or that a
// cooldown or the counting of flaps still concerns. A key of which nothing is to be remembered has no book. It belongs to a Tracker.
type Book struct {
	entries []*entry // in order of rule and device
	// Timer is the operator's: for when a timer is set.
	Timer flow.Timestamp
}

type phase uint8

const (
	// pending: the condition is true, the alarm not raised.
	pending phase = iota
	// active: the alarm is raised.
	active
	// quiet: there is a cooldown, or changes that count as flapping.
	quiet
)

// entry is the state of a rule for a key and a device.
type entry struct {
	m       *member // nil until Turn
	id      string
	version string
	hash    uint64
	choice  uint64
	device  string

	phase phase
	// flaps: the alarm is flapping; on is then whether the condition is true.
	flaps, on bool
	// held: a parent has kept it from being raised.
	held bool
	// changed: the rule has changed since the alarm was raised or updated.
	changed bool
	count   uint32
	since   flow.Timestamp
	// floor is the watermark as the condition became true, if that is later than since.
	floor flow.Timestamp
	last  flow.Timestamp // the newest record
	cool  flow.Timestamp // not raised before
	calm  flow.Timestamp // flapping ends, or is no more of interest
	due   flow.Timestamp // when time does something; None
	// changes are the times of raisings and clearings that may count as flapping.
	changes []flow.Timestamp

	severity, message, update string
	labels                    map[string]string
	rec                       []byte
}

// Empty tells whether there is nothing to remember.
func (b *Book) Empty() bool { return len(b.entries) == 0 }

// Len is the number of entries.
func (b *Book) Len() int { return len(b.entries) }

// Next is the earliest time at which Due has something to do, EndOfTime if there is none.
func (b *Book) Next() flow.Timestamp {
	next := flow.EndOfTime
	for _, e := range b.entries {
		if e.due != flow.None {
			next = min(next, e.due)
		}
	}
	return next
}

// find finds the place of an entry.
func (b *Book) find(ord int, device string) (int, bool) {
	lo, hi := 0, len(b.entries)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		e := b.entries[mid]
		switch {
		case e.m.ord < ord || e.m.ord == ord && e.device < device:
			lo = mid + 1
		case e.m.ord == ord && e.device == device:
			return mid, true
		default:
			hi = mid
		}
	}
	return lo, false
}

func (b *Book) insert(i int, e *entry) { b.entries = slices.Insert(b.entries, i, e) }

func (b *Book) remove(i int) { b.entries = slices.Delete(b.entries, i, i+1) }

// active tells whether a rule has an alarm, of whatever device.
func (b *Book) active(m *member) bool {
	for i, _ := b.find(m.ord, ""); i < len(b.entries) && b.entries[i].m == m; i++ {
		if b.entries[i].phase == active {
			return true
		}
	}
	return false
}

const (
	bitFlaps = 1 << iota
	bitOn
	bitHeld
	bitChanged
)

// Append appends the book, without its Timer, for Read.
func (b *Book) Append(to []byte) []byte {
	to = binary.AppendUvarint(to, uint64(len(b.entries)))
	str := func(s string) {
		to = binary.AppendUvarint(to, uint64(len(s)))
		to = append(to, s...)
	}
	for _, e := range b.entries {
		str(e.id)
		str(e.version)
		to = binary.LittleEndian.AppendUint64(to, e.hash)
		to = binary.LittleEndian.AppendUint64(to, e.choice)
		str(e.device)
		bits := byte(0)
		for i, is := range []bool{e.flaps, e.on, e.held, e.changed} {
			if is {
				bits |= 1 << i
			}
		}
		to = append(to, byte(e.phase), bits)
		to = binary.AppendUvarint(to, uint64(e.count))
		for _, t := range []flow.Timestamp{e.since, e.floor, e.last, e.cool, e.calm, e.due} {
			to = binary.LittleEndian.AppendUint64(to, uint64(t))
		}
		to = binary.AppendUvarint(to, uint64(len(e.changes)))
		for _, t := range e.changes {
			to = binary.LittleEndian.AppendUint64(to, uint64(t))
		}
		if e.phase == active {
			str(e.severity)
			str(e.message)
			str(e.update)
			to = binary.AppendUvarint(to, uint64(len(e.labels)))
			for _, k := range slices.Sorted(maps.Keys(e.labels)) {
				str(k)
				str(e.labels[k])
			}
		}
		to = binary.AppendUvarint(to, uint64(len(e.rec)))
		to = append(to, e.rec...)
	}
	return to
}

var errBook = errors.New("stored state of rules is damaged")

// Read fills an empty book with what Append wrote, and returns what is behind it in data.
func (b *Book) Read(data []byte) (rest []byte, err error) {
	r := reader{data: data}
	b.Timer = flow.None
	for range r.length() {
		e := &entry{id: r.str(), version: r.str(), hash: r.uint64(), choice: r.uint64(), device: r.str()}
		kind, bits := r.byte(), r.byte()
		if kind > byte(quiet) {
			return nil, errBook
		}
		e.phase = phase(kind)
		e.flaps, e.on, e.held, e.changed = bits&bitFlaps != 0, bits&bitOn != 0, bits&bitHeld != 0, bits&bitChanged != 0
		e.count = uint32(r.uvarint())
		for _, t := range []*flow.Timestamp{&e.since, &e.floor, &e.last, &e.cool, &e.calm, &e.due} {
			*t = flow.Timestamp(r.uint64())
		}
		for range r.length() {
			e.changes = append(e.changes, flow.Timestamp(r.uint64()))
		}
		if e.phase == active {
			e.severity, e.message, e.update = r.str(), r.str(), r.str()
			n := r.length()
			if n > 0 {
				e.labels = make(map[string]string, n)
			}
			for range n {
				k := r.str()
				e.labels[k] = r.str()
			}
		}
		if s := r.str(); s != "" {
			e.rec = []byte(s)
		}
		if r.bad {
			return nil, errBook
		}
		b.entries = append(b.entries, e)
	}
	if r.bad {
		return nil, errBook
	}
	return r.data, nil
}

// reader reads what Append wrote; bad is set where that cannot be.
type reader struct {
	data []byte
	bad  bool
}

func (r *reader) take(n uint64) []byte {
	if r.bad || uint64(len(r.data)) < n {
		r.bad = true
		return make([]byte, min(n, 8))
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.data)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.data = r.data[n:]
	return v
}

// length is a number of things that each take a byte at least.
func (r *reader) length() int {
	n := r.uvarint()
	if n > uint64(len(r.data)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) str() string {
	n := r.length()
	return strings.Clone(string(r.take(uint64(n))))
}

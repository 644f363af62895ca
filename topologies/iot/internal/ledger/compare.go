package ledger

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Row is a row of the per-minute table.
type Row struct {
	Key
	Site, Region  string
	Count         int64
	Avg, Min, Max float64
}

// Outcome is what the tables hold. Rows are those under FINAL; the others may hold an element more than once, which is the same as once.
type Outcome struct {
	Rows      []Row
	Late      []Event
	BadClock  []Event
	Invalid   []Event
	Malformed []string
}

// AvgTolerance is how far two averages may lie apart, relative to the greater of 1 and the average: sums of floats depend on their order
// in the last digits. Everything else is compared exactly.
const AvgTolerance = 1e-9

// Report says how an outcome differs from its ledger.
type Report struct {
	Parts []Part
	// Unacked is how many messages the broker never confirmed.
	Unacked int64
}

// Part is the comparison of one output.
type Part struct {
	Name                      string
	Expected, Found           int
	Missing, Extra, Different int
	// Examples has the first differences, in words.
	Examples []string
}

// Differences is how many there are.
func (p Part) Differences() int { return p.Missing + p.Extra + p.Different }

// Differences is how many there are in all parts.
func (r Report) Differences() int {
	n := 0
	for _, p := range r.Parts {
		n += p.Differences()
	}
	return n
}

// Exact tells whether the outcome is what the ledger says.
func (r Report) Exact() bool { return r.Differences() == 0 && r.Unacked == 0 }

// Write prints the report: a table, the first differences of each output, and a last line that says "exact" or how many there are.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%-14s %10s %10s %10s %10s %10s\n", "", "expected", "found", "missing", "extra", "different")
	for _, p := range r.Parts {
		fmt.Fprintf(&b, "%-14s %10d %10d %10d %10d %10d\n", p.Name, p.Expected, p.Found, p.Missing, p.Extra, p.Different)
	}
	for _, p := range r.Parts {
		for _, e := range p.Examples {
			fmt.Fprintf(&b, "%s: %s\n", p.Name, e)
		}
		if more := p.Differences() - len(p.Examples); more > 0 {
			fmt.Fprintf(&b, "%s: … and %d more\n", p.Name, more)
		}
	}
	if r.Unacked > 0 {
		fmt.Fprintf(&b, "%d published messages were never confirmed by the broker: they may be there or not\n", r.Unacked)
	}
	if r.Exact() {
		b.WriteString("exact\n")
	} else {
		fmt.Fprintf(&b, "%d differences\n", r.Differences())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Compare compares an outcome with the ledger. regionOf is the region that readings of a site must get; examples is how many
// differences of each output are kept in words.
func Compare(l *Ledger, o *Outcome, regionOf func(site string) string, examples int) Report {
	return Report{
		Unacked: l.Totals.Unacked,
		Parts: []Part{
			compareRows(l.Minutes, o.Rows, regionOf, examples),
			compareSets("late", l.Late, o.Late, Event.String, examples),
			compareSets("bad clock", l.BadClock, o.BadClock, Event.String, examples),
			compareSets("invalid", l.Invalid, o.Invalid, Event.String, examples),
			compareSets("dead letters", l.Malformed, o.Malformed, quote, examples),
		},
	}
}

// String names the event.
func (e Event) String() string { return fmt.Sprintf("%s seq %d", e.Device, e.Seq) }

// String names the row.
func (k Key) String() string {
	return fmt.Sprintf("%s %s", k.Device, k.Start().Format("2006-01-02 15:04"))
}

func quote(s string) string {
	const limit = 96
	if len(s) > limit {
		return fmt.Sprintf("%q… (%d bytes)", s[:limit], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// notes collects the first differences in words.
type notes struct {
	part  *Part
	limit int
}

func (n notes) add(format string, args ...any) {
	if len(n.part.Examples) < n.limit {
		n.part.Examples = append(n.part.Examples, fmt.Sprintf(format, args...))
	}
}

func compareRows(want map[Key]Cell, rows []Row, regionOf func(string) string, examples int) Part {
	p := Part{Name: "minute rows", Expected: len(want), Found: len(rows)}
	n := notes{&p, examples}
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b Row) int { return compareKeys(a.Key, b.Key) })
	seen := make(map[Key]bool, len(rows))
	for _, r := range rows {
		c, ok := want[r.Key]
		switch {
		case !ok:
			p.Extra++
			n.add("%v: not in the ledger: count %d, avg %v, min %v, max %v", r.Key, r.Count, r.Avg, r.Min, r.Max)
			continue
		case seen[r.Key]:
			p.Extra++
			n.add("%v: a second row under FINAL: count %d", r.Key, r.Count)
			continue
		}
		seen[r.Key] = true
		if diffs := compareRow(c, r, regionOf(c.Site)); len(diffs) > 0 {
			p.Different++
			n.add("%v: %s", r.Key, strings.Join(diffs, ", "))
		}
	}
	missing := make([]Key, 0)
	for k := range want {
		if !seen[k] {
			missing = append(missing, k)
		}
	}
	slices.SortFunc(missing, compareKeys)
	p.Missing = len(missing)
	for _, k := range missing {
		n.add("%v: missing: count %d", k, want[k].Count)
	}
	return p
}

func compareKeys(a, b Key) int {
	if a.Minute != b.Minute {
		return int(a.Minute - b.Minute)
	}
	return strings.Compare(a.Device, b.Device)
}

func compareRow(c Cell, r Row, region string) (diffs []string) {
	differ := func(name string, want, got any) {
		diffs = append(diffs, fmt.Sprintf("%s is %v, must be %v", name, got, want))
	}
	if r.Count != c.Count {
		differ("count", c.Count, r.Count)
	}
	if avg := c.Avg(); !(math.Abs(r.Avg-avg) <= AvgTolerance*math.Max(1, math.Abs(avg))) {
		differ("avg", avg, r.Avg)
	}
	if r.Min != c.Min.Float() {
		differ("min", c.Min.Float(), r.Min)
	}
	if r.Max != c.Max.Float() {
		differ("max", c.Max.Float(), r.Max)
	}
	if r.Site != c.Site {
		differ("site", c.Site, r.Site)
	}
	if r.Region != region {
		differ("region", region, r.Region)
	}
	return diffs
}

func compareSets[E comparable](name string, want map[E]bool, got []E, show func(E) string, examples int) Part {
	found := make(map[E]bool, len(got))
	for _, e := range got {
		found[e] = true
	}
	p := Part{Name: name, Expected: len(want), Found: len(found)}
	n := notes{&p, examples}
	var missing, extra []string
	for e := range want {
		if !found[e] {
			missing = append(missing, show(e))
		}
	}
	for e := range found {
		if !want[e] {
			extra = append(extra, show(e))
		}
	}
	slices.Sort(missing)
	slices.Sort(extra)
	p.Missing, p.Extra = len(missing), len(extra)
	for _, e := range extra {
		n.add("%s: not in the ledger", e)
	}
	for _, e := range missing {
		n.add("%s: missing", e)
	}
	return p
}

package rule

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// Trial is a set of rules to be tried on recorded samples.
type Trial[K comparable, T any] struct {
	// Name stands in errors, Rules is the YAML.
	Name  string
	Rules []byte
	// Samples are records as JSON, one per line; empty lines are passed over. Nil checks the rules only.
	Samples io.Reader
	// Key and Time are those of the stream. Required with Samples.
	Key  func(T) K
	Time func(T) time.Time
	// Device is that of the option Device. Optional.
	Device func(T) string
	// Delay is how far the watermark lags behind the newest sample. Defaults to 0.
	Delay time.Duration
	// Codec stores the records of alarms. Defaults to CBOR by field name.
	Codec codec.Codec[T]
}

// Verdict is what came of a Trial.
type Verdict[K comparable, T any] struct {
	// Rules is the number of rules in force, Records that of samples.
	Rules, Records int
	// Alarms came, in this order.
	Alarms []Alarm[K, T]
	// Silent are the rules that raised none, Unmatched those of them that selected no sample.
	Silent, Unmatched []string
	// Counts are what else happened.
	Counts Counts
	// Failures are the first messages of expressions and templates that failed, by rule.
	Failures map[string]error
}

// Check compiles rules against the record type and tries them on samples, as operators.Rules would take them from one partition. Time goes
// as far as the samples: what would be raised later is not. The error is Problems for the rules, or says which line of the samples cannot
// be read.
func Check[K comparable, T any](c Trial[K, T]) (*Verdict[K, T], error) {
	set, err := Load[T](c.Name, c.Rules)
	if err != nil {
		return nil, err
	}
	v := &Verdict[K, T]{Rules: set.Len(), Failures: map[string]error{}}
	if c.Samples == nil {
		return v, nil
	}
	if c.Key == nil || c.Time == nil {
		return nil, errors.New("rule.Check: samples need Key and Time: set them")
	}
	if c.Codec == nil {
		c.Codec = codec.CBOR[T]()
	}
	t := trial[K, T]{Trial: c, v: v, books: map[K]*Book{}, wm: flow.None, next: flow.EndOfTime}
	t.track = NewTracker[K, T](c.Codec, func(rule string, err error) {
		if v.Failures[rule] == nil {
			v.Failures[rule] = err
		}
	})
	t.track.Use(set)
	if err := t.run(); err != nil {
		return nil, err
	}
	t.silent(set)
	return v, nil
}

type trial[K comparable, T any] struct {
	Trial[K, T]
	v     *Verdict[K, T]
	track *Tracker[K, T]
	books map[K]*Book
	wm    flow.Timestamp
	next  flow.Timestamp // the earliest time that a book waits for
	found map[*member]bool
}

// maxLine bounds a sample.
const maxLine = 16 << 20

func (t *trial[K, T]) run() error {
	t.found = map[*member]bool{}
	lines := bufio.NewScanner(t.Samples)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var r T
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("samples, line %d: %w: write one record as JSON per line", n, err)
		}
		t.v.Records++
		t.record(&r)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("samples: %w", err)
	}
	return nil
}

func (t *trial[K, T]) record(r *T) {
	key, at, device := t.Key(*r), flow.TimestampOf(t.Time(*r)), ""
	if t.Device != nil {
		device = t.Device(*r)
	}
	b := t.books[key]
	if b == nil {
		b = &Book{}
	}
	if t.track.Record(b, key, device, r, at, t.wm) {
		t.books[key] = b
		t.next = min(t.next, b.Next())
	}
	for _, l := range t.track.lists {
		for i := range l.rules {
			t.found[l.rules[i].m] = true
		}
	}
	t.take()
	if wm := at.Add(-t.Delay) - 1; wm > t.wm {
		t.wm = wm
		t.pass()
	}
}

// pass lets time pass up to the watermark.
func (t *trial[K, T]) pass() {
	if t.next > t.wm {
		return
	}
	type due struct {
		at  flow.Timestamp
		key K
		b   *Book
	}
	for {
		var dues []due
		t.next = flow.EndOfTime
		for k, b := range t.books {
			at := b.Next()
			if at <= t.wm {
				dues = append(dues, due{at, k, b})
			} else {
				t.next = min(t.next, at)
			}
		}
		if len(dues) == 0 {
			return
		}
		slices.SortFunc(dues, func(a, b due) int {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(fmt.Sprint(a.key), fmt.Sprint(b.key)))
		})
		for _, d := range dues {
			t.track.Due(d.b, d.key, d.at)
			t.take()
			if d.b.Empty() {
				delete(t.books, d.key)
			}
		}
	}
}

func (t *trial[K, T]) take() {
	t.v.Alarms = append(t.v.Alarms, t.track.Alarms...)
	t.track.Alarms = t.track.Alarms[:0]
	t.v.Counts = t.track.Counts
}

func (t *trial[K, T]) silent(set *Set[T]) {
	raised := map[string]bool{}
	for i := range t.v.Alarms {
		raised[t.v.Alarms[i].Rule] = true
	}
	for _, m := range set.rules {
		if raised[m.ID] {
			continue
		}
		t.v.Silent = append(t.v.Silent, m.ID)
		if !t.found[m] {
			t.v.Unmatched = append(t.v.Unmatched, m.ID)
		}
	}
	slices.Sort(t.v.Silent)
	slices.Sort(t.v.Unmatched)
}

// String is a report: a line per alarm, then what was silent and what failed.
func (v *Verdict[K, T]) String() string {
	var b strings.Builder
	for i := range v.Alarms {
		a := &v.Alarms[i]
		fmt.Fprintf(&b, "%s  %-7s  %s  %v", a.At, a.State, a.Rule, a.Key)
		if a.Device != "" {
			fmt.Fprintf(&b, "/%s", a.Device)
		}
		fmt.Fprintf(&b, "  %s  %s", a.Severity, a.Message)
		if a.Reason != "" {
			fmt.Fprintf(&b, " (%s)", a.Reason)
		}
		b.WriteByte('\n')
	}
	raised := 0
	for i := range v.Alarms {
		if v.Alarms[i].State == Raised {
			raised++
		}
	}
	fmt.Fprintf(&b, "%d rules, %d records, %d alarms raised\n", v.Rules, v.Records, raised)
	if v.Records > 0 && len(v.Unmatched) > 0 {
		fmt.Fprintf(&b, "select nothing of these records: %s\n", strings.Join(v.Unmatched, ", "))
	}
	if n := v.Counts.Suppressed; n > 0 {
		fmt.Fprintf(&b, "%d alarms suppressed by a parent\n", n)
	}
	if n := v.Counts.Stale; n > 0 {
		fmt.Fprintf(&b, "%d records passed over, since a newer one was there\n", n)
	}
	for _, rule := range slices.Sorted(maps.Keys(v.Failures)) {
		fmt.Fprintf(&b, "rule %q failed: %v\n", rule, v.Failures[rule])
	}
	return b.String()
}

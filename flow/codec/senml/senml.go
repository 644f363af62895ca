// Package senml reads and writes sensor measurement lists (RFC 8428) in JSON and CBOR.
package senml

import (
	"fmt"
	"math"
	"time"
)

// Pack is a list as it is sent: entries with base fields that hold for what follows, and times that may be relative.
type Pack []Entry

// Entry is one record of a Pack, with the names of RFC 8428. Pointers are nil where a field is absent.
type Entry struct {
	BaseVersion int      `json:"bver,omitempty"`
	BaseName    string   `json:"bn,omitempty"`
	BaseTime    float64  `json:"bt,omitempty"`
	BaseUnit    string   `json:"bu,omitempty"`
	BaseValue   *float64 `json:"bv,omitempty"`
	BaseSum     *float64 `json:"bs,omitempty"`
	Name        string   `json:"n,omitempty"`
	Unit        string   `json:"u,omitempty"`
	Value       *float64 `json:"v,omitempty"`
	Text        *string  `json:"vs,omitempty"`
	Bool        *bool    `json:"vb,omitempty"`
	Data        *Data    `json:"vd,omitempty"`
	Sum         *float64 `json:"s,omitempty"`
	// Time and UpdateTime are seconds.
	Time       float64 `json:"t,omitempty"`
	UpdateTime float64 `json:"ut,omitempty"`
}

// Kind is the type of a record's value.
type Kind uint8

// The types of values.
const (
	KindNone Kind = iota // only a sum
	KindNumber
	KindText
	KindBool
	KindData
)

// Record is one measurement by itself, with everything resolved.
type Record struct {
	Name string
	Unit string `cbor:",omitempty"`
	Time time.Time
	Kind Kind
	// The value is the member that Kind names.
	Value float64 `cbor:",omitempty"`
	Text  string  `cbor:",omitempty"`
	Bool  bool    `cbor:",omitempty"`
	Data  []byte  `cbor:",omitempty"`
	// Sum is the integrated value where the device sends one.
	Sum    float64 `cbor:",omitempty"`
	HasSum bool    `cbor:",omitempty"`
	// Update is the longest time until the device sends the next value, 0 if it does not say.
	Update time.Duration `cbor:",omitempty"`
}

// Version is the highest version of SenML that is understood.
const Version = 10

// relative is the least number of seconds that is a point of time; less is relative to now.
const relative = 1 << 28

// Resolve makes records of a pack by section 4.6 of RFC 8428: base fields are applied, and times below 2^28 seconds are taken relative to
// now. Times are rounded to microseconds, which is what a float64 of seconds can hold.
//
// An error names the entry, counted from 1: a version above Version or one that changes, a name that is empty or has characters which
// names must not have, no value or more than one, a time beyond the year 9999.
func Resolve(p Pack, now time.Time) ([]Record, error) {
	out := make([]Record, 0, len(p))
	var base Entry
	version := 0
	for i := range p {
		e := &p[i]
		if err := checkVersion(&version, i, e.BaseVersion); err != nil {
			return nil, err
		}
		base.take(e)
		r, err := base.resolve(e, now)
		if err != nil {
			return nil, fmt.Errorf("SenML entry %d: %w", i+1, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func checkVersion(version *int, i, v int) error {
	switch {
	case v > Version || v < 0:
		return fmt.Errorf("SenML entry %d: version %d is not understood, only those up to %d", i+1, v, Version)
	case v != 0 && *version != 0 && v != *version:
		return fmt.Errorf("SenML entry %d: version %d after version %d: a pack has one", i+1, v, *version)
	case v != 0:
		*version = v
	}
	return nil
}

// take remembers the base fields of an entry.
func (b *Entry) take(e *Entry) {
	if e.BaseName != "" {
		b.BaseName = e.BaseName
	}
	if e.BaseTime != 0 {
		b.BaseTime = e.BaseTime
	}
	if e.BaseUnit != "" {
		b.BaseUnit = e.BaseUnit
	}
	if e.BaseValue != nil {
		b.BaseValue = e.BaseValue
	}
	if e.BaseSum != nil {
		b.BaseSum = e.BaseSum
	}
}

func (b *Entry) resolve(e *Entry, now time.Time) (Record, error) {
	r := Record{Name: b.BaseName + e.Name, Unit: e.Unit}
	if err := checkName(r.Name); err != nil {
		return r, err
	}
	if r.Unit == "" {
		r.Unit = b.BaseUnit
	}
	if err := b.value(e, &r); err != nil {
		return r, err
	}
	if e.Sum != nil || b.BaseSum != nil {
		r.HasSum = true
		r.Sum = sum(e.Sum, b.BaseSum)
	}
	if r.Kind == KindNone && !r.HasSum {
		return r, fmt.Errorf("%q has no value: one of v, vs, vb, vd or s is needed", r.Name)
	}
	var err error
	if r.Time, err = when(b.BaseTime, e.Time, now); err != nil {
		return r, fmt.Errorf("%q: %w", r.Name, err)
	}
	if !(e.UpdateTime >= 0 && e.UpdateTime < 9e9) {
		return r, fmt.Errorf("%q: an update time of %v s is out of range", r.Name, e.UpdateTime)
	}
	r.Update = time.Duration(e.UpdateTime * float64(time.Second))
	return r, nil
}

func (b *Entry) value(e *Entry, r *Record) error {
	n := 0
	if e.Text != nil {
		r.Kind, r.Text = KindText, *e.Text
		n++
	}
	if e.Bool != nil {
		r.Kind, r.Bool = KindBool, *e.Bool
		n++
	}
	if e.Data != nil {
		r.Kind, r.Data = KindData, *e.Data
		n++
	}
	if e.Value != nil || n == 0 && b.BaseValue != nil {
		r.Kind, r.Value = KindNumber, sum(e.Value, b.BaseValue)
		n++
	}
	if n > 1 {
		return fmt.Errorf("%q has %d values: only one of v, vs, vb and vd is allowed", r.Name, n)
	}
	if math.IsInf(r.Value, 0) || math.IsNaN(r.Value) {
		return fmt.Errorf("%q: the value with its base value is not a number", r.Name)
	}
	return nil
}

func sum(x, y *float64) float64 {
	s := 0.0
	if x != nil {
		s = *x
	}
	if y != nil {
		s += *y
	}
	return s
}

// when adds base time and time.
func when(base, t float64, now time.Time) (time.Time, error) {
	const year9999 = 253402300799
	if !(math.Abs(base) <= year9999 && math.Abs(t) <= year9999 && math.Abs(base+t) <= year9999) {
		return time.Time{}, fmt.Errorf("a time of %v s is out of range: it ends with the year 9999", base+t)
	}
	micros := int64(math.Round(base*1e6)) + int64(math.Round(t*1e6))
	if base+t < relative {
		return now.Add(time.Duration(micros) * time.Microsecond).UTC(), nil
	}
	return time.UnixMicro(micros).UTC(), nil
}

func checkName(s string) error {
	if s == "" {
		return fmt.Errorf("the name is empty: an entry needs n, or bn in it or before it")
	}
	for i := range len(s) {
		c := s[i]
		plain := c-'0' < 10 || c|0x20-'a' < 26
		if plain || i > 0 && (c == '-' || c == ':' || c == '.' || c == '/' || c == '_') {
			continue
		}
		return fmt.Errorf("the name %q has %q at byte %d: names begin with a letter or digit and go on with those or - : . / _", s, c, i)
	}
	return nil
}

// Of makes the pack of resolved records, each by itself; Resolve brings them back.
func Of(records ...Record) Pack {
	p := make(Pack, len(records))
	for i := range records {
		r := &records[i]
		e := Entry{Name: r.Name, Unit: r.Unit, UpdateTime: r.Update.Seconds()}
		if !r.Time.IsZero() {
			e.Time = float64(r.Time.UnixMicro()) / 1e6
		}
		switch r.Kind {
		case KindNumber:
			e.Value = &r.Value
		case KindText:
			e.Text = &r.Text
		case KindBool:
			e.Bool = &r.Bool
		case KindData:
			d := Data(r.Data)
			e.Data = &d
		}
		if r.HasSum {
			e.Sum = &r.Sum
		}
		p[i] = e
	}
	return p
}

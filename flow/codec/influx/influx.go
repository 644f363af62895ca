// Package influx reads and writes InfluxDB's line protocol.
package influx

import (
	"context"
	"math"
	"time"
)

// Point is one line: a measurement with tags, fields and a time.
type Point struct {
	Measurement string
	// Tags in the order of the line; Append writes them sorted by key, as InfluxDB asks.
	Tags []Tag
	// Fields in the order of the line, at least one.
	Fields []Field
	// Time in UTC, zero where the line has none: then flow.AssignTime may fall back to Record.Time's reference time.
	Time time.Time
}

// Tag is a name with a text.
type Tag struct{ Key, Value string }

// Field is a name with a value.
type Field struct {
	Key   string
	Value Value
}

// Kind is the type of a field.
type Kind uint8

// The types of fields.
const (
	KindFloat  Kind = iota // 1.5
	KindInt                // 1i
	KindUint               // 1u
	KindBool               // true
	KindString             // "text"
)

// Value is what a field holds: the member that Kind names.
type Value struct {
	Kind  Kind
	Float float64 `cbor:",omitempty"`
	Int   int64   `cbor:",omitempty"`
	Uint  uint64  `cbor:",omitempty"`
	Bool  bool    `cbor:",omitempty"`
	Text  string  `cbor:",omitempty"`
}

// Float makes a value of a float64.
func Float(x float64) Value { return Value{Kind: KindFloat, Float: x} }

// Int makes a value of an int64.
func Int(x int64) Value { return Value{Kind: KindInt, Int: x} }

// Uint makes a value of a uint64.
func Uint(x uint64) Value { return Value{Kind: KindUint, Uint: x} }

// Bool makes a value of a bool.
func Bool(x bool) Value { return Value{Kind: KindBool, Bool: x} }

// String makes a value of a text.
func String(x string) Value { return Value{Kind: KindString, Text: x} }

// Number is the value as a float64, of a boolean 0 or 1; a text is none.
func (v Value) Number() (float64, bool) {
	switch v.Kind {
	case KindFloat:
		return v.Float, true
	case KindInt:
		return float64(v.Int), true
	case KindUint:
		return float64(v.Uint), true
	case KindBool:
		if v.Bool {
			return 1, true
		}
		return 0, true
	}
	return math.NaN(), false
}

// Tag returns the value of a tag, "" if there is none: a tag is never empty.
func (p Point) Tag(key string) string {
	for _, t := range p.Tags {
		if t.Key == key {
			return t.Value
		}
	}
	return ""
}

// Field returns the value of a field.
func (p Point) Field(key string) (Value, bool) {
	for _, f := range p.Fields {
		if f.Key == key {
			return f.Value, true
		}
	}
	return Value{}, false
}

// Each emits the points of a batch one by one: operators.FlatMap(batches, "points", influx.Each).
func Each(_ context.Context, batch []Point, emit func(Point)) error {
	for _, p := range batch {
		emit(p)
	}
	return nil
}

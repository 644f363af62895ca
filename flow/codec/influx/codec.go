package influx

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/influxdata/line-protocol/v2/lineprotocol"

	"github.com/millrace-stream/millrace/flow/codec"
)

// Precision is the unit of times.
type Precision = lineprotocol.Precision

// The units of times.
const (
	Nanosecond  = lineprotocol.Nanosecond
	Microsecond = lineprotocol.Microsecond
	Millisecond = lineprotocol.Millisecond
	Second      = lineprotocol.Second
)

// Option configures a codec.
type Option func(*config)

type config struct{ precision Precision }

// In sets the unit of times, which a line does not tell. Defaults to Nanosecond, as InfluxDB's.
func In(p Precision) Option { return func(c *config) { c.precision = p } }

// Batch reads payloads of any number of lines; empty lines and comments (#) are passed over. A payload with a wrong line is rejected as a
// whole: none of its points gets through while the rest is lost. Batch's points are emitted one by one by Each.
//
// Decode rejects keys that come twice in a point, times that int64 nanoseconds cannot hold, NaN and infinities, and text that is not
// UTF-8. What it allocates is in proportion to the payload, and nothing of the payload is kept. Append writes a line per point, cuts
// times to the precision, and fails on what has no encoding: a point without fields, empty names, and control characters or a backslash
// at the end in names and tags.
func Batch(opts ...Option) codec.Codec[[]Point] { return batch{configure(opts)} }

// Codec reads payloads of exactly one line; more are codec.ErrTrailing. For the rest it is as Batch.
func Codec(opts ...Option) codec.Codec[Point] { return single{configure(opts)} }

func configure(opts []Option) config {
	var c config
	for _, o := range opts {
		o(&c)
	}
	return c
}

type (
	batch  struct{ config }
	single struct{ config }
)

func (c config) id() string {
	return "influx/" + map[Precision]string{Nanosecond: "ns", Microsecond: "us", Millisecond: "ms", Second: "s"}[c.precision]
}

func (c batch) ID() string  { return c.id() }
func (c single) ID() string { return c.id() }

func (c batch) Decode(data []byte, v *[]Point) error {
	d := lineprotocol.NewDecoderWithBytes(data)
	*v = []Point{}
	for n := 1; d.Next(); n++ {
		var p Point
		if err := c.read(d, &p); err != nil {
			return fmt.Errorf("decode line protocol: point %d: %w", n, err)
		}
		*v = append(*v, p)
	}
	return nil
}

func (c single) Decode(data []byte, v *Point) error {
	d := lineprotocol.NewDecoderWithBytes(data)
	if !d.Next() {
		return errors.New("decode line protocol: the payload has no point: nothing to decode")
	}
	if err := c.read(d, v); err != nil {
		return fmt.Errorf("decode line protocol: %w", err)
	}
	if d.Next() {
		return fmt.Errorf("decode line protocol: %w: one point per payload is expected, use Batch for more", codec.ErrTrailing)
	}
	return nil
}

// read makes a point of the decoder's entry. The errors of the decoder name line and column.
func (c config) read(d *lineprotocol.Decoder, p *Point) error {
	name, err := d.Measurement()
	if err != nil {
		return detached(err)
	}
	if p.Measurement, err = text("measurement", name); err != nil {
		return err
	}
	for {
		k, v, err := d.NextTag()
		if err != nil {
			return detached(err)
		}
		if k == nil {
			break
		}
		key, err := text("tag key", k)
		if err != nil {
			return err
		}
		value, err := text("value of tag "+key, v)
		if err != nil {
			return err
		}
		p.Tags = append(p.Tags, Tag{key, value})
	}
	for {
		k, v, err := d.NextField()
		if err != nil {
			return detached(err)
		}
		if k == nil {
			break
		}
		key, err := text("field key", k)
		if err != nil {
			return err
		}
		value, err := valueOf(key, v)
		if err != nil {
			return err
		}
		p.Fields = append(p.Fields, Field{key, value})
	}
	if k, twice := repeated(p.Tags, func(t Tag) string { return t.Key }); twice {
		return fmt.Errorf("measurement %q: the tag %q comes twice", p.Measurement, k)
	}
	if k, twice := repeated(p.Fields, func(f Field) string { return f.Key }); twice {
		return fmt.Errorf("measurement %q: the field %q comes twice", p.Measurement, k)
	}
	return c.readTime(d, p)
}

func (c config) readTime(d *lineprotocol.Decoder, p *Point) error {
	digits, err := d.TimeBytes()
	if err != nil {
		return detached(err)
	}
	if digits == nil {
		return nil
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	unit := int64(c.precision.Duration())
	if err != nil || n*unit/unit != n {
		return fmt.Errorf("measurement %q: %q is not a time in %s that int64 nanoseconds can hold: is the precision right?", p.Measurement, digits, c.precision)
	}
	p.Time = time.Unix(0, n*unit).UTC()
	return nil
}

// detached is err without memory of the payload.
func detached(err error) error {
	var e *lineprotocol.DecodeError
	if errors.As(err, &e) {
		return fmt.Errorf("at line %d, byte %d of it: %s", e.Line, e.Column, strings.ToValidUTF8(e.Err.Error(), "\ufffd"))
	}
	return errors.New(err.Error())
}

func text(what string, b []byte) (string, error) {
	if !utf8.Valid(b) {
		return "", fmt.Errorf("the %s %q is not UTF-8", what, b)
	}
	return string(b), nil
}

func valueOf(key string, v lineprotocol.Value) (Value, error) {
	switch v.Kind() {
	case lineprotocol.Float:
		return Float(v.FloatV()), nil
	case lineprotocol.Int:
		return Int(v.IntV()), nil
	case lineprotocol.Uint:
		return Uint(v.UintV()), nil
	case lineprotocol.Bool:
		return Bool(v.BoolV()), nil
	}
	s, err := text("value of field "+key, v.BytesV())
	return String(s), err
}

// repeated finds a key that comes twice.
func repeated[T any](list []T, key func(T) string) (string, bool) {
	if len(list) <= 16 {
		for i := range list {
			for j := range i {
				if key(list[i]) == key(list[j]) {
					return key(list[i]), true
				}
			}
		}
		return "", false
	}
	seen := make(map[string]struct{}, len(list))
	for _, e := range list {
		if _, twice := seen[key(e)]; twice {
			return key(e), true
		}
		seen[key(e)] = struct{}{}
	}
	return "", false
}

func (c batch) Append(b []byte, v *[]Point) ([]byte, error) {
	out := b
	for i := range *v {
		var err error
		if out, err = c.write(out, &(*v)[i]); err != nil {
			return b, fmt.Errorf("encode line protocol: point %d: %w", i+1, err)
		}
	}
	return out, nil
}

func (c single) Append(b []byte, v *Point) ([]byte, error) {
	out, err := c.write(b, v)
	if err != nil {
		return b, fmt.Errorf("encode line protocol: %w", err)
	}
	return out, nil
}

func (c config) write(b []byte, p *Point) ([]byte, error) {
	var e lineprotocol.Encoder
	e.SetPrecision(c.precision)
	e.SetBuffer(b)
	if strings.HasPrefix(p.Measurement, "#") {
		return b, fmt.Errorf("the measurement %q would be a comment: it must not begin with #", p.Measurement)
	}
	e.StartLine(p.Measurement)
	tags := p.Tags
	byKey := func(x, y Tag) int { return strings.Compare(x.Key, y.Key) }
	if !slices.IsSortedFunc(tags, byKey) {
		tags = slices.Clone(tags)
		slices.SortFunc(tags, byKey)
	}
	for _, t := range tags {
		e.AddTag(t.Key, t.Value)
	}
	if k, twice := repeated(p.Fields, func(f Field) string { return f.Key }); twice {
		return b, fmt.Errorf("the field %q comes twice", k)
	}
	for _, f := range p.Fields {
		v, ok := f.Value.encodable()
		if !ok {
			return b, fmt.Errorf("the field %q has no encoding: NaN, an infinity, text that is not UTF-8, or an unknown kind", f.Key)
		}
		e.AddField(f.Key, v)
	}
	t := p.Time
	if !t.IsZero() {
		t = t.Truncate(c.precision.Duration()) // the encoder would round times before 1970 up
	}
	e.EndLine(t)
	if err := e.Err(); err != nil {
		return b, err
	}
	return e.Bytes(), nil
}

func (v Value) encodable() (lineprotocol.Value, bool) {
	switch v.Kind {
	case KindFloat:
		return lineprotocol.FloatValue(v.Float)
	case KindInt:
		return lineprotocol.IntValue(v.Int), true
	case KindUint:
		return lineprotocol.UintValue(v.Uint), true
	case KindBool:
		return lineprotocol.BoolValue(v.Bool), true
	case KindString:
		return lineprotocol.StringValue(v.Text)
	}
	return lineprotocol.Value{}, false
}

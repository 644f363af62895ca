// Package msgpack encodes values as MessagePack.
package msgpack

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/tinylib/msgp/msgp"

	"github.com/millrace-stream/millrace/flow/codec"
)

// MaxDepth is how deep arrays, maps and structs may be nested.
const MaxDepth = 256

// Codec encodes T as MessagePack, structs as maps by field name. Names come from the tag msg, else msgpack, else json, else the field's
// own, with the option omitempty. Types for which tinylib/msgp has generated methods use those, and are several times faster.
//
// T is made of booleans, numbers, strings, []byte, time.Time (the timestamp extension; msgp's own is read too), types that marshal
// themselves as text, and pointers, slices, arrays, maps and structs of all of them. Anything else, embedded structs and types that
// contain themselves in no other way than by value included, is an error at the first Append or Decode.
//
// Decode rejects empty input, data behind the value (codec.ErrTrailing), repeated names, numbers that do not fit the field (a float
// is never cut to an integer), and more than MaxDepth levels; unknown fields are passed over, nil leaves a field zero. Counts and lengths
// are checked against what is left of the payload before anything is allocated. Errors name the field and the position in bytes.
// Maps are written sorted, so that equal values have identical bytes.
func Codec[T any]() codec.Codec[T] {
	c := msgpackCodec[T]{}
	if _, ok := any(new(T)).(generated); ok {
		c.generated = true
		return c
	}
	c.plan, c.err = planOf(reflect.TypeFor[T]())
	return c
}

// generated is what tinylib/msgp writes for a type.
type generated interface {
	msgp.Marshaler
	msgp.Unmarshaler
}

type msgpackCodec[T any] struct {
	generated bool
	plan      *plan
	err       error
}

func (c msgpackCodec[T]) ID() string { return "msgpack" }

func (c msgpackCodec[T]) Append(b []byte, v *T) ([]byte, error) {
	if c.err != nil {
		return b, c.err
	}
	var out []byte
	var err error
	if c.generated {
		out, err = any(v).(generated).MarshalMsg(b)
	} else {
		out, err = c.plan.write(b, reflect.ValueOf(v).Elem(), 0)
	}
	if err != nil {
		return b, fmt.Errorf("encode MessagePack: %w", err)
	}
	return out, nil
}

func (c msgpackCodec[T]) Decode(data []byte, v *T) error {
	if c.err != nil {
		return c.err
	}
	if len(data) == 0 {
		return errors.New("decode MessagePack: the payload is empty: nothing to decode")
	}
	var rest []byte
	var err error
	if c.generated {
		rest, err = any(v).(generated).UnmarshalMsg(data)
	} else {
		rest, err = c.plan.read(data, reflect.ValueOf(v).Elem(), 0)
	}
	if err != nil {
		return located(data, err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("decode MessagePack: at byte %d: %w: one value per payload is expected", len(data)-len(rest), codec.ErrTrailing)
	}
	return nil
}

// misfit is a failure with its place: how many bytes were left, and in which field, inside out.
type misfit struct {
	left int
	path []string
	err  error
}

func (m *misfit) Error() string { return m.err.Error() }
func (m *misfit) Unwrap() error { return m.err }

// at makes a misfit of err, unless it is one.
func at(b []byte, err error) error {
	var m *misfit
	if err == nil || errors.As(err, &m) {
		return err
	}
	return &misfit{left: len(b), err: err}
}

// in adds the field that a misfit is in.
func in(name string, err error) error {
	var m *misfit
	if errors.As(err, &m) {
		m.path = append(m.path, name)
	}
	return err
}

func located(data []byte, err error) error {
	var m *misfit
	if !errors.As(err, &m) {
		return fmt.Errorf("decode MessagePack: %w", err)
	}
	path := ""
	for _, p := range m.path {
		if path == "" {
			path = p
		} else {
			path = p + "." + path
		}
	}
	if path != "" {
		path = fmt.Sprintf("field %q ", path)
	}
	if errors.Is(m.err, msgp.ErrShortBytes) {
		return fmt.Errorf("decode MessagePack: %sat byte %d: the payload ends within a value: it is cut (%w)", path, len(data)-m.left, m.err)
	}
	return fmt.Errorf("decode MessagePack: %sat byte %d: %w", path, len(data)-m.left, m.err)
}

package codec

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// CBOR encodes values as CBOR (RFC 8949), structs by field name. It is the default codec of user types in state.
//
// What comes back equals what went in: NaN with its bits, time.Time with nanoseconds and zone offset (years 0 to 9999), strings
// that are not UTF-8, types with MarshalBinary or MarshalText. Maps are sorted, so that equal values have identical bytes.
//
// A type may evolve: fields may be added (they are zero in what was written before), removed, moved, and renamed with a `cbor:"old"`
// tag. Changing a field's type is an error where the old value does not fit. Data of a type with unexported fields
// would lose them, so it is an error at the first Append or Decode, unless the type marshals itself or the field is tagged
// `cbor:"-"`. So are channels, functions and interfaces.
//
// Decode reads what devices write: names from the tags cbor and json, whole numbers as keys (`cbor:"1,keyasint"`), lengths that are given or
// indefinite, integers and floats of any width where they fit. It rejects data behind the value (ErrTrailing), empty input, repeated keys and more than 256 levels of nesting. It
// allocates no more than in proportion to the input.
func CBOR[T any]() Codec[T] {
	c := cborCodec[T]{}
	c.enc, c.dec, c.err = cborModes()
	if c.err == nil {
		c.err = checkCBOR(reflect.TypeFor[T](), "", map[reflect.Type]bool{})
	}
	return c
}

type cborCodec[T any] struct {
	enc cbor.UserBufferEncMode
	dec cbor.DecMode
	err error
}

func (c cborCodec[T]) ID() string { return "cbor" }

func (c cborCodec[T]) Append(b []byte, v *T) ([]byte, error) {
	if c.err != nil {
		return b, c.err
	}
	data, err := c.enc.Marshal(v)
	if err != nil {
		return b, fmt.Errorf("encode CBOR: %w", err)
	}
	return append(b, data...), nil
}

func (c cborCodec[T]) Decode(data []byte, v *T) error {
	if c.err != nil {
		return c.err
	}
	if len(data) == 0 {
		return errEmpty("CBOR")
	}
	err := c.dec.Unmarshal(data, v)
	var extra *cbor.ExtraneousDataError
	if errors.As(err, &extra) {
		return fmt.Errorf("decode CBOR: %w (%w)", ErrTrailing, err)
	}
	if err != nil {
		return fmt.Errorf("decode CBOR: %w", err)
	}
	return nil
}

func cborModes() (cbor.UserBufferEncMode, cbor.DecMode, error) {
	enc, err := cbor.EncOptions{
		Sort:          cbor.SortBytewiseLexical,
		ShortestFloat: cbor.ShortestFloatNone,
		NaNConvert:    cbor.NaNConvertNone,
		InfConvert:    cbor.InfConvertNone,
		BigIntConvert: cbor.BigIntConvertShortest,
		Time:          cbor.TimeRFC3339Nano,
		TextMarshaler: cbor.TextMarshalerTextString,
	}.UserBufferEncMode()
	if err != nil {
		return nil, nil, err
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   256,
		MaxArrayElements:  1<<31 - 1,
		MaxMapPairs:       1<<31 - 1,
		IndefLength:       cbor.IndefLengthAllowed,
		UTF8:              cbor.UTF8DecodeInvalid,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		TextUnmarshaler:   cbor.TextUnmarshalerTextString,
	}.DecMode()
	return enc, dec, err
}

func errEmpty(format string) error {
	return fmt.Errorf("decode %s: the payload is empty: nothing to decode", format)
}

// checkCBOR finds what CBOR by field name would drop or could not bring back.
func checkCBOR(t reflect.Type, path string, seen map[reflect.Type]bool) error {
	if seen[t] || marshalsItself(t) {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return checkCBOR(t.Elem(), path, seen)
	case reflect.Map:
		if err := checkCBOR(t.Key(), path+" key", seen); err != nil {
			return err
		}
		return checkCBOR(t.Elem(), path, seen)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("cbor"), ",")
			if name == "-" || f.Name == "_" {
				continue
			}
			at := strings.TrimPrefix(path+"."+f.Name, ".")
			if !f.IsExported() && !(f.Anonymous && f.Type.Kind() == reflect.Struct) {
				return fmt.Errorf("CBOR of %v would lose the unexported field %s: export it, tag it `cbor:\"-\"`, "+
					"let the type marshal itself (encoding.BinaryMarshaler), or give a codec of its own", t, at)
			}
			if err := checkCBOR(f.Type, at, seen); err != nil {
				return err
			}
		}
		return nil
	case reflect.Chan, reflect.Func, reflect.Interface, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return fmt.Errorf("CBOR cannot bring back %v (%s): use a concrete type, or give a codec of its own", t, place(path))
	}
	return nil
}

func place(path string) string {
	if path == "" {
		return "the value itself"
	}
	return "field " + path
}

// marshalsItself tells whether t, or the pointer to it, writes and reads itself.
func marshalsItself(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[cbor.RawMessage]():
		return true
	}
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		return false
	}
	p := reflect.PointerTo(t)
	for _, pair := range [][2]reflect.Type{
		{reflect.TypeFor[cbor.Marshaler](), reflect.TypeFor[cbor.Unmarshaler]()},
		{reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler]()},
		{reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()},
	} {
		if p.Implements(pair[0]) && p.Implements(pair[1]) {
			return true
		}
	}
	return t.PkgPath() == "math/big" && t.Name() == "Int"
}

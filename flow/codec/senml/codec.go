package senml

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/fxamacker/cbor/v2"

	"github.com/millrace-stream/millrace/flow/codec"
)

// Data is a value of bytes: in JSON base64 of the alphabet for URLs without padding, in CBOR a byte string.
type Data []byte

// MarshalText writes base64.
func (d Data) MarshalText() ([]byte, error) { return base64.RawURLEncoding.AppendEncode(nil, d), nil }

// UnmarshalText reads base64, with padding or without.
func (d *Data) UnmarshalText(b []byte) error {
	out, err := base64.RawURLEncoding.AppendDecode([]byte{}, bytes.TrimRight(b, "="))
	if err != nil {
		return fmt.Errorf("vd is not base64 of the alphabet for URLs: %w", err)
	}
	*d = out
	return nil
}

// JSON reads and writes packs as application/senml+json.
//
// Decode does not resolve: Records or Resolve does. It rejects data behind the list (codec.ErrTrailing), wrong types, and, as RFC 8428
// demands, fields that are unknown and end with an underscore; other unknown fields are passed over.
func JSON() codec.Codec[Pack] { return jsonCodec{codec.JSON[Pack]()} }

type jsonCodec struct{ codec.Codec[Pack] }

func (jsonCodec) ID() string { return "senml+json" }

func (c jsonCodec) Decode(data []byte, v *Pack) error {
	if err := c.Codec.Decode(data, v); err != nil {
		return fmt.Errorf("SenML: %w", err)
	}
	if !bytes.Contains(data, []byte(`_"`)) {
		return nil
	}
	var entries []map[string]json.RawMessage
	if err := json.Unmarshal(data, &entries); err != nil {
		return fmt.Errorf("SenML: decode JSON: %w", err)
	}
	for i, e := range entries {
		for label := range e {
			if err := mustUnderstand(i, label); err != nil {
				return err
			}
		}
	}
	return nil
}

func mustUnderstand(i int, label string) error {
	if label == "" || label[len(label)-1] != '_' {
		return nil
	}
	return fmt.Errorf("SenML entry %d: the field %q must be understood and is not: its sender uses an extension", i+1, label)
}

// CBOR reads and writes packs as application/senml+cbor. Numbers may be integers, floats of any width and decimal fractions; they are
// written as float64. For the rest it is as JSON; the list is limited to 131,072 entries and 16 levels.
func CBOR() codec.Codec[Pack] {
	c := cborCodec{}
	c.enc, c.err = cbor.EncOptions{ShortestFloat: cbor.ShortestFloatNone}.EncMode()
	if c.err == nil {
		c.dec, c.err = cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 16, IndefLength: cbor.IndefLengthAllowed}.DecMode()
	}
	return c
}

type cborCodec struct {
	enc cbor.EncMode
	dec cbor.DecMode
	err error
}

// wire is an Entry with the labels of CBOR.
type wire struct {
	BaseVersion int     `cbor:"-1,keyasint,omitempty"`
	BaseName    string  `cbor:"-2,keyasint,omitempty"`
	BaseTime    number  `cbor:"-3,keyasint,omitempty"`
	BaseUnit    string  `cbor:"-4,keyasint,omitempty"`
	BaseValue   *number `cbor:"-5,keyasint,omitempty"`
	BaseSum     *number `cbor:"-6,keyasint,omitempty"`
	Name        string  `cbor:"0,keyasint,omitempty"`
	Unit        string  `cbor:"1,keyasint,omitempty"`
	Value       *number `cbor:"2,keyasint,omitempty"`
	Text        *string `cbor:"3,keyasint,omitempty"`
	Bool        *bool   `cbor:"4,keyasint,omitempty"`
	Sum         *number `cbor:"5,keyasint,omitempty"`
	Time        number  `cbor:"6,keyasint,omitempty"`
	UpdateTime  number  `cbor:"7,keyasint,omitempty"`
	Data        *[]byte `cbor:"8,keyasint,omitempty"`
}

func (cborCodec) ID() string { return "senml+cbor" }

func (c cborCodec) Decode(data []byte, v *Pack) error {
	if c.err != nil {
		return c.err
	}
	if len(data) == 0 {
		return errors.New("SenML: decode CBOR: the payload is empty: nothing to decode")
	}
	var entries []wire
	err := c.dec.Unmarshal(data, &entries)
	var extra *cbor.ExtraneousDataError
	if errors.As(err, &extra) {
		return fmt.Errorf("SenML: decode CBOR: %w (%w)", codec.ErrTrailing, err)
	}
	if err != nil {
		return fmt.Errorf("SenML: decode CBOR: %w", err)
	}
	if bytes.IndexByte(data, '_') >= 0 {
		if err := c.understood(data); err != nil {
			return err
		}
	}
	*v = make(Pack, len(entries))
	for i := range entries {
		(*v)[i] = entries[i].entry()
	}
	return nil
}

func (c cborCodec) understood(data []byte) error {
	var entries []map[any]cbor.RawMessage
	if err := c.dec.Unmarshal(data, &entries); err != nil {
		return fmt.Errorf("SenML: decode CBOR: %w", err)
	}
	for i, e := range entries {
		for label := range e {
			if s, ok := label.(string); ok {
				if err := mustUnderstand(i, s); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (c cborCodec) Append(b []byte, v *Pack) ([]byte, error) {
	if c.err != nil {
		return b, c.err
	}
	entries := make([]wire, len(*v))
	for i := range *v {
		entries[i] = wireOf(&(*v)[i])
	}
	out, err := c.enc.Marshal(entries)
	if err != nil {
		return b, fmt.Errorf("SenML: encode CBOR: %w", err)
	}
	return append(b, out...), nil
}

func (w *wire) entry() Entry {
	return Entry{w.BaseVersion, w.BaseName, float64(w.BaseTime), w.BaseUnit, (*float64)(w.BaseValue), (*float64)(w.BaseSum), w.Name, w.Unit,
		(*float64)(w.Value), w.Text, w.Bool, (*Data)(w.Data), (*float64)(w.Sum), float64(w.Time), float64(w.UpdateTime)}
}

func wireOf(e *Entry) wire {
	return wire{e.BaseVersion, e.BaseName, number(e.BaseTime), e.BaseUnit, (*number)(e.BaseValue), (*number)(e.BaseSum), e.Name, e.Unit,
		(*number)(e.Value), e.Text, e.Bool, (*number)(e.Sum), number(e.Time), number(e.UpdateTime), (*[]byte)(e.Data)}
}

// number is a float64 that is read from any kind of number.
type number float64

// tagDecimal is the tag of decimal fractions: exponent and mantissa.
const tagDecimal = 4

// UnmarshalCBOR reads an integer, a float or a decimal fraction.
func (n *number) UnmarshalCBOR(b []byte) error {
	if len(b) > 0 && b[0]>>5 == 6 {
		var tag cbor.RawTag
		if err := cbor.Unmarshal(b, &tag); err != nil {
			return err
		}
		var parts []int64
		if tag.Number != tagDecimal {
			return fmt.Errorf("tag %d is not a number: want an integer, a float or a decimal fraction", tag.Number)
		}
		if err := cbor.Unmarshal(tag.Content, &parts); err != nil {
			return err
		}
		if len(parts) != 2 {
			return fmt.Errorf("a decimal fraction of %d parts: want exponent and mantissa", len(parts))
		}
		f, err := strconv.ParseFloat(strconv.FormatInt(parts[1], 10)+"e"+strconv.FormatInt(parts[0], 10), 64)
		if err != nil {
			return fmt.Errorf("the decimal fraction %d * 10^%d does not fit float64", parts[1], parts[0])
		}
		*n = number(f)
		return nil
	}
	var f float64
	if err := cbor.Unmarshal(b, &f); err != nil {
		return err
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return errors.New("NaN and infinities are not allowed")
	}
	*n = number(f)
	return nil
}

// MarshalCBOR writes a float64.
func (n number) MarshalCBOR() ([]byte, error) {
	if f := float64(n); math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, errors.New("NaN and infinities are not allowed")
	}
	return cbor.Marshal(float64(n))
}

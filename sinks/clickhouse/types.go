package clickhouse

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/google/uuid"
)

// maxDecodeRows bounds what a damaged block can make us allocate.
const maxDecodeRows = 1 << 26

// typeName is a ClickHouse type, taken apart.
type typeName struct {
	full  string
	base  string
	args  []string
	scale int              // DateTime64
	enum  map[string]int16 // Enum8, Enum16
	names map[int16]string
}

// parseType splits Base(arg, arg); commas inside parentheses or quotes do not split.
func parseType(s string) (typeName, error) {
	s = strings.TrimSpace(s)
	t := typeName{full: s, base: s}
	open := strings.IndexByte(s, '(')
	if open < 0 {
		return t, nil
	}
	if !strings.HasSuffix(s, ")") {
		return t, fmt.Errorf("type %q: missing )", s)
	}
	t.base = s[:open]
	depth, quoted, from := 0, false, open+1
	for i := from; i < len(s)-1; i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			t.args = append(t.args, strings.TrimSpace(s[from:i]))
			from = i + 1
		}
	}
	t.args = append(t.args, strings.TrimSpace(s[from:len(s)-1]))
	return t, nil
}

// newColumn makes an empty column of a type by its ClickHouse name.
func newColumn(name string) (column, error) {
	t, err := parseType(name)
	if err != nil {
		return nil, err
	}
	one := func() (column, error) {
		if len(t.args) != 1 {
			return nil, fmt.Errorf("type %q: want one argument", name)
		}
		return newColumn(t.args[0])
	}
	switch t.base {
	case "String":
		return &text{}, nil
	case "FixedString":
		if len(t.args) == 1 {
			if n, err := strconv.Atoi(t.args[0]); err == nil && n > 0 && n < 1<<20 {
				return &fixedText{data: proto.ColFixedStr{Size: n}}, nil
			}
		}
		return nil, fmt.Errorf("type %q: bad length", name)
	case "LowCardinality":
		if len(t.args) == 1 && t.args[0] == "String" {
			return newSymbols(), nil
		}
	case "Nullable":
		inner, err := one()
		if err != nil {
			return nil, err
		}
		switch inner.(type) {
		case *nullable, *array, *dict, *symbols:
			return nil, fmt.Errorf("type %q: cannot be inside Nullable", name)
		}
		return &nullable{values: inner}, nil
	case "Array":
		inner, err := one()
		if err != nil {
			return nil, err
		}
		return &array{elems: inner}, nil
	case "Map":
		if len(t.args) != 2 {
			return nil, fmt.Errorf("type %q: want two arguments", name)
		}
		k, err := newColumn(t.args[0])
		if err != nil {
			return nil, err
		}
		v, err := newColumn(t.args[1])
		if err != nil {
			return nil, err
		}
		return &dict{keys: k, values: v}, nil
	case "SimpleAggregateFunction":
		if len(t.args) == 2 { // stored and sent as its argument's type
			return newColumn(t.args[1])
		}
	default:
		return newFixed(t)
	}
	return nil, fmt.Errorf("type %q is not supported by this sink", name)
}

// newFixed makes the columns of one width.
func newFixed(t typeName) (column, error) {
	switch t.base {
	case "Bool":
		return &fixed[bool]{typ: t, kind: fixedKind[bool]{1,
			func(d []bool, b *proto.Buffer) { proto.ColBool(d).EncodeColumn(b) },
			func(d *[]bool, r *proto.Reader, n int) error {
				*d = (*d)[:0]
				return (*proto.ColBool)(d).DecodeColumn(r, n)
			},
			func(b []byte, v bool, _ typeName) []byte { return strconv.AppendBool(b, v) }}}, nil
	case "UInt8":
		return &fixed[uint8]{typ: t, kind: fixedKind[uint8]{1,
			func(d []uint8, b *proto.Buffer) { proto.ColUInt8(d).EncodeColumn(b) },
			func(d *[]uint8, r *proto.Reader, n int) error {
				*d = (*d)[:0]
				return (*proto.ColUInt8)(d).DecodeColumn(r, n)
			},
			jsonUint[uint8]}}, nil
	case "UInt16", "Date":
		return &fixed[uint16]{typ: t, kind: fixedKind[uint16]{2,
			func(d []uint16, b *proto.Buffer) { proto.ColUInt16(d).EncodeColumn(b) },
			func(d *[]uint16, r *proto.Reader, n int) error {
				*d = (*d)[:0]
				return (*proto.ColUInt16)(d).DecodeColumn(r, n)
			},
			jsonUint[uint16]}}, nil
	case "UInt32", "DateTime":
		return &fixed[uint32]{typ: t, kind: fixedKind[uint32]{4,
			func(d []uint32, b *proto.Buffer) { proto.ColUInt32(d).EncodeColumn(b) },
			func(d *[]uint32, r *proto.Reader, n int) error {
				*d = (*d)[:0]
				return (*proto.ColUInt32)(d).DecodeColumn(r, n)
			},
			jsonUint[uint32]}}, nil
	case "UInt64":
		return &fixed[uint64]{typ: t, kind: fixedKind[uint64]{8,
			func(d []uint64, b *proto.Buffer) { proto.ColUInt64(d).EncodeColumn(b) },
			func(d *[]uint64, r *proto.Reader, n int) error {
				*d = (*d)[:0]
				return (*proto.ColUInt64)(d).DecodeColumn(r, n)
			},
			jsonUint[uint64]}}, nil
	case "Int8", "Enum8":
		if t.base == "Enum8" {
			if err := t.parseEnum(); err != nil {
				return nil, err
			}
		}
		return &fixed[int8]{typ: t, kind: fixedKind[int8]{1,
			func(d []int8, b *proto.Buffer) { proto.ColInt8(d).EncodeColumn(b) },
			func(d *[]int8, r *proto.Reader, n int) error {
				*d = (*d)[:0]
				return (*proto.ColInt8)(d).DecodeColumn(r, n)
			},
			jsonInt[int8]}}, nil
	case "Int16", "Enum16":
		if t.base == "Enum16" {
			if err := t.parseEnum(); err != nil {
				return nil, err
			}
		}
		return &fixed[int16]{typ: t, kind: fixedKind[int16]{2,
			func(d []int16, b *proto.Buffer) { proto.ColInt16(d).EncodeColumn(b) },
			func(d *[]int16, r *proto.Reader, n int) error {
				*d = (*d)[:0]
				return (*proto.ColInt16)(d).DecodeColumn(r, n)
			},
			jsonInt[int16]}}, nil
	case "Int32", "Date32":
		return &fixed[int32]{typ: t, kind: fixedKind[int32]{4,
			func(d []int32, b *proto.Buffer) { proto.ColInt32(d).EncodeColumn(b) },
			func(d *[]int32, r *proto.Reader, n int) error {
				*d = (*d)[:0]
				return (*proto.ColInt32)(d).DecodeColumn(r, n)
			},
			jsonInt[int32]}}, nil
	case "Int64", "DateTime64":
		if t.base == "DateTime64" {
			n, err := strconv.Atoi(append(t.args, "")[0])
			if err != nil || n < 0 || n > 9 {
				return nil, fmt.Errorf("type %q: want a precision of 0 to 9", t.full)
			}
			t.scale = n
		}
		return &fixed[int64]{typ: t, kind: fixedKind[int64]{8,
			func(d []int64, b *proto.Buffer) { proto.ColInt64(d).EncodeColumn(b) },
			func(d *[]int64, r *proto.Reader, n int) error {
				*d = (*d)[:0]
				return (*proto.ColInt64)(d).DecodeColumn(r, n)
			},
			jsonInt[int64]}}, nil
	case "Float32":
		return &fixed[float32]{typ: t, kind: fixedKind[float32]{4,
			func(d []float32, b *proto.Buffer) { proto.ColFloat32(d).EncodeColumn(b) },
			func(d *[]float32, r *proto.Reader, n int) error {
				*d = (*d)[:0]
				return (*proto.ColFloat32)(d).DecodeColumn(r, n)
			},
			func(b []byte, v float32, _ typeName) []byte { return jsonFloat(b, float64(v), 32) }}}, nil
	case "Float64":
		return &fixed[float64]{typ: t, kind: fixedKind[float64]{8,
			func(d []float64, b *proto.Buffer) { proto.ColFloat64(d).EncodeColumn(b) },
			func(d *[]float64, r *proto.Reader, n int) error {
				*d = (*d)[:0]
				return (*proto.ColFloat64)(d).DecodeColumn(r, n)
			},
			func(b []byte, v float64, _ typeName) []byte { return jsonFloat(b, v, 64) }}}, nil
	case "UUID":
		return &fixed[uuid.UUID]{typ: t, kind: fixedKind[uuid.UUID]{16,
			func(d []uuid.UUID, b *proto.Buffer) { proto.ColUUID(d).EncodeColumn(b) },
			func(d *[]uuid.UUID, r *proto.Reader, n int) error {
				*d = (*d)[:0]
				return (*proto.ColUUID)(d).DecodeColumn(r, n)
			},
			func(b []byte, v uuid.UUID, _ typeName) []byte { return appendQuoted(b, []byte(v.String())) }}}, nil
	}
	return nil, fmt.Errorf("type %q is not supported by this sink", t.full)
}

// parseEnum reads 'name' = number pairs.
func (t *typeName) parseEnum() error {
	t.enum, t.names = map[string]int16{}, map[int16]string{}
	for _, a := range t.args {
		end := strings.LastIndexByte(a, '\'')
		eq := strings.LastIndexByte(a, '=')
		if len(a) < 2 || a[0] != '\'' || end < 1 || eq < end {
			return fmt.Errorf("type %q: cannot read %q", t.full, a)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(a[eq+1:]), 10, 16)
		if err != nil {
			return fmt.Errorf("type %q: %w", t.full, err)
		}
		name := strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(a[1:end])
		t.enum[name] = int16(n)
		t.names[int16(n)] = name
	}
	return nil
}

func jsonUint[W ~uint8 | ~uint16 | ~uint32 | ~uint64](b []byte, v W, t typeName) []byte {
	switch t.base {
	case "Date":
		return time.Unix(int64(v)*86400, 0).UTC().AppendFormat(b, `"2006-01-02"`)
	case "DateTime":
		return time.Unix(int64(v), 0).UTC().AppendFormat(b, `"2006-01-02T15:04:05Z"`)
	}
	return strconv.AppendUint(b, uint64(v), 10)
}

func jsonInt[W ~int8 | ~int16 | ~int32 | ~int64](b []byte, v W, t typeName) []byte {
	switch t.base {
	case "Date32":
		return time.Unix(int64(v)*86400, 0).UTC().AppendFormat(b, `"2006-01-02"`)
	case "DateTime64":
		unit := pow10(t.scale)
		sec := floorDiv(int64(v), unit)
		return time.Unix(sec, (int64(v)-sec*unit)*pow10(9-t.scale)).UTC().AppendFormat(b, `"`+time.RFC3339Nano+`"`)
	case "Enum8", "Enum16":
		return appendQuoted(b, []byte(t.names[int16(v)]))
	}
	return strconv.AppendInt(b, int64(v), 10)
}

func jsonFloat(b []byte, v float64, bits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(strconv.AppendFloat(append(b, '"'), v, 'g', -1, bits), '"')
	}
	return strconv.AppendFloat(b, v, 'g', -1, bits)
}

// appendQuoted appends a JSON string; bytes that are not UTF-8 are written as U+FFFD.
func appendQuoted(b, s []byte) []byte {
	b = append(b, '"')
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = append(b, fmt.Sprintf(`\u%04x`, r)...)
		case r == utf8.RuneError && n == 1:
			b = append(b, `\ufffd`...)
		default:
			b = append(b, s[:n]...)
		}
		s = s[n:]
	}
	return append(b, '"')
}

func pow10(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

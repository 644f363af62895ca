package sparkplug

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// DataType is the type of a metric.
type DataType uint8

// The types of metrics, with the numbers of the specification.
const (
	Unknown DataType = iota
	Int8
	Int16
	Int32
	Int64
	UInt8
	UInt16
	UInt32
	UInt64
	Float
	Double
	Boolean
	String
	DateTime
	Text
	UUID
	DataSet
	Bytes
	File
	Template
	PropertySet
	PropertySetList
	Int8Array
	Int16Array
	Int32Array
	Int64Array
	UInt8Array
	UInt16Array
	UInt32Array
	UInt64Array
	FloatArray
	DoubleArray
	BooleanArray
	StringArray
	DateTimeArray
	lastType = DateTimeArray
)

// Value is what a metric holds: the member that its type says.
type Value struct {
	Type DataType
	// Null says that there is no value.
	Null bool `cbor:",omitempty"`
	// Int is for Int8 to Int64, and for DateTime in milliseconds since 1970.
	Int int64 `cbor:",omitempty"`
	// Uint is for UInt8 to UInt64.
	Uint uint64 `cbor:",omitempty"`
	// Float is for Float and Double.
	Float float64 `cbor:",omitempty"`
	// Bool is for Boolean.
	Bool bool `cbor:",omitempty"`
	// Text is for String, Text and UUID.
	Text string `cbor:",omitempty"`
	// Bytes is for Bytes and File, for arrays as they are packed (Numbers takes them apart), and for DataSet and Template as they are
	// encoded (Table takes the first apart).
	Bytes []byte `cbor:",omitempty"`
}

// Number is the value as a float64: of numbers, of booleans as 0 or 1, of DateTime in milliseconds. Others, and null, are none.
func (v Value) Number() (float64, bool) {
	if v.Null {
		return math.NaN(), false
	}
	switch v.Type {
	case Int8, Int16, Int32, Int64, DateTime:
		return float64(v.Int), true
	case UInt8, UInt16, UInt32, UInt64:
		return float64(v.Uint), true
	case Float, Double:
		return v.Float, true
	case Boolean:
		if v.Bool {
			return 1, true
		}
		return 0, true
	}
	return math.NaN(), false
}

// IntOf makes a value of one of the types Int8 to Int64.
func IntOf(t DataType, x int64) Value { return Value{Type: t, Int: x} }

// UintOf makes a value of one of the types UInt8 to UInt64.
func UintOf(t DataType, x uint64) Value { return Value{Type: t, Uint: x} }

// DoubleOf makes a Double.
func DoubleOf(x float64) Value { return Value{Type: Double, Float: x} }

// FloatOf makes a Float.
func FloatOf(x float32) Value { return Value{Type: Float, Float: float64(x)} }

// BoolOf makes a Boolean.
func BoolOf(x bool) Value { return Value{Type: Boolean, Bool: x} }

// StringOf makes a String.
func StringOf(x string) Value { return Value{Type: String, Text: x} }

// TimeOf makes a DateTime.
func TimeOf(x time.Time) Value { return Value{Type: DateTime, Int: x.UnixMilli()} }

// BytesOf makes a value of bytes.
func BytesOf(x []byte) Value { return Value{Type: Bytes, Bytes: x} }

// NullOf makes a null of a type.
func NullOf(t DataType) Value { return Value{Type: t, Null: true} }

// Wire is how a metric's value came.
type Wire uint8

// The ways of a value, with the field numbers of the payload.
const (
	WireNone     Wire = 0
	WireInt      Wire = 10
	WireLong     Wire = 11
	WireFloat    Wire = 12
	WireDouble   Wire = 13
	WireBool     Wire = 14
	WireString   Wire = 15
	WireBytes    Wire = 16
	WireDataSet  Wire = 17
	WireTemplate Wire = 18
)

// Value reads a metric as of type t; Unknown means the type that the metric itself has.
func (m *Metric) Value(t DataType) (Value, error) {
	if t == Unknown {
		t = m.Type
	}
	v := Value{Type: t, Null: m.Null || m.Wire == WireNone}
	if t == Unknown || t > lastType {
		return v, fmt.Errorf("metric %s: data type %d is not known", m.label(), t)
	}
	if v.Null {
		return v, nil
	}
	ok := false
	switch t {
	case Int8:
		ok = m.signed(&v.Int, math.MinInt8, math.MaxUint8)
		v.Int = int64(int8(v.Int))
	case Int16:
		ok = m.signed(&v.Int, math.MinInt16, math.MaxUint16)
		v.Int = int64(int16(v.Int))
	case Int32:
		ok = m.signed(&v.Int, math.MinInt32, math.MaxUint32)
		v.Int = int64(int32(v.Int))
	case Int64, DateTime:
		ok = m.signed(&v.Int, math.MinInt64, math.MaxInt64)
	case UInt8:
		ok = m.unsigned(&v.Uint, math.MaxUint8)
	case UInt16:
		ok = m.unsigned(&v.Uint, math.MaxUint16)
	case UInt32:
		ok = m.unsigned(&v.Uint, math.MaxUint32)
	case UInt64:
		ok = m.unsigned(&v.Uint, math.MaxUint64)
	case Float, Double:
		switch m.Wire {
		case WireFloat:
			v.Float, ok = float64(math.Float32frombits(uint32(m.Bits))), true
		case WireDouble:
			v.Float, ok = math.Float64frombits(m.Bits), true
		}
	case Boolean:
		v.Bool, ok = m.Bits != 0, m.Wire == WireBool
	case String, Text, UUID:
		v.Text, ok = m.Text, m.Wire == WireString
	case DataSet:
		v.Bytes, ok = m.Bytes, m.Wire == WireDataSet
	case Template:
		v.Bytes, ok = m.Bytes, m.Wire == WireTemplate
	default:
		v.Bytes, ok = m.Bytes, m.Wire == WireBytes
	}
	if !ok {
		return v, fmt.Errorf("metric %s: the value (payload field %d) does not fit the data type %d that its birth or it itself says", m.label(), m.Wire, t)
	}
	return v, nil
}

// signed reads two's complement of 32 bits, or 64, and allows what small types wrap to.
func (m *Metric) signed(p *int64, low, high int64) bool {
	switch m.Wire {
	case WireInt:
		*p = int64(int32(uint32(m.Bits)))
	case WireLong:
		*p = int64(m.Bits)
	default:
		return false
	}
	return *p >= low && *p <= high
}

func (m *Metric) unsigned(p *uint64, high uint64) bool {
	*p = m.Bits
	return (m.Wire == WireInt || m.Wire == WireLong) && m.Bits <= high
}

func (m *Metric) label() string {
	if m.Name != "" {
		return fmt.Sprintf("%q", m.Name)
	}
	return fmt.Sprintf("of alias %d", m.Alias)
}

// set puts a value into a metric.
func (m *Metric) set(v Value) error {
	m.Type, m.Null, m.Wire, m.Bits, m.Text, m.Bytes = v.Type, v.Null, WireNone, 0, "", nil
	if v.Null {
		return nil
	}
	switch v.Type {
	case Int8, Int16, Int32:
		m.Wire, m.Bits = WireInt, uint64(uint32(v.Int))
	case Int64, DateTime:
		m.Wire, m.Bits = WireLong, uint64(v.Int)
	case UInt8, UInt16, UInt32:
		m.Wire, m.Bits = WireInt, v.Uint
	case UInt64:
		m.Wire, m.Bits = WireLong, v.Uint
	case Float:
		m.Wire, m.Bits = WireFloat, uint64(math.Float32bits(float32(v.Float)))
	case Double:
		m.Wire, m.Bits = WireDouble, math.Float64bits(v.Float)
	case Boolean:
		m.Wire = WireBool
		if v.Bool {
			m.Bits = 1
		}
	case String, Text, UUID:
		m.Wire, m.Text = WireString, v.Text
	case DataSet:
		m.Wire, m.Bytes = WireDataSet, v.Bytes
	case Template:
		m.Wire, m.Bytes = WireTemplate, v.Bytes
	case Unknown, PropertySet, PropertySetList:
		return fmt.Errorf("metric %s: data type %d cannot be a metric's", m.label(), v.Type)
	default:
		m.Wire, m.Bytes = WireBytes, v.Bytes
	}
	if back, err := m.Value(v.Type); err != nil || back.Int != v.Int || back.Uint != v.Uint {
		return fmt.Errorf("metric %s: the value does not fit the data type %d", m.label(), v.Type)
	}
	return nil
}

// Numbers takes an array of numbers, booleans (0 or 1) or times (milliseconds) apart. ok is false for other types and where the bytes
// are not whole elements.
func (v Value) Numbers() (numbers []float64, ok bool) {
	b := v.Bytes
	width := map[DataType]int{Int8Array: 1, Int16Array: 2, Int32Array: 4, Int64Array: 8, UInt8Array: 1, UInt16Array: 2, UInt32Array: 4,
		UInt64Array: 8, FloatArray: 4, DoubleArray: 8, DateTimeArray: 8}[v.Type]
	if v.Type == BooleanArray {
		return booleans(b)
	}
	if width == 0 || v.Null || len(b)%width != 0 {
		return nil, false
	}
	numbers = make([]float64, 0, len(b)/width)
	for ; len(b) > 0; b = b[width:] {
		var x float64
		switch v.Type {
		case Int8Array:
			x = float64(int8(b[0]))
		case UInt8Array:
			x = float64(b[0])
		case Int16Array:
			x = float64(int16(binary.LittleEndian.Uint16(b)))
		case UInt16Array:
			x = float64(binary.LittleEndian.Uint16(b))
		case Int32Array:
			x = float64(int32(binary.LittleEndian.Uint32(b)))
		case UInt32Array:
			x = float64(binary.LittleEndian.Uint32(b))
		case Int64Array, DateTimeArray:
			x = float64(int64(binary.LittleEndian.Uint64(b)))
		case UInt64Array:
			x = float64(binary.LittleEndian.Uint64(b))
		case FloatArray:
			x = float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
		case DoubleArray:
			x = math.Float64frombits(binary.LittleEndian.Uint64(b))
		}
		numbers = append(numbers, x)
	}
	return numbers, true
}

// booleans are packed behind their count, the first in the highest bit.
func booleans(b []byte) ([]float64, bool) {
	if len(b) < 4 {
		return nil, false
	}
	n := int64(binary.LittleEndian.Uint32(b))
	b = b[4:]
	if (n+7)/8 != int64(len(b)) {
		return nil, false
	}
	out := make([]float64, n)
	for i := range out {
		out[i] = float64(b[i/8] >> (7 - i%8) & 1)
	}
	return out, true
}

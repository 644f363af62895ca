package agg

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unsafe"

	"github.com/millrace-stream/millrace/flow/codec"
)

// wire encodes an accumulator type without reflection at run time: a list of columns of scalars and strings, made once from
// the type. Unexported fields are part of it, since the accumulators of method expressions usually have nothing else.
type wire struct {
	cols []column
	// shape is the fields' names and kinds, for the fingerprint.
	shape string
	// own encodes the accumulator where it is not flat, or the user gave a codec.
	own cellCodec
}

// column is count scalars of one kind, one behind the other, at an offset of the accumulator.
type column struct {
	off   uintptr
	kind  kind
	count uintptr
}

type kind uint8

const (
	kindBool kind = iota
	kind8
	kind16
	kind32
	kind64
	// kindInt is int, uint and uintptr: 64 bits in the encoding, whatever the machine.
	kindInt
	kindUint
	kindString
	// kindTime is a time.Time: seconds, nanoseconds, zone offset. Its zone's name and monotonic reading are lost.
	kindTime
)

// maxColumns bounds what flatten expands; larger types are left to a codec.
const maxColumns = 256

type cellCodec interface {
	append(b []byte, p unsafe.Pointer) ([]byte, error)
	read(b []byte, p unsafe.Pointer) error
	id() string
}

type codecCell[A any] struct{ c codec.Codec[A] }

func (c codecCell[A]) append(b []byte, p unsafe.Pointer) ([]byte, error) {
	return c.c.Append(b, (*A)(p))
}
func (c codecCell[A]) id() string { return c.c.ID() }

func (c codecCell[A]) read(b []byte, p unsafe.Pointer) error {
	*(*A)(p) = *new(A)
	return c.c.Decode(b, (*A)(p))
}

// wireOf makes the encoding of A: c if given, else columns if A is flat, else CBOR by field name.
func wireOf[A any](c codec.Codec[A]) (*wire, error) {
	t := reflect.TypeFor[A]()
	if c == nil {
		w := &wire{}
		var shape strings.Builder
		if flatten(t, 0, w, &shape) {
			w.shape = shape.String()
			return w, nil
		}
		c = codec.CBOR[A]()
	}
	w := &wire{own: codecCell[A]{c}, shape: c.ID()}
	if _, err := c.Append(nil, new(A)); err != nil {
		return w, fmt.Errorf("accumulator %v cannot be stored: %w", t, err)
	}
	return w, nil
}

// flatten adds the columns of t and tells whether t consists of scalars, strings, times, arrays and structs alone.
func flatten(t reflect.Type, off uintptr, w *wire, shape *strings.Builder) bool {
	add := func(k kind, name string) bool {
		w.cols = append(w.cols, column{off, k, 1})
		shape.WriteString(name)
		return len(w.cols) <= maxColumns
	}
	if t == reflect.TypeFor[time.Time]() {
		return add(kindTime, "time")
	}
	switch t.Kind() {
	case reflect.Bool:
		return add(kindBool, "bool")
	case reflect.Int, reflect.Uint, reflect.Uintptr:
		if t.Kind() == reflect.Int {
			return add(kindInt, "i64")
		}
		return add(kindUint, "u64")
	case reflect.Int8, reflect.Uint8:
		return add(kind8, t.Kind().String())
	case reflect.Int16, reflect.Uint16:
		return add(kind16, t.Kind().String())
	case reflect.Int32, reflect.Uint32, reflect.Float32:
		return add(kind32, t.Kind().String())
	case reflect.Int64:
		return add(kind64, "i64")
	case reflect.Uint64:
		return add(kind64, "u64")
	case reflect.Float64:
		return add(kind64, "f64")
	case reflect.String:
		return add(kindString, "string")
	case reflect.Array:
		return flattenArray(t, off, w, shape)
	case reflect.Struct:
		shape.WriteByte('{')
		for i := range t.NumField() {
			f := t.Field(i)
			if i > 0 {
				shape.WriteByte(',')
			}
			shape.WriteString(f.Name + ":")
			if !flatten(f.Type, off+f.Offset, w, shape) {
				return false
			}
		}
		shape.WriteByte('}')
		return true
	}
	return false
}

func flattenArray(t reflect.Type, off uintptr, w *wire, shape *strings.Builder) bool {
	fmt.Fprintf(shape, "[%d]", t.Len())
	if t.Len() == 0 {
		return true
	}
	before := len(w.cols)
	if !flatten(t.Elem(), off, w, shape) {
		return false
	}
	if len(w.cols) == before+1 && w.cols[before].count == 1 {
		w.cols[before].count = uintptr(t.Len())
		return true
	}
	var skip strings.Builder
	for i := 1; i < t.Len(); i++ {
		if !flatten(t.Elem(), off+uintptr(i)*t.Elem().Size(), w, &skip) {
			return false
		}
	}
	return true
}

func (k kind) size() uintptr {
	switch k {
	case kindBool, kind8:
		return 1
	case kind16:
		return 2
	case kind32:
		return 4
	case kind64:
		return 8
	case kindString:
		return unsafe.Sizeof("")
	case kindTime:
		return unsafe.Sizeof(time.Time{})
	}
	return unsafe.Sizeof(int(0))
}

// append encodes the accumulators that row finds.
func (w *wire) append(b []byte, slots []Slot, base *cells[byte]) []byte {
	if w.own != nil {
		return w.appendOwn(b, slots, base)
	}
	for _, c := range w.cols {
		for _, s := range slots {
			first := unsafe.Add(unsafe.Pointer(base.at(s)), c.off)
			for i := range c.count {
				p := unsafe.Add(first, i*c.kind.size())
				switch c.kind {
				case kindBool, kind8:
					b = append(b, *(*byte)(p))
				case kind16:
					b = binary.LittleEndian.AppendUint16(b, *(*uint16)(p))
				case kind32:
					b = binary.LittleEndian.AppendUint32(b, *(*uint32)(p))
				case kind64:
					b = binary.LittleEndian.AppendUint64(b, *(*uint64)(p))
				case kindInt:
					b = binary.LittleEndian.AppendUint64(b, uint64(*(*int)(p)))
				case kindUint:
					b = binary.LittleEndian.AppendUint64(b, uint64(*(*uint)(p)))
				case kindString:
					v := *(*string)(p)
					b = append(binary.AppendUvarint(b, uint64(len(v))), v...)
				case kindTime:
					b = appendTime(b, *(*time.Time)(p))
				}
			}
		}
	}
	return b
}

func (w *wire) appendOwn(b []byte, slots []Slot, base *cells[byte]) []byte {
	for _, s := range slots {
		// The length stands in front in four bytes, so that it can be filled in behind the encoding.
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		var err error
		if b, err = w.own.append(b, unsafe.Pointer(base.at(s))); err != nil {
			panic(fmt.Errorf("aggregate: an accumulator cannot be encoded as %s: %w", w.own.id(), err))
		}
		if len(b)-at-4 > math.MaxUint32 {
			panic("aggregate: an accumulator is larger than 4 GiB")
		}
		binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return b
}

// read is the inverse of append.
func (w *wire) read(b []byte, slots []Slot, base *cells[byte]) ([]byte, error) {
	if w.own != nil {
		return w.readOwn(b, slots, base)
	}
	for _, c := range w.cols {
		for _, s := range slots {
			first := unsafe.Add(unsafe.Pointer(base.at(s)), c.off)
			for i := range c.count {
				p := unsafe.Add(first, i*c.kind.size())
				n, ok := readScalar(b, p, c.kind)
				if !ok {
					return b, errRead
				}
				b = b[n:]
			}
		}
	}
	return b, nil
}

func (w *wire) readOwn(b []byte, slots []Slot, base *cells[byte]) ([]byte, error) {
	for _, s := range slots {
		if len(b) < 4 {
			return b, errRead
		}
		n := uint64(binary.LittleEndian.Uint32(b))
		if b = b[4:]; n > uint64(len(b)) {
			return b, errRead
		}
		if err := w.own.read(b[:n], unsafe.Pointer(base.at(s))); err != nil {
			return b, fmt.Errorf("%w: %w", errRead, err)
		}
		b = b[n:]
	}
	return b, nil
}

// readScalar fills *p and returns how many bytes it took.
func readScalar(b []byte, p unsafe.Pointer, k kind) (int, bool) {
	switch k {
	case kindBool:
		if len(b) < 1 || b[0] > 1 {
			return 0, false
		}
		*(*bool)(p) = b[0] == 1
		return 1, true
	case kind8:
		if len(b) < 1 {
			return 0, false
		}
		*(*byte)(p) = b[0]
		return 1, true
	case kind16:
		if len(b) < 2 {
			return 0, false
		}
		*(*uint16)(p) = binary.LittleEndian.Uint16(b)
		return 2, true
	case kind32:
		if len(b) < 4 {
			return 0, false
		}
		*(*uint32)(p) = binary.LittleEndian.Uint32(b)
		return 4, true
	case kindTime:
		if len(b) < 16 {
			return 0, false
		}
		return 16, readTime(b, (*time.Time)(p))
	case kindString:
		n, m := binary.Uvarint(b)
		if m <= 0 || n > uint64(len(b)-m) {
			return 0, false
		}
		*(*string)(p) = string(b[m : m+int(n)])
		return m + int(n), true
	}
	if len(b) < 8 {
		return 0, false
	}
	u := binary.LittleEndian.Uint64(b)
	switch k {
	case kindInt:
		if int64(int(u)) != int64(u) {
			return 0, false
		}
		*(*int)(p) = int(u)
	case kindUint:
		if uint64(uint(u)) != u {
			return 0, false
		}
		*(*uint)(p) = uint(u)
	default:
		*(*uint64)(p) = u
	}
	return 8, true
}

func appendTime(b []byte, t time.Time) []byte {
	_, zone := t.Zone()
	b = binary.LittleEndian.AppendUint64(b, uint64(t.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(t.Nanosecond()))
	return binary.LittleEndian.AppendUint32(b, uint32(int32(zone)))
}

// readTime reads 16 bytes.
func readTime(b []byte, t *time.Time) bool {
	sec, ns := int64(binary.LittleEndian.Uint64(b)), binary.LittleEndian.Uint32(b[8:])
	zone := int32(binary.LittleEndian.Uint32(b[12:]))
	if ns >= uint32(time.Second) {
		return false
	}
	*t = time.Unix(sec, int64(ns)).UTC()
	if zone != 0 {
		*t = t.In(time.FixedZone("", int(zone)))
	}
	return true
}

func hasPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8,
		reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr, reflect.Float32, reflect.Float64,
		reflect.Complex64, reflect.Complex128:
		return false
	case reflect.Array:
		return t.Len() > 0 && hasPointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasPointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	}
	return true
}

package agg

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"time"
	"unsafe"

	"github.com/zeebo/xxh3"
)

// hasher makes 64 bits of a value that are the same in every process: equal values have equal hashes. 0 and -0 are one value, so are all NaN.
type hasher[V any] struct {
	ops []hashOp
	buf []byte
}

type hashOp struct {
	off  uintptr
	size uintptr
	kind reflect.Kind
}

// timeKind stands for a time.Time, whose instant is hashed.
const timeKind = reflect.Struct

func hasherOf[V any]() (hasher[V], error) {
	h := hasher[V]{}
	if !h.find(reflect.TypeFor[V](), 0) {
		return h, fmt.Errorf("%v cannot be hashed: it must consist of numbers, bools, strings, time.Time, arrays and structs", reflect.TypeFor[V]())
	}
	return h, nil
}

func (h *hasher[V]) find(t reflect.Type, off uintptr) bool {
	switch k := t.Kind(); k {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16,
		reflect.Uint32, reflect.Uint64, reflect.Uintptr, reflect.Float32, reflect.Float64, reflect.String:
		h.ops = append(h.ops, hashOp{off, t.Size(), k})
	case reflect.Array:
		for i := range t.Len() {
			if !h.find(t.Elem(), off+uintptr(i)*t.Elem().Size()) {
				return false
			}
		}
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			h.ops = append(h.ops, hashOp{off, t.Size(), timeKind})
			return true
		}
		for i := range t.NumField() {
			if !h.find(t.Field(i).Type, off+t.Field(i).Offset) {
				return false
			}
		}
	default:
		return false
	}
	return len(h.ops) <= maxColumns
}

func (h *hasher[V]) hash(v *V) uint64 {
	p := unsafe.Pointer(v)
	if len(h.ops) == 1 {
		if op := h.ops[0]; op.kind == reflect.String {
			return xxh3.HashString(*(*string)(unsafe.Add(p, op.off)))
		} else if op.kind != timeKind {
			return mix(op.word(p))
		}
	}
	b := h.buf[:0]
	for _, op := range h.ops {
		switch op.kind {
		case reflect.String:
			s := *(*string)(unsafe.Add(p, op.off))
			b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
		case timeKind:
			t := *(*time.Time)(unsafe.Add(p, op.off))
			b = binary.LittleEndian.AppendUint64(b, uint64(t.Unix()))
			b = binary.LittleEndian.AppendUint32(b, uint32(t.Nanosecond()))
		default:
			b = binary.LittleEndian.AppendUint64(b, op.word(p))
		}
	}
	h.buf = b
	return xxh3.Hash(b)
}

// word is a scalar as 64 bits.
func (o hashOp) word(p unsafe.Pointer) uint64 {
	p = unsafe.Add(p, o.off)
	switch o.kind {
	case reflect.Float64:
		return floatBits(*(*float64)(p))
	case reflect.Float32:
		return floatBits(float64(*(*float32)(p)))
	}
	switch o.size {
	case 1:
		return uint64(*(*uint8)(p))
	case 2:
		return uint64(*(*uint16)(p))
	case 4:
		return uint64(*(*uint32)(p))
	}
	return *(*uint64)(p)
}

func floatBits(f float64) uint64 {
	switch {
	case f == 0:
		return 0
	case math.IsNaN(f):
		return math.Float64bits(math.NaN())
	}
	return math.Float64bits(f)
}

// mix is the finalizer of splitmix64, which is one to one.
func mix(z uint64) uint64 {
	z += 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

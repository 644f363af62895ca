package msgpack

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/tinylib/msgp/msgp"
)

var (
	errDeep     = fmt.Errorf("arrays, maps and structs are nested more than %d deep", MaxDepth)
	errRepeated = errors.New("the name comes twice")
)

// header reads the head of an array or map and checks that its count can be true.
func header(b []byte, depth int, want msgp.Type) (n int, _ []byte, err error) {
	if depth > MaxDepth {
		return 0, b, at(b, errDeep)
	}
	var count uint32
	var rest []byte
	least := 1
	if want == msgp.MapType {
		count, rest, err = msgp.ReadMapHeaderBytes(b)
		least = 2
	} else {
		count, rest, err = msgp.ReadArrayHeaderBytes(b)
	}
	if err != nil {
		return 0, b, at(b, err)
	}
	if int64(count)*int64(least) > int64(len(rest)) {
		return 0, b, at(b, fmt.Errorf("a count of %d with %d bytes left: the payload is cut or corrupt", count, len(rest)))
	}
	return int(count), rest, nil
}

// skip passes over any value.
func skip(b []byte, depth int) ([]byte, error) {
	left := 1
	// Levels are not counted one by one: what is open at once is bounded by how many values are still to come on each level.
	var open []int
	for {
		var n int
		var err error
		switch t := msgp.NextType(b); t {
		case msgp.ArrayType, msgp.MapType:
			if n, b, err = header(b, depth+len(open), t); err != nil {
				return b, err
			}
			if t == msgp.MapType {
				n *= 2
			}
		default:
			rest, err := msgp.Skip(b)
			if err != nil {
				return b, at(b, err)
			}
			b = rest
		}
		left--
		if n > 0 {
			open = append(open, left)
			left = n
		}
		for left == 0 {
			if len(open) == 0 {
				return b, nil
			}
			left = open[len(open)-1]
			open = open[:len(open)-1]
		}
	}
}

func readBool(b []byte, v reflect.Value, _ int) ([]byte, error) {
	if msgp.IsNil(b) {
		return b[1:], nil
	}
	x, rest, err := msgp.ReadBoolBytes(b)
	if err != nil {
		return b, at(b, err)
	}
	v.SetBool(x)
	return rest, nil
}

func writeBool(b []byte, v reflect.Value, _ int) ([]byte, error) {
	return msgp.AppendBool(b, v.Bool()), nil
}

func readInt(b []byte, v reflect.Value, _ int) ([]byte, error) {
	if msgp.IsNil(b) {
		return b[1:], nil
	}
	x, rest, err := msgp.ReadInt64Bytes(b)
	if err == nil && v.OverflowInt(x) {
		err = fmt.Errorf("%d does not fit %v", x, v.Type())
	}
	if err != nil {
		return b, at(b, err)
	}
	v.SetInt(x)
	return rest, nil
}

func writeInt(b []byte, v reflect.Value, _ int) ([]byte, error) {
	return msgp.AppendInt64(b, v.Int()), nil
}

func readUint(b []byte, v reflect.Value, _ int) ([]byte, error) {
	if msgp.IsNil(b) {
		return b[1:], nil
	}
	x, rest, err := msgp.ReadUint64Bytes(b)
	if err == nil && v.OverflowUint(x) {
		err = fmt.Errorf("%d does not fit %v", x, v.Type())
	}
	if err != nil {
		return b, at(b, err)
	}
	v.SetUint(x)
	return rest, nil
}

func writeUint(b []byte, v reflect.Value, _ int) ([]byte, error) {
	return msgp.AppendUint64(b, v.Uint()), nil
}

// readFloat takes integers too: encoders of languages without them write 20.0 as 20.
func readFloat(b []byte, v reflect.Value, _ int) ([]byte, error) {
	switch msgp.NextType(b) {
	case msgp.NilType:
		return b[1:], nil
	case msgp.IntType, msgp.UintType:
		if u, rest, err := msgp.ReadUint64Bytes(b); err == nil {
			v.SetFloat(float64(u))
			return rest, nil
		}
		x, rest, err := msgp.ReadInt64Bytes(b)
		if err != nil {
			return b, at(b, err)
		}
		v.SetFloat(float64(x))
		return rest, nil
	}
	x, rest, err := msgp.ReadFloat64Bytes(b)
	if err == nil && v.OverflowFloat(x) {
		err = fmt.Errorf("%v does not fit %v", x, v.Type())
	}
	if err != nil {
		return b, at(b, err)
	}
	v.SetFloat(x)
	return rest, nil
}

func writeFloat(b []byte, v reflect.Value, _ int) ([]byte, error) {
	if v.Kind() == reflect.Float32 {
		return msgp.AppendFloat32(b, float32(v.Float())), nil
	}
	return msgp.AppendFloat64(b, v.Float()), nil
}

func readString(b []byte, v reflect.Value, _ int) ([]byte, error) {
	if msgp.IsNil(b) {
		return b[1:], nil
	}
	x, rest, err := msgp.ReadStringZC(b)
	if err != nil {
		return b, at(b, err)
	}
	v.SetString(string(x))
	return rest, nil
}

func writeString(b []byte, v reflect.Value, _ int) ([]byte, error) {
	return msgp.AppendString(b, v.String()), nil
}

func readBytes(b []byte, v reflect.Value, _ int) ([]byte, error) {
	if msgp.IsNil(b) {
		v.SetZero()
		return b[1:], nil
	}
	x, rest, err := msgp.ReadMapKeyZC(b) // bytes or a string
	if err != nil {
		return b, at(b, err)
	}
	v.SetBytes(append(make([]byte, 0, len(x)), x...))
	return rest, nil
}

func writeBytes(b []byte, v reflect.Value, _ int) ([]byte, error) {
	if v.IsNil() {
		return msgp.AppendNil(b), nil
	}
	return msgp.AppendBytes(b, v.Bytes()), nil
}

func readTime(b []byte, v reflect.Value, _ int) ([]byte, error) {
	if msgp.IsNil(b) {
		return b[1:], nil
	}
	t, rest, err := msgp.ReadTimeUTCBytes(b)
	if err == nil && (t.Year() < 1 || t.Year() > 9999) {
		err = fmt.Errorf("the year %d is out of range", t.Year())
	}
	if err != nil {
		return b, at(b, err)
	}
	*v.Addr().Interface().(*time.Time) = t
	return rest, nil
}

func writeTime(b []byte, v reflect.Value, _ int) ([]byte, error) {
	t := v.Addr().Interface().(*time.Time).UTC()
	if t.Year() < 1 || t.Year() > 9999 {
		return b, fmt.Errorf("the year %d is out of range", t.Year())
	}
	return msgp.AppendTimeExt(b, t), nil
}

func readGenerated(b []byte, v reflect.Value, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return b, at(b, errDeep)
	}
	rest, err := v.Addr().Interface().(generated).UnmarshalMsg(b)
	return rest, at(b, err)
}

func writeGenerated(b []byte, v reflect.Value, _ int) ([]byte, error) {
	return v.Addr().Interface().(generated).MarshalMsg(b)
}

func readText(b []byte, v reflect.Value, _ int) ([]byte, error) {
	if msgp.IsNil(b) {
		return b[1:], nil
	}
	x, rest, err := msgp.ReadStringZC(b)
	if err == nil {
		err = v.Addr().Interface().(textual).UnmarshalText(bytes.Clone(x))
	}
	if err != nil {
		return b, at(b, err)
	}
	return rest, nil
}

func writeText(b []byte, v reflect.Value, _ int) ([]byte, error) {
	x, err := v.Addr().Interface().(textual).MarshalText()
	if err != nil {
		return b, err
	}
	return msgp.AppendStringFromBytes(b, x), nil
}

func (pl *planner) pointer(p *plan, t reflect.Type, path string) error {
	elem, err := pl.of(t.Elem(), path)
	if err != nil {
		return err
	}
	p.read = func(b []byte, v reflect.Value, depth int) ([]byte, error) {
		if msgp.IsNil(b) {
			v.SetZero()
			return b[1:], nil
		}
		if depth > MaxDepth {
			return b, at(b, errDeep)
		}
		n := reflect.New(t.Elem())
		b, err := elem.read(b, n.Elem(), depth+1)
		v.Set(n)
		return b, err
	}
	p.write = func(b []byte, v reflect.Value, depth int) ([]byte, error) {
		if v.IsNil() {
			return msgp.AppendNil(b), nil
		}
		if depth > MaxDepth {
			return b, errDeep
		}
		return elem.write(b, v.Elem(), depth+1)
	}
	return nil
}

func (pl *planner) slice(p *plan, t reflect.Type, path string) error {
	elem, err := pl.of(t.Elem(), path)
	if err != nil {
		return err
	}
	p.read = func(b []byte, v reflect.Value, depth int) ([]byte, error) {
		if msgp.IsNil(b) {
			v.SetZero()
			return b[1:], nil
		}
		n, b, err := header(b, depth, msgp.ArrayType)
		if err != nil {
			return b, err
		}
		v.Set(reflect.MakeSlice(t, 0, min(n, 16)))
		for i := range n {
			if i == v.Cap() {
				v.Grow(1)
			}
			v.SetLen(i + 1)
			v.Index(i).SetZero()
			rest, err := elem.read(b, v.Index(i), depth+1)
			if err != nil {
				return b, at(b, err)
			}
			b = rest
		}
		return b, nil
	}
	p.write = func(b []byte, v reflect.Value, depth int) ([]byte, error) {
		if v.IsNil() {
			return msgp.AppendNil(b), nil
		}
		return writeElements(b, v, elem, depth)
	}
	return nil
}

func (pl *planner) array(p *plan, t reflect.Type, path string) error {
	elem, err := pl.of(t.Elem(), path)
	if err != nil {
		return err
	}
	p.read = func(b []byte, v reflect.Value, depth int) ([]byte, error) {
		if msgp.IsNil(b) {
			return b[1:], nil
		}
		n, rest, err := header(b, depth, msgp.ArrayType)
		if err == nil && n != v.Len() {
			err = at(b, fmt.Errorf("an array of %d elements does not fit %v", n, t))
		}
		for i := 0; i < n && err == nil; i++ {
			b = rest
			rest, err = elem.read(b, v.Index(i), depth+1)
		}
		return rest, at(b, err)
	}
	p.write = func(b []byte, v reflect.Value, depth int) ([]byte, error) { return writeElements(b, v, elem, depth) }
	return nil
}

func writeElements(b []byte, v reflect.Value, elem *plan, depth int) (_ []byte, err error) {
	if depth > MaxDepth {
		return b, errDeep
	}
	b = msgp.AppendArrayHeader(b, uint32(v.Len()))
	for i := range v.Len() {
		if b, err = elem.write(b, v.Index(i), depth+1); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (pl *planner) dict(p *plan, t reflect.Type, path string) error {
	switch t.Key().Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Struct, reflect.Interface, reflect.Map:
		return fmt.Errorf("MessagePack cannot bring back %v (%s): keys must be strings, numbers or booleans", t, place(path))
	}
	key, err := pl.of(t.Key(), path+" key")
	if err != nil {
		return err
	}
	elem, err := pl.of(t.Elem(), path)
	if err != nil {
		return err
	}
	p.read = func(b []byte, v reflect.Value, depth int) ([]byte, error) {
		if msgp.IsNil(b) {
			v.SetZero()
			return b[1:], nil
		}
		n, b, err := header(b, depth, msgp.MapType)
		if err != nil {
			return b, err
		}
		v.Set(reflect.MakeMapWithSize(t, min(n, 64)))
		for range n {
			k, e := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
			rest, err := key.read(b, k, depth+1)
			if err == nil && v.MapIndex(k).IsValid() {
				err = errRepeated
			}
			if err != nil {
				return b, at(b, err)
			}
			b = rest
			if rest, err = elem.read(b, e, depth+1); err != nil {
				return b, at(b, err)
			}
			b = rest
			v.SetMapIndex(k, e)
		}
		return b, nil
	}
	p.write = func(b []byte, v reflect.Value, depth int) (_ []byte, err error) {
		if v.IsNil() {
			return msgp.AppendNil(b), nil
		}
		if depth > MaxDepth {
			return b, errDeep
		}
		b = msgp.AppendMapHeader(b, uint32(v.Len()))
		pairs := make([][2][]byte, 0, v.Len())
		for it := v.MapRange(); it.Next(); {
			// What marshals itself needs an address.
			k, e := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
			k.Set(it.Key())
			e.Set(it.Value())
			kb, err := key.write(nil, k, depth+1)
			if err != nil {
				return b, err
			}
			eb, err := elem.write(nil, e, depth+1)
			if err != nil {
				return b, err
			}
			pairs = append(pairs, [2][]byte{kb, eb})
		}
		slices.SortFunc(pairs, func(x, y [2][]byte) int { return bytes.Compare(x[0], y[0]) })
		for _, kv := range pairs {
			b = append(append(b, kv[0]...), kv[1]...)
		}
		return b, nil
	}
	return nil
}

package msgpack

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// plan is how a type is read and written, made once per type.
type plan struct {
	read  func(b []byte, v reflect.Value, depth int) ([]byte, error)
	write func(b []byte, v reflect.Value, depth int) ([]byte, error)
}

// planOf makes the plan of a type.
func planOf(t reflect.Type) (*plan, error) { return (&planner{map[reflect.Type]*plan{}}).of(t, "") }

type planner struct{ known map[reflect.Type]*plan }

func (pl *planner) of(t reflect.Type, path string) (*plan, error) {
	if p := pl.known[t]; p != nil {
		return p, nil
	}
	p := &plan{}
	pl.known[t] = p // before what it is made of: a type may contain itself
	var err error
	switch {
	case t == reflect.TypeFor[time.Time]():
		p.read, p.write = readTime, writeTime
		return p, nil
	case both[generated](t):
		p.read, p.write = readGenerated, writeGenerated
		return p, nil
	case both[textual](t):
		p.read, p.write = readText, writeText
		return p, nil
	}
	switch t.Kind() {
	case reflect.Bool:
		p.read, p.write = readBool, writeBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.read, p.write = readInt, writeInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		p.read, p.write = readUint, writeUint
	case reflect.Float32, reflect.Float64:
		p.read, p.write = readFloat, writeFloat
	case reflect.String:
		p.read, p.write = readString, writeString
	case reflect.Pointer:
		err = pl.pointer(p, t, path)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			p.read, p.write = readBytes, writeBytes
			break
		}
		err = pl.slice(p, t, path)
	case reflect.Array:
		err = pl.array(p, t, path)
	case reflect.Map:
		err = pl.dict(p, t, path)
	case reflect.Struct:
		err = pl.record(p, t, path)
	default:
		err = fmt.Errorf("MessagePack cannot bring back %v (%s): use a concrete type, or tag the field `msg:\"-\"`", t, place(path))
	}
	return p, err
}

type textual interface {
	encoding.TextMarshaler
	encoding.TextUnmarshaler
}

// both tells whether the pointer to t has the methods of I.
func both[I any](t reflect.Type) bool {
	return t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface && reflect.PointerTo(t).Implements(reflect.TypeFor[I]())
}

func place(path string) string {
	if path == "" {
		return "the value itself"
	}
	return "field " + path
}

// member is a field of a struct.
type member struct {
	name      string
	index     int
	omitEmpty bool
	plan      *plan
}

func (pl *planner) record(p *plan, t reflect.Type, path string) error {
	var ms []member
	byName := map[string]int{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, omit := nameOf(f)
		at := strings.TrimPrefix(path+"."+f.Name, ".")
		switch {
		case name == "-" || f.Name == "_":
			continue
		case f.Anonymous:
			return fmt.Errorf("MessagePack of %v: %s is embedded: give the field a name, or tag it `msg:\"-\"`", t, at)
		case !f.IsExported():
			return fmt.Errorf("MessagePack of %v would lose the unexported field %s: export it, or tag it `msg:\"-\"`", t, at)
		}
		if _, twice := byName[name]; twice {
			return fmt.Errorf("MessagePack of %v: two fields have the name %q: rename one by its tag", t, name)
		}
		fp, err := pl.of(f.Type, at)
		if err != nil {
			return err
		}
		byName[name] = len(ms)
		ms = append(ms, member{name, i, omit, fp})
	}
	p.read = func(b []byte, v reflect.Value, depth int) ([]byte, error) { return readRecord(b, v, depth, ms, byName) }
	p.write = func(b []byte, v reflect.Value, depth int) ([]byte, error) { return writeRecord(b, v, depth, ms) }
	return nil
}

// nameOf is a field's name and whether it is left out when empty.
func nameOf(f reflect.StructField) (name string, omitEmpty bool) {
	for _, key := range []string{"msg", "msgpack", "json"} {
		if tag, ok := f.Tag.Lookup(key); ok {
			name, opts, _ := strings.Cut(tag, ",")
			if name == "" {
				name = f.Name
			}
			return name, strings.Contains(","+opts+",", ",omitempty,")
		}
	}
	return f.Name, false
}

func readRecord(b []byte, v reflect.Value, depth int, ms []member, byName map[string]int) ([]byte, error) {
	if msgp.IsNil(b) {
		return b[1:], nil
	}
	n, b, err := header(b, depth, msgp.MapType)
	if err != nil {
		return b, err
	}
	var few [4]uint64
	seen := few[:]
	if len(ms) > len(few)*64 {
		seen = make([]uint64, len(ms)/64+1)
	}
	for range n {
		key, rest, err := msgp.ReadMapKeyZC(b)
		if err != nil {
			return b, at(b, err)
		}
		i, ok := byName[string(key)]
		if !ok {
			if b, err = skip(rest, depth+1); err != nil {
				return b, in(string(key), err)
			}
			continue
		}
		if seen[i/64]>>(i%64)&1 != 0 {
			return b, in(ms[i].name, at(b, errRepeated))
		}
		seen[i/64] |= 1 << (i % 64)
		if b, err = ms[i].plan.read(rest, v.Field(ms[i].index), depth+1); err != nil {
			return b, in(ms[i].name, at(rest, err))
		}
	}
	return b, nil
}

func writeRecord(b []byte, v reflect.Value, depth int, ms []member) ([]byte, error) {
	if depth > MaxDepth {
		return b, errDeep
	}
	n := len(ms)
	for i := range ms {
		if ms[i].omitEmpty && empty(v.Field(ms[i].index)) {
			n--
		}
	}
	b = msgp.AppendMapHeader(b, uint32(n))
	var err error
	for i := range ms {
		f := v.Field(ms[i].index)
		if ms[i].omitEmpty && empty(f) {
			continue
		}
		b = msgp.AppendString(b, ms[i].name)
		if b, err = ms[i].plan.write(b, f, depth+1); err != nil {
			return b, fmt.Errorf("field %q: %w", ms[i].name, err)
		}
	}
	return b, nil
}

func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String, reflect.Array:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

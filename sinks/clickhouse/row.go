package clickhouse

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unsafe"

	"github.com/google/uuid"

	"github.com/millrace-stream/millrace/flow"
)

// field is one column of a row type: its name, the type it gets in DDL, and how to copy it.
type field struct {
	name string
	typ  string // ClickHouse type: the tag's, or the Go type's default
	goes string // for errors: "field Reading.At (time.Time)"
	bind func(c column) appender
}

// appender copies one field of n rows, which lie stride bytes apart, into its column and says how many it copied.
type appender func(base unsafe.Pointer, stride uintptr, n int) (int, error)

// gather reads one field of len(dst) rows.
type gather[V any] func(dst []V, base unsafe.Pointer, stride uintptr)

// at reads a field by its offset.
func at[V any](offset uintptr) gather[V] {
	return func(dst []V, base unsafe.Pointer, stride uintptr) {
		p := unsafe.Add(base, offset)
		for i := range dst {
			dst[i] = *(*V)(p)
			if i+1 < len(dst) {
				p = unsafe.Add(p, stride)
			}
		}
	}
}

// by reads a field by a function.
func by[R, V any](get func(*R) V) gather[V] {
	return func(dst []V, base unsafe.Pointer, stride uintptr) {
		for i := range dst {
			dst[i] = get((*R)(unsafe.Add(base, uintptr(i)*stride)))
		}
	}
}

// binding joins a gather and a binder of the same Go type.
func binding[V any](get gather[V], bind binder[V]) func(column) appender {
	return func(c column) appender {
		putInto := bind(c)
		if putInto == nil {
			return nil
		}
		var vals []V
		return func(base unsafe.Pointer, stride uintptr, n int) (int, error) {
			if cap(vals) < n {
				vals = make([]V, max(n, flow.MaxBatch))
			}
			vals = vals[:n]
			get(vals, base, stride)
			k, err := putInto(vals)
			clear(vals) // keeps no record alive
			return k, err
		}
	}
}

// goType is what a Go type needs to be a field: its column type, the binding at an offset, and what can be made of it.
type goType struct {
	typ  string
	bind func(offset uintptr) func(column) appender
	// pointer, list and dict describe *V, []V and map[string]V; nil where nesting ends.
	pointer, list, dict func() *goType
}

func typeOf[V any](typ string, bind binder[V]) *goType {
	element := orNull(bind)
	t := nested(typ, bind)
	t.pointer = func() *goType { return nested("Nullable("+typ+")", pointers(bind)) }
	t.list = func() *goType { return nested("Array("+typ+")", slicesOf(element)) }
	t.dict = func() *goType { return nested("Map(String, "+typ+")", mapsOf(putString, element)) }
	return t
}

func nested[V any](typ string, bind binder[V]) *goType {
	return &goType{typ: typ, bind: func(off uintptr) func(column) appender { return binding(at[V](off), orNull(bind)) }}
}

const defaultTimeType = "DateTime64(3, 'UTC')"

// goTypeOf finds the description of a Go type, by kind, so that named types count as what they are made of.
func goTypeOf(t reflect.Type) (*goType, error) {
	switch t {
	case reflect.TypeFor[time.Time]():
		return typeOf(defaultTimeType, putTime), nil
	case reflect.TypeFor[flow.Timestamp]():
		return typeOf(defaultTimeType, putStamp), nil
	}
	switch t.Kind() {
	case reflect.String:
		return typeOf("String", putString), nil
	case reflect.Bool:
		return typeOf("Bool", putBool), nil
	case reflect.Int8:
		return typeOf("Int8", putNumber[int8]), nil
	case reflect.Int16:
		return typeOf("Int16", putNumber[int16]), nil
	case reflect.Int32:
		return typeOf("Int32", putNumber[int32]), nil
	case reflect.Int64:
		return typeOf("Int64", putNumber[int64]), nil
	case reflect.Int:
		if t.Size() == 8 {
			return typeOf("Int64", putNumber[int64]), nil
		}
		return typeOf("Int32", putNumber[int32]), nil
	case reflect.Uint8:
		return typeOf("UInt8", putNumber[uint8]), nil
	case reflect.Uint16:
		return typeOf("UInt16", putNumber[uint16]), nil
	case reflect.Uint32:
		return typeOf("UInt32", putNumber[uint32]), nil
	case reflect.Uint64:
		return typeOf("UInt64", putNumber[uint64]), nil
	case reflect.Uint:
		if t.Size() == 8 {
			return typeOf("UInt64", putNumber[uint64]), nil
		}
		return typeOf("UInt32", putNumber[uint32]), nil
	case reflect.Float32:
		return typeOf("Float32", putNumber[float32]), nil
	case reflect.Float64:
		return typeOf("Float64", putNumber[float64]), nil
	case reflect.Array:
		if t.Len() == 16 && t.Elem().Kind() == reflect.Uint8 {
			return typeOf[uuid.UUID]("UUID", putUUID), nil
		}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return typeOf("String", putBytes), nil
		}
		return nest(t, func(inner *goType) func() *goType { return inner.list })
	case reflect.Pointer:
		return nest(t, func(inner *goType) func() *goType { return inner.pointer })
	case reflect.Map:
		if t.Key() == reflect.TypeFor[string]() {
			return nest(t, func(inner *goType) func() *goType { return inner.dict })
		}
	}
	return nil, fmt.Errorf("no column type here for the Go type %s", t)
}

// nest describes a type around another one; one level is supported.
func nest(t reflect.Type, around func(*goType) func() *goType) (*goType, error) {
	inner, err := goTypeOf(t.Elem())
	if err == nil && around(inner) != nil {
		return around(inner)(), nil
	}
	return nil, fmt.Errorf("no column type here for the Go type %s", t)
}

// fieldsOf reads the tags of a row type.
func fieldsOf(t reflect.Type) ([]field, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("row type %s is not a struct: use a struct with `ch:\"column\"` tags, or clickhouse.Columns", t)
	}
	fields, err := appendFields(nil, t, t, 0)
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("row type %s has no columns: give its fields `ch:\"column\"` tags, or use clickhouse.Columns", t)
	}
	return fields, checkNames(fields)
}

func appendFields(fields []field, row, t reflect.Type, offset uintptr) ([]field, error) {
	var errs []error
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("ch")
		name, typ, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-":
			continue
		case !ok && f.Anonymous && f.Type.Kind() == reflect.Struct:
			var err error
			if fields, err = appendFields(fields, row, f.Type, offset+f.Offset); err != nil {
				errs = append(errs, err)
			}
			continue
		case !f.IsExported() && !ok:
			continue
		case name == "":
			errs = append(errs, fmt.Errorf("field %s.%s has no `ch:\"column\"` tag: name its column, or leave it out by `ch:\"-\"`", row, f.Name))
			continue
		}
		g, err := goTypeOf(f.Type)
		if err != nil {
			errs = append(errs, fmt.Errorf("field %s.%s: %w: change the field, or use clickhouse.Columns", row, f.Name, err))
			continue
		}
		out := field{name: name, typ: g.typ, goes: fmt.Sprintf("field %s.%s (%s)", row, f.Name, f.Type), bind: g.bind(offset + f.Offset)}
		if typ = strings.TrimSpace(typ); typ != "" {
			out.typ = typ
		}
		fields = append(fields, out)
	}
	return fields, errors.Join(errs...)
}

func checkNames(fields []field) error {
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.name] {
			return fmt.Errorf("column %q is named twice", f.name)
		}
		seen[f.name] = true
	}
	return nil
}

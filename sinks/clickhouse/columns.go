package clickhouse

import (
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"

	"github.com/millrace-stream/millrace/flow"
)

// Column is one hand-written column of rows of type R: a name and the function that gives its value.
type Column[R any] struct{ f field }

// Type sets the column's ClickHouse type in DDL, where it is not the Go type's own: clickhouse.String(…).Type("LowCardinality(String)").
func (c Column[R]) Type(name string) Column[R] {
	c.f.typ = name
	return c
}

// Columns names the columns of a row type by functions, in place of tags. The functions run on the task's goroutine, once a row.
func Columns[R any](columns ...Column[R]) Option {
	fields := make([]field, len(columns))
	for i, c := range columns {
		fields[i] = c.f
	}
	return func(o *options) { o.fields, o.fieldsFor = fields, reflect.TypeFor[R]() }
}

func columnOf[R, V any](name, typ string, get func(*R) V, bind binder[V]) Column[R] {
	return Column[R]{field{
		name: name, typ: typ,
		goes: fmt.Sprintf("column function of %s (%s)", reflect.TypeFor[R](), reflect.TypeFor[V]()),
		bind: binding(by(get), orNull(bind)),
	}}
}

// String fills String, LowCardinality(String), FixedString and, by name, Enum columns.
func String[R any](name string, get func(*R) string) Column[R] {
	return columnOf(name, "String", get, putString)
}

// Bytes fills String and FixedString columns. The bytes are copied.
func Bytes[R any](name string, get func(*R) []byte) Column[R] {
	return columnOf(name, "String", get, putBytes)
}

// Bool fills Bool and UInt8 columns.
func Bool[R any](name string, get func(*R) bool) Column[R] {
	return columnOf(name, "Bool", get, putBool)
}

// Int64 fills Int64 columns.
func Int64[R any](name string, get func(*R) int64) Column[R] {
	return columnOf(name, "Int64", get, putNumber[int64])
}

// Int32 fills Int32 and Int64 columns.
func Int32[R any](name string, get func(*R) int32) Column[R] {
	return columnOf(name, "Int32", get, putNumber[int32])
}

// Int16 fills Int16 and wider columns.
func Int16[R any](name string, get func(*R) int16) Column[R] {
	return columnOf(name, "Int16", get, putNumber[int16])
}

// Int8 fills Int8 and wider columns.
func Int8[R any](name string, get func(*R) int8) Column[R] {
	return columnOf(name, "Int8", get, putNumber[int8])
}

// UInt64 fills UInt64 columns.
func UInt64[R any](name string, get func(*R) uint64) Column[R] {
	return columnOf(name, "UInt64", get, putNumber[uint64])
}

// UInt32 fills UInt32 and wider columns.
func UInt32[R any](name string, get func(*R) uint32) Column[R] {
	return columnOf(name, "UInt32", get, putNumber[uint32])
}

// UInt16 fills UInt16 and wider columns.
func UInt16[R any](name string, get func(*R) uint16) Column[R] {
	return columnOf(name, "UInt16", get, putNumber[uint16])
}

// UInt8 fills UInt8 and wider columns.
func UInt8[R any](name string, get func(*R) uint8) Column[R] {
	return columnOf(name, "UInt8", get, putNumber[uint8])
}

// Float64 fills Float64 columns.
func Float64[R any](name string, get func(*R) float64) Column[R] {
	return columnOf(name, "Float64", get, putNumber[float64])
}

// Float32 fills Float32 and Float64 columns.
func Float32[R any](name string, get func(*R) float32) Column[R] {
	return columnOf(name, "Float32", get, putNumber[float32])
}

// Time fills DateTime64, DateTime, Date and Date32 columns; a time that the column cannot hold is an error of the record.
func Time[R any](name string, get func(*R) time.Time) Column[R] {
	return columnOf(name, defaultTimeType, get, putTime)
}

// Timestamp fills the same columns as Time. None is NULL in a Nullable column and an error of the record elsewhere.
func Timestamp[R any](name string, get func(*R) flow.Timestamp) Column[R] {
	return columnOf(name, defaultTimeType, get, putStamp)
}

// UUID fills UUID columns.
func UUID[R any](name string, get func(*R) [16]byte) Column[R] {
	return columnOf(name, "UUID", func(r *R) uuid.UUID { return get(r) }, putUUID)
}

// Strings fills Array(String) and Array(LowCardinality(String)) columns.
func Strings[R any](name string, get func(*R) []string) Column[R] {
	return columnOf(name, "Array(String)", get, slicesOf(orNull(putString)))
}

// Map fills Map(String, String) columns, for instance from a record's headers.
func Map[R any](name string, get func(*R) map[string]string) Column[R] {
	return columnOf(name, "Map(String, String)", get, mapsOf(putString, orNull(putString)))
}

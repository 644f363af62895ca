package clickhouse

import (
	"fmt"
	"math"
	"slices"
	"time"
	"unsafe"

	"github.com/google/uuid"

	"github.com/millrace-stream/millrace/flow"
)

// put appends values to a column and says how many it took; the error is that of the first value it did not take.
type put[V any] func(vals []V) (int, error)

// binder makes the put from a Go type into a column, nil when the column cannot hold every value of the Go type.
type binder[V any] func(c column) put[V]

// orNull lets a column that may be NULL take values that never are.
func orNull[V any](bind binder[V]) binder[V] {
	return func(c column) put[V] {
		if direct := bind(c); direct != nil {
			return direct
		}
		n, ok := c.(*nullable)
		if !ok {
			return nil
		}
		inner := bind(n.values)
		if inner == nil {
			return nil
		}
		return func(vals []V) (int, error) {
			k, err := inner(vals)
			for range k {
				n.mask = append(n.mask, 0)
			}
			return k, err
		}
	}
}

// pointers puts *V into Nullable columns only: nil is NULL.
func pointers[V any](bind binder[V]) binder[*V] {
	return func(c column) put[*V] {
		n, ok := c.(*nullable)
		if !ok {
			return nil
		}
		inner := bind(n.values)
		if inner == nil {
			return nil
		}
		one := make([]V, 1)
		return func(vals []*V) (int, error) {
			for i, p := range vals {
				if p == nil {
					n.AppendZero(1)
					continue
				}
				one[0] = *p
				if _, err := inner(one); err != nil {
					return i, err
				}
				n.mask = append(n.mask, 0)
			}
			return len(vals), nil
		}
	}
}

// slicesOf puts []V into Array columns.
func slicesOf[V any](bind binder[V]) binder[[]V] {
	return func(c column) put[[]V] {
		a, ok := c.(*array)
		if !ok {
			return nil
		}
		inner := bind(a.elems)
		if inner == nil {
			return nil
		}
		return func(vals [][]V) (int, error) {
			for i, v := range vals {
				if _, err := inner(v); err != nil {
					a.elems.Truncate(lastEnd(a.ends))
					return i, err
				}
				a.ends = append(a.ends, uint64(a.elems.Rows()))
			}
			return len(vals), nil
		}
	}
}

// mapsOf puts map[K]V into Map columns, in no order.
func mapsOf[K comparable, V any](key binder[K], value binder[V]) binder[map[K]V] {
	return func(c column) put[map[K]V] {
		d, ok := c.(*dict)
		if !ok {
			return nil
		}
		putKey, putValue := key(d.keys), value(d.values)
		if putKey == nil || putValue == nil {
			return nil
		}
		ks, vs := make([]K, 1), make([]V, 1)
		return func(vals []map[K]V) (int, error) {
			for i, m := range vals {
				for ks[0], vs[0] = range m {
					_, err := putKey(ks)
					if err == nil {
						_, err = putValue(vs)
					}
					if err != nil {
						d.keys.Truncate(lastEnd(d.ends))
						d.values.Truncate(lastEnd(d.ends))
						return i, err
					}
				}
				d.ends = append(d.ends, uint64(d.keys.Rows()))
			}
			return len(vals), nil
		}
	}
}

func putString(c column) put[string] {
	switch c := c.(type) {
	case *text:
		return func(vals []string) (int, error) {
			for _, v := range vals {
				c.data.Append(v)
			}
			return len(vals), nil
		}
	case *symbols:
		return func(vals []string) (int, error) {
			for _, v := range vals {
				c.add(v)
			}
			return len(vals), nil
		}
	case *fixedText:
		return func(vals []string) (int, error) {
			for i, v := range vals {
				if len(v) > c.data.Size {
					return i, fmt.Errorf("%d bytes do not fit %s", len(v), c.Type())
				}
				c.data.Buf = append(c.data.Buf, v...)
				for range c.data.Size - len(v) {
					c.data.Buf = append(c.data.Buf, 0)
				}
			}
			return len(vals), nil
		}
	case *fixed[int8]:
		return putEnum(c)
	case *fixed[int16]:
		return putEnum(c)
	}
	return nil
}

func putEnum[W int8 | int16](c *fixed[W]) put[string] {
	if c.typ.enum == nil {
		return nil
	}
	return func(vals []string) (int, error) {
		for i, v := range vals {
			n, ok := c.typ.enum[v]
			if !ok {
				return i, fmt.Errorf("%q is not in %s", v, c.typ.full)
			}
			c.data = append(c.data, W(n))
		}
		return len(vals), nil
	}
}

func putBytes(c column) put[[]byte] {
	inner := putString(c)
	switch c.(type) {
	case *text, *fixedText:
	default:
		return nil
	}
	return func(vals [][]byte) (int, error) {
		for i, v := range vals {
			s := [1]string{unsafe.String(unsafe.SliceData(v), len(v))} // copied by the column
			if _, err := inner(s[:]); err != nil {
				return i, err
			}
		}
		return len(vals), nil
	}
}

func putBool(c column) put[bool] {
	switch c := c.(type) {
	case *fixed[bool]:
		return func(vals []bool) (int, error) {
			c.data = append(c.data, vals...)
			return len(vals), nil
		}
	case *fixed[uint8]:
		return func(vals []bool) (int, error) {
			for _, v := range vals {
				n := uint8(0)
				if v {
					n = 1
				}
				c.data = append(c.data, n)
			}
			return len(vals), nil
		}
	}
	return nil
}

func putUUID(c column) put[uuid.UUID] {
	if c, ok := c.(*fixed[uuid.UUID]); ok {
		return func(vals []uuid.UUID) (int, error) {
			c.data = append(c.data, vals...)
			return len(vals), nil
		}
	}
	return nil
}

type number interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

// putNumber puts numbers into columns of numbers that hold every value of V.
func putNumber[V number](c column) put[V] {
	switch c := c.(type) {
	case *fixed[int8]:
		return widen[V](c, "Int8")
	case *fixed[int16]:
		return widen[V](c, "Int16")
	case *fixed[int32]:
		return widen[V](c, "Int32")
	case *fixed[int64]:
		return widen[V](c, "Int64")
	case *fixed[uint8]:
		return widen[V](c, "UInt8")
	case *fixed[uint16]:
		return widen[V](c, "UInt16")
	case *fixed[uint32]:
		return widen[V](c, "UInt32")
	case *fixed[uint64]:
		return widen[V](c, "UInt64")
	case *fixed[float32]:
		return widen[V](c, "Float32")
	case *fixed[float64]:
		return widen[V](c, "Float64")
	}
	return nil
}

func widen[V, W number](c *fixed[W], base string) put[V] {
	if c.typ.base != base || !fits[V, W]() {
		return nil
	}
	return func(vals []V) (int, error) {
		at := len(c.data)
		c.data = slices.Grow(c.data, len(vals))[:at+len(vals)]
		out := c.data[at:]
		for i, v := range vals {
			out[i] = W(v)
		}
		return len(vals), nil
	}
}

// fits tells whether W holds every value of V.
func fits[V, W number]() bool {
	sizeV, signedV, floatV := shape[V]()
	sizeW, signedW, floatW := shape[W]()
	switch {
	case floatV || floatW:
		return floatV && floatW && sizeV <= sizeW
	case signedV == signedW:
		return sizeV <= sizeW
	}
	return signedW && sizeV < sizeW
}

func shape[V number]() (size uintptr, signed, float bool) {
	var zero V
	one := zero + 1
	return unsafe.Sizeof(zero), zero-one < zero, one/(one+one) != zero
}

const (
	// minSeconds is 1900-01-01 and maxSeconds 2262-04-11 23:47:16, the end of int64 nanoseconds: the range of DateTime64.
	minSeconds = -2208988800
	maxSeconds = math.MaxInt64 / 1_000_000_000
)

func rangeError(t fmt.Stringer, typ, from, to string) error {
	return fmt.Errorf("time %s does not fit %s, which holds %s to %s", t, typ, from, to)
}

// putTime puts times into DateTime64, DateTime, Date and Date32, in UTC, cut to the column's precision.
func putTime(c column) put[time.Time] {
	switch c := c.(type) {
	case *fixed[int64]:
		if c.typ.base != "DateTime64" {
			return nil
		}
		unit, per := pow10(c.typ.scale), pow10(9-c.typ.scale)
		return func(vals []time.Time) (int, error) {
			for i, v := range vals {
				s := v.Unix()
				if s < minSeconds || s >= maxSeconds {
					return i, rangeError(v, c.typ.full, "1900", "2262")
				}
				c.data = append(c.data, s*unit+int64(v.Nanosecond())/per)
			}
			return len(vals), nil
		}
	case *fixed[uint32]:
		return putSeconds(c, "DateTime", 1, math.MaxUint32, unixOf)
	case *fixed[uint16]:
		return putSeconds(c, "Date", 86400, math.MaxUint16, unixOf)
	case *fixed[int32]:
		return putSeconds(c, "Date32", 86400, maxSeconds/86400, unixOf)
	}
	return nil
}

// putStamp does the same for timestamps; None is NULL where the column has NULL, else an error.
func putStamp(c column) put[flow.Timestamp] {
	if n, ok := c.(*nullable); ok {
		inner := putStamp(n.values)
		if inner == nil {
			return nil
		}
		one := make([]flow.Timestamp, 1)
		return func(vals []flow.Timestamp) (int, error) {
			for i, v := range vals {
				if v == flow.None {
					n.AppendZero(1)
					continue
				}
				one[0] = v
				if _, err := inner(one); err != nil {
					return i, err
				}
				n.mask = append(n.mask, 0)
			}
			return len(vals), nil
		}
	}
	switch c := c.(type) {
	case *fixed[int64]:
		if c.typ.base != "DateTime64" {
			return nil
		}
		per := pow10(9 - c.typ.scale)
		return func(vals []flow.Timestamp) (int, error) {
			for i, v := range vals {
				if !holds(v) {
					return i, rangeError(v, c.typ.full, "1900", "2262")
				}
				switch per { // division by a constant is four times cheaper
				case 1e6:
					c.data = append(c.data, floorDiv(int64(v), 1e6))
				case 1e3:
					c.data = append(c.data, floorDiv(int64(v), 1e3))
				case 1:
					c.data = append(c.data, int64(v))
				default:
					c.data = append(c.data, floorDiv(int64(v), per))
				}
			}
			return len(vals), nil
		}
	case *fixed[uint32]:
		return putSeconds(c, "DateTime", 1, math.MaxUint32, secondsOf)
	case *fixed[uint16]:
		return putSeconds(c, "Date", 86400, math.MaxUint16, secondsOf)
	case *fixed[int32]:
		return putSeconds(c, "Date32", 86400, maxSeconds/86400, secondsOf)
	}
	return nil
}

func unixOf(t time.Time) int64 { return t.Unix() }

func secondsOf(t flow.Timestamp) int64 {
	if t == flow.None {
		return math.MinInt64
	}
	return floorDiv(int64(t), int64(time.Second))
}

func putSeconds[V fmt.Stringer, W uint16 | uint32 | int32](c *fixed[W], base string, unit, most int64, sec func(V) int64) put[V] {
	if c.typ.base != base {
		return nil
	}
	least := int64(0)
	if base == "Date32" {
		least = minSeconds / 86400
	}
	at := func(n int64) string { return time.Unix(n*unit, 0).UTC().Format(time.DateOnly) }
	return func(vals []V) (int, error) {
		for i, v := range vals {
			n := floorDiv(sec(v), unit)
			if n < least || n > most {
				return i, rangeError(v, c.typ.full, at(least), at(most))
			}
			c.data = append(c.data, W(n))
		}
		return len(vals), nil
	}
}

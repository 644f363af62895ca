package csv

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// cell is how a field is read and written.
type cell struct {
	name  string
	index int
	read  func(s string, v reflect.Value) error
	write func(v reflect.Value) (string, error)
}

func cellsOf(t reflect.Type) ([]cell, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("CSV rows are structs: %v is none", t)
	}
	var cells []cell
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("csv"), ",")
		if name == "-" || f.Name == "_" {
			continue
		}
		if !f.IsExported() {
			return nil, fmt.Errorf("CSV of %v would lose the unexported field %s: export it, or tag it `csv:\"-\"`", t, f.Name)
		}
		if name == "" {
			name = f.Name
		}
		c := cell{name: name, index: i}
		var err error
		if c.read, c.write, err = accessOf(f.Type, f.Tag.Get("codec")); err != nil {
			return nil, fmt.Errorf("CSV of %v, field %s: %w", t, f.Name, err)
		}
		switch opts {
		case "":
		case "omitempty":
			c.mayBeEmpty()
		default:
			return nil, fmt.Errorf("CSV of %v, field %s: the option %q of the tag csv is not known: only omitempty is", t, f.Name, opts)
		}
		cells = append(cells, c)
	}
	if len(cells) == 0 {
		return nil, fmt.Errorf("CSV of %v: the struct has no fields", t)
	}
	return cells, nil
}

// mayBeEmpty makes zero of an empty cell and the other way round.
func (c *cell) mayBeEmpty() {
	read, write := c.read, c.write
	c.read = func(s string, v reflect.Value) error {
		if s == "" {
			v.SetZero()
			return nil
		}
		return read(s, v)
	}
	c.write = func(v reflect.Value) (string, error) {
		if v.IsZero() {
			return "", nil
		}
		return write(v)
	}
}

type (
	reading = func(s string, v reflect.Value) error
	writing = func(v reflect.Value) (string, error)
)

var errEmpty = errors.New("the cell is empty: tag the field csv:\"name,omitempty\" if it may be, or make it a pointer")

func accessOf(t reflect.Type, unit string) (reading, writing, error) {
	if t.Kind() == reflect.Pointer {
		return pointerTo(t, unit)
	}
	if t == reflect.TypeFor[time.Time]() {
		return timeIn(unit)
	}
	if unit != "" {
		return nil, nil, fmt.Errorf("the tag codec:%q is for times: the type is %v", unit, t)
	}
	if p := reflect.PointerTo(t); p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) && p.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return readText, writeText, nil
	}
	switch t.Kind() {
	case reflect.String:
		return func(s string, v reflect.Value) error { v.SetString(s); return nil }, func(v reflect.Value) (string, error) { return v.String(), nil }, nil
	case reflect.Bool:
		return readBool, func(v reflect.Value) (string, error) { return strconv.FormatBool(v.Bool()), nil }, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return readInt, func(v reflect.Value) (string, error) { return strconv.FormatInt(v.Int(), 10), nil }, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return readUint, func(v reflect.Value) (string, error) { return strconv.FormatUint(v.Uint(), 10), nil }, nil
	case reflect.Float32, reflect.Float64:
		return readFloat, writeFloat, nil
	}
	return nil, nil, fmt.Errorf("the type %v does not fit a cell: use a string, number, boolean, time.Time, or a type that marshals itself as text", t)
}

func pointerTo(t reflect.Type, unit string) (reading, writing, error) {
	read, write, err := accessOf(t.Elem(), unit)
	if err != nil {
		return nil, nil, err
	}
	return func(s string, v reflect.Value) error {
			if s == "" {
				v.SetZero()
				return nil
			}
			p := reflect.New(t.Elem())
			v.Set(p)
			return read(s, p.Elem())
		}, func(v reflect.Value) (string, error) {
			if v.IsNil() {
				return "", nil
			}
			s, err := write(v.Elem())
			if err == nil && s == "" {
				err = errors.New("a pointer to an empty text would be read as nil")
			}
			return s, err
		}, nil
}

// reason says what is wrong with a number without strconv's words.
func reason(s, want string, t reflect.Type, err error) error {
	switch {
	case s == "":
		return errEmpty
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%s does not fit %v", short(s), t)
	}
	return fmt.Errorf("%q is not %s", short(s), want)
}

func readBool(s string, v reflect.Value) error {
	x, err := strconv.ParseBool(s)
	if err != nil {
		return reason(s, "true or false", v.Type(), err)
	}
	v.SetBool(x)
	return nil
}

func readInt(s string, v reflect.Value) error {
	x, err := strconv.ParseInt(s, 10, v.Type().Bits())
	if err != nil {
		return reason(s, "a whole number", v.Type(), err)
	}
	v.SetInt(x)
	return nil
}

func readUint(s string, v reflect.Value) error {
	x, err := strconv.ParseUint(s, 10, v.Type().Bits())
	if err != nil {
		return reason(s, "a whole number that is not negative", v.Type(), err)
	}
	v.SetUint(x)
	return nil
}

func readFloat(s string, v reflect.Value) error {
	x, err := strconv.ParseFloat(s, v.Type().Bits())
	if err != nil {
		return reason(s, "a number", v.Type(), err)
	}
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return fmt.Errorf("%q is not a finite number", short(s))
	}
	v.SetFloat(x)
	return nil
}

func writeFloat(v reflect.Value) (string, error) {
	x := v.Float()
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "", fmt.Errorf("%v is not a finite number", x)
	}
	return strconv.FormatFloat(x, 'g', -1, v.Type().Bits()), nil
}

func readText(s string, v reflect.Value) error {
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
		return fmt.Errorf("%q does not fit %v: %w", short(s), v.Type(), err)
	}
	return nil
}

func writeText(v reflect.Value) (string, error) {
	b, err := v.Addr().Interface().(encoding.TextMarshaler).MarshalText()
	return string(b), err
}

func timeIn(unit string) (reading, writing, error) {
	of, to := map[string]func(int64) time.Time{
		"s": func(n int64) time.Time { return time.Unix(n, 0) }, "ms": time.UnixMilli, "us": time.UnixMicro,
		"ns": func(n int64) time.Time { return time.Unix(0, n) },
	}[unit], map[string]func(time.Time) int64{"s": time.Time.Unix, "ms": time.Time.UnixMilli, "us": time.Time.UnixMicro, "ns": time.Time.UnixNano}[unit]
	if unit == "" || unit == "rfc3339" {
		return readTime, func(v reflect.Value) (string, error) {
			b, err := v.Addr().Interface().(*time.Time).MarshalText()
			return string(b), err
		}, nil
	}
	if of == nil {
		return nil, nil, fmt.Errorf("the tag codec:%q is not known: take s, ms, us, ns or rfc3339", unit)
	}
	return func(s string, v reflect.Value) error {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return reason(s, "a whole number since 1970", v.Type(), err)
			}
			*v.Addr().Interface().(*time.Time) = of(n).UTC()
			return nil
		}, func(v reflect.Value) (string, error) {
			t := *v.Addr().Interface().(*time.Time)
			n := to(t)
			if unit == "ns" && !of(n).Equal(t) {
				return "", fmt.Errorf("the year %d has no time in int64 nanoseconds: use milliseconds", t.Year())
			}
			return strconv.FormatInt(n, 10), nil
		}, nil
}

func readTime(s string, v reflect.Value) error {
	if s == "" {
		return errEmpty
	}
	if err := v.Addr().Interface().(*time.Time).UnmarshalText([]byte(s)); err != nil {
		return fmt.Errorf("%q is not a time of RFC 3339, such as 2006-01-02T15:04:05.999Z", short(s))
	}
	return nil
}

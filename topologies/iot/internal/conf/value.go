package conf

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Secret is a text that is never printed.
type Secret string

const redacted = "(redacted)"

// String hides the text.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString hides the text from %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalJSON hides the text.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// Reveal returns the text, to be handed to a client.
func (s Secret) Reveal() string { return string(s) }

// Size is a number of bytes, written "64MiB".
type Size int64

// Units of sizes, the largest first.
var units = []struct {
	name string
	size int64
}{
	{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// String writes the size in its largest whole unit.
func (s Size) String() string {
	for _, u := range units[:3] {
		if s != 0 && int64(s)%u.size == 0 {
			return fmt.Sprintf("%d%s", int64(s)/u.size, u.name)
		}
	}
	return fmt.Sprintf("%dB", int64(s))
}

// ParseSize reads a size: a whole or decimal number and a unit (B, kB, MB, GB, KiB, MiB, GiB).
func ParseSize(text string) (Size, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || f < 0 || f*float64(u.size) > math.MaxInt64/2 {
			break
		}
		return Size(f * float64(u.size)), nil
	}
	return 0, fmt.Errorf("%q is not a size: write a number and B, kB, MB, GB, KiB, MiB or GiB, for instance 64MiB", text)
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
)

func kindOf(v reflect.Value) string {
	switch {
	case v.Type() == durationType:
		return "a duration such as 10s"
	case v.Type() == sizeType:
		return "a size such as 64MiB"
	case v.Kind() == reflect.Bool:
		return "true or false"
	case v.CanInt(), v.CanUint():
		return "a whole number"
	case v.CanFloat():
		return "a number"
	}
	return "a text"
}

// parse sets v from text and returns what is wrong with it, "" if nothing is.
func parse(v reflect.Value, tag reflect.StructTag, text string) string {
	if allowed := tag.Get("oneof"); allowed != "" && !slices.Contains(strings.Split(allowed, ","), text) {
		return fmt.Sprintf("%q is not one of %s", text, strings.ReplaceAll(allowed, ",", ", "))
	}
	switch {
	case v.Type() == durationType:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Sprintf("%q is not a duration: write a number and a unit (ms, s, m, h), for instance 10s or 1m30s", text)
		}
		return number(v, tag, d, func(s string) time.Duration { d, _ := time.ParseDuration(s); return d })
	case v.Type() == sizeType:
		n, err := ParseSize(text)
		if err != nil {
			return err.Error()
		}
		return number(v, tag, n, func(s string) Size { n, _ := ParseSize(s); return n })
	case v.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Sprintf("%q is not true or false", text)
		}
		v.SetBool(text == "true")
		return ""
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || v.OverflowInt(n) {
			return fmt.Sprintf("%q is not a whole number", text)
		}
		return number(v, tag, n, func(s string) int64 { n, _ := strconv.ParseInt(s, 10, 64); return n })
	case v.CanUint():
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || v.OverflowUint(n) {
			return fmt.Sprintf("%q is not a whole number from 0", text)
		}
		return number(v, tag, n, func(s string) uint64 { n, _ := strconv.ParseUint(s, 10, 64); return n })
	case v.CanFloat():
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Sprintf("%q is not a number", text)
		}
		return number(v, tag, f, func(s string) float64 { f, _ := strconv.ParseFloat(s, 64); return f })
	}
	v.SetString(text)
	return ""
}

// number sets v to n if n is within the tag's bounds.
func number[N time.Duration | Size | int64 | uint64 | float64](v reflect.Value, tag reflect.StructTag, n N, read func(string) N) string {
	lo, hi := tag.Get("min"), tag.Get("max")
	if lo != "" && n < read(lo) || hi != "" && n > read(hi) {
		switch {
		case hi == "":
			return fmt.Sprintf("%v is too small: at least %s", n, lo)
		case lo == "":
			return fmt.Sprintf("%v is too large: at most %s", n, hi)
		}
		return fmt.Sprintf("%v is out of range: %s to %s", n, lo, hi)
	}
	v.Set(reflect.ValueOf(n).Convert(v.Type()))
	return ""
}

package fields

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"
)

// The functions that write a value set *err when it cannot be written.

// Within says in which field an error arose.
func Within(b []byte, field string, err *error) []byte {
	*err = fmt.Errorf("field %q: %w", field, *err)
	return b
}

// Appended is the result of a generated Append: out, or b as it was and the error.
func Appended(b, out []byte, err error) ([]byte, error) {
	if err != nil {
		return b, fmt.Errorf("encode JSON: %w", err)
	}
	return out, nil
}

// AppendInt writes a whole number.
func AppendInt[T Signed](b []byte, v *T, _ *error) []byte {
	return strconv.AppendInt(b, int64(*v), 10)
}

// AppendUint writes a whole number.
func AppendUint[T Unsigned](b []byte, v *T, _ *error) []byte {
	return strconv.AppendUint(b, uint64(*v), 10)
}

// AppendBool writes true or false.
func AppendBool[T ~bool](b []byte, v *T, _ *error) []byte { return strconv.AppendBool(b, bool(*v)) }

// AppendFloat writes a number as encoding/json does; NaN and infinities are an error.
func AppendFloat[T Floating](b []byte, v *T, err *error) []byte {
	f, size := float64(*v), int(unsafe.Sizeof(*v))*8
	a := math.Abs(f)
	if !(a <= math.MaxFloat64) {
		*err = fmt.Errorf("%v: %w", f, errNotFinite)
		return b
	}
	low, high := 1e-6, 1e21
	if size == 32 {
		low, high = float64(float32(low)), float64(float32(high))
	}
	if a == 0 || a >= low && a < high {
		return strconv.AppendFloat(b, f, 'f', -1, size)
	}
	b = strconv.AppendFloat(b, f, 'e', -1, size)
	if n := len(b); n >= 4 && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' {
		b[n-2] = b[n-1] // e-09 to e-9
		b = b[:n-1]
	}
	return b
}

// AppendString writes a string; what is not UTF-8 in it becomes U+FFFD.
func AppendString[T ~string](b []byte, v *T, _ *error) []byte { return appendString(b, string(*v)) }

func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\b':
				b = append(b, `\b`...)
			case '\f':
				b = append(b, `\f`...)
			case '\n':
				b = append(b, `\n`...)
			case '\r':
				b = append(b, `\r`...)
			case '\t':
				b = append(b, `\t`...)
			default:
				b = append(b, `\u00`...)
				b = append(b, hex[c>>4], hex[c&15])
			}
			i++
			from = i
			continue
		}
		u, n := utf8.DecodeRuneInString(s[i:])
		if u == utf8.RuneError && n == 1 || u == '\u2028' || u == '\u2029' {
			b = append(b, s[from:i]...)
			b = append(b, `\u`...)
			b = append(b, hex[u>>12], hex[u>>8&15], hex[u>>4&15], hex[u&15])
			from = i + n
		}
		i += n
	}
	return append(append(b, s[from:]...), '"')
}

// AppendBase64 writes bytes as a string of base64, nil as null.
func AppendBase64(b []byte, v *[]byte, _ *error) []byte {
	if *v == nil {
		return append(b, "null"...)
	}
	return append(base64.StdEncoding.AppendEncode(append(b, '"'), *v), '"')
}

// AppendRaw writes JSON as it stands, after checking it; nil becomes null.
func AppendRaw[T ~[]byte](b []byte, v *T, err *error) []byte {
	if *v == nil {
		return append(b, "null"...)
	}
	if !json.Valid(*v) {
		*err = fmt.Errorf("a raw value of %d bytes is not valid JSON: it must be one value", len(*v))
		return b
	}
	return append(b, *v...)
}

// AppendTime writes a string of RFC 3339 with nanoseconds.
func AppendTime(b []byte, v *time.Time, err *error) []byte {
	out, e := v.AppendText(append(b, '"'))
	if e != nil {
		*err = e
		return b
	}
	return append(out, '"')
}

// AppendUnixSeconds writes whole seconds since 1970, rounded down.
func AppendUnixSeconds(b []byte, v *time.Time, _ *error) []byte {
	return strconv.AppendInt(b, v.Unix(), 10)
}

// AppendUnixMillis writes whole milliseconds since 1970, rounded down.
func AppendUnixMillis(b []byte, v *time.Time, _ *error) []byte {
	return strconv.AppendInt(b, v.UnixMilli(), 10)
}

// AppendUnixMicros writes whole microseconds since 1970, rounded down.
func AppendUnixMicros(b []byte, v *time.Time, _ *error) []byte {
	return strconv.AppendInt(b, v.UnixMicro(), 10)
}

// AppendUnixNanos writes nanoseconds since 1970; times outside of the years 1678 to 2262 are an error.
func AppendUnixNanos(b []byte, v *time.Time, err *error) []byte {
	if y := v.UTC().Year(); y < 1678 || y >= 2262 {
		*err = fmt.Errorf("the year %d has no time in int64 nanoseconds: use milliseconds", y)
		return b
	}
	return strconv.AppendInt(b, v.UnixNano(), 10)
}

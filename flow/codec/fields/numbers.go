package fields

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"unsafe"
)

// Signed are the types that Int reads.
type Signed interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64
}

// Unsigned are the types that Uint reads.
type Unsigned interface {
	~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}

// Floating are the types that Float reads.
type Floating interface{ ~float32 | ~float64 }

// Int reads a whole number; null leaves *p as it is.
func Int[T Signed](r *Reader, i int, p *T) int {
	x := int64(*p)
	at := i
	if i = Int64(r, i, &x); i < 0 {
		return -1
	}
	if int64(T(x)) != x {
		return r.fail(at, fmt.Sprintf("%d does not fit %T", x, *p))
	}
	*p = T(x)
	return i
}

// Int64 reads a whole number; null leaves *p as it is.
func Int64(r *Reader, i int, p *int64) int {
	u, neg, end := r.integer(i)
	if end < 0 {
		return r.slowInt(i, p)
	}
	*p = int64(u)
	if neg {
		*p = -int64(u)
	}
	return end
}

// Uint reads a whole number that is not negative; null leaves *p as it is.
func Uint[T Unsigned](r *Reader, i int, p *T) int {
	u, neg, end := r.integer(i)
	if end < 0 || neg {
		var null bool
		if u, null, end = r.slowUint(i); end < 0 || null {
			return end
		}
	}
	if uint64(T(u)) != u {
		return r.fail(i, fmt.Sprintf("%d does not fit %T", u, *p))
	}
	*p = T(u)
	return end
}

// eight tells whether w holds eight digits.
func eight(w uint64) bool {
	return (w & (w + 0x0606060606060606) & 0xF0F0F0F0F0F0F0F0) == 0x3030303030303030
}

// value is the number that eight digits make.
func value(w uint64) uint64 {
	w -= 0x3030303030303030
	w = w*10 + w>>8
	const mask = 0x000000FF000000FF
	return ((w&mask)*(100+1000000<<32) + (w>>16&mask)*(1+10000<<32)) >> 32
}

// integer reads a whole number of up to 18 digits without spaces before it. end is negative for anything else.
func (r *Reader) integer(i int) (u uint64, neg bool, end int) {
	b := r.b
	if i < len(b) && b[i] == '-' {
		neg = true
		i++
	}
	begin := i
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:])
		if !eight(w) {
			break
		}
		if u = u*100_000_000 + value(w); i > begin+8 {
			return 0, false, -1
		}
		i += 8
	}
	for ; i < len(b); i++ {
		c := b[i] - '0'
		if c > 9 {
			break
		}
		u = u*10 + uint64(c)
	}
	n := i - begin
	if n == 0 || n > 18 || n > 1 && b[begin] == '0' || i < len(b) && (b[i] == '.' || b[i]|0x20 == 'e') {
		return 0, false, -1
	}
	return u, neg, i
}

func (r *Reader) slowInt(i int, p *int64) int {
	begin, end, whole := r.literal(i)
	if begin < 0 {
		return end
	}
	if end >= 0 && whole {
		x, err := strconv.ParseInt(string(r.b[begin:end]), 10, 64)
		if err == nil {
			*p = x
			return end
		}
		return r.fail(begin, "the number does not fit int64")
	}
	if end >= 0 {
		return r.fail(begin, "want a whole number, got one with a point or exponent")
	}
	return -1
}

func (r *Reader) slowUint(i int) (u uint64, null bool, _ int) {
	begin, end, whole := r.literal(i)
	switch {
	case begin < 0:
		return 0, true, end
	case end < 0:
		return 0, false, -1
	case !whole:
		return 0, false, r.fail(begin, "want a whole number, got one with a point or exponent")
	}
	u, err := strconv.ParseUint(string(r.b[begin:end]), 10, 64)
	if err != nil {
		return 0, false, r.fail(begin, "the number is negative or does not fit uint64")
	}
	return u, false, end
}

// literal finds the number at i, behind spaces. begin is negative for null, end when there is no number.
func (r *Reader) literal(i int) (begin, end int, whole bool) {
	begin = r.space(i)
	if begin < len(r.b) && (r.b[begin] == '-' || r.b[begin]-'0' < 10) {
		end, whole = r.number(begin)
		return begin, end, whole
	}
	if r.null(begin) {
		return -1, begin + 4, false
	}
	return begin, r.unexpected(begin, "a number"), false
}

// number finds the end of the number at i by JSON's grammar, and whether it has neither point nor exponent.
func (r *Reader) number(i int) (end int, whole bool) {
	b := r.b
	digits := func() bool {
		from := i
		for i < len(b) && b[i]-'0' < 10 {
			i++
		}
		return i > from
	}
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if !digits() {
		return r.unexpected(i, "a digit"), false
	}
	whole = true
	if i < len(b) && b[i] == '.' {
		whole = false
		if i++; !digits() {
			return r.unexpected(i, "a digit"), false
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		whole = false
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return r.unexpected(i, "a digit"), false
		}
	}
	return i, whole
}

var pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// Float64 reads a number, to the bit as strconv.ParseFloat does; null leaves *p as it is.
//
// A number of up to 15 digits is a whole number that float64 holds exactly, divided by a power of ten that it holds exactly: one
// rounding, as it should be. The rest is strconv's.
func Float64(r *Reader, i int, p *float64) int {
	b := r.b
	at := i
	neg := false
	if i < len(b) && b[i] == '-' {
		neg = true
		i++
	}
	begin := i
	var m uint64
	var c byte
	for ; i < len(b); i++ {
		if c = b[i] - '0'; c > 9 {
			break
		}
		m = m*10 + uint64(c)
	}
	n := i - begin
	if n == 0 || n > 1 && b[begin] == '0' {
		return r.slowFloat(at, p, 64)
	}
	point := i
	if i < len(b) && b[i] == '.' {
		for i++; i < len(b); i++ {
			if c = b[i] - '0'; c > 9 {
				break
			}
			m = m*10 + uint64(c)
		}
		if i == point+1 {
			return r.slowFloat(at, p, 64)
		}
		n += i - point - 1
		point++
	}
	if n > 15 || i < len(b) && b[i]|0x20 == 'e' {
		return r.slowFloat(at, p, 64)
	}
	f := float64(m) / pow10[i-point]
	if neg {
		f = -f
	}
	*p = f
	return i
}

// Float reads a number, rounded to the type's precision at once; null leaves *p as it is.
func Float[T Floating](r *Reader, i int, p *T) int {
	x := float64(*p)
	if unsafe.Sizeof(*p) == 8 {
		i = Float64(r, i, &x)
	} else {
		i = r.slowFloat(i, &x, 32)
	}
	*p = T(x)
	return i
}

func (r *Reader) slowFloat(i int, p *float64, bits int) int {
	begin, end, _ := r.literal(i)
	if begin < 0 || end < 0 {
		return end
	}
	x, err := strconv.ParseFloat(unsafe.String(&r.b[begin], end-begin), bits)
	if err != nil {
		return r.fail(begin, fmt.Sprintf("the number does not fit float%d", bits))
	}
	*p = x
	return end
}

// Bool reads true or false; null leaves *p as it is.
func Bool[T ~bool](r *Reader, i int, p *T) int {
	if i = r.space(i); i >= len(r.b) {
		return r.unexpected(i, "true or false")
	}
	switch r.b[i] {
	case 't':
		if i = r.word(i, "true"); i >= 0 {
			*p = true
		}
		return i
	case 'f':
		if i = r.word(i, "false"); i >= 0 {
			*p = false
		}
		return i
	case 'n':
		return r.word(i, "null")
	}
	return r.unexpected(i, "true or false")
}

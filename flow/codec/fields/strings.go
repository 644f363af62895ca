package fields

import (
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks, in the highest bit of each byte of w, what does not stand for itself in a string: quotes, backslashes, control characters,
// and bytes that are not ASCII. The lowest mark is exact.
func special(w uint64) uint64 {
	quote, back := w^ones*'"', w^ones*'\\'
	return ((quote-ones)&^quote | (back-ones)&^back | (w-ones*' ')&^w | w) & highs
}

// String reads a string; null leaves *p as it is.
func String(r *Reader, i int, p *string) int {
	b := r.b
	if i < len(b) && b[i] == '"' {
		begin := i + 1
		for i = begin; i+8 <= len(b); i += 8 {
			if m := special(binary.LittleEndian.Uint64(b[i:])); m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				if b[i] != '"' {
					break
				}
				if r.alias {
					*p = unsafe.String(unsafe.SliceData(b[begin:]), i-begin)
				} else {
					*p = string(b[begin:i])
				}
				return i + 1
			}
		}
		i = begin - 1
	}
	return r.slowString(i, p)
}

// StringOf is String for named types.
func StringOf[T ~string](r *Reader, i int, p *T) int {
	s := string(*p)
	i = String(r, i, &s)
	*p = T(s)
	return i
}

func (r *Reader) slowString(i int, p *string) int {
	begin, end, plain := r.text(i)
	switch {
	case end < 0:
		return -1
	case begin < 0:
		return end
	}
	switch b := r.b[begin:end]; {
	case !plain:
		s, ok := unquote(b)
		if !ok {
			return r.fail(begin, "the string has an escape that JSON does not know")
		}
		*p = s
	case r.alias:
		*p = unsafe.String(unsafe.SliceData(b), len(b))
	default:
		*p = string(b)
	}
	return end + 1
}

// text finds the string at i, behind spaces: where its contents begin and end, and whether they stand for themselves. begin is
// negative for null, which ends at end.
func (r *Reader) text(i int) (begin, end int, plain bool) {
	if i = r.space(i); i >= len(r.b) || r.b[i] != '"' {
		if r.null(i) {
			return -1, i + 4, true
		}
		return 0, r.unexpected(i, "a string"), false
	}
	return r.scan(i)
}

// scan finds the end of the string whose quote stands at i.
func (r *Reader) scan(i int) (begin, end int, plain bool) {
	b := r.b
	begin, plain = i+1, true
	ascii := true
	for i = begin; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			if !ascii && !utf8.Valid(b[begin:i]) {
				plain = false
			}
			return begin, i, plain
		case c == '\\':
			plain = false
			i++
		case c < ' ':
			return 0, r.fail(i, "a control character in a string: it must be escaped"), false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return 0, r.fail(len(b), "the payload ends within a string: it is cut"), false
}

// unquote resolves escapes; what is not UTF-8 and lone surrogates become U+FFFD.
func unquote(b []byte) (string, bool) {
	out := make([]byte, 0, len(b)+utf8.UTFMax)
	for i := 0; i < len(b); {
		c := b[i]
		switch {
		case c == '\\':
			if i+1 >= len(b) {
				return "", false
			}
			i += 2
			switch c = b[i-1]; c {
			case '"', '\\', '/':
				out = append(out, c)
			case 'b':
				out = append(out, '\b')
			case 'f':
				out = append(out, '\f')
			case 'n':
				out = append(out, '\n')
			case 'r':
				out = append(out, '\r')
			case 't':
				out = append(out, '\t')
			case 'u':
				u, ok := hex4(b[i:])
				if !ok {
					return "", false
				}
				i += 4
				if utf16.IsSurrogate(u) {
					pair := rune(utf8.RuneError)
					if i+6 <= len(b) && b[i] == '\\' && b[i+1] == 'u' {
						if low, ok := hex4(b[i+2:]); ok {
							pair = utf16.DecodeRune(u, low)
						}
					}
					if pair != utf8.RuneError {
						i += 6
					}
					u = pair
				}
				out = utf8.AppendRune(out, u)
			default:
				return "", false
			}
		case c < utf8.RuneSelf:
			out = append(out, c)
			i++
		default:
			u, n := utf8.DecodeRune(b[i:])
			out = utf8.AppendRune(out, u)
			i += n
		}
	}
	return string(out), true
}

func escapesKnown(b []byte) bool {
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		if i++; i >= len(b) {
			return false
		}
		switch b[i] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		case 'u':
			if _, ok := hex4(b[i+1:]); !ok {
				return false
			}
			i += 4
		default:
			return false
		}
	}
	return true
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var u rune
	for _, c := range b[:4] {
		switch {
		case c-'0' < 10:
			u = u<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			u = u<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return u, true
}

// Base64 reads a string of base64 into bytes; null makes them nil.
func Base64(r *Reader, i int, p *[]byte) int {
	if j := r.space(i); r.null(j) {
		*p = nil
		return j + 4
	}
	var s string
	at := i
	alias := r.alias
	r.alias = true
	i = r.slowString(i, &s)
	r.alias = alias
	if i < 0 {
		return -1
	}
	out, err := base64.StdEncoding.AppendDecode((*p)[:0:0], unsafe.Slice(unsafe.StringData(s), len(s)))
	if err != nil {
		return r.fail(at, "the string is not base64")
	}
	if out == nil {
		out = []byte{}
	}
	*p = out
	return i
}

// Raw reads any value as it stands.
func Raw[T ~[]byte](r *Reader, i int, p *T) int {
	begin := r.space(i)
	end := r.Skip(begin)
	if end < 0 {
		return -1
	}
	if r.alias {
		*p = T(r.b[begin:end:end])
	} else {
		*p = append(make(T, 0, end-begin), r.b[begin:end]...)
	}
	return end
}

package fields

import (
	"strings"
	"unsafe"
)

// Open enters an object at i, behind spaces, and returns the position behind its brace. ok is false when there is no object: then null
// was passed over, or the position is negative.
func (r *Reader) Open(i int, want string) (_ int, ok bool) {
	if i = r.space(i); i < len(r.b) && r.b[i] == '{' {
		if r.depth++; r.depth > MaxDepth {
			return r.deep(i), false
		}
		return i + 1, true
	}
	if r.null(i) {
		return i + 4, false
	}
	return r.unexpected(i, "an object of "+want), false
}

// Close leaves an object. It returns i.
func (r *Reader) Close(i int) int {
	r.depth--
	return i
}

// Key reads a name and its colon at i and returns where its value begins. ok is false when there is none: at the first name of an
// object its end may stand instead, and the position is behind the brace; otherwise the position is negative. key may point into the
// payload.
func (r *Reader) Key(i int, first bool) (key string, _ int, ok bool) {
	i = r.space(i)
	if i >= len(r.b) || r.b[i] != '"' {
		if first && i < len(r.b) && r.b[i] == '}' {
			return "", i + 1, false
		}
		return "", r.unexpected(i, "a name in quotes"), false
	}
	begin, end, plain := r.scan(i)
	if end < 0 {
		return "", -1, false
	}
	if plain {
		key = unsafe.String(unsafe.SliceData(r.b[begin:]), end-begin)
	} else if key, ok = unquote(r.b[begin:end]); !ok {
		return "", r.fail(i, "a name has an escape that JSON does not know"), false
	}
	if i = r.space(end + 1); i >= len(r.b) || r.b[i] != ':' {
		return "", r.unexpected(i, "a colon"), false
	}
	return key, r.space(i + 1), true
}

// Next is called behind a value of an object: more says that a name follows at the returned position, otherwise the object has ended there.
func (r *Reader) Next(i int) (_ int, more bool) {
	if i = r.space(i); i < len(r.b) {
		switch r.b[i] {
		case ',':
			return i + 1, true
		case '}':
			return i + 1, false
		}
	}
	return r.unexpected(i, "a comma or the end of the object"), false
}

// Fold finds the known name that differs from key in case only, as encoding/json does.
func Fold(key string, names []string) (string, bool) {
	for _, n := range names {
		if strings.EqualFold(key, n) {
			return n, true
		}
	}
	return "", false
}

// Skip passes over the value at i, which must be valid JSON.
func (r *Reader) Skip(i int) int {
	if i = r.space(i); i >= len(r.b) {
		return r.unexpected(i, "a value")
	}
	if c := r.b[i]; c != '{' && c != '[' {
		return r.skipScalar(i)
	}
	// One bit per level: whether it is an object.
	var objects [MaxDepth/64 + 1]uint64
	level := 0
	for {
		// A value begins at i.
		switch c := r.b[i]; c {
		case '{', '[':
			if level++; r.depth+level > MaxDepth {
				return r.deep(i)
			}
			if i = r.space(i + 1); i >= len(r.b) {
				return r.unexpected(i, "a value")
			}
			if c == '{' {
				objects[level/64] |= 1 << (level % 64)
				if r.b[i] != '}' {
					if i = r.skipKey(i); i < 0 {
						return -1
					}
					continue
				}
			} else {
				objects[level/64] &^= 1 << (level % 64)
				if r.b[i] != ']' {
					continue
				}
			}
			i++
			level--
		default:
			if i = r.skipScalar(i); i < 0 {
				return -1
			}
		}
		// Behind a value.
		for {
			if level == 0 {
				return i
			}
			object := objects[level/64]>>(level%64)&1 != 0
			if i = r.space(i); i >= len(r.b) {
				return r.unexpected(i, "a comma or the end of a value")
			}
			if object && r.b[i] == '}' || !object && r.b[i] == ']' {
				i++
				level--
				continue
			}
			if r.b[i] != ',' {
				return r.unexpected(i, "a comma or the end of a value")
			}
			if i = r.space(i + 1); object {
				i = r.skipKey(i)
			} else if i >= len(r.b) {
				i = r.unexpected(i, "a value")
			}
			if i < 0 {
				return -1
			}
			break
		}
	}
}

// skipKey passes over a name and its colon and returns where its value begins, which is within the payload.
func (r *Reader) skipKey(i int) int {
	_, i, ok := r.Key(i, false)
	if !ok {
		return -1
	}
	if i >= len(r.b) {
		return r.unexpected(i, "a value")
	}
	return i
}

func (r *Reader) skipScalar(i int) int {
	switch c := r.b[i]; {
	case c == '"':
		begin, end, plain := r.scan(i)
		if end < 0 {
			return -1
		}
		if !plain && !escapesKnown(r.b[begin:end]) {
			return r.fail(i, "a string has an escape that JSON does not know")
		}
		return end + 1
	case c == '-' || c-'0' < 10:
		end, _ := r.number(i)
		return end
	case c == 't':
		return r.word(i, "true")
	case c == 'f':
		return r.word(i, "false")
	case c == 'n':
		return r.word(i, "null")
	}
	return r.unexpected(i, "a value")
}

func (r *Reader) word(i int, w string) int {
	if len(r.b)-i >= len(w) && string(r.b[i:i+len(w)]) == w {
		return i + len(w)
	}
	return r.fail(i, "this is not "+w)
}

func (r *Reader) deep(i int) int {
	return r.fail(i, "arrays and objects are nested more than 512 deep")
}

package fields

// OpenArray enters the array at i, behind spaces. Without more there is nothing in it: the position is behind its end, or behind null,
// or negative; EndedNull tells them apart.
func (r *Reader) OpenArray(i int) (_ int, more bool) {
	if i = r.space(i); i >= len(r.b) || r.b[i] != '[' {
		if r.null(i) {
			return i + 4, false
		}
		return r.unexpected(i, "an array"), false
	}
	if r.depth++; r.depth > MaxDepth {
		return r.deep(i), false
	}
	if i = r.space(i + 1); i < len(r.b) && r.b[i] == ']' {
		r.depth--
		return i + 1, false
	}
	return i, true
}

// NextElement is called behind an element: more says that another follows at the returned position, otherwise the array has ended
// there.
func (r *Reader) NextElement(i int) (_ int, more bool) {
	if i = r.space(i); i < len(r.b) {
		switch r.b[i] {
		case ',':
			return i + 1, true
		case ']':
			r.depth--
			return i + 1, false
		}
	}
	return r.unexpected(i, "a comma or the end of the array"), false
}

// EndedNull tells whether the value that ends at i is null.
func (r *Reader) EndedNull(i int) bool { return r.b[i-1] == 'l' }

// Null passes over null at i, behind spaces; ok is false where something else stands, at the returned position.
func (r *Reader) Null(i int) (_ int, ok bool) {
	if i = r.space(i); r.null(i) {
		return i + 4, true
	}
	return i, false
}

package flow

import (
	"encoding/binary"
	"unsafe"
)

// shortKey is a string key of up to 15 bytes in two words: bytes 0 to 7; bytes 8 to 14, and the length in the top byte. Keys are then
// compared without a pointer to follow. A longer one is marked by longKey, and compared as it is.
type shortKey [2]uint64

const longKey = 0xff << 56

func shorten(s string) (k shortKey) {
	n := len(s)
	if n > 15 {
		return shortKey{0, longKey}
	}
	b := unsafe.Slice(unsafe.StringData(s), n)
	k[1] = uint64(n) << 56
	switch {
	case n >= 8:
		k[0] = binary.LittleEndian.Uint64(b)
		k[1] |= binary.LittleEndian.Uint64(b[n-8:]) >> ((16 - n) * 8) // at a length of 8 the shift takes all
	case n >= 4:
		k[0] = uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint32(b[n-4:]))<<((n-4)*8)
	default:
		for i, c := range b {
			k[0] |= uint64(c) << (i * 8)
		}
	}
	return k
}

// matchShort clears want[i], a slot plus 1, where that slot holds another key than keys[i].
func matchShort(keys, held []string, short []shortKey, want []uint32) {
	want = want[:len(keys)]
	for i, s := range keys {
		w := want[i]
		if w == 0 {
			continue
		}
		k := &short[w-1]
		var lo, hi uint64
		if n := len(s); n >= 8 && n <= 15 {
			b := unsafe.Slice(unsafe.StringData(s), n)
			lo = binary.LittleEndian.Uint64(b)
			hi = binary.LittleEndian.Uint64(b[n-8:])>>((16-n)*8) | uint64(n)<<56
		} else {
			short := shorten(s)
			lo, hi = short[0], short[1]
		}
		if lo != k[0] || hi != k[1] || hi == longKey && held[w-1] != s {
			want[i] = 0
		}
	}
}

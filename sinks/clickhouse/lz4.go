package clickhouse

import (
	"encoding/binary"
	"math/bits"

	"github.com/go-faster/city"
	"github.com/pierrec/lz4/v4"
)

// lz4Frames packs blocks into ClickHouse's LZ4 frames: checksum, method, sizes, one LZ4 block. See docs/adr/0006-lz4.md for why the
// sink has an encoder of its own.
type lz4Frames struct {
	table [1 << lz4TableBits]uint32
	out   []byte
}

const (
	// 4,096 places keep the table in the first-level cache. Columns repeat what is near.
	lz4TableBits = 12
	// lz4Head is the frame's head: a checksum of 16 bytes over what follows it, the method, the compressed size with method and sizes, the
	// raw size.
	lz4Head   = 25
	lz4Method = 0x82
	// The format's rules: the last match starts at least 12 bytes before the end, the last 5 bytes are literals.
	lz4LastMatch = 12
	lz4LastBytes = 5
	// lz4Slack lets literals be copied by 8 bytes at a time.
	lz4Slack = 16
)

// frame returns raw as a frame, valid until the next call.
func (z *lz4Frames) frame(raw []byte) []byte {
	if need := lz4Head + lz4.CompressBlockBound(len(raw)) + lz4Slack; cap(z.out) < need {
		z.out = make([]byte, need)
	}
	out := z.out[:cap(z.out)]
	n := lz4Head + z.block(out[lz4Head:], raw)
	out[16] = lz4Method
	binary.LittleEndian.PutUint32(out[17:], uint32(n-16))
	binary.LittleEndian.PutUint32(out[21:], uint32(len(raw)))
	sum := city.CH128(out[16:n])
	binary.LittleEndian.PutUint64(out, sum.Low)
	binary.LittleEndian.PutUint64(out[8:], sum.High)
	return out[:n]
}

// lz4Place is where the table keeps the place of the five bytes that v begins with.
func lz4Place(v uint64) uint64 { return v << 24 * 889523592379 >> (64 - lz4TableBits) }

// block writes src as one LZ4 block to dst, which must hold CompressBlockBound and lz4Slack, and returns its length. Format:
// github.com/lz4/lz4, doc/lz4_Block_format.md: tokens of a literal and a match length, literals, and how far back the match lies.
func (z *lz4Frames) block(dst, src []byte) int {
	clear(z.table[:])
	d, anchor, misses := 0, 0, 0
	last, end := len(src)-lz4LastMatch, len(src)-lz4LastBytes
	for s := 1; s < last; {
		v := binary.LittleEndian.Uint64(src[s:])
		place := &z.table[lz4Place(v)]
		from := int(*place)
		*place = uint32(s)
		if uint(s-from-1) >= 1<<16-1 || uint32(v) != binary.LittleEndian.Uint32(src[from:]) {
			misses++
			s += 1 + misses>>6 // what does not repeat is passed over faster and faster
			continue
		}
		misses = 0
		for s > anchor && from > 0 && src[s-1] == src[from-1] {
			s, from = s-1, from-1
		}
		to := lz4Match(src, s+4, from+4, end)
		d = lz4Sequence(dst, d, src, anchor, s, s-from, to-s-4)
		s, anchor = to, to
		if s < last {
			z.table[lz4Place(binary.LittleEndian.Uint64(src[s-2:]))] = uint32(s - 2)
		}
	}
	dst[d] = 0
	d = lz4Length(dst, d+1, &dst[d], 4, len(src)-anchor)
	return d + copy(dst[d:], src[anchor:])
}

// lz4Match returns where the bytes at a, which equal those at b so far, begin to differ, at most end.
func lz4Match(src []byte, a, b, end int) int {
	for a+8 <= end {
		if x := binary.LittleEndian.Uint64(src[a:]) ^ binary.LittleEndian.Uint64(src[b:]); x != 0 {
			return a + bits.TrailingZeros64(x)>>3
		}
		a, b = a+8, b+8
	}
	for a < end && src[a] == src[b] {
		a, b = a+1, b+1
	}
	return a
}

// lz4Sequence writes the literals src[anchor:s] and a match of length+4 bytes, back bytes behind.
func lz4Sequence(dst []byte, d int, src []byte, anchor, s, back, length int) int {
	token := &dst[d]
	*token = 0
	n := s - anchor
	if n < 15 {
		*token = byte(n << 4)
		d++
		// At least 4+5 bytes of src lie behind s, so whole words can be copied.
		binary.LittleEndian.PutUint64(dst[d:], binary.LittleEndian.Uint64(src[anchor:]))
		if n > 8 {
			binary.LittleEndian.PutUint64(dst[d+8:], binary.LittleEndian.Uint64(src[anchor+8:]))
		}
		d += n
	} else {
		d = lz4Length(dst, d+1, token, 4, n)
		d += copy(dst[d:], src[anchor:s])
	}
	binary.LittleEndian.PutUint16(dst[d:], uint16(back))
	return lz4Length(dst, d+2, token, 0, length)
}

// lz4Length writes a length into four bits of the token, and behind them what does not fit.
func lz4Length(dst []byte, d int, token *byte, shift, n int) int {
	if n < 15 {
		*token |= byte(n << shift)
		return d
	}
	*token |= 15 << shift
	for n -= 15; n >= 255; n -= 255 {
		dst[d] = 255
		d++
	}
	dst[d] = byte(n)
	return d + 1
}

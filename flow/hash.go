package flow

import (
	"encoding/binary"
	"math"
	"math/bits"
	"reflect"
	"strings"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"github.com/zeebo/xxh3"
)

// keyBytes is how keys and ids of type K become bytes: strings their bytes; integers, bool and floats 8 bytes little-endian; byte
// arrays raw; struct{} nothing; anything else through a KeyCodec.
type keyBytes[K comparable] struct {
	// hashAll fills hashes with xxhash64 of the keys' bytes.
	hashAll func(keys []K, hashes []uint64)
	append  func(b []byte, k K) []byte
	decode  func(b []byte) (K, bool)
	// clone cuts a key loose from a payload buffer that it may alias.
	clone func(K) K
	// short is the short form of keys that are strings, nil of others.
	short func(K) shortKey
	id    string
}

// KeyGroup is the group of a key with these bytes. A broker shard is KeyGroup * shards / KeyGroups.
func KeyGroup(key []byte) int { return int(xxhash.Sum64(key) % KeyGroups) }

// The primes of xxhash64.
const (
	xxPrime1 = 11400714785074694791
	xxPrime2 = 14029467366897019727
	xxPrime3 = 1609587929392839161
	xxPrime4 = 9650029242287828579
	xxPrime5 = 2870177450012600261
)

// sumShort is xxhash64, after its specification, of 8 to 15 bytes: most keys are such, and their sums then overlap in the processor.
func sumShort(b []byte) uint64 {
	n := len(b)
	h := uint64(xxPrime5) + uint64(n)
	h ^= bits.RotateLeft64(binary.LittleEndian.Uint64(b)*xxPrime2, 31) * xxPrime1
	h = bits.RotateLeft64(h, 27)*xxPrime1 + xxPrime4
	b = b[8:]
	if len(b) >= 4 {
		h ^= uint64(binary.LittleEndian.Uint32(b)) * xxPrime1
		h = bits.RotateLeft64(h, 23)*xxPrime2 + xxPrime3
		b = b[4:]
	}
	for _, c := range b {
		h ^= uint64(c) * xxPrime5
		h = bits.RotateLeft64(h, 11) * xxPrime1
	}
	h ^= h >> 33
	h *= xxPrime2
	h ^= h >> 29
	h *= xxPrime3
	return h ^ h>>32
}

// KeyCodec gives the bytes of keys of a type that has no natural ones (structs, interfaces). decode must be the inverse of
// append; id names the encoding. It is an option of KeyBy.
func KeyCodec[K comparable](id string, appendKey func(b []byte, k K) []byte, decode func(b []byte) (K, bool)) KeyOption {
	return KeyOption(SetOption(func(c *keyConfig) {
		c.codec = &keyBytes[K]{
			hashAll: func(keys []K, hashes []uint64) {
				var buf []byte
				for i := range keys {
					buf = appendKey(buf[:0], keys[i])
					hashes[i] = xxhash.Sum64(buf)
				}
			},
			append: appendKey, decode: decode, clone: func(k K) K { return k }, id: id,
		}
	}))
}

type keyConfig struct {
	NodeConfig
	codec any // *keyBytes[K]
	co    bool
}

// bytesOf returns the natural bytes of K, or nil if it has none.
func bytesOf[K comparable]() *keyBytes[K] {
	typ := reflect.TypeFor[K]()
	same := func(k K) K { return k }
	switch typ.Kind() {
	case reflect.String:
		str := func(k *K) string { return *(*string)(unsafe.Pointer(k)) }
		return &keyBytes[K]{
			hashAll: func(keys []K, hashes []uint64) {
				ss := unsafe.Slice((*string)(unsafe.Pointer(unsafe.SliceData(keys))), len(keys))
				hashes = hashes[:len(ss)]
				for i, s := range ss {
					if n := len(s); n >= 8 && n < 16 {
						hashes[i] = sumShort(unsafe.Slice(unsafe.StringData(s), n))
					} else {
						hashes[i] = xxhash.Sum64String(s)
					}
				}
			},
			append: func(b []byte, k K) []byte { return append(b, str(&k)...) },
			decode: func(b []byte) (K, bool) {
				s := string(b)
				return *(*K)(unsafe.Pointer(&s)), true
			},
			clone: func(k K) K {
				s := strings.Clone(str(&k))
				return *(*K)(unsafe.Pointer(&s))
			},
			short: func(k K) shortKey { return shorten(str(&k)) },
			id:    "string",
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Bool, reflect.Float32, reflect.Float64:
		word, from := wordOf[K](typ)
		return &keyBytes[K]{
			hashAll: func(keys []K, hashes []uint64) {
				var b [8]byte
				for i := range keys {
					binary.LittleEndian.PutUint64(b[:], word(keys[i]))
					hashes[i] = xxhash.Sum64(b[:])
				}
			},
			append: func(b []byte, k K) []byte { return binary.LittleEndian.AppendUint64(b, word(k)) },
			decode: func(b []byte) (k K, ok bool) {
				if len(b) != 8 {
					return k, false
				}
				from(binary.LittleEndian.Uint64(b), &k)
				return k, true
			},
			clone: same, id: "word",
		}
	case reflect.Array:
		if typ.Elem().Kind() != reflect.Uint8 {
			return nil
		}
		n := typ.Len()
		raw := func(k *K) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(k)), n) }
		return &keyBytes[K]{
			hashAll: func(keys []K, hashes []uint64) {
				for i := range keys {
					hashes[i] = xxhash.Sum64(raw(&keys[i]))
				}
			},
			append: func(b []byte, k K) []byte { return append(b, raw(&k)...) },
			decode: func(b []byte) (k K, ok bool) {
				return k, copy(raw(&k), b) == n && len(b) == n
			},
			clone: same, id: "bytes",
		}
	case reflect.Struct:
		if typ.NumField() != 0 {
			return nil
		}
		h := xxhash.Sum64(nil)
		return &keyBytes[K]{
			hashAll: func(_ []K, hashes []uint64) {
				for i := range hashes {
					hashes[i] = h
				}
			},
			append: func(b []byte, _ K) []byte { return b },
			decode: func(b []byte) (k K, ok bool) { return k, len(b) == 0 },
			clone:  same, id: "unit",
		}
	}
	return nil
}

// wordOf returns how a number of K's kind becomes a word and back: integers sign-extended, floats their bits (-0 as +0).
func wordOf[K comparable](typ reflect.Type) (word func(K) uint64, from func(uint64, *K)) {
	switch typ.Kind() {
	case reflect.Bool:
		return func(k K) uint64 {
				if *(*bool)(unsafe.Pointer(&k)) {
					return 1
				}
				return 0
			}, func(w uint64, k *K) {
				*(*bool)(unsafe.Pointer(k)) = w != 0
			}
	case reflect.Float32:
		return func(k K) uint64 { return floatBits(float64(*(*float32)(unsafe.Pointer(&k)))) },
			func(w uint64, k *K) { *(*float32)(unsafe.Pointer(k)) = float32(math.Float64frombits(w)) }
	case reflect.Float64:
		return func(k K) uint64 { return floatBits(*(*float64)(unsafe.Pointer(&k))) },
			func(w uint64, k *K) { *(*float64)(unsafe.Pointer(k)) = math.Float64frombits(w) }
	case reflect.Int8:
		return intWord[K, int8]()
	case reflect.Int16:
		return intWord[K, int16]()
	case reflect.Int32:
		return intWord[K, int32]()
	case reflect.Uint8:
		return intWord[K, uint8]()
	case reflect.Uint16:
		return intWord[K, uint16]()
	case reflect.Uint32:
		return intWord[K, uint32]()
	}
	return intWord[K, uint64]()
}

func intWord[K comparable, I int8 | int16 | int32 | uint8 | uint16 | uint32 | uint64]() (func(K) uint64, func(uint64, *K)) {
	return func(k K) uint64 { return uint64(*(*I)(unsafe.Pointer(&k))) },
		func(w uint64, k *K) { *(*I)(unsafe.Pointer(k)) = I(w) }
}

func floatBits(f float64) uint64 {
	if f == 0 {
		return 0
	}
	return math.Float64bits(f)
}

// print128 is a seeded 128-bit fingerprint of id bytes under a key.
func print128(id []byte, key [2]uint64) [2]uint64 {
	h := xxh3.Hash128Seed(id, key[0])
	return [2]uint64{h.Lo, h.Hi ^ key[1]}
}

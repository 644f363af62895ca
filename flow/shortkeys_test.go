package flow

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
)

// Strings of every length around the bounds, and such that differ in one byte, or by NULs at their end only.
func similarStrings() (all []string) {
	for n := range 20 {
		base := strings.Repeat("k", n)
		all = append(all, base)
		for i := range n {
			b := []byte(base)
			b[i] = 0
			all = append(all, string(b))
			b[i] = 0xff
			all = append(all, string(b))
		}
	}
	return append(all, "\x00\x00", strings.Repeat("\x00", 8), strings.Repeat("\x00", 9), strings.Repeat("\x00", 15), strings.Repeat("\x00", 16))
}

func TestShortKeysAreEqualWhenTheirStringsAre(t *testing.T) {
	seen := map[shortKey]string{}
	for _, s := range similarStrings() {
		k := shorten(s)
		if len(s) > 15 {
			require.Equal(t, shortKey{0, longKey}, k, "%q", s)
			continue
		}
		had, ok := seen[k]
		require.True(t, !ok || had == s, "%q and %q", had, s)
		seen[k] = s
		require.Equal(t, k, shorten(string(bytes.Clone([]byte(s)))), "%q", s)
	}
}

func TestKeyTableKeepsSimilarStringsApart(t *testing.T) {
	all := map[string]bool{}
	for _, s := range similarStrings() {
		all[s] = true
	}
	var keys []string
	for s := range all {
		keys = append(keys, s)
	}
	for i := range 5000 { // of many lengths, with places that are taken
		keys = append(keys, fmt.Sprintf("device-%0*d", i%14, i))
	}
	code := bytesOf[string]()
	table := newKeyTable(code, 7)
	hashes, slots := make([]uint64, len(keys)), make([]Slot, len(keys))
	code.hashAll(keys, hashes)
	slotOf := map[string]Slot{}
	for round := range 3 {
		table.lookup(keys, hashes, slots)
		owner := map[Slot]string{}
		for i, s := range keys {
			if had, ok := owner[slots[i]]; ok {
				require.Equal(t, had, s, "one slot")
			}
			owner[slots[i]] = s
			require.Equal(t, s, table.keys[slots[i]])
			if round > 0 {
				require.Equal(t, slotOf[s], slots[i], "%q", s)
			}
			slotOf[s] = slots[i]
		}
	}
	// Another key with the hash of one that is there.
	other := []string{"short", "another key, which is long", "kkkkkkkk"}
	for _, s := range other {
		h := []uint64{hashes[0]}
		table.lookup([]string{s}, h, slots[:1])
		require.Equal(t, s, table.keys[slots[0]])
	}
}

// Key groups are stored: short sums are those of the library, whatever the bytes.
func TestSumsOfShortStringsAreXXHash64(t *testing.T) {
	hashAll := bytesOf[string]().hashAll
	random := rand.New(rand.NewPCG(1, 2))
	keys := similarStrings()
	for range 20_000 {
		b := make([]byte, random.IntN(24))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		keys = append(keys, string(b))
	}
	hashes := make([]uint64, len(keys))
	hashAll(keys, hashes)
	for i, k := range keys {
		require.Equal(t, xxhash.Sum64String(k), hashes[i], "%q", k)
	}
}

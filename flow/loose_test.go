package flow

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// looseKeys are a table of keys, with a way to look up a run of them.
func looseKeys() (*keyTable[string], func(from, n int) []Slot) {
	tab := newKeyTable(bytesOf[string](), 1)
	return tab, func(from, n int) []Slot {
		keys, hashes, slots := make([]string, n), make([]uint64, n), make([]Slot, n)
		for i := range keys {
			keys[i] = fmt.Sprintf("key-%07d", from+i)
		}
		tab.code.hashAll(keys, hashes)
		tab.lookup(keys, hashes, slots)
		for i, s := range slots {
			if tab.keys[s] != keys[i] {
				panic(fmt.Sprint(s, " has ", tab.keys[s], " and not ", keys[i]))
			}
		}
		return slots
	}
}

// Keys that nobody holds stay as long as they are no more than were held of late.
func TestLooseKeys(t *testing.T) {
	tab, look := looseKeys()
	t.Run("keys that come once are bounded", func(t *testing.T) {
		for i := range 200 {
			look(1_000*i, 1_000)
			tab.sweep()
			require.LessOrEqual(t, tab.used, keepLoose+1_000)
			require.LessOrEqual(t, len(tab.loose), keepLoose+1_000)
		}
		require.LessOrEqual(t, len(tab.keys), 2*KeyGroups*PageSize)
	})
	const held = 60_000
	t.Run("keys that were held come again", func(t *testing.T) {
		for from := 0; from < held; from += 1_000 {
			for _, s := range look(from, 1_000) {
				tab.retain(s)
			}
		}
		first := look(0, held)
		for range 3 {
			for _, s := range first {
				tab.release(s)
				tab.retain(s)
			}
		}
		tab.sweep()
		require.Equal(t, held, tab.held)
		for _, s := range first {
			tab.release(s)
		}
		require.LessOrEqual(t, len(tab.loose), tab.used, "each is there once")
		tab.sweep()
		require.Zero(t, tab.held)
		require.Equal(t, first, look(0, held))
		// What is held meanwhile is not freed with them.
		for _, s := range first[:100] {
			tab.retain(s)
		}
		for range 2_000 {
			tab.sweep()
		}
		require.Less(t, tab.used, keepLoose+1_000, "in the end the table is small again")
		require.Equal(t, first[:100], look(0, 100))
	})
}

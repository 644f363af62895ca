// Package statetest is the contract of state.Store as a test suite, for those who write one.
package statetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow/state"
)

// Run tests a store. newStore is called once per test and returns an empty store; the suite closes what it opens. What it cannot test, a
// crash, is the business of the store's own tests.
func Run(t *testing.T, newStore func(t *testing.T) state.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s state.Store)
	}{
		{"put, get, delete", putGetDelete},
		{"a batch applies in order", order},
		{"delete range", deleteRange},
		{"scan", scan},
		{"bytes are copied", copies},
		{"nothing before commit", nothingBeforeCommit},
		{"a batch commits once", commitsOnce},
		{"large values", largeValues},
		{"topologies are apart", topologies},
		{"a second open is locked out", locked},
		{"durable state is there after close", reopen},
		{"reads beside commits", readsBesideCommits},
		{"random changes agree with a map", model},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, newStore(t))
		})
	}
}

func open(t *testing.T, s state.Store, topology string) state.DB {
	t.Helper()
	db, err := s.Open(topology)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(), "Close may be called twice") })
	return db
}

func commit(t *testing.T, db state.DB, change func(b state.Batch)) {
	t.Helper()
	b := db.NewBatch()
	change(b)
	require.NoError(t, b.Commit())
	require.NoError(t, b.Close())
}

func get(t *testing.T, db state.DB, key string) (string, bool) {
	t.Helper()
	v, ok, err := db.Get([]byte(key))
	require.NoError(t, err)
	return string(v), ok
}

func requireValue(t *testing.T, db state.DB, key, want string) {
	t.Helper()
	v, ok := get(t, db, key)
	require.True(t, ok, "%q is missing", key)
	require.Equal(t, want, v)
}

func requireNone(t *testing.T, db state.DB, key string) {
	t.Helper()
	_, ok := get(t, db, key)
	require.False(t, ok, "%q should not be there", key)
}

// dump returns what Scan gives, as key=value.
func dump(t *testing.T, db state.DB, lo, hi []byte) []string {
	t.Helper()
	all := []string{}
	require.NoError(t, db.Scan(lo, hi, func(k, v []byte) error {
		all = append(all, string(k)+"="+string(v))
		return nil
	}))
	return all
}

func putGetDelete(t *testing.T, s state.Store) {
	db := open(t, s, "topology")
	requireNone(t, db, "a")
	commit(t, db, func(b state.Batch) {
		b.Put([]byte("a"), []byte("1"))
		b.Put([]byte("empty"), nil)
		b.Put([]byte("\x00\xff\x00"), []byte("\x00"))
	})
	requireValue(t, db, "a", "1")
	requireValue(t, db, "empty", "")
	requireValue(t, db, "\x00\xff\x00", "\x00")
	commit(t, db, func(b state.Batch) {
		b.Put([]byte("a"), []byte("2"))
		b.Delete([]byte("empty"))
		b.Delete([]byte("was never there"))
	})
	requireValue(t, db, "a", "2")
	requireNone(t, db, "empty")
	commit(t, db, func(state.Batch) {})
	require.Equal(t, []string{"\x00\xff\x00=\x00", "a=2"}, dump(t, db, nil, nil))
}

func order(t *testing.T, s state.Store) {
	db := open(t, s, "topology")
	commit(t, db, func(b state.Batch) {
		b.Put([]byte("a"), []byte("1"))
		b.Put([]byte("a"), []byte("2"))
		b.Put([]byte("b"), []byte("1"))
		b.Delete([]byte("b"))
		b.Put([]byte("c1"), []byte("1"))
		b.DeleteRange([]byte("c"), []byte("d"))
		b.Put([]byte("c2"), []byte("2"))
	})
	require.Equal(t, []string{"a=2", "c2=2"}, dump(t, db, nil, nil))
}

func deleteRange(t *testing.T, s state.Store) {
	db := open(t, s, "topology")
	commit(t, db, func(b state.Batch) {
		for _, k := range []string{"a", "b", "b\x00", "c", "d"} {
			b.Put([]byte(k), []byte("x"))
		}
	})
	commit(t, db, func(b state.Batch) { b.DeleteRange([]byte("b"), []byte("c")) })
	require.Equal(t, []string{"a=x", "c=x", "d=x"}, dump(t, db, nil, nil))
	commit(t, db, func(b state.Batch) {
		b.DeleteRange([]byte("c"), []byte("c"))
		b.DeleteRange([]byte("d"), []byte("a"))
	})
	require.Equal(t, []string{"a=x", "c=x", "d=x"}, dump(t, db, nil, nil), "an empty range deletes nothing")
}

func scan(t *testing.T, s state.Store) {
	db := open(t, s, "topology")
	require.Empty(t, dump(t, db, nil, nil))
	commit(t, db, func(b state.Batch) {
		for _, k := range []string{"b", "\xff\xff", "a", "c", "ab"} {
			b.Put([]byte(k), []byte(k))
		}
	})
	require.Equal(t, []string{"a=a", "ab=ab", "b=b", "c=c", "\xff\xff=\xff\xff"}, dump(t, db, nil, nil))
	require.Equal(t, []string{"ab=ab", "b=b"}, dump(t, db, []byte("ab"), []byte("c")))
	require.Equal(t, []string{"c=c", "\xff\xff=\xff\xff"}, dump(t, db, []byte("bb"), nil))
	require.Empty(t, dump(t, db, []byte("b"), []byte("b")))
	require.Empty(t, dump(t, db, []byte("c"), []byte("a")))
	stop, seen := errors.New("stop"), 0
	err := db.Scan(nil, nil, func(_, _ []byte) error {
		if seen++; seen == 2 {
			return stop
		}
		return nil
	})
	require.ErrorIs(t, err, stop)
	require.Equal(t, 2, seen)
}

func copies(t *testing.T, s state.Store) {
	db := open(t, s, "topology")
	key, value, hi := []byte("a"), []byte("1"), []byte("z")
	commit(t, db, func(b state.Batch) {
		b.Put(key, value)
		key[0], value[0] = 'b', '2'
		b.Put(key, value)
		key[0] = 'x'
		b.DeleteRange(key, hi)
		key[0], hi[0] = 'a', 'b'
	})
	require.Equal(t, []string{"a=1", "b=2"}, dump(t, db, nil, nil))
	v, _, err := db.Get([]byte("a"))
	require.NoError(t, err)
	v[0] = '9'
	requireValue(t, db, "a", "1")
	v[0] = '1'
	commit(t, db, func(b state.Batch) { b.Put([]byte("a"), []byte("3")) })
	require.Equal(t, "1", string(v), "Get returns a copy")
}

func nothingBeforeCommit(t *testing.T, s state.Store) {
	db := open(t, s, "topology")
	b := db.NewBatch()
	b.Put([]byte("a"), []byte("1"))
	requireNone(t, db, "a")
	other := db.NewBatch()
	other.Put([]byte("b"), []byte("2"))
	require.NoError(t, other.Close(), "closed without commit")
	require.NoError(t, b.Commit())
	require.NoError(t, b.Close())
	require.Equal(t, []string{"a=1"}, dump(t, db, nil, nil))
}

func commitsOnce(t *testing.T, s state.Store) {
	db := open(t, s, "topology")
	b := db.NewBatch()
	b.Put([]byte("a"), []byte("1"))
	require.NoError(t, b.Commit())
	require.Error(t, b.Commit())
	require.NoError(t, b.Close())
	require.NoError(t, b.Close(), "Close may be called twice")
	requireValue(t, db, "a", "1")
}

func largeValues(t *testing.T, s state.Store) {
	db := open(t, s, "topology")
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	commit(t, db, func(b state.Batch) {
		for i := range 4 {
			b.Put(fmt.Appendf(nil, "%04d", i), large)
		}
	})
	commit(t, db, func(b state.Batch) {
		for i := range 5000 {
			b.Put(fmt.Appendf(nil, "small-%06d", i), []byte("v"))
		}
	})
	requireValue(t, db, "0003", string(large))
	require.Len(t, dump(t, db, []byte("small"), nil), 5000)
}

func topologies(t *testing.T, s state.Store) {
	one, two := open(t, s, "one"), open(t, s, "two")
	commit(t, one, func(b state.Batch) { b.Put([]byte("a"), []byte("1")) })
	requireNone(t, two, "a")
	commit(t, two, func(b state.Batch) { b.DeleteRange([]byte(""), []byte("\xff")) })
	requireValue(t, one, "a", "1")
}

func locked(t *testing.T, s state.Store) {
	db := open(t, s, "topology")
	_, err := s.Open("topology")
	require.ErrorIs(t, err, state.ErrLocked)
	commit(t, db, func(b state.Batch) { b.Put([]byte("a"), []byte("1")) })
	require.NoError(t, db.Close())
	open(t, s, "topology")
}

func reopen(t *testing.T, s state.Store) {
	db := open(t, s, "topology")
	commit(t, db, func(b state.Batch) {
		b.Put([]byte("a"), []byte("1"))
		b.Put([]byte("b"), []byte("2"))
	})
	commit(t, db, func(b state.Batch) { b.DeleteRange([]byte("b"), []byte("c")) })
	require.NoError(t, db.Close())
	db = open(t, s, "topology")
	if s.Durable() {
		require.Equal(t, []string{"a=1"}, dump(t, db, nil, nil))
	}
	commit(t, db, func(b state.Batch) { b.Put([]byte("c"), []byte("3")) })
	requireValue(t, db, "c", "3")
}

// readsBesideCommits has readers that must never see half a batch.
func readsBesideCommits(t *testing.T, s state.Store) {
	db := open(t, s, "topology")
	write := func(i int) {
		commit(t, db, func(b state.Batch) {
			for _, k := range []string{"x", "y", "z"} {
				b.Put([]byte(k), fmt.Append(nil, i))
			}
		})
	}
	write(0)
	done := make(chan struct{})
	var readers sync.WaitGroup
	failures := make(chan string, 2)
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				seen := map[string]bool{}
				err := db.Scan(nil, nil, func(_, v []byte) error {
					seen[string(v)] = true
					return nil
				})
				if err != nil || len(seen) != 1 {
					failures <- fmt.Sprint(seen, err)
					return
				}
			}
		})
	}
	for i := range 50 {
		write(i)
	}
	close(done)
	readers.Wait()
	select {
	case f := <-failures:
		t.Fatal("a scan saw parts of batches: ", f)
	default:
	}
}

func model(t *testing.T, s state.Store) {
	db := open(t, s, "topology")
	want := map[string]string{}
	x := uint64(7)
	next := func(n uint64) uint64 {
		x = x*6364136223846793005 + 1442695040888963407
		return (x >> 33) % n
	}
	key := func() []byte { return []byte{byte('a' + next(3)), byte(next(8))} }
	for i := range 60 {
		commit(t, db, func(b state.Batch) {
			for range next(20) {
				switch next(6) {
				case 0:
					k := key()
					b.Delete(k)
					delete(want, string(k))
				case 1:
					lo, hi := key(), key()
					b.DeleteRange(lo, hi)
					maps.DeleteFunc(want, func(k, _ string) bool { return k >= string(lo) && k < string(hi) })
				default:
					k, v := key(), fmt.Append(nil, next(1000))
					b.Put(k, v)
					want[string(k)] = string(v)
				}
			}
		})
		if s.Durable() && i%20 == 19 {
			require.NoError(t, db.Close())
			db = open(t, s, "topology")
		}
		lo, hi := key(), key()
		require.Equal(t, list(want, string(lo), string(hi)), dump(t, db, lo, hi))
	}
	require.Equal(t, list(want, "", "\xff"), dump(t, db, nil, nil))
}

func list(m map[string]string, lo, hi string) []string {
	out := []string{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k >= lo && k < hi {
			out = append(out, k+"="+m[k])
		}
	}
	return out
}

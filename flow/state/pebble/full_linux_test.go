package pebble_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/state/pebble"
)

// smallDisk mounts a file system of its own, so that it can be filled.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	path := t.TempDir()
	err := syscall.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d", bytes))
	require.NoError(t, err, "this test fills a small tmpfs, which only root may mount: run it as root or in a privileged container")
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(path, 0)) })
	return path
}

// fill takes all of a disk but about leave bytes.
func fill(t *testing.T, path string, leave int64) (file string) {
	t.Helper()
	var s syscall.Statfs_t
	require.NoError(t, syscall.Statfs(path, &s))
	file = filepath.Join(path, "ballast")
	f, err := os.Create(file)
	require.NoError(t, err)
	// The database may take some of it meanwhile.
	for size := int64(s.Bavail)*s.Bsize - leave; ; size -= 128 << 10 {
		err := syscall.Fallocate(int(f.Fd()), 0, 0, size)
		if err == nil {
			break
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
	require.NoError(t, f.Close())
	return file
}

func put(db state.DB, key string, size int) error {
	b := db.NewBatch()
	value := make([]byte, size)
	// What does not compress fills the disk.
	_, _ = rand.NewChaCha8([32]byte([]byte(key + "................................")[:32])).Read(value)
	b.Put([]byte(key), value)
	err := b.Commit()
	return errors.Join(err, b.Close())
}

func TestCommitKeepsAReserve(t *testing.T) {
	t.Parallel()
	path := smallDisk(t, 64<<20)
	db, err := dir(path, pebble.MinFree(8<<20), pebble.MemTable(1<<20)).Open("topology")
	require.NoError(t, err)
	require.NoError(t, put(db, "before", 100))
	ballast := fill(t, path, 4<<20)

	err = put(db, "refused", 100)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, filepath.Join(path, "topology"))
	require.ErrorContains(t, err, "make room")
	_, there, err := db.Get([]byte("refused"))
	require.NoError(t, err)
	require.False(t, there)

	require.NoError(t, os.Remove(ballast))
	require.NoError(t, put(db, "refused", 100), "the same store goes on")
	require.NoError(t, db.Close())
}

// TestDiskRunsFull has no reserve, so that the disk is full in the middle of Pebble's work, in the foreground or behind it.
func TestDiskRunsFull(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]int64{"at once": 0, "in the log": 200 << 10, "while tables are written": 6 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := smallDisk(t, 64<<20)
			s := dir(path, pebble.MinFree(0), pebble.MemTable(1<<20))
			db, err := s.Open("topology")
			require.NoError(t, err)
			for i := range 30 {
				require.NoError(t, put(db, fmt.Sprintf("before-%02d", i), 100<<10))
			}
			ballast := fill(t, path, leave)

			var full error
			committed := 0
			for ; full == nil && committed < 1000; committed++ {
				full = put(db, fmt.Sprintf("more-%04d", committed), 100<<10)
			}
			committed--
			require.ErrorIs(t, full, syscall.ENOSPC)
			require.ErrorContains(t, full, filepath.Join(path, "topology"))
			require.ErrorContains(t, full, "make room")
			require.ErrorIs(t, put(db, "later", 1), syscall.ENOSPC, "every later call returns the error")
			_, _, err = db.Get([]byte("before-00"))
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.ErrorIs(t, db.Scan(nil, nil, nil), syscall.ENOSPC)
			require.NoError(t, db.Close())

			require.NoError(t, os.Remove(ballast))
			db, err = s.Open("topology")
			require.NoError(t, err)
			before, more := 0, 0
			require.NoError(t, db.Scan(nil, nil, func(k, v []byte) error {
				require.Len(t, v, 100<<10)
				if k[0] == 'b' {
					before++
				} else {
					more++
				}
				return nil
			}))
			require.Equal(t, 30, before)
			require.GreaterOrEqual(t, more, committed)
			require.LessOrEqual(t, more, committed+1)
			require.NoError(t, put(db, "later", 1))
			require.NoError(t, db.Close())
		})
	}
}

func TestOpenOnAFullDisk(t *testing.T) {
	t.Parallel()
	path := smallDisk(t, 8<<20)
	ballast := fill(t, path, 4096)
	_, err := dir(path).Open("topology")
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, filepath.Join(path, "topology"))
	require.NoError(t, os.Remove(ballast))
	db, err := dir(path).Open("topology")
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

func BenchmarkCommit(b *testing.B) {
	for _, c := range []struct{ puts, size int }{{1, 100}, {16_000, 2048}} {
		b.Run(fmt.Sprintf("%dx%dB", c.puts, c.size), func(b *testing.B) {
			db, err := pebble.Dir(b.TempDir(), quiet()).Open("topology")
			require.NoError(b, err)
			value := make([]byte, c.size)
			for i := range value {
				value[i] = byte(i * 7)
			}
			for b.Loop() {
				batch := db.NewBatch()
				for i := range c.puts {
					batch.Put(fmt.Appendf(nil, "page-%06d", i), value)
				}
				require.NoError(b, batch.Commit())
				require.NoError(b, batch.Close())
			}
			b.StopTimer()
			require.NoError(b, db.Close())
		})
	}
}

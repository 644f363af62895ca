package pebble_test

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/flow/state/statetest"
)

// childDir is set in the processes that TestKill and TestLock start.
const childDir = "MILLRACE_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func quiet() pebble.Option { return pebble.Log(slog.New(slog.DiscardHandler)) }

func dir(path string, o ...pebble.Option) state.Store {
	return pebble.Dir(path, append([]pebble.Option{pebble.MinFree(1 << 20), quiet()}, o...)...)
}

func TestContract(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(t *testing.T) state.Store { return dir(filepath.Join(t.TempDir(), "a", "b")) })
}

func TestNamesThatAreNoDirectories(t *testing.T) {
	t.Parallel()
	s := dir(t.TempDir())
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "c:"} {
		_, err := s.Open(name)
		require.ErrorContains(t, err, "use letters", name)
	}
}

func TestUnusablePathSaysWhich(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := dir(file).Open("topology")
	require.ErrorContains(t, err, file)
	require.ErrorContains(t, err, "can be written")
}

func TestLockNamesThisProcess(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	db, err := dir(path).Open("topology")
	require.NoError(t, err)
	_, err = dir(path).Open("topology")
	require.ErrorIs(t, err, state.ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("this process (pid %d)", os.Getpid()))
	require.NoError(t, db.Close())
	text, err := os.ReadFile(filepath.Join(path, "topology.lock"))
	require.NoError(t, err)
	require.Empty(t, text, "nobody holds it")
}

func TestPidOfADeadProcessIsNoObstacle(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(path, "topology.lock"), []byte("4194304999\n"), 0o600))
	db, err := dir(path).Open("topology")
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

// child commits numbers for ever and tells each one when it is committed.
func child(path string) {
	db, err := dir(path).Open("topology")
	if err != nil {
		fmt.Println("error", err)
		return
	}
	for i := 1; ; i++ {
		b := db.NewBatch()
		b.Put([]byte("last"), strconv.AppendInt(nil, int64(i), 10))
		b.Put(fmt.Appendf(nil, "row-%08d", i), make([]byte, 1000))
		if err := b.Commit(); err != nil {
			fmt.Println("error", err)
			return
		}
		if err := b.Close(); err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println(i)
	}
}

// TestKill kills a process with SIGKILL again and again while it commits: what it has told to be committed must be there, whole, and
// while it lives its lock holds. It is not parallel: a process that starts holds for a moment what other tests have open, and
// keeps their disks busy.
func TestKill(t *testing.T) {
	path := t.TempDir()
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		told := 0
		read := func() bool {
			if !lines.Scan() {
				return false
			}
			n, err := strconv.Atoi(lines.Text())
			require.NoError(t, err, lines.Text())
			told = n
			return true
		}
		for range 20 + 7*round {
			require.True(t, read())
		}
		_, err = dir(path).Open("topology")
		require.ErrorIs(t, err, state.ErrLocked)
		require.ErrorContains(t, err, fmt.Sprintf("pid %d", cmd.Process.Pid))

		require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
		for read() {
		}
		require.Error(t, cmd.Wait())

		db, err := dir(path).Open("topology")
		require.NoError(t, err)
		v, _, err := db.Get([]byte("last"))
		require.NoError(t, err)
		last, err := strconv.Atoi(string(v))
		require.NoError(t, err)
		require.GreaterOrEqual(t, last, told)
		require.LessOrEqual(t, last, told+1, "only the batch under way may be there in addition")
		rows := 0
		require.NoError(t, db.Scan([]byte("row-"), nil, func(k, _ []byte) error {
			rows++
			require.Equal(t, rows, number(t, k))
			return nil
		}))
		require.Equal(t, last, rows, "a batch is there as a whole or not at all")
		b := db.NewBatch()
		b.DeleteRange([]byte("a"), []byte("z"))
		require.NoError(t, b.Commit())
		require.NoError(t, b.Close())
		require.NoError(t, db.Close())
	}
}

func number(t *testing.T, key []byte) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimPrefix(string(key), "row-"))
	require.NoError(t, err)
	return n
}

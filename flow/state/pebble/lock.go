package pebble

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/millrace-stream/millrace/flow/state"
)

// lock is a locked file that holds its owner's pid. The file stays when the lock is released: removing it could take it away from
// under the next owner.
type lock struct{ f *os.File }

func takeLock(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	held, err := tryLock(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	if held {
		return nil, errors.Join(heldBy(f), f.Close())
	}
	if err := writePid(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: write the pid: %w", path, err), f.Close())
	}
	return &lock{f}, nil
}

func heldBy(f *os.File) error {
	text, _ := io.ReadAll(io.LimitReader(f, 32))
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil:
		return fmt.Errorf("%w by another process, whose pid is not known yet: stop it, or give this topology another directory or name",
			state.ErrLocked)
	case pid == os.Getpid():
		return fmt.Errorf("%w by this process (pid %d): a topology of the same name runs already: stop it, or give this one another name",
			state.ErrLocked, pid)
	}
	return fmt.Errorf("%w by the process with pid %d: stop it, or give this topology another directory or name", state.ErrLocked, pid)
}

func writePid(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// release gives the lock up. Closing the file is what ends the lock; the pid goes first, so that it never names a process that
// does not hold it.
func (l *lock) release() error {
	// On a full disk this may fail, and the pid that remains is overwritten by the next owner.
	_ = l.f.Truncate(0)
	return l.f.Close()
}

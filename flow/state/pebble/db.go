package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace-stream/millrace/flow/state"
)

type db struct {
	dir   string
	cfg   config
	lock  *lock
	guard *guard
	p     *pebble.DB
	// written counts the bytes committed since the memtables were looked at.
	written uint64

	closing  sync.Once
	closeErr error
}

func (d *db) Get(key []byte) ([]byte, bool, error) {
	if err := d.guard.err(); err != nil {
		return nil, false, err
	}
	v, closer, err := d.p.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read state in %s: %w", d.dir, err)
	}
	out := append(make([]byte, 0, len(v)), v...)
	return out, true, closer.Close()
}

func (d *db) Scan(lo, hi []byte, f func(key, value []byte) error) error {
	if err := d.guard.err(); err != nil {
		return err
	}
	if len(lo) == 0 {
		lo = nil
	}
	if hi != nil && bytes.Compare(lo, hi) >= 0 {
		return nil
	}
	it, err := d.p.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return fmt.Errorf("read state in %s: %w", d.dir, err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = f(it.Key(), v)
		} else {
			err = fmt.Errorf("read state in %s: %w", d.dir, err)
		}
		if err != nil {
			// The error of Close repeats the iterator's.
			_ = it.Close()
			return err
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("read state in %s: %w", d.dir, err)
	}
	return nil
}

func (d *db) NewBatch() state.Batch { return &batch{d: d, b: d.p.NewBatch()} }

func (d *db) Close() error {
	d.closing.Do(func() {
		broken := d.guard.err()
		err := d.p.Close()
		if broken != nil {
			// It was reported where it mattered, and what Close says of it is a consequence. Pebble may have left files open.
			err = d.guard.closeFiles()
		} else if err != nil {
			err = fmt.Errorf("close state in %s: %w", d.dir, err)
		}
		d.closeErr = errors.Join(err, d.lock.release())
	})
	return d.closeErr
}

// room refuses a batch that the disk may not hold.
func (d *db) room(bytes uint64) error {
	if d.cfg.minFree == 0 {
		return nil
	}
	u, err := vfs.Default.GetDiskUsage(d.dir)
	if err != nil {
		return fmt.Errorf("commit state in %s: ask for the free space: %w", d.dir, err)
	}
	if need := bytes + d.cfg.minFree; u.AvailBytes < need {
		return fmt.Errorf("commit state in %s: %w: %d MiB are free and %d MiB needed (the batch and a reserve): "+
			"make room on that file system; nothing was written, the commit can be repeated",
			d.dir, syscall.ENOSPC, u.AvailBytes>>20, (need+1<<20-1)>>20)
	}
	return nil
}

// throttle waits while more than three memtables are not yet written as tables.
func (d *db) throttle(bytes uint64) error {
	if d.written += bytes; d.written < d.cfg.memTable/2 {
		return nil
	}
	d.written = 0
	for {
		flushed := d.guard.flushed()
		if d.p.Metrics().MemTable.Size <= 3*d.cfg.memTable+bytes {
			return nil
		}
		if err := d.guard.wait(flushed); err != nil {
			return err
		}
	}
}

type batch struct {
	d *db
	b *pebble.Batch
	// err is what went wrong before Commit.
	err    error
	closed bool
}

func (b *batch) Put(key, value []byte) { b.note(b.b.Set(key, value, nil)) }
func (b *batch) Delete(key []byte)     { b.note(b.b.Delete(key, nil)) }

func (b *batch) DeleteRange(lo, hi []byte) {
	if bytes.Compare(lo, hi) < 0 {
		b.note(b.b.DeleteRange(lo, hi, nil))
	}
}

func (b *batch) note(err error) {
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("state in %s: %w", b.d.dir, err)
	}
}

func (b *batch) Commit() error {
	d := b.d
	if b.err != nil {
		return b.err
	}
	b.err = fmt.Errorf("state in %s: the batch was committed already: make a new one", d.dir)
	if err := d.guard.err(); err != nil {
		return err
	}
	size := uint64(b.b.Len())
	if b.b.Empty() {
		return nil
	}
	if err := d.room(size); err != nil {
		return err
	}
	if err := d.throttle(size); err != nil {
		return err
	}
	if err := b.b.Commit(pebble.Sync); err != nil {
		d.guard.fail(err)
	}
	return d.guard.err()
}

func (b *batch) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	if b.d.guard.err() != nil {
		// Pebble may still hold a batch whose commit failed.
		return nil
	}
	return b.b.Close()
}

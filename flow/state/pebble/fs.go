package pebble

import (
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardedFS is the file system as Pebble sees it. The first change that fails breaks the guard, and from then on nothing changes
// any more.
//
// What is asked for then gets the error, but for the log and directory syncs, which pretend to succeed: Pebble panics, or
// leaves its commit pipeline unusable, when its log fails. It does no harm, since a commit asks the guard in the end, and since
// nothing that Pebble concludes from a log that was not written can reach the disk.
type guardedFS struct {
	vfs.FS
	g *guard
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// do runs a change. pretend is for what must not fail.
func (g *guard) do(pretend bool, change func() error) error {
	err := g.err()
	if err == nil {
		if err = change(); err == nil {
			return nil
		}
		g.fail(err)
	}
	if pretend {
		return nil
	}
	return err
}

func (f guardedFS) file(name string, open func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := f.g.do(isLog(name), func() (err error) {
		file, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	if file == nil {
		if file, err = vfs.NewMem().Create("log", vfs.WriteCategoryUnspecified); err != nil {
			return nil, err
		}
	}
	return f.g.wrap(file, isLog(name)), nil
}

func (f guardedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(name, func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f guardedFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return f.file(name, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, o...) })
}

func (f guardedFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(newname, func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, c) })
}

func (f guardedFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return f.g.wrap(file, true), nil
}

func (f guardedFS) Link(oldname, newname string) error {
	return f.g.do(false, func() error { return f.FS.Link(oldname, newname) })
}

// Remove may find nothing to remove, which is no failure.
func (f guardedFS) Remove(name string) error {
	if err := f.g.err(); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f guardedFS) RemoveAll(name string) error {
	if err := f.g.err(); err != nil {
		return err
	}
	return f.FS.RemoveAll(name)
}

func (f guardedFS) Rename(oldname, newname string) error {
	return f.g.do(false, func() error { return f.FS.Rename(oldname, newname) })
}

func (f guardedFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.g.do(false, func() error { return f.FS.MkdirAll(dir, perm) })
}

// Lock is not needed: the store has a lock of its own, in a file beside the directory.
func (f guardedFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (f guardedFS) Unwrap() vfs.FS { return f.FS }

type guardedFile struct {
	vfs.File
	g *guard
	// pretend is true for the log and for directories.
	pretend bool
}

func (g *guard) wrap(file vfs.File, pretend bool) vfs.File {
	f := &guardedFile{file, g, pretend}
	g.mu.Lock()
	g.files[f] = struct{}{}
	g.mu.Unlock()
	return f
}

func (f *guardedFile) Write(p []byte) (n int, err error) {
	err = f.g.do(f.pretend, func() error {
		n, err = f.File.Write(p)
		return err
	})
	if err == nil {
		n = len(p)
	}
	return n, err
}

func (f *guardedFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.g.do(f.pretend, func() error {
		n, err = f.File.WriteAt(p, at)
		return err
	})
	if err == nil {
		n = len(p)
	}
	return n, err
}

// Preallocate is only advice, and may fail on a disk that still takes the write.
func (f *guardedFile) Preallocate(offset, length int64) error {
	if f.g.err() == nil {
		_ = f.File.Preallocate(offset, length)
	}
	return nil
}

func (f *guardedFile) Sync() error     { return f.g.do(f.pretend, f.File.Sync) }
func (f *guardedFile) SyncData() error { return f.g.do(f.pretend, f.File.SyncData) }

func (f *guardedFile) SyncTo(length int64) (full bool, err error) {
	err = f.g.do(f.pretend, func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f *guardedFile) Close() error {
	f.g.mu.Lock()
	_, open := f.g.files[f]
	delete(f.g.files, f)
	f.g.mu.Unlock()
	if !open {
		return nil
	}
	err := f.File.Close()
	return f.g.do(f.pretend, func() error { return err })
}

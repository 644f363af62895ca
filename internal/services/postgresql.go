package services

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// findPostgreSQL also looks where Debian puts it, which is not on the path.
func findPostgreSQL() (string, error) {
	places, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	slices.Reverse(places) // the newest first
	return findTool(PostgreSQL, cure("postgresql"), "postgres", places...)
}

func fetchPostgreSQL(ctx context.Context, s *Set) error {
	return debian{PostgreSQL, []string{"postgresql"}, []string{"postgresql"}, findPostgreSQL}.install(ctx, s)
}

// configurePostgreSQL makes the data folder the first time.
func configurePostgreSQL(ctx context.Context, s *Set, dir string) ([]string, error) {
	bin, err := findPostgreSQL()
	if err != nil {
		return nil, err
	}
	if bin, err = filepath.EvalSymlinks(bin); err != nil { // its tools stand beside it
		return nil, err
	}
	data, done, password := filepath.Join(dir, "data"), filepath.Join(dir, "installed"), filepath.Join(dir, "password")
	if err := errors.Join(s.certify(PostgreSQL), writeFile(password, DatabasePassword+"\n")); err != nil {
		return nil, err
	}
	as, err := servant(password, s.Certificate(PostgreSQL), s.certificateKey(PostgreSQL))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(done); err != nil {
		if err := errors.Join(os.RemoveAll(data), os.Mkdir(data, 0o700)); err != nil {
			return nil, err
		}
		if as, err = servant(data, password); err != nil {
			return nil, err
		}
		initdb := append(slices.Clone(as), filepath.Join(filepath.Dir(bin), "initdb"), "-D", data, "-U", DatabaseUser, "-E", "UTF8",
			"--locale=C.UTF-8", "--auth=scram-sha-256", "--pwfile="+password, "--no-sync", "--no-instructions")
		create := append(slices.Clone(as), "/bin/sh", "-c", `echo "CREATE DATABASE $2" | "$0" --single -F -D "$1" postgres`, bin, data, DatabaseName)
		if err := run(ctx, dir, nil, initdb...); err != nil {
			return nil, err
		}
		if err := run(ctx, dir, nil, create...); err != nil {
			return nil, err
		}
		if err := writeFile(done, ""); err != nil {
			return nil, err
		}
	}
	// After a kill the workers end a moment later, and until then a new server refuses the data.
	if err := until(ctx, func() bool { return !anyoneIn(data) }); err != nil {
		return nil, fmt.Errorf("workers of the server before are still in %s: %w", data, err)
	}
	// The file of a killed server names a process id that a zombie or a stranger may have: a new server would take it for the old one.
	if err := os.RemoveAll(filepath.Join(data, "postmaster.pid")); err != nil {
		return nil, err
	}
	return append(as, bin, "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(s.port(basePortPostgreSQL)), "-k", "",
		"-c", "shared_buffers=32MB", "-c", "ssl=on",
		"-c", "ssl_cert_file="+s.Certificate(PostgreSQL), "-c", "ssl_key_file="+s.certificateKey(PostgreSQL)), nil
}

// servant returns the beginning of a command line that makes root the user postgres, since the server refuses to run as root, and gives
// that user the files. The capability lets it through the folders above, which may be root's alone.
func servant(files ...string) ([]string, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	setpriv, err := findTool(PostgreSQL, cure("util-linux"), "setpriv")
	if err != nil {
		return nil, err
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w; install it with: %s", err, cure("postgresql"))
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := os.Chown(f, uid, -1); err != nil {
			return nil, err
		}
	}
	return []string{
		setpriv, "--reuid=" + u.Uid, "--regid=" + u.Gid, "--clear-groups",
		"--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "--",
	}, nil
}

// anyoneIn tells whether a process has its working directory there.
func anyoneIn(dir string) bool {
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	return err == nil && slices.ContainsFunc(links, func(link string) bool {
		at, err := os.Readlink(link)
		return err == nil && at == dir
	})
}

// readyPostgreSQL begins to log in: a server that still recovers refuses that at once.
func readyPostgreSQL(ctx context.Context, s *Set) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.PostgreSQL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	const version = 3 << 16
	start := binary.BigEndian.AppendUint32(nil, version)
	start = append(start, "user\x00"+DatabaseUser+"\x00database\x00"+DatabaseName+"\x00\x00"...)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(start)+4)), start...)); err != nil {
		return err
	}
	var kind [1]byte
	if _, err := io.ReadFull(conn, kind[:]); err != nil {
		return err
	}
	if kind[0] != 'R' { // it asks for the password
		return fmt.Errorf("logging in gave %q", kind[0])
	}
	return nil
}

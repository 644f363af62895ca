package services

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// User, password and database of MariaDB and PostgreSQL.
const (
	DatabaseUser     = "millrace"
	DatabasePassword = "mill-race"
	DatabaseName     = "millrace"
)

func findMariaDB() (string, error) {
	return findTool(MariaDB, cure("mariadb-server"), "mariadbd", "/usr/sbin/mariadbd")
}

func fetchMariaDB(ctx context.Context, s *Set) error {
	return debian{MariaDB, []string{"mariadb-server"}, []string{"mariadb"}, findMariaDB}.install(ctx, s)
}

// configureMariaDB makes the data folder the first time.
func configureMariaDB(ctx context.Context, s *Set, dir string) ([]string, error) {
	bin, err := findMariaDB()
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	data, done := filepath.Join(dir, "data"), filepath.Join(dir, "installed")
	if _, err := os.Stat(done); err != nil {
		template, err := s.mariaDBData(ctx, bin, me.Username)
		if err != nil {
			return nil, err
		}
		if err := os.RemoveAll(data); err != nil {
			return nil, err
		}
		if err := os.CopyFS(data, os.DirFS(template)); err != nil {
			return nil, err
		}
		if err := writeFile(done, ""); err != nil {
			return nil, err
		}
	}
	init := filepath.Join(dir, "init.sql")
	err = errors.Join(s.certify(MariaDB), writeFile(init, fmt.Sprintf("CREATE DATABASE IF NOT EXISTS %s;\n"+
		"CREATE USER IF NOT EXISTS '%s'@'127.0.0.1' IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO '%s'@'127.0.0.1';\n",
		DatabaseName, DatabaseUser, DatabasePassword, DatabaseUser)))
	return []string{
		bin, "--no-defaults", "--user=" + me.Username, "--datadir=" + data, "--init-file=" + init,
		"--bind-address=127.0.0.1", "--port=" + strconv.Itoa(s.port(basePortMariaDB)),
		"--socket=mariadb.sock", "--pid-file=mariadb.pid", // relative to the data folder: a socket's path must be short
		"--skip-name-resolve", "--skip-log-bin", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--performance-schema=OFF",
		"--ssl-cert=" + s.Certificate(MariaDB), "--ssl-key=" + s.certificateKey(MariaDB),
	}, err
}

// mariaDBData makes an empty data folder once for all sets: that takes a thousand syncs, which no option spares.
func (s *Set) mariaDBData(ctx context.Context, bin, as string) (dir string, err error) {
	info, err := os.Stat(bin)
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("mariadb-data-%x-%x", info.Size(), info.ModTime().Unix()) // another version has its own
	return s.cache(name), s.fetched(ctx, "mariadb", name, func(dir string) error {
		install, err := findTool(MariaDB, cure("mariadb-server"), "mariadb-install-db")
		if err != nil {
			return err
		}
		return run(ctx, dir, nil, install, "--no-defaults", "--datadir="+dir, "--user="+as,
			"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--innodb-flush-method=nosync")
	})
}

// readyMariaDB waits for the server's greeting, which it sends once it has read the init file.
func readyMariaDB(ctx context.Context, s *Set) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.MariaDB())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	var head [5]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	if head[4] != 10 { // the protocol's version
		return fmt.Errorf("the greeting begins with %v", head)
	}
	return nil
}

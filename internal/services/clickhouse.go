package services

import (
	"context"
	_ "embed" // for the configuration
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

//go:embed clickhouse/config.xml
var clickHouseConfig string

//go:embed clickhouse/users.xml
var clickHouseUsers string

const (
	chdbVersion = "26.7.3-stable.1"
	chdbPackage = "@chdb/lib-linux-x64-gnu"
	chdbFolder  = "chdb-" + chdbVersion
)

// fetchClickHouse provides libchdb, which carries the server, and builds the program that runs it.
func fetchClickHouse(ctx context.Context, s *Set) error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("services: %s runs on linux/amd64 only; elsewhere use compose.yaml", ClickHouse)
	}
	err := s.fetched(ctx, "npm", chdbFolder, func(dir string) error {
		npm, err := findTool(ClickHouse, "apt-get install -y --no-install-recommends npm", "npm")
		if err != nil {
			return err
		}
		err = run(ctx, dir, nil, npm, "install", "--prefix", dir, "--no-save", "--no-package-lock", "--ignore-scripts",
			"--no-audit", "--no-fund", chdbPackage+"@"+chdbVersion)
		if err != nil {
			return err
		}
		modules := filepath.Join(dir, "node_modules")
		lib := filepath.Join(modules, filepath.FromSlash(chdbPackage), "libchdb.so")
		return errors.Join(os.Rename(lib, filepath.Join(dir, "libchdb.so")), os.RemoveAll(modules))
	})
	if err != nil {
		return named(ClickHouse, err)
	}
	return named(ClickHouse, s.buildServer(ctx))
}

// buildServer builds chserver each time, which the build cache makes cheap. A running one keeps its old file.
func (s *Set) buildServer(ctx context.Context) error {
	goTool, err := findTool(ClickHouse, "see go.dev/doc/install", "go")
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, s.cache("go.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	tmp := s.cache("chserver.tmp")
	err = run(ctx, s.opts.Root, []string{"CGO_ENABLED=0"}, goTool, "build", "-trimpath", "-o", tmp, "./internal/services/chserver")
	if err != nil {
		return err
	}
	return os.Rename(tmp, s.cache("chserver"))
}

func configureClickHouse(_ context.Context, s *Set, dir string) ([]string, error) {
	conf := filepath.Join(dir, "conf")
	err := errors.Join(
		writeFile(filepath.Join(conf, "config.xml"), clickHouseConfig),
		writeFile(filepath.Join(conf, "users.xml"), clickHouseUsers),
		s.mergeClickHouseConfig(filepath.Join(conf, "config.d")),
	)
	return []string{
		s.cache("chserver"),
		"-lib", filepath.Join(s.cache(chdbFolder), "libchdb.so"),
		"-http", strconv.Itoa(s.port(basePortHTTP)),
		"-tcp", strconv.Itoa(s.port(basePortNative)),
		"-path", filepath.Join(dir, "data"),
		"-config", filepath.Join(conf, "config.xml"),
	}, err
}

// mergeClickHouseConfig puts the file of the options where the server merges it, or takes an old one away.
func (s *Set) mergeClickHouseConfig(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	file := s.opts.ClickHouseConfig
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clickhouse configuration: %w", err)
	}
	return errors.Join(err, writeFile(filepath.Join(dir, "options"+filepath.Ext(file)), string(text)))
}

func readyClickHouse(ctx context.Context, s *Set) error {
	answer, err := s.Query(ctx, "SELECT 1")
	if err != nil {
		return err
	}
	if answer != "1\n" {
		return fmt.Errorf("SELECT 1 gave %q", answer)
	}
	return s.dial(ctx, basePortNative)
}

// Query runs a statement over ClickHouse's HTTP interface as the user default and returns the answer's text. It is for
// ready checks, table set-up and counting in tests.
func (s *Set) Query(ctx context.Context, sql string) (string, error) {
	u := url.URL{Scheme: "http", Host: s.ClickHouseHTTP(), Path: "/"}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(sql))
	if err != nil {
		return "", err
	}
	// A connection of its own: an idle one would be left behind as a goroutine.
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("clickhouse: %s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return string(body), nil
}

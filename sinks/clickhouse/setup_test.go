package clickhouse

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bothProtocols runs a test over native and HTTP against the shared server.
func bothProtocols(t *testing.T, test func(t *testing.T, s *server)) {
	t.Helper()
	set := services.Need(t, services.ClickHouse)
	for _, p := range []Protocol{Native, HTTP} {
		t.Run(string(p), func(t *testing.T) { test(t, newServer(t, set, p)) })
	}
}

// server is a ClickHouse with a database of the test's own.
type server struct {
	set  *services.Set
	cfg  Config
	conn *Conn
}

var notName = regexp.MustCompile(`\W+`)

func newServer(t *testing.T, set *services.Set, p Protocol) *server {
	t.Helper()
	cfg := Config{Addr: []string{set.ClickHouseNative()}, Protocol: p, Database: strings.ToLower(notName.ReplaceAllString(t.Name(), "_"))}
	if p == HTTP {
		cfg.Addr = []string{set.ClickHouseHTTP()}
	}
	for _, sql := range []string{"DROP DATABASE IF EXISTS " + cfg.Database, "CREATE DATABASE " + cfg.Database} {
		_, err := set.Query(t.Context(), sql)
		require.NoError(t, err)
	}
	s := &server{set: set, cfg: cfg, conn: New(cfg)}
	t.Cleanup(func() {
		require.NoError(t, s.conn.Close())
		_, _ = set.Query(context.Background(), "DROP DATABASE IF EXISTS "+cfg.Database)
	})
	return s
}

func (s *server) exec(t *testing.T, sql string) {
	t.Helper()
	require.NoError(t, s.conn.Exec(t.Context(), sql))
}

// rows reads a query's answer as text, columns split by a space.
func (s *server) rows(t *testing.T, sql string) []string {
	t.Helper()
	text, err := s.set.Query(t.Context(), strings.ReplaceAll(sql, "@", s.cfg.Database+"."))
	require.NoError(t, err)
	text = strings.TrimSuffix(text, "\n")
	if text == "" {
		return nil
	}
	return strings.Split(strings.ReplaceAll(text, "\t", " "), "\n")
}

func (s *server) one(t *testing.T, sql string) string {
	t.Helper()
	rows := s.rows(t, sql)
	require.Len(t, rows, 1)
	return rows[0]
}

// engine stands for the engine that drives a sink.
type engine struct {
	mu     sync.Mutex
	counts map[string]int64
	epochs int
	log    bytes.Buffer
}

func (e *engine) runtime() flow.SinkRuntime {
	e.counts = map[string]int64{}
	return flow.SinkRuntime{
		Topology: "test", Node: "clickhouse", Clock: flow.SystemClock(),
		Log:     slog.New(slog.NewTextHandler(e, nil)),
		StoreID: "store", Incarnation: 1,
		RequestEpoch: func() { e.mu.Lock(); e.epochs++; e.mu.Unlock() },
		Count:        func(name string, n int64) { e.mu.Lock(); e.counts[name] += n; e.mu.Unlock() },
	}
}

func (e *engine) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log.Write(p)
}

func (e *engine) count(name string) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts[name]
}

func open[T any](t *testing.T, s flow.Sink[T]) *engine {
	t.Helper()
	e := &engine{}
	rt := e.runtime()
	rt.StoreID = rand.Text()
	require.NoError(t, s.Open(t.Context(), rt))
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return e
}

func records[T any](rows ...T) []flow.Record[T] {
	out := make([]flow.Record[T], len(rows))
	for i, r := range rows {
		out[i] = flow.Record[T]{Value: r, Time: flow.Timestamp(i)}
	}
	return out
}

// seal writes rows through a new writer.
func seal[T any](t *testing.T, s flow.Sink[T], rows ...T) []flow.Block {
	t.Helper()
	w, err := s.Writer(t.Context(), flow.TaskInfo{Generation: 1})
	require.NoError(t, err)
	require.NoError(t, w.Write(t.Context(), records(rows...)))
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	return blocks
}

// deliver delivers blocks as the engine does, again after transient errors, and gives the rejects.
func deliver[T any](t *testing.T, s flow.Sink[T], blocks []flow.Block) []flow.Reject {
	t.Helper()
	rejects, err := s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	return rejects
}

type reading struct {
	Device string         `ch:"device"`
	At     flow.Timestamp `ch:"at"`
	Value  float64        `ch:"value"`
	Seq    uint64         `ch:"seq"`
}

func readings(from, to int) []reading {
	var out []reading
	for i := from; i < to; i++ {
		out = append(out, reading{fmt.Sprintf("dev-%03d", i%100), flow.Millis(1_700_000_000_000 + int64(i)), float64(i) / 2, uint64(i)})
	}
	return out
}

func scanAll(t *testing.T, c *Conn, sql string, into func(driver.Rows) error) {
	t.Helper()
	require.NoError(t, c.Query(t.Context(), sql, into))
}

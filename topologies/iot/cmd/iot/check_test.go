package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/topologies/iot"
	"github.com/millrace-stream/millrace/topologies/iot/internal/ledger"
)

// setup makes the tables in a database of the test's own, and a ledger.
func setup(t *testing.T) (environ []string, exec func(sql string)) {
	set := services.Need(t, services.ClickHouse)
	book := filepath.Join(t.TempDir(), "ledger.jsonl")
	environ = []string{
		"MILLRACE_IOT_CLICKHOUSE_ADDR=" + set.ClickHouseNative(), fmt.Sprintf("MILLRACE_IOT_CLICKHOUSE_DATABASE=iot_check_%d", os.Getpid()),
		"MILLRACE_IOT_SIMULATE_LEDGER=" + book,
	}
	cfg, err := iot.LoadConfig("", environ)
	require.NoError(t, err)
	code, _, stderr := iotCommand(t, environ, "tables")
	require.Equal(t, exitOK, code, stderr)
	t.Cleanup(func() { require.NoError(t, iot.DropTables(context.Background(), cfg.ClickHouse)) })
	ch := iot.Connect(cfg.ClickHouse)
	t.Cleanup(func() { require.NoError(t, ch.Close()) })

	w, err := ledger.Create(book, 1)
	require.NoError(t, err)
	w.Count("dev-1", iot.SiteName(0), 60_000, 2000, time.Now())
	w.Late("dev-1", 7)
	w.BadClock("dev-2", 8)
	w.Invalid("dev-3", 9)
	w.Malformed([]byte("\xff\x00'"))
	require.NoError(t, w.Close(0))
	return environ, func(sql string) { require.NoError(t, ch.Exec(context.Background(), sql)) }
}

func TestCheck(t *testing.T) {
	t.Parallel()
	environ, exec := setup(t)
	code, out, stderr := iotCommand(t, environ, "check")
	require.Equal(t, exitFailed, code, stderr)
	require.Contains(t, out, "minute rows: dev-1 1970-01-01 00:01: missing: count 1\n")
	require.Contains(t, out, `dead letters: "\xff\x00'": missing`)
	require.Contains(t, out, "\n5 differences\n")

	exec("INSERT INTO device_minute (device, minute, site, region, count, avg, min, max, version) VALUES ('dev-1', 60, 'site-000', 'north', 2, 1, 1, 1, 1), ('dev-1', 60, 'site-000', 'north', 1, 20, 20, 20, 2)")
	exec("INSERT INTO late (device, seq, at) VALUES ('dev-1', 7, 0), ('dev-1', 7, 0)")
	exec("INSERT INTO bad_clock (device, seq, at) VALUES ('dev-2', 8, 0)")
	exec("INSERT INTO invalid (device, seq, at) VALUES ('dev-3', 9, 0)")
	exec(`INSERT INTO dead_letters (at, raw) VALUES (0, '\xff\0\''), (1, '\xff\0\'')`)
	code, out, stderr = iotCommand(t, environ, "check")
	require.Equal(t, exitOK, code, "%s%s", out, stderr)
	require.Regexp(t, `\nexact\n$`, out)
}

// On a server of its own: the engine that carries the test server ends after it has refused a native login, as ClickHouse does not.
func TestRefusedByClickHouse(t *testing.T) {
	t.Parallel()
	set := services.Isolated(t, services.Options{}, services.ClickHouse)
	code, _, stderr := iotCommand(t, []string{"MILLRACE_IOT_CLICKHOUSE_ADDR=" + set.ClickHouseNative(), "MILLRACE_IOT_CLICKHOUSE_USERNAME=nobody"}, "tables")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "server error 516")
	require.Contains(t, stderr, "check clickhouse.username and clickhouse.password")
}

func TestGraph(t *testing.T) {
	t.Parallel()
	for name, node := range map[string]string{"all": "per-minute/window", "ingest": "rocketmq", "data": "per-minute/dedup"} {
		code, out, stderr := iotCommand(t, nil, "graph", "-box", name)
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, out, "flowchart LR")
		require.Contains(t, out, node)
	}
	code, _, stderr := iotCommand(t, nil, "graph", "-box", "x")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, `-box "x" is not one of all, ingest, data`)
}

func TestTablesPrint(t *testing.T) {
	t.Parallel()
	code, out, _ := iotCommand(t, nil, "tables", "-print")
	require.Equal(t, exitOK, code)
	require.Contains(t, out, "CREATE TABLE IF NOT EXISTS `device_minute`")
}

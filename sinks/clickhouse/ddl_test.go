package clickhouse

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

type minute struct {
	Device string         `ch:"device,LowCardinality(String)"`
	Start  flow.Timestamp `ch:"start,DateTime64(3, 'UTC') CODEC(Delta, ZSTD)"`
	Avg    float64        `ch:"avg"`
	Max    *float64       `ch:"max"`
	Count  int64          `ch:"count"`
}

const minuteDDL = "CREATE TABLE IF NOT EXISTS `%s`\n" +
	"(\n" +
	"    `device` LowCardinality(String),\n" +
	"    `start` DateTime64(3, 'UTC') CODEC(Delta, ZSTD),\n" +
	"    `avg` Float64,\n" +
	"    `max` Nullable(Float64),\n" +
	"    `count` Int64,\n" +
	"    `version` UInt64\n" +
	")\n" +
	"ENGINE = ReplacingMergeTree(version)\n" +
	"PARTITION BY toYYYYMM(start)\n" +
	"ORDER BY (device, start)\n" +
	"TTL toDateTime(start) + INTERVAL 30 DAY\n" +
	"SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1"

func minuteTable() []TableOption {
	return []TableOption{
		Replacing("version"), PartitionBy("toYYYYMM(start)"), OrderBy("device", "start"), TTL("toDateTime(start) + INTERVAL 30 DAY"),
		DedupWindow(1000), TableSetting("ttl_only_drop_parts", "1"),
	}
}

func TestDDL(t *testing.T) {
	sql, err := DDL[minute]("device_minute", minuteTable()...)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf(minuteDDL, "device_minute"), sql)

	sql, err = DDL[struct {
		A int `ch:"a-b"`
	}]("db.plain", OrderBy("a-b"))
	require.NoError(t, err)
	require.Equal(t, "CREATE TABLE IF NOT EXISTS `db`.`plain`\n(\n    `a-b` Int64\n)\nENGINE = MergeTree\nORDER BY (`a-b`)", sql)

	sql, err = DDL[int]("t", TableColumns(Int64("n", func(n *int) int64 { return int64(*n) })), Engine("Memory"))
	require.NoError(t, err)
	require.Equal(t, "CREATE TABLE IF NOT EXISTS `t`\n(\n    `n` Int64\n)\nENGINE = Memory", sql)

	_, err = DDL[minute]("t", Replacing("version"))
	require.ErrorContains(t, err, "name the columns that identify a row")
	_, err = DDL[int]("t")
	require.ErrorContains(t, err, "is not a struct")
}

func TestCreateTableOnTheServer(t *testing.T) {
	bothProtocols(t, func(t *testing.T, s *server) {
		for range 2 { // a table that exists is left alone
			require.NoError(t, CreateTable[minute](t.Context(), s.conn, "device_minute", minuteTable()...))
		}
		k := Rows[minute](s.conn, "device_minute", Version("version"))
		e := open(t, k)
		now := flow.TimestampOf(time.Now())
		deliver(t, k, seal(t, k, minute{Device: "a", Start: now, Count: 1}, minute{Device: "a", Start: now, Count: 2}))
		require.Equal(t, "a 2", s.one(t, "SELECT device, count FROM @device_minute FINAL"))
		require.Empty(t, e.log.String())
	})
}

func TestSecretIsNeverPrinted(t *testing.T) {
	cfg := Config{Password: "hunter2"}
	asJSON, err := json.Marshal(cfg)
	require.NoError(t, err)
	asYAML, err := yaml.Marshal(cfg)
	require.NoError(t, err)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("config", "cfg", cfg, "password", cfg.Password)
	for _, text := range []string{fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), string(asJSON), string(asYAML), log.String()} {
		require.NotContains(t, text, "hunter2")
		require.Contains(t, text, "redacted")
	}
	var read Config
	require.NoError(t, yaml.Unmarshal([]byte("password: hunter2\ndial_timeout: 3s\naddr: [a:1]\ntls: {enabled: true}\n"), &read))
	require.Equal(t, Config{Password: "hunter2", DialTimeout: 3 * time.Second, Addr: []string{"a:1"}, TLS: TLS{Enabled: true}}, read)
}

func TestConfigIsChecked(t *testing.T) {
	require.NoError(t, Config{}.Validate())
	err := Config{
		Addr: []string{"nowhere"}, Protocol: "grpc", Compression: "gz", DialTimeout: -1, MaxInFlight: -1,
		Settings: map[string]string{"async_insert": "1"}, TLS: TLS{CertFile: "x"},
	}.Validate()
	for _, want := range []string{`addr "nowhere"`, `protocol "grpc": use native or http`, `compression "gz"`, "dial_timeout", "max_in_flight -1", `setting "async_insert" belongs to the sink`, "cert_file and key_file both"} {
		require.ErrorContains(t, err, want)
	}
	c := New(Config{Protocol: "grpc"})
	require.ErrorContains(t, c.Exec(t.Context(), "SELECT 1"), "grpc")
	require.ErrorContains(t, New(Config{TLS: TLS{Enabled: true, CAFile: "/none"}}).Exec(t.Context(), ""), "ca_file")
	require.NoError(t, c.Close())
	c = New(Config{})
	require.NoError(t, c.Close())
	require.ErrorIs(t, c.Exec(t.Context(), "SELECT 1"), errClosed)
}

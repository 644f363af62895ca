package clickhouse

import (
	"fmt"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
	"github.com/millrace-stream/millrace/sources/gen"
)

func TestTheProgramWrites(t *testing.T) {
	set := services.Need(t, services.ClickHouse)
	database := fmt.Sprintf("snippet_%x", time.Now().UnixNano())
	admin := clickhouse.New(clickhouse.Config{Addr: []string{set.ClickHouseNative()}})
	require.NoError(t, admin.Exec(t.Context(), "CREATE DATABASE "+database))
	ch := clickhouse.New(clickhouse.Config{Addr: []string{set.ClickHouseNative()}, Database: database})
	require.NoError(t, createTables(t.Context(), ch))
	minute := flow.TimestampOf(time.Now().Truncate(time.Minute)) // older rows than the table's TTL vanish
	top := flow.New("snippet")
	write(ch, flow.From(top, "stats", gen.Slice(Stat{"dev-1", minute, 43, 2}, Stat{"dev-2", minute, 20, 1})))
	require.NoError(t, top.Run(t.Context()))
	rows := 0
	require.NoError(t, ch.Query(t.Context(), "SELECT device FROM device_minute FINAL", func(driver.Rows) error { rows++; return nil }))
	require.Equal(t, 2, rows)
	require.NoError(t, ch.Close())
	require.NoError(t, admin.Exec(t.Context(), "DROP DATABASE "+database))
	require.NoError(t, admin.Close())
}

package connectors

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
	"github.com/millrace-stream/millrace/sources/gen"
)

// The load of the ClickHouse benchmarks: 500,000 rows of 10,000 devices, 50,000 an insert, LZ4, native.
const (
	clickhouseRows   = 500_000
	clickhouseInsert = 50_000
)

type clickhouseRow struct {
	Device string         `ch:"device"`
	At     flow.Timestamp `ch:"at"`
	Value  float64        `ch:"value"`
	Seq    uint64         `ch:"seq"`
}

var clickhouseDevices = func() []string {
	all := make([]string, 10_000)
	for i := range all {
		all[i] = fmt.Sprintf("dev-%07d", i)
	}
	return all
}()

// clickhouseRowOf is row i.
func clickhouseRowOf(i int64) clickhouseRow {
	z := (uint64(i) + 1) * 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z ^= z >> 27
	return clickhouseRow{
		Device: clickhouseDevices[z%10_000], At: flow.Timestamp(1_699_999_980_000+i) * 1_000_000, Value: 20 + float64(z&0xFFFF)*(80.0/65536), Seq: uint64(i),
	}
}

func sameRow(r clickhouseRow) clickhouseRow { return r }

// BenchmarkClickHouseSink inserts 500,000 rows: by a bare loop over ch-go, which fills columns and sends them, and by a topology of a
// source in memory and the sink, its start and last epoch included; with one insert at a time and with two. Two need room: an epoch's
// inserts have to be several, while the next epoch's rows gather.
func BenchmarkClickHouseSink(b *testing.B) {
	for inFlight, pending := range map[int]int64{1: flow.DefaultMaxPending, 2: 2 * flow.DefaultMaxPending} {
		b.Run(fmt.Sprintf("in-flight=%d", inFlight), func(b *testing.B) { clickhouseSink(b, inFlight, pending) })
	}
}

func clickhouseSink(b *testing.B, inFlight int, pending int64) {
	set := services.Need(b, services.ClickHouse)
	conn := clickhouse.New(clickhouse.Config{Addr: []string{set.ClickHouseNative()}, MaxInFlight: inFlight})
	defer func() { require.NoError(b, conn.Close()) }()
	table := fmt.Sprintf("bench_%x", time.Now().UnixNano())
	create := "CREATE TABLE " + table + " (device String, at DateTime64(3, 'UTC'), value Float64, seq UInt64) ENGINE = MergeTree ORDER BY (device, at)"
	require.NoError(b, conn.Exec(b.Context(), create))
	defer func() { require.NoError(b, conn.Exec(context.Background(), "DROP TABLE "+table)) }()
	b.ResetTimer()
	var bare, ours time.Duration
	for b.Loop() {
		began := time.Now()
		clickhouseInserts(b, set.ClickHouseNative(), table, inFlight)
		bare += time.Since(began)
		began = time.Now()
		t := flow.New("insert", flow.WithLogger(slog.New(slog.DiscardHandler)), flow.WithMaxPending(pending))
		in := flow.From(t, "in", gen.Source(clickhouseRowOf, gen.Count(clickhouseRows)))
		flow.To(in, "out", clickhouse.Sink(conn, table, sameRow, clickhouse.MaxRows(clickhouseInsert)))
		require.NoError(b, t.Run(b.Context()))
		ours += time.Since(began)
	}
	report(b, clickhouseRows, bare, ours)
	var rows uint64
	require.NoError(b, conn.Query(b.Context(), "SELECT count() FROM "+table, func(r driver.Rows) error { return r.Scan(&rows) }))
	require.Equal(b, uint64(2*b.N*clickhouseRows), rows)
}

// clickhouseInserts is the bare loop: connections beside each other, each of which fills its columns and inserts them again and again.
func clickhouseInserts(b *testing.B, addr, table string, inFlight int) {
	var all errgroup.Group
	for part := range inFlight {
		all.Go(func() error {
			c, err := ch.Dial(b.Context(), ch.Options{Address: addr, Compression: ch.CompressionLZ4})
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			var device proto.ColStr
			at := new(proto.ColDateTime64).WithPrecision(proto.PrecisionMilli)
			var value proto.ColFloat64
			var seq proto.ColUInt64
			input := proto.Input{{Name: "device", Data: &device}, {Name: "at", Data: at}, {Name: "value", Data: &value}, {Name: "seq", Data: &seq}}
			for from := int64(part) * clickhouseInsert; from < clickhouseRows; from += int64(inFlight) * clickhouseInsert {
				input.Reset()
				for i := from; i < from+clickhouseInsert; i++ {
					r := clickhouseRowOf(i)
					device.Append(r.Device)
					at.AppendRaw(proto.DateTime64(r.At / 1_000_000))
					value.Append(r.Value)
					seq.Append(r.Seq)
				}
				q := ch.Query{Body: "INSERT INTO " + table + " (device, at, value, seq) VALUES", Input: input, Settings: []ch.Setting{{Key: "async_insert", Value: "0"}}}
				if err := c.Do(b.Context(), q); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(b, all.Wait())
}

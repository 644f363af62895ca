// Package clickhouse has the code of docs/connectors/clickhouse.md.
package clickhouse

import (
	"context"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
)

// [row]

// Minute is a row of device_minute.
type Minute struct {
	Device string         `ch:"device,LowCardinality(String)"`
	Start  flow.Timestamp `ch:"start"`
	Avg    float64        `ch:"avg"`
}

// [stat]

// Stat is what a window of a device comes to.
type Stat struct {
	Device string
	Start  flow.Timestamp
	Sum    float64
	Count  int64
}

// [sink]
func write(ch *clickhouse.Conn, s flow.Stream[Stat]) {
	flow.To(s, "clickhouse", clickhouse.Sink(ch, "device_minute", toRow,
		clickhouse.Version("version"), clickhouse.MaxRows(100_000)))
	flow.To(s.Topology().DeadLetters(), "dead-letters", clickhouse.DeadLetters(ch, "dead_letter"))
}

func toRow(s Stat) Minute {
	return Minute{Device: s.Device, Start: s.Start, Avg: s.Sum / float64(s.Count)}
}

// [table]
func createTables(ctx context.Context, ch *clickhouse.Conn) error {
	err := clickhouse.CreateTable[Minute](ctx, ch, "device_minute",
		clickhouse.Replacing("version"), clickhouse.OrderBy("device", "start"),
		clickhouse.PartitionBy("toYYYYMM(start)"), clickhouse.TTL("toDateTime(start) + INTERVAL 1 YEAR"))
	if err != nil {
		return err
	}
	return clickhouse.CreateTable[clickhouse.DeadLetterRow](ctx, ch, "dead_letter", clickhouse.OrderBy("at"))
}

// [end]

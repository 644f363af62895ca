package clickhouse_test

import (
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
)

type minuteRow struct {
	Device string         `ch:"device,LowCardinality(String)"`
	Start  flow.Timestamp `ch:"start"`
	Avg    float64        `ch:"avg"`
}

func ExampleDDL() {
	sql, err := clickhouse.DDL[minuteRow]("device_minute", clickhouse.Replacing("version"), clickhouse.OrderBy("device", "start"))
	if err != nil {
		panic(err)
	}
	fmt.Println(sql)
	// Output:
	// CREATE TABLE IF NOT EXISTS `device_minute`
	// (
	//     `device` LowCardinality(String),
	//     `start` DateTime64(3, 'UTC'),
	//     `avg` Float64,
	//     `version` UInt64
	// )
	// ENGINE = ReplacingMergeTree(version)
	// ORDER BY (device, start)
}

type result struct {
	Key   string
	Start flow.Timestamp
	Value float64
}

func toRow(r result) minuteRow { return minuteRow{Device: r.Key, Start: r.Start, Avg: r.Value} }

func ExampleSink() {
	ch := clickhouse.New(clickhouse.Config{Addr: []string{"127.0.0.1:9000"}})
	defer func() { _ = ch.Close() }()
	sink := clickhouse.Sink(ch, "device_minute", toRow, clickhouse.Version("version"))
	fmt.Printf("%T\n", sink != nil) // flow.To(perMinute, "clickhouse", sink)
	// Output: bool
}

func ExampleColumns() {
	ch := clickhouse.New(clickhouse.Config{Protocol: clickhouse.HTTP})
	defer func() { _ = ch.Close() }()
	sink := clickhouse.Rows[result](ch, "device_minute", clickhouse.Columns(
		clickhouse.String("device", func(r *result) string { return r.Key }),
		clickhouse.Timestamp("start", func(r *result) flow.Timestamp { return r.Start }),
		clickhouse.Float64("avg", func(r *result) float64 { return r.Value }),
	))
	fmt.Printf("%T\n", sink != nil)
	// Output: bool
}

// Command perminute is the program of the README: readings from MQTT, per-minute statistics of each device into ClickHouse.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

// Reading is what devices send, as JSON.
type Reading struct {
	Device  string    `json:"device"`
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Celsius float64   `json:"celsius"`
}

// Stats is what a minute of a device comes to.
type Stats struct {
	Count    int64
	Avg, Max float64
}

// Row is a row of the table device_minute.
type Row struct {
	Device string    `ch:"device"`
	Minute time.Time `ch:"minute"`
	Count  int64     `ch:"count"`
	Avg    float64   `ch:"avg"`
	Max    float64   `ch:"max"`
}

func device(r Reading) string   { return r.Device }
func seq(r Reading) int64       { return r.Seq }
func celsius(r Reading) float64 { return r.Celsius }
func at(r Reading) time.Time    { return r.At }
func plausible(r Reading) bool  { return r.Celsius > -80 && r.Celsius < 200 }
func count(s *Stats) *int64     { return &s.Count }
func avg(s *Stats) *float64     { return &s.Avg }
func highest(s *Stats) *float64 { return &s.Max }

func toRow(r window.Result[string, Stats]) Row {
	return Row{r.Key, r.Start.Time(), r.Value.Count, r.Value.Avg, r.Value.Max}
}

// [topology]
func perMinute(broker mqtt.Config, ch *clickhouse.Conn) *flow.Topology {
	t := flow.New("device-minutes", flow.WithStore(pebble.Dir("state")))
	raw := flow.From(t, "mqtt", mqtt.Source(broker, codec.JSON[Reading]()))
	timed := flow.AssignTime(raw, "event-time", at, watermark.BoundedOutOfOrderness(10*time.Second))
	valid := operators.Filter(timed, "plausible", plausible)
	fresh := operators.Dedup(flow.KeyBy(valid, device), "dedup", seq, 10*time.Minute)
	minutes := operators.Window(fresh, "per-minute", window.Tumbling(time.Minute), agg.Into(
		agg.To(count, agg.Count(celsius)),
		agg.To(avg, agg.Avg(celsius)),
		agg.To(highest, agg.Max(celsius)),
	), window.AllowedLateness(10*time.Second))
	flow.To(minutes, "clickhouse", clickhouse.Sink(ch, "device_minute", toRow, clickhouse.Version("version")))
	flow.To(t.DeadLetters(), "dead-letters", clickhouse.DeadLetters(ch, "dead_letters"))
	return t
}

// [main]
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ch := clickhouse.New(clickhouse.Config{Addr: []string{"127.0.0.1:19000"}})
	if err := errors.Join(
		clickhouse.CreateTable[Row](ctx, ch, "device_minute", clickhouse.Replacing("version"), clickhouse.OrderBy("device", "minute")),
		clickhouse.CreateTable[clickhouse.DeadLetterRow](ctx, ch, "dead_letters", clickhouse.OrderBy("at")),
	); err != nil {
		log.Print(err)
		return
	}
	broker := mqtt.Config{Brokers: []string{"tcp://127.0.0.1:18831"}, Topics: []string{"devices/#"}}
	if err := perMinute(broker, ch).Run(ctx); err != nil {
		log.Print(err)
	}
}

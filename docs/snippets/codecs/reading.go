// Package codecs has the code of docs/codecs.md.
package codecs

import (
	"strings"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec/fields"
	"github.com/millrace-stream/millrace/flow/codec/influx"
	"github.com/millrace-stream/millrace/flow/codec/senml"
	"github.com/millrace-stream/millrace/flow/codec/sparkplug"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

// [reading]
//go:generate go run github.com/millrace-stream/millrace/flow/codec/cmd/millrace-codec -type Reading

// Reading is what devices send.
type Reading struct {
	Device  string    `json:"device"`
	At      time.Time `json:"ts" codec:"ms"`
	Celsius float64   `json:"celsius"`
	Battery *float64  `json:"battery,omitempty"`
	Samples []float64 `json:"samples,omitempty"`
	Site    Site      `json:"site"`
}

// Site is a part of Reading.
type Site struct {
	Name string `json:"name"`
	Line int    `json:"line"`
}

// [source]
func readings(t *flow.Topology, cfg mqtt.Config) flow.Stream[Reading] {
	return flow.From(t, "mqtt", mqtt.Source(cfg, ReadingCodec(fields.Alias())))
}

// [keep]
type lastSite struct{ name string }

func (l *lastSite) remember(r Reading) {
	l.name = strings.Clone(r.Site.Name) // by itself it would keep the whole payload alive
}

// [batches]
func points(t *flow.Topology, cfg mqtt.Config) flow.Stream[influx.Point] {
	batches := flow.From(t, "mqtt", mqtt.Source(cfg, influx.Batch(influx.In(influx.Millisecond))))
	return operators.FlatMap(batches, "points", influx.Each)
}

// [senml]
func measurements(t *flow.Topology, cfg mqtt.Config) flow.Stream[senml.Record] {
	packs := flow.From(t, "mqtt", mqtt.Source(cfg, senml.JSON()))
	records := senml.Records(packs, "records")
	return flow.AssignTime(records, "event-time", senml.Record.At, watermark.BoundedOutOfOrderness(10*time.Second))
}

// [sparkplug]
func metrics(t *flow.Topology, cfg mqtt.Config) sparkplug.Resolved {
	cfg.Topics, cfg.Meta = []string{"spBv1.0/+/+/+/#"}, true
	payloads := flow.From(t, "mqtt", mqtt.Source(cfg, sparkplug.Codec()))
	messages := sparkplug.Messages(payloads, "messages")
	timed := flow.AssignTime(messages, "event-time", sparkplug.Message.At, watermark.BoundedOutOfOrderness(10*time.Second))
	return sparkplug.Metrics(timed, "metrics")
}

// [end]

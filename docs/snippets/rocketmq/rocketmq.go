// Package rocketmq has the code of docs/connectors/rocketmq.md.
package rocketmq

import (
	"strconv"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	rocketmqsink "github.com/millrace-stream/millrace/sinks/rocketmq"
	rocketmqsource "github.com/millrace-stream/millrace/sources/rocketmq"
)

// Reading is what devices send.
type Reading struct {
	ID      string    `json:"id"`
	Device  string    `json:"device"`
	Celsius float64   `json:"celsius"`
	Due     time.Time `json:"due"`
}

func device(r Reading) string  { return r.Device }
func id(r Reading) string      { return r.ID }
func celsius(r Reading) string { return strconv.FormatFloat(r.Celsius, 'f', 1, 64) }
func due(r Reading) time.Time  { return r.Due }

func level(r Reading) string {
	if r.Celsius > 90 {
		return "alarm"
	}
	return ""
}

// [source]
func readings(t *flow.Topology) flow.Stream[Reading] {
	return flow.From(t, "readings", rocketmqsource.Source(rocketmqsource.Config{
		Connection: rocketmqsource.Connection{NameServers: []string{"127.0.0.1:9876"}},
		Topic:      "readings",
		Group:      "per-minute",
		Batch:      1024,
	}, codec.JSON[Reading]()))
}

// [filter]
func alarms(t *flow.Topology) flow.Stream[Reading] {
	return flow.From(t, "alarms", rocketmqsource.Source(rocketmqsource.Config{
		Connection: rocketmqsource.Connection{NameServers: []string{"127.0.0.1:9876"}},
		Topic:      "readings",
		Group:      "alarms",
		SQL:        "TAGS = 'alarm' AND celsius > 95",
	}, codec.JSON[Reading]()))
}

// [secure]
func secure() rocketmqsource.Connection {
	return rocketmqsource.Connection{
		NameServers: []string{"mq.example.com:9876"},
		AccessKey:   "millrace",
		SecretKey:   "from your vault",
		TLS:         rocketmqsource.TLS{Enabled: true, CAFile: "ca.pem"},
	}
}

// [sink]
func publish(s flow.Stream[Reading]) {
	flow.To(s, "out", rocketmqsink.Sink(rocketmqsink.Config{
		Connection: rocketmqsink.Connection{NameServers: []string{"127.0.0.1:9876"}},
		Topic:      "readings",
	}, codec.JSON[Reading](),
		rocketmqsink.Key(device), rocketmqsink.ID(id), rocketmqsink.Tag(level), rocketmqsink.Property("celsius", celsius)))
}

// [delayed]
func remind(s flow.Stream[Reading]) {
	flow.To(s, "reminders", rocketmqsink.Sink(rocketmqsink.Config{
		Connection: rocketmqsink.Connection{NameServers: []string{"127.0.0.1:9876"}},
		Topic:      "reminders",
	}, codec.JSON[Reading](), rocketmqsink.DeliverAt(due)))
}

// [transactions]
func publishWhole(s flow.Stream[Reading]) {
	flow.To(s, "whole", rocketmqsink.Sink(rocketmqsink.Config{
		Connection:    rocketmqsink.Connection{NameServers: []string{"127.0.0.1:9876"}},
		Topic:         "orders",
		Group:         "per-minute-orders",
		Transactional: true,
	}, codec.JSON[Reading](), rocketmqsink.Key(device), rocketmqsink.ID(id)))
}

// [end]

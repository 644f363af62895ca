// Package kafka has the code of docs/connectors/kafka.md.
package kafka

import (
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	kafkasink "github.com/millrace-stream/millrace/sinks/kafka"
	kafkasource "github.com/millrace-stream/millrace/sources/kafka"
)

// Reading is what devices send.
type Reading struct {
	Device  string  `json:"device"`
	Celsius float64 `json:"celsius"`
}

func device(r Reading) string { return r.Device }

// [source]
func readings(t *flow.Topology) flow.Stream[Reading] {
	return flow.From(t, "readings", kafkasource.Source(kafkasource.Config{
		Connection: kafkasource.Connection{Brokers: []string{"127.0.0.1:19092"}},
		Topics:     []string{"readings"},
		Group:      "per-minute",
	}, codec.JSON[Reading]()))
}

// [sink]
func publish(s flow.Stream[Reading]) {
	flow.To(s, "hot", kafkasink.Sink(kafkasink.Config{
		Connection: kafkasink.Connection{Brokers: []string{"127.0.0.1:19092"}},
		Topic:      "hot",
	}, codec.JSON[Reading](), kafkasink.Key(device)))
}

// [transactions]
func publishWhole(s flow.Stream[Reading]) {
	flow.To(s, "hot", kafkasink.Sink(kafkasink.Config{
		Connection:      kafkasink.Connection{Brokers: []string{"127.0.0.1:19092"}},
		Topic:           "hot",
		TransactionalID: "per-minute-hot",
	}, codec.JSON[Reading](), kafkasink.Key(device)))
}

// [end]

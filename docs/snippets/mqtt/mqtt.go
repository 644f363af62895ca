// Package mqtt has the code of docs/connectors/mqtt.md.
package mqtt

import (
	"context"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	mqttsink "github.com/millrace-stream/millrace/sinks/mqtt"
	mqttsource "github.com/millrace-stream/millrace/sources/mqtt"
)

// Reading is what devices send.
type Reading struct {
	ID      string    `json:"id"` // the same for every repeat
	Device  string    `json:"device"`
	At      time.Time `json:"at"`
	Celsius float64   `json:"celsius"`
}

// Command is what goes back to them.
type Command struct {
	Device string `json:"device"`
	Valve  string `json:"valve"`
}

func (r Reading) id() string     { return r.ID }
func (r Reading) device() string { return r.Device }
func (r Reading) at() time.Time  { return r.At }

// [source]
func readings(t *flow.Topology) flow.KeyedStream[string, Reading] {
	raw := flow.From(t, "readings", mqttsource.Source(mqttsource.Config{
		Brokers:  []string{"tcp://127.0.0.1:1883"},
		Topics:   []string{"devices/+/telemetry"},
		ClientID: "per-minute", // the session: the same after a restart, another one for each instance
	}, codec.JSON[Reading]()))
	timed := flow.AssignTime(raw, "event-time", Reading.at, watermark.BoundedOutOfOrderness(10*time.Second))
	// What comes again must not count twice.
	return operators.Dedup(flow.KeyBy(timed, Reading.device), "dedup", Reading.id, 10*time.Minute)
}

// [sink]
func send(commands flow.Stream[Command]) {
	topic := func(c Command) string { return "devices/" + c.Device + "/commands" }
	flow.To(commands, "commands", mqttsink.Sink(mqttsink.Config{
		Brokers:       []string{"tcp://127.0.0.1:1883"},
		Protocol:      mqttsink.V5,
		MessageExpiry: 30 * time.Second, // a valve that was away must not close an hour later
		Will:          mqttsink.Will{Topic: "adapters/rules/gone", Retained: true},
	}, topic, codec.JSON[Command]()))
}

// [tls]
func secured(token func(context.Context) (string, error)) mqttsource.Config {
	return mqttsource.Config{
		Brokers: []string{"ssl://broker:8883"},
		Topics:  []string{"devices/#"},
		TLS:     mqttsource.TLS{CAFile: "ca.pem", CertFile: "client.pem", KeyFile: "client.key"},
		Credentials: func(ctx context.Context) (string, mqttsource.Secret, error) {
			t, err := token(ctx)
			return "per-minute", mqttsource.Secret(t), err
		},
	}
}

// [end]

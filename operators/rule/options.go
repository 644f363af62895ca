package rule

import (
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// Option configures operators.Rules.
type Option func(flow.Configurable)

// Config is what options fill. It is for the operator.
type Config struct {
	flow.NodeConfig
	// Clock says that rules go by processing time.
	Clock bool
	// Device and Code are a func(T) string and a codec.Codec[T], nil for none.
	Device, Code any
}

// ByClock makes the rules go by processing time: a record counts as of when it is looked at, and for, cooldown and flapping fire by the
// clock. The stream needs no event time then. What a crash takes back may come out differently. Changing the mode of a node that has
// state needs a new name.
func ByClock() Option { return flow.SetOption(func(c *Config) { c.Clock = true }) }

// Device keeps the rules' state by device below the stream's key: with the stream keyed by gateway, each of the gateway's sensors has
// alarms of its own, and a rule about the gateway can be their parent. An alarm has it as Device and in its ID.
func Device[T any](of func(T) string) Option {
	return flow.SetOption(func(c *Config) {
		c.Device = of
		if of == nil {
			c.Problem("the function of rule.Device is nil", "pass a function from record to device id")
		}
	})
}

// RecordCodec says how the records that alarms need are stored. Defaults to CBOR by field name.
func RecordCodec[T any](c codec.Codec[T]) Option {
	return flow.SetOption(func(cfg *Config) { cfg.Code = c })
}

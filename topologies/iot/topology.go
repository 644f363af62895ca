package iot

import (
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
	mqttsink "github.com/millrace-stream/millrace/sinks/mqtt"
	rocketmqsink "github.com/millrace-stream/millrace/sinks/rocketmq"
	"github.com/millrace-stream/millrace/sources/mqtt"
	rocketmqsource "github.com/millrace-stream/millrace/sources/rocketmq"
)

// All is the whole path in one process: MQTT to ClickHouse.
func All(cfg Config, ch *clickhouse.Conn, opts ...flow.TopologyOption) *flow.Topology {
	t := flow.New("iot", options(cfg, opts)...)
	raw := flow.From(t, "mqtt", mqtt.Source(cfg.MQTT.source(), ReadingCodec()))
	results(t, Accepted(raw, "accepted"), cfg, ch)
	return t
}

// Ingest is the first half of the path: MQTT to RocketMQ, sharded by device.
func Ingest(cfg Config, ch *clickhouse.Conn, opts ...flow.TopologyOption) *flow.Topology {
	t := flow.New("iot-ingest", options(cfg, opts)...)
	raw := flow.From(t, "mqtt", mqtt.Source(cfg.MQTT.source(), ReadingCodec()))
	flow.To(Accepted(raw, "accepted"), "rocketmq", rocketmqsink.Sink(cfg.RocketMQ.sink(), ReadingCodec(),
		rocketmqsink.Key(Reading.Device), rocketmqsink.ID(messageID)))
	deadLetters(t, ch)
	return t
}

// Data is the second half: RocketMQ to ClickHouse.
func Data(cfg Config, ch *clickhouse.Conn, opts ...flow.TopologyOption) *flow.Topology {
	t := flow.New("iot-data", options(cfg, opts)...)
	results(t, flow.From(t, "rocketmq", rocketmqsource.Source(cfg.RocketMQ.source(), ReadingCodec())), cfg, ch)
	return t
}

// results is what both ways end with.
func results(t *flow.Topology, accepted flow.Stream[Reading], cfg Config, ch *clickhouse.Conn) {
	clean := Clean(accepted, "clean", Sites(), cfg.Time)
	fresh := Fresh(clean, "per-minute/dedup", cfg.Dedup)
	minutes := PerMinute(fresh, "per-minute/window", cfg.Time)
	last := []clickhouse.Option{clickhouse.Version(versionColumn), clickhouse.MaxRows(cfg.ClickHouse.FlushRows)}
	flow.To(minutes, "device-minute", clickhouse.Sink(ch, TableMinutes, minuteRow, last...))
	flow.To(minutes.Late(), "late", clickhouse.Sink(ch, TableLate, lateRow, last...))
	flow.To(clean.BadClock(), "bad-clock", clickhouse.Sink(ch, TableBadClock, badClockRow, last...))
	flow.To(clean.Invalid(), "invalid", clickhouse.Sink(ch, TableInvalid, invalidRow, last...))
	if cfg.Alarms.On() {
		alarms(fresh, cfg, ch, last)
	}
	deadLetters(t, ch)
}

// alarms is the branch of alarms: into their table, and as commands to the devices.
func alarms(fresh flow.KeyedStream[string, Placed], cfg Config, ch *clickhouse.Conn, last []clickhouse.Option) {
	all := Alarms(fresh, "alarms", cfg.Alarms)
	flow.To(all, "alarms/table", clickhouse.Sink(ch, TableAlarms, alarmRow, last...))
	commands := Commands(all, "alarms/commands", cfg.Alarms)
	flow.To(commands.Unkeyed(), "alarms/mqtt", mqttsink.Sink(cfg.commands(), cfg.Alarms.topic, codec.JSON[Command]()))
}

func deadLetters(t *flow.Topology, ch *clickhouse.Conn) {
	flow.To(t.DeadLetters(), "dead-letters", clickhouse.DeadLetters(ch, TableDeadLetters))
}

func options(cfg Config, opts []flow.TopologyOption) []flow.TopologyOption {
	return append([]flow.TopologyOption{flow.WithEpochInterval(cfg.Epoch.Interval)}, opts...)
}

// messageID is what brokers and people find a reading by.
func messageID(r Reading) string { return fmt.Sprintf("%s-%d", r.DeviceID, r.Seq) }

func (c MQTTConfig) source() mqtt.Config {
	return mqtt.Config{
		Brokers: []string{c.Broker}, Topics: []string{c.Topic + "/#"}, ClientID: c.ClientID, Clients: c.Clients, ShareGroup: c.Group,
		Username: c.Username, Password: mqtt.Secret(c.Password.Reveal()), Window: c.Window,
	}
}

func (c RocketMQConfig) source() rocketmqsource.Config {
	return rocketmqsource.Config{Connection: c.Connection(), Topic: c.Topic, Group: c.Group, Batch: flow.MaxBatch}
}

func (c RocketMQConfig) sink() rocketmqsink.Config {
	return rocketmqsink.Config{Connection: c.Connection(), Topic: c.Topic}
}

// commands is how devices are reached.
func (c Config) commands() mqttsink.Config {
	to := mqttsink.Config{Brokers: []string{c.MQTT.Broker}, Username: c.MQTT.Username, Password: mqttsink.Secret(c.MQTT.Password.Reveal())}
	if c.Alarms.CommandExpiry > 0 {
		to.Protocol, to.MessageExpiry = mqttsink.V5, c.Alarms.CommandExpiry
	}
	return to
}

// Connection is what source and sink share.
func (c RocketMQConfig) Connection() rocketmqsource.Connection {
	return rocketmqsource.Connection{
		NameServers: c.NameServers, AccessKey: c.AccessKey, SecretKey: rocketmqsource.Secret(c.SecretKey.Reveal()),
		TLS: rocketmqsource.TLS{Enabled: c.TLS, CAFile: c.CAFile},
	}
}

package iot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/millrace-stream/millrace/topologies/iot/internal/conf"
)

// EnvPrefix begins the names of the environment variables that override the configuration file: MILLRACE_IOT_MQTT_BROKER is mqtt.broker.
const EnvPrefix = "MILLRACE_IOT_"

// Config is all that the command iot can be told. LoadConfig fills it; DefaultConfig has the defaults.
type Config struct {
	MQTT       MQTTConfig       `yaml:"mqtt" doc:"The broker that the devices publish to."`
	RocketMQ   RocketMQConfig   `yaml:"rocketmq" doc:"What stands between ingest and data."`
	ClickHouse ClickHouseConfig `yaml:"clickhouse" doc:"Where the results go."`
	Time       TimeConfig       `yaml:"time" doc:"Event time."`
	Alarms     AlarmsConfig     `yaml:"alarms" doc:"Alarms by rules and by patterns; without either there are none."`
	Dedup      DedupConfig      `yaml:"dedup" doc:"Repeated readings."`
	Store      StoreConfig      `yaml:"store" doc:"Where state is kept."`
	Epoch      EpochConfig      `yaml:"epoch" doc:"How often results and state become durable, and messages are confirmed."`
	Simulate   SimulateConfig   `yaml:"simulate" doc:"The simulated devices."`

	origins conf.Origins
}

// MQTTConfig says how to reach the broker.
type MQTTConfig struct {
	Broker   string      `yaml:"broker" required:"true" doc:"Address: tcp://host:port, or ssl://host:port for TLS."`
	Username string      `yaml:"username" doc:"Empty means none."`
	Password conf.Secret `yaml:"password"`
	Topic    string      `yaml:"topic" required:"true" doc:"Devices publish to <topic>/<site>/<device>."`
	ClientID string      `yaml:"client_id" required:"true" doc:"Names the session that the broker keeps; must differ between instances and stay the same over restarts."`
	Clients  int         `yaml:"clients" min:"1" max:"64" doc:"Connections that share the subscription. One takes about 30,000 messages a second."`
	Group    string      `yaml:"group" required:"true" doc:"The shared subscription's group."`
	Window   int         `yaml:"window" min:"0" max:"65535" doc:"How many messages the broker leaves unconfirmed per client; 0: find out."`
}

// RocketMQConfig says how to reach RocketMQ.
type RocketMQConfig struct {
	NameServers []string    `yaml:"name_servers" required:"true" doc:"Addresses of the name servers, host:port."`
	Topic       string      `yaml:"topic" required:"true" doc:"Readings, sharded by device. It must exist."`
	Group       string      `yaml:"group" required:"true" doc:"The consumer group of iot data."`
	AccessKey   string      `yaml:"access_key" doc:"Empty means no authentication."`
	SecretKey   conf.Secret `yaml:"secret_key"`
	TLS         bool        `yaml:"tls" doc:"Encrypt all connections."`
	CAFile      string      `yaml:"ca_file" doc:"PEM file with the authorities that may sign the servers' certificates; empty: the system's."`
}

// ClickHouseConfig says how to reach ClickHouse.
type ClickHouseConfig struct {
	Addr      []string    `yaml:"addr" required:"true" doc:"Servers that hold the same tables, host:port; the first that answers is used."`
	Protocol  string      `yaml:"protocol" oneof:"native,http" doc:"native or http."`
	Database  string      `yaml:"database" required:"true"`
	Username  string      `yaml:"username" required:"true"`
	Password  conf.Secret `yaml:"password"`
	FlushRows int         `yaml:"flush_rows" min:"1" max:"10000000" doc:"An insert holds about this many rows; more make an epoch end early."`
}

// TimeConfig says how event time is understood.
type TimeConfig struct {
	Window          time.Duration `yaml:"window" min:"1s" max:"24h" doc:"Length of the windows. The table is named for minutes."`
	OutOfOrderness  time.Duration `yaml:"out_of_orderness" min:"0s" max:"24h" doc:"How far a reading may lie behind the latest one of its partition without being late."`
	AllowedLateness time.Duration `yaml:"allowed_lateness" min:"0s" max:"24h" doc:"How long a window stays after the watermark has passed its end, to be corrected."`
	IdleAfter       time.Duration `yaml:"idle_after" min:"0s" max:"24h" doc:"After this long without readings a partition no longer holds the watermark back; 0s: never."`
	MaxFutureSkew   time.Duration `yaml:"max_future_skew" min:"1m" max:"8760h" doc:"A reading further ahead of the broker's clock has a bad clock."`
}

// AlarmsConfig says which alarms there are, and what comes of them.
type AlarmsConfig struct {
	Rules           string        `yaml:"rules" doc:"YAML file of rules, which may change while the topology runs; empty: no rules."`
	RulesEvery      time.Duration `yaml:"rules_every" min:"10ms" max:"1h" doc:"How often that file is looked at."`
	Patterns        bool          `yaml:"patterns" doc:"Find devices that overheat, and devices that are silent."`
	Warm            float64       `yaml:"warm" doc:"Overheating begins with a reading above so many °C ..."`
	Hot             float64       `yaml:"hot" doc:"... goes on with readings above so many ..."`
	HotReadings     int           `yaml:"hot_readings" min:"1" max:"1000" doc:"... of which there must be so many in a row ..."`
	Cooled          float64       `yaml:"cooled" doc:"... and is none if a reading is below so many °C ..."`
	Confirm         time.Duration `yaml:"confirm" min:"1s" max:"24h" doc:"... within this time, after which the alarm comes."`
	Quiet           time.Duration `yaml:"quiet" min:"1s" max:"168h" doc:"How long no further overheating of a device is told after one."`
	OverheatCommand string        `yaml:"overheat_command" doc:"What a device is told to do that overheats; empty: nothing."`
	SilentAfter     time.Duration `yaml:"silent_after" min:"1s" max:"168h" doc:"How long a device must send nothing to be silent."`
	CommandTopic    string        `yaml:"command_topic" required:"true" doc:"Where commands go to; {device}, {site} and {alarm} stand for those of the alarm."`
	CommandTTL      time.Duration `yaml:"command_ttl" min:"1s" max:"168h" doc:"How long the ids of commands are remembered, in event time, so that none is sent twice."`
	CommandExpiry   time.Duration `yaml:"command_expiry" min:"0s" max:"168h" doc:"How long the broker keeps a command for a device that is away, which takes MQTT 5; 0s: for ever, with MQTT 3.1.1."`
}

// On says whether there are alarms.
func (c AlarmsConfig) On() bool { return c.Rules != "" || c.Patterns }

// DedupConfig says how repeats are recognised.
type DedupConfig struct {
	TTL        time.Duration `yaml:"ttl" min:"1s" max:"48h" doc:"How long ids are remembered, in event time: at least window + lateness."`
	MaxEntries int           `yaml:"max_entries" min:"1000" doc:"How many ids at most; beyond it the oldest is forgotten."`
}

// StoreConfig says where state is kept.
type StoreConfig struct {
	Dir string `yaml:"dir" required:"true" doc:"Directory of the state and of the marks by which the processes of one chain know of each other's end."`
}

// EpochConfig says how often epochs end.
type EpochConfig struct {
	Interval time.Duration `yaml:"interval" min:"10ms" max:"1m"`
}

// SimulateConfig describes the simulated load.
type SimulateConfig struct {
	Seed        uint64        `yaml:"seed" doc:"The same seed makes the same load, but for the event times."`
	Devices     int           `yaml:"devices" min:"1" max:"10000000" doc:"How many devices. The last ten have clocks that are off (five by two hours, five by a year)."`
	Readings    int64         `yaml:"readings" min:"0" doc:"How many readings in all, the faulty ones included; 0: until stopped."`
	Rate        float64       `yaml:"rate" min:"0" max:"10000000" doc:"Readings per second; 0: as fast as the broker takes them."`
	Duration    time.Duration `yaml:"duration" min:"0s" max:"8760h" doc:"Stop after this long; 0s: no limit."`
	HotEvery    int           `yaml:"hot_every" min:"0" doc:"One device in so many sends 100 times more than the others; 0: none."`
	Duplicates  float64       `yaml:"duplicates" min:"0" max:"0.5" doc:"Share of readings that repeat an earlier one."`
	Malformed   float64       `yaml:"malformed" min:"0" max:"0.2" doc:"Share that are no readings at all."`
	Late        float64       `yaml:"late" min:"0" max:"0.2" doc:"Share that come an hour or more too late."`
	Invalid     float64       `yaml:"invalid" min:"0" max:"0.1" doc:"Share with values that no sensor can measure."`
	Heartbeats  float64       `yaml:"heartbeats" min:"0" max:"1" doc:"Heartbeats per reading, on top."`
	LateFrom    int64         `yaml:"late_from" min:"0" doc:"The first reading that may be late; 0: after a tenth of the readings, or three seconds' worth."`
	Settle      time.Duration `yaml:"settle" min:"0s" max:"1m" doc:"Pause before it, in which all consumers learn what time it is."`
	Connections int           `yaml:"connections" min:"1" max:"256"`
	InFlight    int           `yaml:"in_flight" min:"1" max:"16384" doc:"Unconfirmed messages per connection."`
	Ledger      string        `yaml:"ledger" required:"true" doc:"File of what was published, for iot check."`
}

// DefaultConfig is the configuration without file and environment.
func DefaultConfig() Config {
	return Config{
		MQTT:       MQTTConfig{Broker: "tcp://127.0.0.1:1883", Topic: "devices", ClientID: "millrace-iot", Clients: 2, Group: "iot"},
		RocketMQ:   RocketMQConfig{NameServers: []string{"127.0.0.1:9876"}, Topic: "iot-readings", Group: "iot-data"},
		ClickHouse: ClickHouseConfig{Addr: []string{"127.0.0.1:9000"}, Protocol: "native", Database: "iot", Username: "default", FlushRows: 100_000},
		Time: TimeConfig{
			Window: time.Minute, OutOfOrderness: 10 * time.Second, AllowedLateness: 10 * time.Second, IdleAfter: 30 * time.Second,
			MaxFutureSkew: 24 * time.Hour,
		},
		Alarms: AlarmsConfig{
			RulesEvery: 5 * time.Second, Warm: 60, Hot: 70, HotReadings: 3, Cooled: 50, Confirm: 2 * time.Minute, Quiet: 10 * time.Minute,
			SilentAfter: 5 * time.Minute, CommandTopic: "commands/{site}/{device}", CommandTTL: time.Hour,
		},
		Dedup: DedupConfig{TTL: 10 * time.Minute, MaxEntries: 20_000_000},
		Store: StoreConfig{Dir: "iot-state"},
		Epoch: EpochConfig{Interval: time.Second},
		Simulate: SimulateConfig{
			Seed: 1, Devices: 10_000, Rate: 5000, HotEvery: 1000, Duplicates: 0.02, Malformed: 0.01, Late: 0.01, Invalid: 0.005,
			Heartbeats: 0.05, Settle: 3 * time.Second, Connections: 4, InFlight: 256, Ledger: "iot-ledger.jsonl",
		},
	}
}

// Flag is a setting from the command line, which overrides file and environment.
type Flag = conf.Flag

// LoadConfig reads the configuration: defaults, then the YAML file at path ("" for none), then the environment, then the flags. It is
// strict; the error lists everything that is wrong, one line each.
func LoadConfig(path string, environ []string, flags ...Flag) (Config, error) {
	c := DefaultConfig()
	var text []byte
	file := "configuration"
	if path != "" {
		var err error
		if text, err = os.ReadFile(path); err != nil {
			return c, fmt.Errorf("configuration file: %w", err)
		}
		file = path
	}
	origins, err := conf.Load(&c, conf.Input{File: file, Text: text, Prefix: EnvPrefix, Environ: environ, Flags: flags})
	c.origins = origins
	if err != nil {
		return c, err
	}
	return c, c.Validate()
}

// Print writes the configuration as YAML, with where each value comes from; secrets stay hidden.
func (c Config) Print(w io.Writer) error { return conf.Print(w, &c, c.origins, EnvPrefix) }

// Validate checks what concerns more than one key.
func (c Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, &conf.Error{Key: key, Place: c.origins.Of(key), What: fmt.Sprintf(format, args...)})
	}
	if least := c.Time.Window + c.Time.AllowedLateness; c.Dedup.TTL < least {
		bad("dedup.ttl", "%v is less than time.window + time.allowed_lateness = %v: a repeat could count twice", c.Dedup.TTL, least)
	}
	if c.MQTT.Password != "" && c.MQTT.Username == "" {
		bad("mqtt.password", "is set and mqtt.username is not: MQTT sends a password only with a user")
	}
	if strings.ContainsAny(c.MQTT.Topic, "+#\x00") || strings.HasPrefix(c.MQTT.Topic, "$") {
		bad("mqtt.topic", "%q is not a topic to publish under: no +, # or leading $", c.MQTT.Topic)
	}
	if strings.ContainsAny(c.MQTT.Group, "/+#\x00") {
		bad("mqtt.group", "%q must not contain /, + or #", c.MQTT.Group)
	}
	c.Alarms.validate(c, bad)
	s := c.Simulate
	if sum := s.Duplicates + s.Malformed + s.Late + s.Invalid; sum > 0.9 {
		bad("simulate.duplicates", "the shares of duplicates, malformed, late and invalid readings add up to %.2f: at most 0.9", sum)
	}
	if s.HotEvery == 1 {
		bad("simulate.hot_every", "1 would make every device hot: 0 for none, or 2 and more")
	}
	return errors.Join(errs...)
}

package mqtt

import (
	"context"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

func TestValidate(t *testing.T) {
	good := func(change func(*Config)) error {
		c := Config{Brokers: []string{"tcp://127.0.0.1:1883"}, Will: Will{Topic: "gone"}}
		change(&c)
		return c.Validate()
	}
	require.NoError(t, good(func(*Config) {}))
	for _, c := range []struct {
		want   string
		change func(*Config)
	}{
		{"brokers is empty", func(c *Config) { c.Brokers = nil }},
		{`brokers[0] http://h has the scheme "http": use tcp`, func(c *Config) { c.Brokers[0] = "http://h" }},
		{`protocol is "4": allowed are 3.1.1 and 5`, func(c *Config) { c.Protocol = "4" }},
		{"qos is 3: allowed are 0, 1 and 2", func(c *Config) { c.QoS = new(byte(3)) }},
		{"client_id is longer", func(c *Config) { c.ClientID = "a\x00" }},
		{"username is empty", func(c *Config) { c.Password = "x" }},
		{"username is set beside credentials", func(c *Config) {
			c.Username = "u"
			c.Credentials = func(context.Context) (string, Secret, error) { return "", "", nil }
		}},
		{"tls is set and no broker", func(c *Config) { c.TLS.ServerName = "x" }},
		{"tls.ca_file", func(c *Config) { c.Brokers[0], c.TLS.CAFile = "ssl://h", "/nowhere" }},
		{"will.topic is empty", func(c *Config) { c.Will = Will{Payload: "x"} }},
		{`will.topic "a/#" holds + or #`, func(c *Config) { c.Will.Topic = "a/#" }},
		{"will.qos is 3", func(c *Config) { c.Will.QoS = 3 }},
		{"will.delay needs MQTT 5", func(c *Config) { c.Will.Delay = time.Second }},
		{"message_expiry needs MQTT 5", func(c *Config) { c.MessageExpiry = time.Second }},
		{"message_expiry is 1ms", func(c *Config) { c.Protocol, c.MessageExpiry = V5, time.Millisecond }},
		{"session_expiry needs MQTT 5", func(c *Config) { c.SessionExpiry = time.Second }},
		{"inflight is 65536", func(c *Config) { c.Inflight = 65536 }},
		{"max_packet_bytes is 1", func(c *Config) { c.MaxPacketBytes = 1 }},
		{"keep_alive is 1.5s", func(c *Config) { c.KeepAlive = 1.5e9 }},
		{"ack_timeout is 1ns", func(c *Config) { c.AckTimeout = 1 }},
	} {
		require.ErrorContains(t, good(c.change), c.want)
	}
}

func TestConfigFromYAML(t *testing.T) {
	var got Config
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(`
brokers: [ssl://broker:8883]
protocol: 5
qos: 0
retained: true
message_expiry: 1h
username: mill
password: hunter2
tls: {server_name: broker}
will: {topic: adapters/7/gone, payload: bye, qos: 1, delay: 5s}
inflight: 64
`), &got, yaml.Strict()))
	require.Equal(t, Config{
		Brokers: []string{"ssl://broker:8883"}, Protocol: V5, QoS: new(byte(0)), Retained: true, MessageExpiry: time.Hour, Username: "mill",
		Password: "hunter2", TLS: TLS{ServerName: "broker"}, Will: Will{Topic: "adapters/7/gone", Payload: "bye", QoS: 1, Delay: 5 * time.Second}, Inflight: 64,
	}, got)
	require.NoError(t, got.Validate())
	text, err := yaml.Marshal(got)
	require.NoError(t, err)
	require.NotContains(t, string(text), "hunter2")
}

func TestWhatIsWrongIsSaidAtOnce(t *testing.T) {
	err := Sink(Config{QoS: new(byte(7))}, "a/+", nil, UserProperties(func(reading) map[string]string { return nil })).Open(t.Context(), flow.SinkRuntime{})
	for _, part := range []string{"brokers is empty", "qos is 7", `topic "a/+" holds + or #`, "codec is nil", "UserProperties needs MQTT 5"} {
		require.ErrorContains(t, err, part)
	}
	require.False(t, flow.IsTransient(err))
}

// Two instances have two ids, and one that starts again has its own.
func TestDefaultClientID(t *testing.T) {
	require.Equal(t, "millrace-t-n-abcdefgh", Config{}.withDefaults(flow.SinkRuntime{Topology: "t", Node: "n", StoreID: "abcdefghijk"}).ClientID)
	require.Equal(t, "mine", Config{ClientID: "mine"}.withDefaults(flow.SinkRuntime{StoreID: "x"}).ClientID)
}

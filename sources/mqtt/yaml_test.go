package mqtt_test

import (
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/sources/mqtt"
)

func TestConfigFromYAML(t *testing.T) {
	var got mqtt.Config
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(`
brokers: [ssl://broker:8883]
topics: [devices/+/telemetry]
qos: 0
clients: 3
share_group: metrics
username: mill
password: hunter2
tls: {server_name: broker}
keep_alive: 20s
drop_retained: false
window: 32
`), &got, yaml.Strict()))
	require.Equal(t, mqtt.Config{
		Brokers: []string{"ssl://broker:8883"}, Topics: []string{"devices/+/telemetry"}, QoS: new(byte(0)), Clients: 3, ShareGroup: "metrics",
		Username: "mill", Password: "hunter2", TLS: mqtt.TLS{ServerName: "broker"}, KeepAlive: 20 * time.Second,
		DropRetained: new(false), Window: 32,
	}, got)
	require.NoError(t, got.Validate())
	text, err := yaml.Marshal(got)
	require.NoError(t, err)
	require.NotContains(t, string(text), "hunter2")
}

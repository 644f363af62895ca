package iot

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func write(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "iot.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestDefaultConfigIsValid(t *testing.T) {
	t.Parallel()
	c, err := LoadConfig("", nil)
	require.NoError(t, err)
	c.origins = nil
	require.Equal(t, DefaultConfig(), c)
}

func TestConfigFileAndEnvironment(t *testing.T) {
	t.Parallel()
	c, err := LoadConfig(write(t, "mqtt:\n  broker: ssl://emqx:8883\ntime:\n  out_of_orderness: 60s\n"),
		[]string{"MILLRACE_IOT_MQTT_CLIENTS=3", "MILLRACE_IOT_CLICKHOUSE_PASSWORD=hunter2", "MILLRACE_IOT_ROCKETMQ_NAME_SERVERS=a:1,b:2", "PATH=/bin"})
	require.NoError(t, err)
	require.Equal(t, "ssl://emqx:8883", c.MQTT.Broker)
	require.Equal(t, 3, c.MQTT.Clients)
	require.Equal(t, time.Minute, c.Time.OutOfOrderness)
	require.Equal(t, []string{"a:1", "b:2"}, c.RocketMQ.NameServers)
	var b bytes.Buffer
	require.NoError(t, c.Print(&b))
	require.NotContains(t, b.String(), "hunter2")
	require.Contains(t, b.String(), `  password: "(redacted)"  # environment variable MILLRACE_IOT_CLICKHOUSE_PASSWORD; MILLRACE_IOT_CLICKHOUSE_PASSWORD`)
	again, err := LoadConfig(write(t, b.String()), nil)
	require.NoError(t, err)
	again.ClickHouse.Password, again.origins, c.origins = c.ClickHouse.Password, nil, nil
	require.Equal(t, c, again)
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ yaml, env, want string }{
		"unknown key": {yaml: "mqtt:\n  brokr: x\n",
			want: "FILE:2:3: mqtt.brokr: unknown key (did you mean broker?); allowed here: broker, username, password, topic, client_id, clients, group, window"},
		"protocol": {yaml: "clickhouse:\n  protocol: grpc", want: `FILE:2:13: clickhouse.protocol: "grpc" is not one of native, http`},
		"ttl": {yaml: "dedup:\n  ttl: 30s",
			want: "FILE:2:8: dedup.ttl: 30s is less than time.window + time.allowed_lateness = 1m10s: a repeat could count twice"},
		"ttl by lateness": {env: "MILLRACE_IOT_TIME_ALLOWED_LATENESS=1h",
			want: "default: dedup.ttl: 10m0s is less than time.window + time.allowed_lateness = 1h1m0s: a repeat could count twice"},
		"password":    {env: "MILLRACE_IOT_MQTT_PASSWORD=x", want: "environment variable MILLRACE_IOT_MQTT_PASSWORD: mqtt.password: is set and mqtt.username is not: MQTT sends a password only with a user"},
		"topic":       {yaml: "mqtt: {topic: devices/#}", want: `FILE:1:15: mqtt.topic: "devices/#" is not a topic to publish under: no +, # or leading $`},
		"group":       {yaml: "mqtt: {group: a/b}", want: `FILE:1:15: mqtt.group: "a/b" must not contain /, + or #`},
		"shares":      {yaml: "simulate: {duplicates: 0.5, malformed: 0.2, late: 0.2, invalid: 0.1}", want: "FILE:1:24: simulate.duplicates: the shares of duplicates, malformed, late and invalid readings add up to 1.00: at most 0.9"},
		"hot":         {yaml: "simulate: {hot_every: 1}", want: "FILE:1:23: simulate.hot_every: 1 would make every device hot: 0 for none, or 2 and more"},
		"environment": {env: "MILLRACE_IOT_MQTT_BROKR=x", want: "environment variable MILLRACE_IOT_MQTT_BROKR: no such setting (did you mean MILLRACE_IOT_MQTT_BROKER?); names are MILLRACE_IOT_ and the key in capitals, for instance MILLRACE_IOT_MQTT_BROKER"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var environ []string
			if tt.env != "" {
				environ = append(environ, tt.env)
			}
			path := write(t, tt.yaml)
			_, err := LoadConfig(path, environ)
			require.Error(t, err)
			require.Equal(t, tt.want, strings.ReplaceAll(err.Error(), path, "FILE"))
		})
	}
	_, err := LoadConfig("/does/not/exist.yaml", nil)
	require.EqualError(t, err, "configuration file: open /does/not/exist.yaml: no such file or directory")
}

package mqtt_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"encoding/pem"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/mqttbroker"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

func TestTLS(t *testing.T) {
	server := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	b := broker(t, mqttbroker.Options{TLS: server.TLS.Clone()})

	cfg := config(b, "d")
	cfg.TLS.CAFile = ca
	e := start(t, cfg)
	e.awaitIdle()
	publish(t, b, "d", 0, 10)
	inOrder(t, 10, e.await(10))
	e.stop()

	stranger := open(t, config(b, "d"))
	stranger.run()
	require.ErrorContains(t, <-stranger.ran, "tls.ca_file")

	plain := broker(t, mqttbroker.Options{})
	cfg.Brokers = []string{"ssl://" + plain.Addr()}
	deaf := start(t, cfg)
	deaf.eventually(func() bool { return deaf.log.lines("level=WARN")+len(deaf.ran) > 0 }, "complained", func() any { return deaf.log })
}

func TestValidate(t *testing.T) {
	good := func(change func(*mqtt.Config)) error {
		c := mqtt.Config{Brokers: []string{"tcp://127.0.0.1:1883"}, Topics: []string{"d/#"}}
		change(&c)
		return c.Validate()
	}
	require.NoError(t, good(func(*mqtt.Config) {}))
	for _, c := range []struct {
		want   string
		change func(*mqtt.Config)
	}{
		{"brokers is empty", func(c *mqtt.Config) { c.Brokers = nil }},
		{`brokers[0] http://h has the scheme "http": use tcp`, func(c *mqtt.Config) { c.Brokers[0] = "http://h" }},
		{"brokers[0] tcp://u:xxxxx@h carries a user", func(c *mqtt.Config) { c.Brokers[0] = "tcp://u:secret@h" }},
		{"topics is empty", func(c *mqtt.Config) { c.Topics = nil }},
		{`topics[0] "a/#/b": # must be the whole last level`, func(c *mqtt.Config) { c.Topics[0] = "a/#/b" }},
		{`topics[0] "a+/b": + must be a whole level`, func(c *mqtt.Config) { c.Topics[0] = "a+/b" }},
		{"give the filter alone", func(c *mqtt.Config) { c.Topics[0] = "$share/g/a" }},
		{`topics[1] "d/#" is there twice`, func(c *mqtt.Config) { c.Topics = []string{"d/#", "d/#"} }},
		{"qos is 3: allowed are 0, 1 and 2", func(c *mqtt.Config) { c.QoS = new(byte(3)) }},
		{"clients is -1: allowed are 1 to 256", func(c *mqtt.Config) { c.Clients = -1 }},
		{"share_group is empty with 2 clients", func(c *mqtt.Config) { c.Clients = 2 }},
		{`share_group is "a/b"`, func(c *mqtt.Config) { c.ShareGroup = "a/b" }},
		{"username is empty", func(c *mqtt.Config) { c.Password = "x" }},
		{"tls is set and no broker", func(c *mqtt.Config) { c.TLS.ServerName = "x" }},
		{"tls.ca_file", func(c *mqtt.Config) { c.Brokers[0], c.TLS.CAFile = "ssl://h", "/nowhere" }},
		{"keep_alive is 1.5s: allowed are whole seconds", func(c *mqtt.Config) { c.KeepAlive = 1.5e9 }},
		{"ping_timeout is 1ns", func(c *mqtt.Config) { c.PingTimeout = 1 }},
		{"window is 65536", func(c *mqtt.Config) { c.Window = 65536 }},
		{"buffer is 30: allowed are 32 (twice the window)", func(c *mqtt.Config) { c.Window, c.Buffer = 16, 30 }},
	} {
		require.ErrorContains(t, good(c.change), c.want)
	}
}

package rocketmq

import (
	"fmt"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/rocketmq"
)

func TestConfigComesFromYAMLAndHidesSecrets(t *testing.T) {
	var c Config
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(`
name_servers: [ns-1:9876]
topic: alarms
group: producers
queues: 8
max_message_bytes: 2000000
batch_bytes: 500000
batch_messages: 500
parallel: 4
timeout: 3s
access_key: ak
secret_key: topsecret
security_token: token77
tls: {enabled: true, ca_file: ca.pem}
`), &c, yaml.Strict()))
	require.Equal(t, Config{
		Connection: Connection{
			NameServers: []string{"ns-1:9876"}, Timeout: 3 * time.Second, AccessKey: "ak", SecretKey: "topsecret", SecurityToken: "token77",
			TLS: TLS{Enabled: true, CAFile: "ca.pem"},
		},
		Topic: "alarms", Group: "producers", Queues: 8, MaxMessageBytes: 2_000_000, BatchBytes: 500_000,
		BatchMessages: 500, Parallel: 4,
	}, c)
	require.NoError(t, c.validate())
	out, err := yaml.Marshal(c)
	require.NoError(t, err)
	for _, s := range []string{string(out), fmt.Sprintf("%v %+v %#v", c, c, c)} {
		require.NotContains(t, s, "topsecret")
		require.NotContains(t, s, "token77")
	}
	_, err = rocketmq.NewClient(c.Connection)
	require.ErrorContains(t, err, "ca.pem")
}

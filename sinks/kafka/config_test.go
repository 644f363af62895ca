package kafka

import (
	"fmt"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

func TestConfigComesFromYAMLAndHidesSecrets(t *testing.T) {
	var c Config
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(`
brokers: [k-1:9092]
client_id: edge
timeout: 3s
sasl: {mechanism: plain, user: u, password: topsecret}
tls: {enabled: true}
topic: alarms
compression: lz4
max_record_bytes: 2000000
in_flight: 500
transactional_id: alarms-1
transaction_timeout: 30s
topic_wait: 5s
`), &c, yaml.Strict()))
	require.Equal(t, Config{
		Connection: Connection{
			Brokers: []string{"k-1:9092"}, ClientID: "edge", Timeout: 3 * time.Second,
			SASL: SASL{Mechanism: "plain", User: "u", Password: "topsecret"}, TLS: TLS{Enabled: true},
		},
		Topic: "alarms", Compression: "lz4", MaxRecordBytes: 2_000_000, InFlight: 500, TransactionalID: "alarms-1",
		TransactionTimeout: 30 * time.Second, TopicWait: 5 * time.Second,
	}, c)
	require.NoError(t, c.validate(false))
	out, err := yaml.Marshal(c)
	require.NoError(t, err)
	for _, s := range []string{string(out), fmt.Sprintf("%v %+v %#v", c, c, c)} {
		require.NotContains(t, s, "topsecret")
	}
}

func TestWrongConfigurationListsEverything(t *testing.T) {
	s := Sink(Config{
		Connection:  Connection{SASL: SASL{Mechanism: "kerberos", User: "u", Password: "s3cr3t"}},
		Compression: "rar", MaxRecordBytes: 5, InFlight: -1, TransactionTimeout: time.Millisecond, TopicWait: -1,
	}, readings{})
	err := s.Open(t.Context(), flow.SinkRuntime{})
	for _, part := range []string{"topic is empty", "brokers", "kerberos", "rar", "max_record_bytes", "in_flight", "transaction_timeout", "topic_wait"} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), "s3cr3t")
	require.NoError(t, s.Close(t.Context()))
	s = Sink(Config{Topic: "t"}, readings{}, Topic(device))
	require.ErrorContains(t, s.Open(t.Context(), flow.SinkRuntime{}), "option Topic")
}

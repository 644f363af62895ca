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
brokers: [k-1:9092, k-2:9092]
client_id: edge
timeout: 3s
sasl: {mechanism: scram-sha-512, user: u, password: topsecret}
tls: {enabled: true, server_name: kafka}
topics: [readings]
group: metrics
from: 2026-01-31T00:00:00Z
isolation_level: read_uncommitted
poll_timeout: 1s
partition_bytes: 2000000
fetch_bytes: 20000000
assignment: all
topic_refresh: 1m
topic_wait: 5s
meta: true
skip_tombstones: true
check_shards: true
`), &c, yaml.Strict()))
	require.Equal(t, Config{
		Connection: Connection{
			Brokers: []string{"k-1:9092", "k-2:9092"}, ClientID: "edge", Timeout: 3 * time.Second,
			SASL: SASL{Mechanism: "scram-sha-512", User: "u", Password: "topsecret"}, TLS: TLS{Enabled: true, ServerName: "kafka"},
		},
		Topics: []string{"readings"}, Group: "metrics", From: "2026-01-31T00:00:00Z", IsolationLevel: "read_uncommitted",
		PollTimeout: time.Second, PartitionBytes: 2_000_000, FetchBytes: 20_000_000, Assignment: "all", TopicRefresh: time.Minute,
		TopicWait: 5 * time.Second, Meta: true, SkipTombstones: true, CheckShards: true,
	}, c)
	require.NoError(t, c.validate())
	c.Dial = nil
	out, err := yaml.Marshal(c)
	require.NoError(t, err)
	for _, s := range []string{string(out), fmt.Sprintf("%v %+v %#v", c, c, c)} {
		require.NotContains(t, s, "topsecret")
	}
}

func TestWrongConfigurationListsEverything(t *testing.T) {
	s := Source(Config{
		Connection: Connection{Brokers: []string{"nohost"}, Timeout: -1, SASL: SASL{Mechanism: "plain", Password: "s3cr3t"}, TLS: TLS{Enabled: true, CAFile: "no.pem"}},
		From:       "middle", IsolationLevel: "dirty", PollTimeout: time.Hour, PartitionBytes: 10, Assignment: "group", TopicWait: -1,
	}, number{})
	err := s.Open(t.Context(), flow.SourceRuntime{})
	for _, part := range []string{
		"topics", "group", `from is "middle"`, `isolation_level is "dirty"`, "poll_timeout is 1h", "partition_bytes is 10", "assignment", "topic_wait",
		"nohost", "timeout is -1ns", "sasl", "no.pem",
	} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), "s3cr3t")
	require.NoError(t, s.Close(t.Context()))

	_, err = Config{TopicPattern: "a(b"}.pattern()
	require.ErrorContains(t, err, "topic_pattern")
	require.ErrorContains(t, Config{Topics: []string{"a", "a"}, TopicPattern: "b"}.withDefaults().validate(), "both set")
	require.ErrorContains(t, Config{}.withDefaults().validate(), "brokers is empty")
}

func TestPartitionsAndTokensAreReadBack(t *testing.T) {
	for _, id := range []string{"topic/0", "a.b-c_d/17"} {
		k, err := parsePartition(id)
		require.NoError(t, err)
		require.Equal(t, id, partitionID(k))
	}
	for _, id := range []string{"", "topic", "/1", "topic/", "topic/-1", "topic/x", "topic/99999999999"} {
		_, err := parsePartition(id)
		require.Error(t, err, id)
	}
	for _, x := range []token{{id: "-"}, {id: "abc"}, {id: "abc", shards: "12"}} {
		require.Equal(t, x, parseToken(x.String()))
	}
	require.Equal(t, token{id: "-"}, parseToken("written by something else"))
}

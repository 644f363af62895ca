package rocketmq

import (
	"fmt"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

func TestConfigComesFromYAMLAndHidesSecrets(t *testing.T) {
	var c Config
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(`
name_servers: [ns-1:9876, ns-2:9876]
topic: readings
group: metrics
from: 2026-01-31T00:00:00Z
batch: 1024
poll_timeout: 20s
assignment: all
route_refresh: 1m
topic_wait: 5s
meta: true
check_shards: true
timeout: 3s
access_key: ak
secret_key: topsecret
tls: {enabled: true, server_name: mq}
`), &c, yaml.Strict()))
	require.Equal(t, Config{
		Connection: Connection{
			NameServers: []string{"ns-1:9876", "ns-2:9876"}, Timeout: 3 * time.Second, AccessKey: "ak", SecretKey: "topsecret",
			TLS: TLS{Enabled: true, ServerName: "mq"},
		},
		Topic: "readings", Group: "metrics", From: "2026-01-31T00:00:00Z", Batch: 1024,
		PollTimeout: 20 * time.Second, Assignment: "all", RouteRefresh: time.Minute, TopicWait: 5 * time.Second, Meta: true, CheckShards: true,
	}, c)
	require.NoError(t, c.validate())
	out, err := yaml.Marshal(c)
	require.NoError(t, err)
	for _, s := range []string{string(out), fmt.Sprintf("%v %+v %#v", c, c, c)} {
		require.NotContains(t, s, "topsecret")
	}
}

package rocketmq

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
)

func TestSignedRequestsAreAcceptedAndUnsignedOnesRefusedForGood(t *testing.T) {
	set := services.Isolated(t, services.Options{BrokerConf: map[string]string{
		"authenticationEnabled":                "true",
		"authenticationProvider":               "org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider",
		"authenticationMetadataProvider":       "org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider",
		"initAuthenticationUser":               `{"username":"mill","password":"race1234"}`,
		"innerClientAuthenticationCredentials": `{"accessKey":"mill","secretKey":"race1234"}`,
	}}, services.RocketBroker)
	dial := func(key string, secret Secret) *Client {
		c, err := New(Options{NameServers: []string{set.NameServer()}, Timeout: 20 * time.Second, Credentials: Credentials{AccessKey: key, SecretKey: secret}})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		return c
	}
	c := dial("mill", "race1234")
	require.NoError(t, c.CreateTopic(t.Context(), flow.SystemClock(), "acl", 1))
	q := Queue{Broker: "broker-a"}
	props, err := AppendProperty(nil, "n", "ü")
	require.NoError(t, err)
	m, err := AppendMessage(nil, []byte("body"), props)
	require.NoError(t, err)
	send := func(c *Client) error {
		r, err := c.Call(t.Context(), set.Broker(), SendBatch("p", "acl", q, time.Now(), m, m))
		if err != nil {
			return err
		}
		defer r.Release()
		return r.Err()
	}
	require.NoError(t, send(c))
	require.Eventually(t, func() bool {
		n, err := c.MaxOffset(t.Context(), set.Broker(), "acl", q)
		return err == nil && n == 2
	}, 10*time.Second, 20*time.Millisecond)
	r, err := c.Call(t.Context(), set.Broker(), Pull{Group: "g", Topic: "acl", Queue: q, Max: 10}.Request())
	require.NoError(t, err)
	require.NoError(t, r.Err())
	r.Release()
	require.NoError(t, c.Commit(t.Context(), set.Broker(), "g", "acl", q, 2))

	for name, c := range map[string]*Client{"unsigned": dial("", ""), "wrong secret": dial("mill", "wrong"), "unknown": dial("nobody", "x")} {
		err := send(c)
		require.Error(t, err, name)
		require.False(t, flow.IsTransient(err), "%s: %v", name, err)
		require.ErrorContains(t, err, "access_key", name)
	}
}

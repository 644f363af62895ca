package mqttbroker_test

import (
	"context"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/internal/mqttbroker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T, b *mqttbroker.Broker, id, user, pass string) (paho.Client, error) {
	t.Helper()
	o := paho.NewClientOptions().AddBroker(b.URL()).SetClientID(id).SetUsername(user).SetPassword(pass).
		SetAutoReconnect(false).SetProtocolVersion(4).SetCleanSession(false)
	c := paho.NewClient(o)
	tok := c.Connect()
	require.True(t, tok.WaitTimeout(5*time.Second))
	t.Cleanup(func() { c.Disconnect(250) })
	return c, tok.Error()
}

func TestPublishAndSubscribe(t *testing.T) {
	b, err := mqttbroker.Start(t.Context(), "127.0.0.1:0", mqttbroker.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	c, err := client(t, b, "reader", "", "")
	require.NoError(t, err)
	got := make(chan string, 1)
	tok := c.Subscribe("a/#", 1, func(_ paho.Client, m paho.Message) { got <- string(m.Payload()) })
	require.True(t, tok.WaitTimeout(5*time.Second))
	require.NoError(t, tok.Error())
	require.NoError(t, b.Publish("a/b", []byte("hello"), false, 1))
	require.Equal(t, "hello", <-got)
	require.Zero(t, b.Dropped())
	require.True(t, b.Connected("reader"))
	require.True(t, b.Cut("reader"))
	require.False(t, b.Connected("reader"))
}

func TestUnackedLimitIsCounted(t *testing.T) {
	b, err := mqttbroker.Start(t.Context(), "127.0.0.1:0", mqttbroker.Options{MaxUnacked: 10})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	c, err := client(t, b, "away", "", "")
	require.NoError(t, err)
	require.True(t, c.Subscribe("a", 1, nil).WaitTimeout(5*time.Second))
	require.True(t, b.Cut("away"))
	for range 15 {
		require.NoError(t, b.Publish("a", nil, false, 1))
	}
	require.Equal(t, mqttbroker.Dropped{Unacked: 5}, b.Dropped())
	require.Equal(t, 10, b.Unacked())
}

func TestWindow(t *testing.T) {
	b, err := mqttbroker.Start(t.Context(), "127.0.0.1:0", mqttbroker.Options{Window: 3})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	got := make(chan paho.Message, 100)
	o := paho.NewClientOptions().AddBroker(b.URL()).SetClientID("slow").SetAutoReconnect(false).SetAutoAckDisabled(true)
	c := paho.NewClient(o)
	require.True(t, c.Connect().WaitTimeout(5*time.Second))
	t.Cleanup(func() { c.Disconnect(250) })
	keep := func(_ paho.Client, m paho.Message) { got <- m }
	require.True(t, c.SubscribeMultiple(map[string]byte{"a": 1}, keep).WaitTimeout(5*time.Second))
	for i := range 20 {
		require.NoError(t, b.Publish("a", []byte{byte(i)}, false, 1))
	}
	for i := range 20 {
		m := <-got
		require.Equal(t, []byte{byte(i)}, m.Payload())
		if i >= 2 { // the window is full: what is answered now comes behind all that may come
			require.True(t, c.Unsubscribe("nothing").WaitTimeout(5*time.Second))
			require.Empty(t, got)
			m.Ack()
		}
	}
}

func TestPassword(t *testing.T) {
	b, err := mqttbroker.Start(t.Context(), "127.0.0.1:0", mqttbroker.Options{Username: "u", Password: "p"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	_, err = client(t, b, "right", "u", "p")
	require.NoError(t, err)
	_, err = client(t, b, "wrong", "u", "x")
	require.Error(t, err)
}

func TestAddress(t *testing.T) {
	_, err := mqttbroker.Start(t.Context(), "0.0.0.0:0", mqttbroker.Options{})
	require.ErrorContains(t, err, "127.0.0.1")
	ctx, cancel := context.WithCancel(t.Context())
	b, err := mqttbroker.Start(ctx, "127.0.0.1:0", mqttbroker.Options{})
	require.NoError(t, err)
	_, err = mqttbroker.Start(t.Context(), b.Addr(), mqttbroker.Options{})
	require.ErrorContains(t, err, b.Addr())
	cancel()
	require.NoError(t, b.Close())
}

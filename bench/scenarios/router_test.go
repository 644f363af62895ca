package scenarios

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

func newRouter(tb testing.TB) *message.Router {
	r, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(tb, err)
	return r
}

func count(r *flow.Running, node, name string) int64 {
	for _, c := range r.Counters() {
		if c.Node == node && c.Name == name {
			return c.Value
		}
	}
	return 0
}

// subscribed publishes probes until one arrives: then the source's subscription stands.
func subscribed(tb testing.TB, pub paho.Client, r *flow.Running) {
	require.Eventually(tb, func() bool {
		pub.Publish("devices/x", 1, false, []byte(`{"device":"probe","seq":-1,"at":1,"value":0}`)).WaitTimeout(time.Second)
		return count(r, "mqtt", "out") > 0
	}, 30*time.Second, 50*time.Millisecond)
}

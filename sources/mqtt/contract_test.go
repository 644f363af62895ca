package mqtt_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

// The source keeps the contract of flow.Source on a real broker, in both versions of the protocol, whatever the network does.
func TestContract(t *testing.T) {
	set := services.Need(t, services.Mosquitto)
	for _, protocol := range []mqtt.Protocol{mqtt.V311, mqtt.V5} {
		t.Run("MQTT "+string(protocol), func(t *testing.T) { flowtest.SourceContract(t, contract(set, protocol)) })
	}
}

func contract(set *services.Set, protocol mqtt.Protocol) flowtest.SourceSetup[int] {
	var place atomic.Int64
	count := 0
	if protocol == mqtt.V5 {
		count = 60 // less than the window
	}
	wrong := func(cfg mqtt.Config) func() flow.Source[int] {
		return func() flow.Source[int] { return mqtt.Source(cfg, numbers{}) }
	}
	return flowtest.SourceSetup[int]{
		New: func(t testing.TB) flowtest.SourceCase[int] {
			topic := fmt.Sprintf("contract/%x/%d", time.Now().UnixNano(), place.Add(1))
			cfg := mqtt.Config{
				Protocol: protocol, Topics: []string{topic}, ClientID: strings.ReplaceAll(topic, "/", "-"),
				MaxReconnectInterval: 100 * time.Millisecond, Buffer: 128,
			}
			if protocol == mqtt.V5 {
				cfg.Window = 64
			}
			forget(t, set.MQTT(), cfg.ClientID)
			session := connect(t, set.MQTT(), cfg.ClientID, false)
			confirmed(t, session.Subscribe(topic, 1, nil)) // from here on the broker keeps what is published
			session.Disconnect(250)
			network := faults.New(t, set.MQTT())
			cfg.Brokers = []string{"tcp://" + network.Addr()}
			p := connect(t, set.MQTT(), cfg.ClientID+"-publisher", true)
			t.Cleanup(func() { p.Disconnect(250) })
			return flowtest.SourceCase[int]{
				Source: func() flow.Source[int] { return mqtt.Source(cfg, numbers{}) },
				Publish: func(t testing.TB, ids []int) {
					send(t, p, topic, len(ids), func(i int) string { return strconv.Itoa(ids[i]) })
				},
				Poison: func(t testing.TB, payload []byte) { send(t, p, topic, 1, func(int) string { return string(payload) }) },
				Large: func(t testing.TB, ids []int, bytes int) {
					pad := " " + strings.Repeat("x", bytes)
					send(t, p, topic, len(ids), func(i int) string { return strconv.Itoa(ids[i]) + pad })
				},
				Network: network,
			}
		},
		ID: func(v int) int { return v },
		Wrong: map[string]func() flow.Source[int]{
			"brokers": wrong(mqtt.Config{Protocol: protocol, Topics: []string{"d"}}),
			"topics":  wrong(mqtt.Config{Protocol: protocol, Brokers: []string{"tcp://127.0.0.1:1"}}),
			"qos":     wrong(mqtt.Config{Protocol: protocol, Brokers: []string{"tcp://127.0.0.1:1"}, Topics: []string{"d"}, QoS: new(byte(3))}),
		},
		Count:       count,
		RepeatsAcks: true, // an ack on a connection that carries nothing any more
		MaxHeap:     8 << 20,
	}
}

// connect makes a client that is no source.
func connect(t testing.TB, addr, id string, clean bool) paho.Client {
	t.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetCleanSession(clean).SetOrderMatters(false).
		SetAutoReconnect(false))
	confirmed(t, c.Connect())
	return c
}

// forget makes the broker drop a client's session when the test ends.
func forget(t testing.TB, addr, id string) {
	t.Cleanup(func() { connect(t, addr, id, true).Disconnect(250) })
}

func confirmed(t testing.TB, tok paho.Token) {
	t.Helper()
	require.True(t, tok.WaitTimeout(patience), "the broker does not confirm")
	require.NoError(t, tok.Error())
}

// send publishes n payloads with QoS 1 and returns when the broker has them all.
func send(t testing.TB, p paho.Client, topic string, n int, payload func(int) string) {
	t.Helper()
	window := make([]paho.Token, 0, 256)
	for i := range n {
		window = append(window, p.Publish(topic, 1, false, payload(i)))
		if len(window) == cap(window) || i == n-1 {
			for _, tok := range window {
				confirmed(t, tok)
			}
			window = window[:0]
		}
	}
}

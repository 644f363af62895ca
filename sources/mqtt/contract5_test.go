package mqtt_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

// In MQTT 5 the source keeps the same contract.
func TestContractOfMQTT5(t *testing.T) {
	set := services.Need(t, services.Mosquitto)
	var place atomic.Int64
	flowtest.SourceContract(t, flowtest.SourceSetup[int]{
		New: func(t testing.TB) flowtest.SourceCase[int] {
			topic := fmt.Sprintf("contract5/%x/%d", time.Now().UnixNano(), place.Add(1))
			cfg := mqtt.Config{
				Topics: []string{topic}, ClientID: strings.ReplaceAll(topic, "/", "-"), MaxReconnectInterval: 100 * time.Millisecond,
				Protocol: mqtt.V5, Window: 1024, Buffer: 2048, // more than the suite leaves unacked
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
			"protocol": func() flow.Source[int] {
				return mqtt.Source(mqtt.Config{Brokers: []string{"tcp://127.0.0.1:1"}, Topics: []string{"d"}, Protocol: "6"}, numbers{})
			},
		},
		RepeatsAcks: true, // a PUBACK on a connection that carries nothing any more
		MaxHeap:     24 << 20,
	})
}

package rocketmq

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
)

// The sink keeps the contract of flow.Sink on a real broker, whatever the network does.
func TestContract(t *testing.T) {
	set := services.Need(t, services.RocketNameSrv, services.RocketBroker)
	servers := Connection{NameServers: []string{set.NameServer()}, Timeout: 2 * time.Second}
	var places atomic.Int64
	deviceOf := func(id int) string { return fmt.Sprintf("dev-%d", id%7) }
	wrong := func(cfg Config) func() flow.Sink[reading] {
		return func() flow.Sink[reading] { return Sink(cfg, readings{}) }
	}
	flowtest.SinkContract(t, flowtest.SinkSetup[reading]{
		New: func(t testing.TB) flowtest.SinkCase[reading] {
			topic := fmt.Sprintf("SinkContract_%x_%d", time.Now().UnixNano(), places.Add(1))
			require.NoError(t, CreateTopic(t.Context(), servers.NameServers, topic, 3))
			network := faults.Group{faults.New(t, set.NameServer()), faults.New(t, set.Broker())}
			return flowtest.SinkCase[reading]{
				Sink: func() flow.Sink[reading] {
					s := Sink(Config{Connection: servers, Topic: topic, BatchMessages: 50}, readings{}, Key(device), ID(eventID))
					return &proxied{s.(*sink[reading]), network}
				},
				Stored: func(t testing.TB) []int {
					var ids []int
					for _, m := range readOnce(t, set.NameServer(), topic) {
						var r reading
						require.NoError(t, readings{}.Decode([]byte(m.body), &r))
						require.Equal(t, r.device, m.props[rocketmq.ShardingKey])
						ids = append(ids, r.seq)
					}
					return ids
				},
				Network: network,
			}
		},
		Record: func(id int) reading { return reading{deviceOf(id), id} },
		Refused: map[string]func(id int) reading{
			"no body, and no key":         func(int) reading { return reading{} },
			"a key that would be cut":     func(id int) reading { return reading{"dev\x01", id} },
			"a property that is too long": func(id int) reading { return reading{strings.Repeat("d", 40_000), id} },
		},
		Wrong: map[string]func() flow.Sink[reading]{
			"topic":       wrong(Config{Connection: servers}),
			"name server": wrong(Config{Topic: "t"}),
			"batch_bytes": wrong(Config{Connection: servers, Topic: "t", BatchBytes: 8 << 20}),
		},
		Key:     deviceOf,
		Repeats: true,
	})
}

// proxied is a sink that reaches all addresses by proxies. The name servers tell it the broker's own.
type proxied struct {
	*sink[reading]
	network faults.Group
}

func (p *proxied) Open(ctx context.Context, rt flow.SinkRuntime) error {
	if p.client == nil {
		client, err := rocketmq.New(rocketmq.Options{NameServers: p.cfg.NameServers, Timeout: p.cfg.Timeout, Via: p.network.Dial})
		if err != nil {
			return err
		}
		p.client, p.rt = client, rt
	}
	return p.sink.Open(ctx, rt)
}

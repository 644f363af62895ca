package kafka

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/services"
)

func TestContract(t *testing.T) {
	set := services.Need(t, services.Kafka)
	flowtest.SinkContract(t, sinkSetup(set, func(*Config) {}))
}

func TestContractWithTransactions(t *testing.T) {
	set := services.Need(t, services.Kafka)
	s := sinkSetup(set, func(c *Config) { c.TransactionalID = "tx-" + c.Topic })
	flowtest.SinkContract(t, s)
}

func sinkSetup(set *services.Set, change func(*Config)) flowtest.SinkSetup[reading] {
	return flowtest.SinkSetup[reading]{
		New: func(t testing.TB) flowtest.SinkCase[reading] {
			b := setup(t, set, 1, "max.message.bytes", "100000")
			proxy := faults.New(t, set.Kafka())
			addr := proxy.Addr()
			cfg := b.config()
			cfg.Timeout = time.Second
			// Brokers say where they are: a proxy must be on the way to whatever they say.
			cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			change(&cfg)
			return flowtest.SinkCase[reading]{
				Sink: func() flow.Sink[reading] { return Sink(cfg, readings{}, Key(device)) },
				Stored: func(t testing.TB) (ids []int) {
					for _, r := range b.stored(b.topic)[0] {
						var v reading
						require.NoError(t, readings{}.Decode(r.Value, &v))
						ids = append(ids, v.n)
					}
					return ids
				},
				Network: proxy,
			}
		},
		Record: func(id int) reading { return reading{"d", id} },
		Refused: map[string]func(id int) reading{
			"too large": func(id int) reading { return reading{strings.Repeat("x", 200_000), id} },
		},
		Wrong: map[string]func() flow.Sink[reading]{
			"topic": func() flow.Sink[reading] {
				return Sink(Config{Connection: Connection{Brokers: []string{"a:1"}}}, readings{})
			},
			"brokers": func() flow.Sink[reading] { return Sink(Config{Topic: "t"}, readings{}) },
		},
	}
}

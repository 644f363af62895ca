package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
)

// The source keeps the contract of flow.Source on a real broker, whatever the network does.
func TestContract(t *testing.T) {
	set := services.Need(t, services.RocketNameSrv, services.RocketBroker)
	cfg := Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: "t", Group: "g"}
	wrong := func(change func(*Config)) func() flow.Source[int] {
		return func() flow.Source[int] {
			c := cfg
			change(&c)
			return Source[int](c, number{})
		}
	}
	flowtest.SourceContract(t, flowtest.SourceSetup[int]{
		New: func(t testing.TB) flowtest.SourceCase[int] {
			b := setup(t, set, 2)
			network := faults.Group{faults.New(t, set.NameServer()), faults.New(t, set.Broker())}
			cfg := b.config()
			cfg.Timeout, cfg.PollTimeout, cfg.Batch = 2*time.Second, 200*time.Millisecond, 64
			return flowtest.SourceCase[int]{
				Source: func() flow.Source[int] { return &proxied{Source[int](cfg, padded{}).(*source[int]), network} },
				Publish: func(_ testing.TB, ids []int) {
					var bodies [2][]string
					for _, id := range ids {
						bodies[id%2] = append(bodies[id%2], fmt.Sprint(id))
					}
					b.send(0, bodies[0]...)
					b.send(1, bodies[1]...)
				},
				Poison: func(_ testing.TB, payload []byte) { b.send(0, string(payload)) },
				Large: func(_ testing.TB, ids []int, bytes int) {
					pad := strings.Repeat(" ", bytes)
					for part := range slices.Chunk(ids, 1<<20/bytes) { // a broker takes at most 4 MiB at once
						bodies := make([]string, len(part))
						for i, id := range part {
							bodies[i] = fmt.Sprint(id) + pad
						}
						b.send(0, bodies...)
					}
				},
				Network: network,
			}
		},
		ID: func(v int) int { return v },
		Wrong: map[string]func() flow.Source[int]{
			"topic":       wrong(func(c *Config) { c.Topic = "" }),
			"group":       wrong(func(c *Config) { c.Group = "" }),
			"batch":       wrong(func(c *Config) { c.Batch = 5000 }),
			"name server": wrong(func(c *Config) { c.NameServers = nil }),
		},
		Remembers: true,
		MaxHeap:   8 << 20,
	})
}

// padded is number with spaces behind.
type padded struct{ number }

func (padded) Decode(b []byte, v *int) error {
	return number{}.Decode([]byte(strings.TrimRight(string(b), " ")), v)
}

// proxied is a source that reaches all addresses by proxies. The name servers tell it the broker's own.
type proxied struct {
	*source[int]
	network faults.Group
}

func (p *proxied) Open(ctx context.Context, rt flow.SourceRuntime) error {
	if err := p.source.Open(ctx, rt); err != nil {
		return err
	}
	p.client.Close()
	var err error
	p.client, err = rocketmq.New(rocketmq.Options{NameServers: p.cfg.NameServers, Timeout: p.cfg.Timeout, Via: p.network.Dial})
	return err
}

func TestProxiedReachesNothingElse(t *testing.T) {
	set := services.Need(t, services.RocketNameSrv, services.RocketBroker)
	b := setup(t, set, 1)
	network := faults.Group{faults.New(t, set.NameServer()), faults.New(t, set.Broker())}
	p := &proxied{Source[int](b.config(), number{}).(*source[int]), network}
	require.NoError(t, p.Open(t.Context(), flow.SourceRuntime{Clock: flow.SystemClock()}))
	defer func() { require.NoError(t, p.Close(t.Context())) }()
	_, err := p.client.Route(t.Context(), b.topic)
	require.NoError(t, err)
	network.Cut()
	_, err = p.client.Route(t.Context(), b.topic)
	require.True(t, flow.IsTransient(err), err)
	_, err = p.client.MaxOffset(t.Context(), set.Broker(), b.topic, b.queue(0))
	require.True(t, flow.IsTransient(err) && !errors.Is(err, context.DeadlineExceeded), err)
}

package connectors

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/internal/services"
	mqttsink "github.com/millrace-stream/millrace/sinks/mqtt"
	"github.com/millrace-stream/millrace/sources/gen"
	mqttsource "github.com/millrace-stream/millrace/sources/mqtt"
)

const (
	mqttRead    = 60_000
	mqttWritten = 60_000
	// mqttWindow is how many messages the broker leaves unacked; its own default, 20, measures the broker.
	mqttWindow   = 2000
	mqttPatience = 2 * time.Minute
)

// mqttPayload stands for a record; its codec copies nothing, so that the connectors are measured and not a decoder.
type mqttPayload struct {
	i    int64
	size int
}

type mqttCodec struct{ from *workload.Payloads }

func (mqttCodec) ID() string { return "payload" }

func (c mqttCodec) Append(b []byte, v *mqttPayload) ([]byte, error) {
	return c.from.Append(b, v.i), nil
}

func (mqttCodec) Decode(b []byte, v *mqttPayload) error {
	v.size = len(b)
	return nil
}

// mqttArrivals measures from the first arrival to the last.
type mqttArrivals struct {
	want        int64
	n           atomic.Int64
	first, last atomic.Int64
	all         chan struct{}
}

func newMQTTArrivals(want int64) *mqttArrivals {
	return &mqttArrivals{want: want, all: make(chan struct{})}
}

func (a *mqttArrivals) add(n int) {
	now := time.Now().UnixNano()
	a.first.CompareAndSwap(0, now)
	if a.n.Add(int64(n)) >= a.want && a.last.CompareAndSwap(0, now) {
		close(a.all)
	}
}

func (a *mqttArrivals) await(b *testing.B) time.Duration {
	b.Helper()
	select {
	case <-a.all:
	case <-time.After(mqttPatience):
		require.FailNow(b, "not everything has arrived", "%d of %d", a.n.Load(), a.want)
	}
	return time.Duration(a.last.Load() - a.first.Load())
}

// mqttReport says how fast both were, for n messages each time.
func mqttReport(b *testing.B, n int, bare, ours time.Duration) {
	b.Helper()
	all := float64(n) * float64(b.N)
	b.ReportMetric(all/bare.Seconds(), "bare-rec/s")
	b.ReportMetric(all/ours.Seconds(), "rec/s")
	b.ReportMetric(float64(bare)/float64(ours), "x-of-bare")
	b.ReportMetric(0, "ns/op")
}

func mqttTopology(name string) *flow.Topology {
	return flow.New(name, flow.WithStore(state.InMemory()), flow.AcceptRepeats(), flow.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
}

// BenchmarkMQTTSource drains messages of QoS 1 that wait in a session: by a loop over the client that acks and does nothing else, and by
// a topology of the source and a sink that counts.
func BenchmarkMQTTSource(b *testing.B) {
	set := services.Isolated(b, services.Options{MosquittoInflight: mqttWindow}, services.Mosquitto)
	for _, c := range []struct {
		name     string
		protocol mqttsource.Protocol
		bare     func(b *testing.B, addr, id string, all *mqttArrivals) (stop func())
	}{{"3.1.1", mqttsource.V311, mqttBare311}, {"5", mqttsource.V5, mqttBare5}} {
		b.Run("MQTT="+c.name, func(b *testing.B) {
			var bare, ours time.Duration
			for b.Loop() {
				run := fmt.Sprintf("bench-%x", time.Now().UnixNano())
				source := mqttsource.Config{
					Brokers: []string{"tcp://" + set.MQTT()}, Topics: []string{run}, ClientID: run + "-source", Protocol: c.protocol,
				}
				c.bare(b, set.MQTT(), run, newMQTTArrivals(1))() // so that the sessions are there
				mqttRunSource(b, source, newMQTTArrivals(1))()
				mqttFill(b, set.MQTT(), run)

				all := newMQTTArrivals(mqttRead)
				stop := c.bare(b, set.MQTT(), run, all)
				bare += all.await(b)
				stop()
				all = newMQTTArrivals(mqttRead)
				stop = mqttRunSource(b, source, all)
				ours += all.await(b)
				stop()
			}
			mqttReport(b, mqttRead, bare, ours)
		})
	}
}

// mqttFill publishes what both will read.
func mqttFill(b *testing.B, addr, topic string) {
	b.Helper()
	payloads := workload.NewPayloads(workload.New(workload.A()))
	t := mqttTopology("fill")
	sink := mqttsink.Sink(mqttsink.Config{Brokers: []string{"tcp://" + addr}}, topic, mqttCodec{payloads})
	flow.To(flow.From(t, "in", gen.Source(func(i int64) mqttPayload { return mqttPayload{i: i} }, gen.Count(mqttRead))), "out", sink)
	require.NoError(b, t.Run(b.Context()))
}

// mqttBare311 is a loop over the 3.1.1 client with its own acks.
func mqttBare311(b *testing.B, addr, topic string, all *mqttArrivals) (stop func()) {
	b.Helper()
	o := paho.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(topic + "-bare").SetCleanSession(false).SetAutoReconnect(false).
		SetDefaultPublishHandler(func(paho.Client, paho.Message) { all.add(1) })
	c := paho.NewClient(o)
	mqttAwait(b, c.Connect())
	mqttAwait(b, c.Subscribe(topic, 1, nil))
	return func() { c.Disconnect(1000) }
}

func mqttAwait(b *testing.B, tok paho.Token) {
	b.Helper()
	require.True(b, tok.WaitTimeout(mqttPatience))
	require.NoError(b, tok.Error())
}

// mqttBare5 is a loop over the MQTT 5 client with its own acks.
func mqttBare5(b *testing.B, addr, topic string, all *mqttArrivals) (stop func()) {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(b, err)
	c := paho5.NewClient(paho5.ClientConfig{Conn: conn, PacketTimeout: mqttPatience, OnPublishReceived: []func(paho5.PublishReceived) (bool, error){
		func(paho5.PublishReceived) (bool, error) {
			all.add(1)
			return true, nil
		},
	}})
	_, err = c.Connect(b.Context(), &paho5.Connect{ClientID: topic + "-bare", KeepAlive: 30, Properties: &paho5.ConnectProperties{
		SessionExpiryInterval: new(uint32(600)), ReceiveMaximum: new(uint16(mqttWindow)),
	}})
	require.NoError(b, err)
	_, err = c.Subscribe(b.Context(), &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: topic, QoS: 1}}})
	require.NoError(b, err)
	return func() { require.NoError(b, c.Disconnect(&paho5.Disconnect{})) }
}

// mqttRunSource runs the source in a topology until stop.
func mqttRunSource(b *testing.B, cfg mqttsource.Config, all *mqttArrivals) (stop func()) {
	b.Helper()
	t := mqttTopology("mqtt-source")
	flow.To(flow.From(t, "in", mqttsource.Source(cfg, mqttCodec{})), "out", flow.SinkFunc(func(_ context.Context, batch []flow.Record[mqttPayload]) error {
		all.add(len(batch))
		return nil
	}))
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- t.Run(ctx) }()
	if all.want == 1 { // the session is there when something has come through it
		c := paho.NewClient(paho.NewClientOptions().AddBroker(cfg.Brokers[0]).SetClientID(cfg.ClientID + "-probe"))
		mqttAwait(b, c.Connect())
		require.Eventually(b, func() bool {
			mqttAwait(b, c.Publish(cfg.Topics[0], 1, false, "probe"))
			return all.n.Load() > 0
		}, mqttPatience, 20*time.Millisecond)
		c.Disconnect(100)
	}
	return func() {
		cancel()
		require.NoError(b, <-done)
	}
}

// BenchmarkMQTTSink publishes messages of QoS 1 to a broker with no subscribers: by a loop over the 3.1.1 client with as many in flight, and
// by a topology of a generator and the sink.
func BenchmarkMQTTSink(b *testing.B) {
	set := services.Isolated(b, services.Options{}, services.Mosquitto)
	payloads := workload.NewPayloads(workload.New(workload.A()))
	var bare, ours time.Duration
	for b.Loop() {
		bare += mqttBareWrite(b, set.MQTT(), payloads)

		t := mqttTopology("mqtt-sink")
		var began, ended atomic.Int64
		src := gen.Source(func(i int64) mqttPayload {
			if i == 0 {
				began.Store(time.Now().UnixNano())
			}
			return mqttPayload{i: i}
		}, gen.Count(mqttWritten))
		sink := mqttsink.Sink(mqttsink.Config{Brokers: []string{"tcp://" + set.MQTT()}}, "bench", mqttCodec{payloads})
		flow.To(flow.From(t, "in", src), "out", mqttDelivered{sink, &ended})
		require.NoError(b, t.Run(b.Context()))
		ours += time.Duration(ended.Load() - began.Load())
	}
	mqttReport(b, mqttWritten, bare, ours)
}

// mqttDelivered notes when the last delivery was done.
type mqttDelivered struct {
	flow.Sink[mqttPayload]
	at *atomic.Int64
}

func (d mqttDelivered) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	r, err := d.Sink.Deliver(ctx, blocks)
	d.at.Store(time.Now().UnixNano())
	return r, err
}

func mqttBareWrite(b *testing.B, addr string, payloads *workload.Payloads) time.Duration {
	b.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("bench-bare").SetAutoReconnect(false))
	mqttAwait(b, c.Connect())
	defer c.Disconnect(100)
	began := time.Now()
	var window [mqttsink.DefaultInflight]paho.Token
	for i := range mqttWritten {
		if tok := window[i%len(window)]; tok != nil {
			mqttAwait(b, tok)
		}
		window[i%len(window)] = c.Publish("bench", 1, false, payloads.Append(nil, int64(i)))
	}
	for _, tok := range window {
		mqttAwait(b, tok)
	}
	return time.Since(began)
}

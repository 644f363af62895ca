// Package scenarios measures what needs real servers.
package scenarios

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/internal/mqttbroker"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/operators"
	rocketsink "github.com/millrace-stream/millrace/sinks/rocketmq"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

type reading struct {
	Device string  `json:"device"`
	Seq    int64   `json:"seq"`
	At     int64   `json:"at"`
	Value  float64 `json:"value"`
}

func (r reading) device() string  { return r.Device }
func (r reading) seq() int64      { return r.Seq }
func (r reading) time() time.Time { return time.UnixMilli(r.At) }

type epochCost struct {
	n                              int
	drain, collect, deliver, write time.Duration
	ack                            time.Duration
}

func (e *epochCost) OnEpoch(i flow.EpochInfo) {
	e.n++
	e.drain += i.Drain
	e.collect += i.Collect
	e.deliver += i.Deliver
	e.write += i.Write
	e.ack += i.Ack
}

// BenchmarkWindowOf32 runs a broker that leaves at most 32 messages unacked, one client, a Dedup on the durable store, and the RocketMQ
// sink: the epochs that half-full windows end, not the interval, decide the throughput.
func BenchmarkWindowOf32(b *testing.B) {
	s := services.Need(b, services.RocketNameSrv, services.RocketBroker)
	ctx := context.Background()
	topic := fmt.Sprintf("window-of-32-%d", time.Now().UnixNano())
	names := []string{s.NameServer()}
	require.NoError(b, rocketsink.CreateTopic(ctx, names, topic, 4))
	broker, err := mqttbroker.Start(ctx, "127.0.0.1:0", mqttbroker.Options{Window: 32})
	require.NoError(b, err)
	defer func() { _ = broker.Close() }()

	var cost epochCost
	t := flow.New("window-of-32", flow.WithStore(pebble.Dir(b.TempDir())), flow.WithHooks(&cost), flow.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	in := flow.From(t, "mqtt", mqtt.Source(mqtt.Config{Brokers: []string{broker.URL()}, Topics: []string{"devices/#"}}, codec.JSON[reading]()))
	timed := flow.AssignTime(in, "time", reading.time, watermark.BoundedOutOfOrderness(time.Second))
	fresh := operators.Dedup(flow.KeyBy(timed, reading.device), "dedup", reading.seq, time.Minute)
	flow.To(fresh.Unkeyed(), "rocketmq", rocketsink.Sink(rocketsink.Config{Connection: rocketsink.Connection{NameServers: names}, Topic: topic}, codec.JSON[reading](), rocketsink.Key(reading.device)))
	router := newRouter(b)
	run, err := t.AddTo(ctx, router)
	require.NoError(b, err)
	done := make(chan error, 1)
	go func() { done <- router.Run(ctx) }()
	// Publishing begins once the session stands: the embedded broker keeps nothing for clients that it does not know.
	require.Eventually(b, func() bool { return broker.Connected("millrace-window-of-32-mqtt") }, 30*time.Second, 10*time.Millisecond)

	pub := paho.NewClient(paho.NewClientOptions().AddBroker(broker.URL()).SetClientID("publisher"))
	require.True(b, pub.Connect().WaitTimeout(10*time.Second))
	defer pub.Disconnect(100)
	subscribed(b, pub, run)
	b.ResetTimer()
	start := time.Now()
	window := make(chan paho.Token, 256)
	go func() {
		for i := range int64(b.N) {
			p := fmt.Appendf(nil, `{"device":"d%d","seq":%d,"at":%d,"value":1.5}`, i%100, i, time.Now().UnixMilli())
			window <- pub.Publish("devices/x", 1, false, p)
		}
		close(window)
	}()
	for tok := range window {
		require.True(b, tok.WaitTimeout(30*time.Second))
	}
	require.Eventually(b, func() bool { return count(run, "rocketmq", "in") >= int64(b.N) && run.Unacked() == 0 }, time.Minute, 5*time.Millisecond)
	elapsed := time.Since(start)
	b.StopTimer()
	require.NoError(b, run.Stop(ctx))
	require.NoError(b, <-done)
	b.ReportMetric(float64(b.N)/elapsed.Seconds(), "readings/s")
	if cost.n > 0 {
		us := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(cost.n) }
		b.ReportMetric(float64(cost.n), "epochs")
		b.ReportMetric(us(cost.drain+cost.collect), "pause-us/epoch")
		b.ReportMetric(us(cost.deliver), "deliver-us/epoch")
		b.ReportMetric(us(cost.write), "write-us/epoch")
		b.ReportMetric(us(cost.ack), "ack-us/epoch")
	}
}

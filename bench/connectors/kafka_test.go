package connectors

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/internal/kafka"
	"github.com/millrace-stream/millrace/internal/services"
	kafkasink "github.com/millrace-stream/millrace/sinks/kafka"
	"github.com/millrace-stream/millrace/sources/gen"
	kafkasource "github.com/millrace-stream/millrace/sources/kafka"
)

const (
	kafkaPartitions = 4
	kafkaWritten    = 200_000
	kafkaRead       = 400_000 // more than what may be uncommitted, so that epochs count
)

// kafkaPayload stands for a record; its codec copies nothing, so that the connectors are measured and not a decoder.
type kafkaPayload struct {
	i    int64
	size int
}

type kafkaCodec struct{ from *workload.Payloads }

func (kafkaCodec) ID() string { return "payload" }

func (c kafkaCodec) Append(b []byte, v *kafkaPayload) ([]byte, error) {
	return c.from.Append(b, v.i), nil
}

func (kafkaCodec) Decode(b []byte, v *kafkaPayload) error {
	v.size = len(b)
	return nil
}

func kafkaPayloads(b *testing.B) *workload.Payloads {
	b.Helper()
	return workload.NewPayloads(workload.New(workload.A()))
}

func kafkaKey(i int64) string { return kafkaKeys[i%int64(len(kafkaKeys))] }

var kafkaKeys = func() (keys [1 << 12]string) {
	for i := range keys {
		keys[i] = fmt.Sprintf("dev-%07d", i)
	}
	return keys
}()

func kafkaTopic(b *testing.B, set *services.Set) string {
	b.Helper()
	topic := fmt.Sprintf("bench-%x", time.Now().UnixNano())
	require.NoError(b, kafkasink.CreateTopic(b.Context(), kafkaConnection(set), topic, kafkaPartitions))
	b.Cleanup(func() { // a broker that keeps the topics of all runs grows slow
		client, err := kafka.Open(kafkaConnection(set).WithDefaults())
		require.NoError(b, err)
		defer client.Close()
		require.NoError(b, kafka.DeleteTopics(context.Background(), client, 10*time.Second, topic))
	})
	return topic
}

func kafkaConnection(set *services.Set) kafkasink.Connection {
	return kafkasink.Connection{Brokers: []string{set.Kafka()}}
}

// kafkaBare writes records by a loop over the client, with the sink's compression and acks, and returns how long it took.
func kafkaBare(b *testing.B, set *services.Set, topic string, payloads *workload.Payloads, n int64) kafkaPace {
	b.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(set.Kafka()), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	require.NoError(b, err)
	defer c.Close()
	require.NoError(b, c.Ping(b.Context()))
	var failed atomic.Int64
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.Add(1)
		}
	}
	began := time.Now()
	for i := range n {
		c.Produce(b.Context(), &kgo.Record{Topic: topic, Key: []byte(kafkaKey(i)), Value: payloads.Append(nil, i)}, promise)
	}
	require.NoError(b, c.Flush(b.Context()))
	took := time.Since(began)
	require.Zero(b, failed.Load())
	return kafkaPace{n, took}
}

// kafkaPace is a number of records and the time they took.
type kafkaPace struct {
	n    int64
	took time.Duration
}

func (p *kafkaPace) add(q kafkaPace) { p.n, p.took = p.n+q.n, p.took+q.took }

func (p *kafkaPace) rate() float64 { return float64(p.n) / p.took.Seconds() }

func kafkaReport(b *testing.B, bare, ours kafkaPace) {
	b.Helper()
	b.ReportMetric(bare.rate(), "bare-rec/s")
	b.ReportMetric(ours.rate(), "rec/s")
	b.ReportMetric(ours.rate()/bare.rate(), "x-of-bare")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkKafkaSink writes readings to 4 partitions, keyed, acked by all replicas, compressed by zstd: by a loop over the client, and by a
// topology of a generator and the sink.
func BenchmarkKafkaSink(b *testing.B) {
	set := services.Need(b, services.Kafka)
	payloads := kafkaPayloads(b)
	var bare, ours kafkaPace
	for b.Loop() {
		bare.add(kafkaBare(b, set, kafkaTopic(b, set), payloads, kafkaWritten))

		t := kafkaTopology("kafka-sink")
		var began, ended atomic.Int64
		src := gen.Source(func(i int64) kafkaPayload {
			if i == 0 {
				began.Store(time.Now().UnixNano())
			}
			return kafkaPayload{i: i}
		}, gen.Count(kafkaWritten))
		sink := kafkasink.Sink(kafkasink.Config{Connection: kafkaConnection(set), Topic: kafkaTopic(b, set)}, kafkaCodec{payloads},
			kafkasink.Key(func(p kafkaPayload) string { return kafkaKey(p.i) }))
		flow.To(flow.From(t, "in", src), "out", kafkaDelivered[kafkaPayload]{sink, &ended})
		require.NoError(b, t.Run(b.Context()))
		ours.add(kafkaPace{kafkaWritten, time.Duration(ended.Load() - began.Load())})
	}
	kafkaReport(b, bare, ours)
}

// kafkaDelivered notes when a sink's last delivery was done.
type kafkaDelivered[T any] struct {
	flow.Sink[T]
	at *atomic.Int64
}

func (d kafkaDelivered[T]) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	r, err := d.Sink.Deliver(ctx, blocks)
	d.at.Store(time.Now().UnixNano())
	return r, err
}

func kafkaTopology(name string) *flow.Topology {
	return flow.New(name, flow.WithStore(state.InMemory()), flow.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
}

// BenchmarkKafkaSource reads readings from 4 partitions: by a loop over the client, and by a topology of the source and a sink that counts.
func BenchmarkKafkaSource(b *testing.B) {
	set := services.Need(b, services.Kafka)
	payloads := kafkaPayloads(b)
	topic := kafkaTopic(b, set)
	kafkaBare(b, set, topic, payloads, kafkaRead)
	var bare, ours kafkaPace
	for b.Loop() {
		bare.add(kafkaBareRead(b, set, topic))

		t := kafkaTopology("kafka-source")
		ctx, cancel := context.WithCancel(b.Context())
		all := &kafkaArrivals{want: kafkaRead, done: cancel}
		src := kafkasource.Source(kafkasource.Config{
			Connection: kafkaConnection(set), Topics: []string{topic}, Group: fmt.Sprintf("bench-%x", time.Now().UnixNano()),
		}, kafkaCodec{})
		flow.To(flow.From[kafkaPayload](t, "in", kafkaBegun{src, all}), "out", kafkaCounting{flow.SinkFunc(func(context.Context, []flow.Record[kafkaPayload]) error { return nil }), all})
		require.NoError(b, t.Run(ctx))
		require.Equal(b, int64(kafkaRead), all.n.Load())
		ours.add(all.pace())
	}
	kafkaReport(b, bare, ours)
}

// kafkaBareRead reads the topic by a loop over the client.
func kafkaBareRead(b *testing.B, set *services.Set, topic string) kafkaPace {
	b.Helper()
	at := map[int32]kgo.Offset{}
	for p := range int32(kafkaPartitions) {
		at[p] = kgo.NewOffset().AtStart()
	}
	all := &kafkaArrivals{want: kafkaRead, done: func() {}}
	all.begin()
	c, err := kgo.NewClient(kgo.SeedBrokers(set.Kafka()), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}))
	require.NoError(b, err)
	defer c.Close()
	bytes := 0
	for all.n.Load() < kafkaRead {
		fs := c.PollFetches(b.Context())
		require.NoError(b, fs.Err())
		fs.EachRecord(func(r *kgo.Record) { bytes += len(r.Value) })
		all.add(fs.NumRecords())
	}
	require.Positive(b, bytes)
	return all.pace()
}

// kafkaArrivals measures from the beginning, connections and all, to the last arrival.
type kafkaArrivals struct {
	want        int64
	done        func()
	n           atomic.Int64
	first, last atomic.Int64
}

func (a *kafkaArrivals) begin() { a.first.Store(time.Now().UnixNano()) }

func (a *kafkaArrivals) add(n int) {
	if a.n.Add(int64(n)) >= a.want && a.last.CompareAndSwap(0, time.Now().UnixNano()) {
		a.done()
	}
}

func (a *kafkaArrivals) pace() kafkaPace {
	return kafkaPace{a.want, time.Duration(a.last.Load() - a.first.Load())}
}

// kafkaBegun notes when a source begins to connect.
type kafkaBegun struct {
	flow.Source[kafkaPayload]
	all *kafkaArrivals
}

func (s kafkaBegun) Run(ctx context.Context, a flow.Assign) error {
	s.all.begin()
	return s.Source.Run(ctx, a)
}

// kafkaCounting is a sink that only counts.
type kafkaCounting struct {
	flow.Sink[kafkaPayload]
	all *kafkaArrivals
}

func (c kafkaCounting) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[kafkaPayload], error) {
	return c, nil
}

func (c kafkaCounting) Write(_ context.Context, batch []flow.Record[kafkaPayload]) error {
	c.all.add(len(batch))
	return nil
}

func (kafkaCounting) Seal(context.Context) ([]flow.Block, error) { return nil, nil }

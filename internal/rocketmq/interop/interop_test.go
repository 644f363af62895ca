package interop

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	client "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
	rocketmqsink "github.com/millrace-stream/millrace/sinks/rocketmq"
	rocketmqsource "github.com/millrace-stream/millrace/sources/rocketmq"
)

func topicOf(t testing.TB, set *services.Set, queues int) string {
	t.Helper()
	rlog.SetLogLevel("error")
	topic := fmt.Sprintf("%s_%x", t.Name(), time.Now().UnixNano())
	require.NoError(t, rocketmqsink.CreateTopic(t.Context(), []string{set.NameServer()}, topic, queues))
	return topic
}

// text is a codec that writes strings as they are.
type text struct{}

func (text) ID() string                                 { return "text" }
func (text) Decode(b []byte, v *string) error           { *v = string(b); return nil }
func (text) Append(b []byte, v *string) ([]byte, error) { return append(b, *v...), nil }

// newProducer is the client library's, with queues chosen by us.
func newProducer(t testing.TB, set *services.Set, topic string, opts ...producer.Option) client.Producer {
	t.Helper()
	opts = append(opts, producer.WithNameServer([]string{set.NameServer()}), producer.WithInstanceName(topic), producer.WithRetry(0),
		producer.WithSendMsgTimeout(20*time.Second), producer.WithQueueSelector(chosen{}))
	p, err := producer.NewDefaultProducer(opts...)
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() { require.NoError(t, p.Shutdown()) })
	require.Eventually(t, func() bool { // its first sends may find no route
		_, err := p.SendSync(context.Background(), messageTo(topic, 0, "first"))
		return err == nil
	}, time.Minute, 100*time.Millisecond)
	return p
}

func messageTo(topic string, queue int, body string) *primitive.Message {
	m := primitive.NewMessage(topic, []byte(body))
	m.Queue = &primitive.MessageQueue{QueueId: queue}
	return m
}

type chosen struct{}

func (chosen) Select(m *primitive.Message, queues []*primitive.MessageQueue, _ string) *primitive.MessageQueue {
	for _, q := range queues {
		if q.QueueId == m.Queue.QueueId {
			return q
		}
	}
	return nil
}

// Single messages, batches, and a long body, which the client compresses.
func TestSourceReadsWhatTheClientSent(t *testing.T) {
	set := services.Need(t, services.RocketBroker)
	topic := topicOf(t, set, 1)
	p := newProducer(t, set, topic)
	long := strings.Repeat("compress me ", 1000)
	for _, batch := range [][]*primitive.Message{
		{messageTo(topic, 0, "one").WithShardingKey("dev-1").WithKeys([]string{"id-1"})},
		{messageTo(topic, 0, long)},
		{messageTo(topic, 0, "two"), messageTo(topic, 0, "three")},
	} {
		r, err := p.SendSync(t.Context(), batch...)
		require.NoError(t, err)
		require.Equal(t, primitive.SendOK, r.Status)
	}
	in := readWith(t, rocketmqsource.Config{
		Connection: rocketmqsource.Connection{NameServers: []string{set.NameServer()}}, Topic: topic, Group: "g-" + topic, Meta: true}, 5)
	require.Equal(t, []string{"first", "one", long, "two", "three"}, in.values)
	require.Equal(t, "dev-1", in.metas[1].Key)
	require.Equal(t, "id-1", in.metas[1].Headers["KEYS"])
}

// intake is an engine for one partition.
type intake struct {
	want   int
	done   chan struct{}
	read   func([]flow.Partition)
	values []string
	metas  []*flow.Meta
}

func (d *intake) Add(p ...flow.Partition) error                   { d.read(p); return nil }
func (d *intake) Remove(context.Context, ...flow.Partition) error { return nil }
func (d *intake) Buffer() []flow.Record[string]                   { return make([]flow.Record[string], 0, flow.MaxBatch) }
func (d *intake) Reject([]byte, error, flow.Position)             {}
func (d *intake) Reference(time.Time)                             {}
func (d *intake) Idle()                                           {}
func (d *intake) Busy()                                           {}
func (d *intake) Lag(int64)                                       {}
func (d *intake) Window(int)                                      {}
func (d *intake) Emit(_ context.Context, b []flow.Record[string], _ flow.Position) error {
	for _, r := range b {
		d.values, d.metas = append(d.values, r.Value), append(d.metas, r.Meta)
	}
	if len(d.values) >= d.want && len(d.values)-len(b) < d.want {
		close(d.done)
	}
	return nil
}

func TestClientReadsWhatTheSinkSent(t *testing.T) {
	set := services.Need(t, services.RocketBroker)
	topic := topicOf(t, set, 1)
	s := rocketmqsink.Sink(rocketmqsink.Config{Connection: rocketmqsink.Connection{NameServers: []string{set.NameServer()}}, Topic: topic}, text{},
		rocketmqsink.Key(deviceOf), rocketmqsink.ID(func(s string) string { return "id-" + s }))
	require.NoError(t, s.Open(t.Context(), sinkRuntime()))
	w, err := s.Writer(t.Context(), flow.TaskInfo{})
	require.NoError(t, err)
	require.NoError(t, w.Write(t.Context(), []flow.Record[string]{
		{Value: "dev-0000001 a", Meta: &flow.Meta{Headers: map[string]string{"traceparent": "00-1-2-01"}}}, {Value: "dev-0000002 b"},
	}))
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	_, err = s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))

	c, err := consumer.NewPullConsumer(consumer.WithNameServer([]string{set.NameServer()}), consumer.WithGroupName("g-"+topic),
		consumer.WithInstance(topic), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	require.NoError(t, err)
	require.NoError(t, c.Subscribe(topic, consumer.MessageSelector{}))
	require.NoError(t, c.Start())
	t.Cleanup(func() { require.NoError(t, c.Shutdown()) })
	var got []*primitive.MessageExt
	require.Eventually(t, func() bool {
		r, err := c.PullFrom(t.Context(), &primitive.MessageQueue{Topic: topic, BrokerName: "broker-a", QueueId: 0}, 0, 10)
		if err != nil {
			return false
		}
		got = r.GetMessageExts()
		return len(got) == 2
	}, 30*time.Second, 100*time.Millisecond)
	require.Equal(t, "dev-0000001 a", string(got[0].Body))
	require.Equal(t, "dev-0000001", got[0].GetShardingKey())
	require.Equal(t, "id-dev-0000001 a", got[0].GetKeys())
	require.Equal(t, "00-1-2-01", got[0].GetProperty("traceparent"))
	require.Equal(t, "0", got[0].GetProperty(rocketmq.Shard))
	require.Equal(t, "1", got[0].GetProperty(rocketmq.Shards))
	require.Equal(t, "dev-0000002 b", string(got[1].Body))
}

func sinkRuntime() flow.SinkRuntime {
	return flow.SinkRuntime{Clock: flow.SystemClock(), Log: slog.New(slog.DiscardHandler), Count: func(string, int64) {}, RequestEpoch: func() {}}
}

const benchRows, benchQueues = 20_000, 8

// payloads are 200 bytes each, of 10,000 devices; the first 11 bytes are the device.
func payloads() []flow.Record[string] {
	var all []flow.Record[string]
	for i := range benchRows {
		all = append(all, flow.Record[string]{Value: fmt.Sprintf("dev-%07d %s", i%10_000, strings.Repeat("x", 188))})
	}
	return all
}

func deviceOf(s string) string { return s[:11] }

// BenchmarkSink is an epoch of 20,000 messages: encode, seal, deliver.
func BenchmarkSink(b *testing.B) {
	set := services.Need(b, services.RocketBroker)
	topic := topicOf(b, set, benchQueues)
	s := rocketmqsink.Sink(rocketmqsink.Config{Connection: rocketmqsink.Connection{NameServers: []string{set.NameServer()}}, Topic: topic}, text{}, rocketmqsink.Key(deviceOf))
	require.NoError(b, s.Open(b.Context(), sinkRuntime()))
	defer func() { require.NoError(b, s.Close(context.Background())) }()
	w, err := s.Writer(b.Context(), flow.TaskInfo{})
	require.NoError(b, err)
	all := payloads()
	for b.Loop() {
		for i := 0; i < len(all); i += flow.MaxBatch {
			require.NoError(b, w.Write(b.Context(), all[i:min(i+flow.MaxBatch, len(all))]))
		}
		blocks, err := w.Seal(b.Context())
		require.NoError(b, err)
		_, err = s.Deliver(b.Context(), blocks)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkClientProducer is the same with the client library: messages sorted by shard, batches of 1,000 to a chosen queue, the
// queues beside each other.
func BenchmarkClientProducer(b *testing.B) {
	set := services.Need(b, services.RocketBroker)
	topic := topicOf(b, set, benchQueues)
	p := newProducer(b, set, topic)
	all := payloads()
	for b.Loop() {
		shards := make([][]*primitive.Message, benchQueues)
		for i := range all {
			n := i % 10_000 % benchQueues
			m := messageTo(topic, n, all[i].Value)
			m.WithShardingKey(deviceOf(all[i].Value))
			m.WithProperty(rocketmq.Shard, "1")
			m.WithProperty(rocketmq.Shards, "8")
			shards[n] = append(shards[n], m)
		}
		var all errgroup.Group
		for _, msgs := range shards {
			all.Go(func() error {
				for len(msgs) > 0 {
					n := min(1000, len(msgs))
					r, err := p.SendSync(context.Background(), msgs[:n]...)
					if err != nil || r.Status != primitive.SendOK {
						return fmt.Errorf("%v: %w", r, err)
					}
					msgs = msgs[n:]
				}
				return nil
			})
		}
		require.NoError(b, all.Wait())
	}
	b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "msg/s")
}

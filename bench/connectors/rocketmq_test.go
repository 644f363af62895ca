package connectors

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	client "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
	rocketmqsink "github.com/millrace-stream/millrace/sinks/rocketmq"
	"github.com/millrace-stream/millrace/sources/gen"
	rocketmqsource "github.com/millrace-stream/millrace/sources/rocketmq"
)

// The load of the RocketMQ benchmarks: 200 bytes of payload, as of 10,000 devices, in 8 queues, by batches of 1,024.
const (
	rocketmqQueues  = 8
	rocketmqBatch   = 1024
	rocketmqDevices = 10_000
	rocketmqRows    = 300_000
)

// rocketmqPayloads holds one message of each device; the first 11 bytes are the device.
func rocketmqPayloads() []string {
	all := make([]string, rocketmqDevices)
	for i := range all {
		all[i] = fmt.Sprintf("dev-%07d %s", i, strings.Repeat("x", 188))
	}
	return all
}

func rocketmqDevice(s string) string { return s[:11] }

// rocketmqShard is the queue that the sink chooses.
func rocketmqShard(device string) int {
	return int(xxhash.Sum64String(device)%flow.KeyGroups) * rocketmqQueues / flow.KeyGroups
}

// text is a codec that copies.
type rocketmqText struct{}

func (rocketmqText) ID() string                                 { return "text" }
func (rocketmqText) Decode(b []byte, v *string) error           { *v = string(b); return nil }
func (rocketmqText) Append(b []byte, v *string) ([]byte, error) { return append(b, *v...), nil }

type rocketmqBench struct {
	b      *testing.B
	set    *services.Set
	conn   rocketmq.Connection
	client *rocketmq.Client
}

func newRocketMQ(b *testing.B) *rocketmqBench {
	rlog.SetLogLevel("error")
	set := services.Need(b, services.RocketBroker)
	x := &rocketmqBench{b: b, set: set, conn: rocketmq.Connection{NameServers: []string{set.NameServer()}, Timeout: 20 * time.Second}}
	var err error
	x.client, err = rocketmq.NewClient(x.conn)
	require.NoError(b, err)
	b.Cleanup(x.client.Close)
	return x
}

func (x *rocketmqBench) topic() string {
	topic := fmt.Sprintf("%s_%x", strings.ReplaceAll(x.b.Name(), "/", "_"), time.Now().UnixNano())
	require.NoError(x.b, x.client.CreateTopic(x.b.Context(), flow.SystemClock(), topic, rocketmqQueues))
	return topic
}

func rocketmqQueue(i int) rocketmq.Queue { return rocketmq.Queue{Broker: "broker-a", ID: i} }

// send is the bare loop of a producer: messages by queue, one batch after the other in each queue, the queues beside each other.
func (x *rocketmqBench) send(topic string, payloads []string, n int) {
	marks := make([][]byte, rocketmqQueues)
	for q := range marks {
		marks[q], _ = rocketmq.AppendProperty(nil, rocketmq.Shard, strconv.Itoa(q))
		marks[q], _ = rocketmq.AppendProperty(marks[q], rocketmq.Shards, strconv.Itoa(rocketmqQueues))
	}
	var all errgroup.Group
	batches := make([]chan []byte, rocketmqQueues)
	for q := range batches {
		batches[q] = make(chan []byte, 4)
		all.Go(func() error {
			var failed error
			for data := range batches[q] {
				if failed != nil {
					continue
				}
				r, err := x.client.Call(x.b.Context(), x.set.Broker(), rocketmq.SendBatch("bench", topic, rocketmqQueue(q), time.Now(), data))
				if err == nil {
					err = r.Err()
					r.Release()
				}
				failed = err
			}
			return failed
		})
	}
	data, rows := make([][]byte, rocketmqQueues), make([]int, rocketmqQueues)
	var props []byte
	for i := range n {
		v := payloads[i%len(payloads)]
		key := rocketmqDevice(v)
		q := rocketmqShard(key)
		props, _ = rocketmq.AppendProperty(props[:0], rocketmq.ShardingKey, key)
		props = append(props, marks[q]...)
		data[q], _ = rocketmq.AppendMessage(data[q], []byte(v), props)
		if rows[q]++; rows[q] == rocketmqBatch {
			batches[q] <- data[q]
			data[q], rows[q] = make([]byte, 0, cap(data[q])), 0
		}
	}
	for q := range batches {
		if rows[q] > 0 {
			batches[q] <- data[q]
		}
		close(batches[q])
	}
	require.NoError(x.b, all.Wait())
}

// visible waits until readers can see n messages: a broker confirms them a moment before.
func (x *rocketmqBench) visible(topic string, n int64) {
	require.Eventually(x.b, func() bool {
		var sum int64
		for q := range rocketmqQueues {
			m, err := x.client.MaxOffset(x.b.Context(), x.set.Broker(), topic, rocketmqQueue(q))
			if err != nil {
				return false
			}
			sum += m
		}
		return sum >= n
	}, time.Minute, 10*time.Millisecond)
}

// BenchmarkRocketMQSource reads 300,000 messages of a topic: by a bare loop over the same protocol, which pulls 1,024 at a time and
// looks at each message, and by a topology whose sink counts, its start included. x-of-bare is the ratio of the two.
func BenchmarkRocketMQSource(b *testing.B) {
	x := newRocketMQ(b)
	topic := x.topic()
	x.send(topic, rocketmqPayloads(), rocketmqRows)
	x.visible(topic, rocketmqRows)
	b.ResetTimer()
	var bare, ours time.Duration
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		x.pull(topic)
		bare += time.Since(began)
		ours += x.read(topic, fmt.Sprintf("g-%s-%d", topic, n))
	}
	report(b, rocketmqRows, bare, ours)
}

// report adds the rates of the bare loop and of ours to the result, and the ratio.
func report(b *testing.B, rows int, bare, ours time.Duration) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(b.N*rows)/bare.Seconds(), "bare-rows/s")
	b.ReportMetric(float64(b.N*rows)/ours.Seconds(), "rows/s")
	b.ReportMetric(bare.Seconds()/ours.Seconds(), "x-of-bare")
}

// pull is the bare loop of a consumer.
func (x *rocketmqBench) pull(topic string) {
	var count atomic.Int64
	var all errgroup.Group
	for q := range rocketmqQueues {
		all.Go(func() error {
			conn, err := x.client.Dial(x.b.Context(), x.set.Broker())
			if err != nil {
				return err
			}
			defer conn.Close()
			for at := int64(0); ; {
				call, err := conn.Start(rocketmq.Pull{Group: "bare", Topic: topic, Queue: rocketmqQueue(q), Offset: at, Max: rocketmqBatch}.Request())
				if err != nil {
					return err
				}
				r, err := call.Wait(x.b.Context())
				if err != nil {
					return err
				}
				if r.Code == rocketmq.PullNotFound {
					return nil
				}
				if err := r.Err(); err != nil {
					return err
				}
				p, err := r.Pulled()
				if err != nil {
					return err
				}
				var m rocketmq.Message
				for msgs := rocketmq.NewMessages(r.Body); msgs.More(); {
					if err := msgs.Next(&m); err != nil {
						return err
					}
					if s := string(m.Body); len(s) > 0 {
						count.Add(1)
					}
				}
				at = p.Next
				r.Release()
			}
		})
	}
	require.NoError(x.b, all.Wait())
	require.Equal(x.b, int64(rocketmqRows), count.Load())
}

// read does the same by a topology and says how long it took to read the last message.
func (x *rocketmqBench) read(topic, group string) (took time.Duration) {
	t := flow.New("read", flow.WithLogger(slog.New(slog.DiscardHandler)))
	in := flow.From(t, "in", rocketmqsource.Source(rocketmqsource.Config{
		Connection: x.conn, Topic: topic, Group: group, Batch: rocketmqBatch, PollTimeout: time.Second,
	}, rocketmqText{}))
	sink := &counting[string]{want: rocketmqRows, full: make(chan struct{})}
	flow.To(in, "count", sink)
	ctx, stop := context.WithCancel(x.b.Context())
	defer stop()
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- t.Run(ctx) }()
	select {
	case <-sink.full:
		took = time.Since(began)
		stop()
		require.NoError(x.b, <-done)
	case err := <-done:
		x.b.Fatal(err)
	}
	return took
}

// counting is a sink that counts records, to be told when there were enough.
type counting[T any] struct {
	want int64
	n    atomic.Int64
	full chan struct{}
}

func (c *counting[T]) Open(context.Context, flow.SinkRuntime) error { return nil }
func (c *counting[T]) Close(context.Context) error                  { return nil }

func (c *counting[T]) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[T], error) {
	return c, nil
}

func (c *counting[T]) Write(_ context.Context, batch []flow.Record[T]) error {
	if n := c.n.Add(int64(len(batch))); n >= c.want && n-int64(len(batch)) < c.want {
		close(c.full)
	}
	return nil
}

func (c *counting[T]) Seal(context.Context) ([]flow.Block, error)                   { return nil, nil }
func (c *counting[T]) Deliver(context.Context, []flow.Block) ([]flow.Reject, error) { return nil, nil }
func (c *counting[T]) DecodeBlock([]byte) (flow.Block, error)                       { return nil, nil }

// BenchmarkRocketMQSink writes 300,000 messages by key to 8 queues in batches of 1,024: by the bare loop send, and by a topology of a
// source in memory and the sink, its start and last epoch included.
func BenchmarkRocketMQSink(b *testing.B) {
	x := newRocketMQ(b)
	topic, payloads := x.topic(), rocketmqPayloads()
	b.ResetTimer()
	var bare, ours time.Duration
	for b.Loop() {
		began := time.Now()
		x.send(topic, payloads, rocketmqRows)
		bare += time.Since(began)
		began = time.Now()
		x.write(topic, payloads, rocketmqRows)
		ours += time.Since(began)
	}
	report(b, rocketmqRows, bare, ours)
}

func (x *rocketmqBench) write(topic string, payloads []string, n int, opts ...rocketmqsink.Option[string]) {
	t := flow.New("write", flow.WithLogger(slog.New(slog.DiscardHandler)))
	in := flow.From(t, "in", gen.Source(func(i int64) string { return payloads[i%int64(len(payloads))] }, gen.Count(int64(n))))
	flow.To(in, "out", rocketmqsink.Sink(rocketmqsink.Config{
		Connection: x.conn, Topic: topic, BatchMessages: rocketmqBatch,
	}, rocketmqText{}, append(opts, rocketmqsink.Key(rocketmqDevice))...))
	require.NoError(x.b, t.Run(x.b.Context()))
}

// BenchmarkRocketMQSinkClient is the sink against the client library's producer: batches to a chosen queue, the queues beside each other.
func BenchmarkRocketMQSinkClient(b *testing.B) {
	const rows = 60_000
	x := newRocketMQ(b)
	topic, payloads := x.topic(), rocketmqPayloads()
	p, err := producer.NewDefaultProducer(producer.WithNameServer(x.conn.NameServers), producer.WithInstanceName(topic),
		producer.WithRetry(0), producer.WithSendMsgTimeout(20*time.Second), producer.WithQueueSelector(rocketmqChosen{}))
	require.NoError(b, err)
	require.NoError(b, p.Start())
	defer func() { require.NoError(b, p.Shutdown()) }()
	require.Eventually(b, func() bool { // its first sends may find no route
		_, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte("first")))
		return err == nil
	}, time.Minute, 100*time.Millisecond)
	b.ResetTimer()
	var bare, ours time.Duration
	for b.Loop() {
		began := time.Now()
		clientSend(b, p, topic, payloads, rows)
		bare += time.Since(began)
		began = time.Now()
		x.write(topic, payloads, rows)
		ours += time.Since(began)
	}
	report(b, rows, bare, ours)
}

func clientSend(b *testing.B, p client.Producer, topic string, payloads []string, n int) {
	var all sync.WaitGroup
	batches := make([]chan []*primitive.Message, rocketmqQueues)
	for q := range batches {
		batches[q] = make(chan []*primitive.Message, 4)
		all.Go(func() {
			for msgs := range batches[q] {
				if r, err := p.SendSync(context.Background(), msgs...); err != nil || r.Status != primitive.SendOK {
					b.Errorf("%v: %v", r, err)
				}
			}
		})
	}
	rows := make([][]*primitive.Message, rocketmqQueues)
	for i := range n {
		v := payloads[i%len(payloads)]
		q := rocketmqShard(rocketmqDevice(v))
		m := primitive.NewMessage(topic, []byte(v))
		m.Queue = &primitive.MessageQueue{QueueId: q}
		m.WithShardingKey(rocketmqDevice(v))
		m.WithProperty(rocketmq.Shard, strconv.Itoa(q))
		m.WithProperty(rocketmq.Shards, strconv.Itoa(rocketmqQueues))
		if rows[q] = append(rows[q], m); len(rows[q]) == rocketmqBatch {
			batches[q] <- rows[q]
			rows[q] = nil
		}
	}
	for q := range batches {
		if len(rows[q]) > 0 {
			batches[q] <- rows[q]
		}
		close(batches[q])
	}
	all.Wait()
}

type rocketmqChosen struct{}

func (rocketmqChosen) Select(m *primitive.Message, queues []*primitive.MessageQueue, _ string) *primitive.MessageQueue {
	want := 0
	if m.Queue != nil {
		want = m.Queue.QueueId
	}
	for _, q := range queues {
		if q.QueueId == want {
			return q
		}
	}
	return nil
}

// BenchmarkRocketMQSinkDelayed is what delays cost: such messages cannot be sent in batches.
func BenchmarkRocketMQSinkDelayed(b *testing.B) {
	const rows = 5000
	x := newRocketMQ(b)
	topic, payloads := x.topic(), rocketmqPayloads()
	delay := rocketmqsink.DelayLevel(func(string) int { return 1 })
	for b.Loop() {
		x.write(topic, payloads, rows, delay)
	}
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
}

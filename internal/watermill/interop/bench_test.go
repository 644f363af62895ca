package interop

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/internal/services"
	sink "github.com/millrace-stream/millrace/sinks/watermill"
	source "github.com/millrace-stream/millrace/sources/watermill"
)

// readAll measures from the first delivered message to the b.Nth.
func readAll(b *testing.B, sub message.Subscriber, topic string, publish func(), topts []flow.TopologyOption, opts ...source.Option) {
	count := &counting{want: int64(b.N), done: make(chan struct{}), first: b.ResetTimer}
	top := flow.New("read", append([]flow.TopologyOption{quiet(), flow.WithEpochInterval(100 * time.Millisecond)}, topts...)...)
	flow.To(flow.From(top, "in", source.Source(sub, topic, number, opts...)), "out", flow.SinkFunc(count.write))
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(b, err)
	running, err := top.AddTo(b.Context(), router)
	require.NoError(b, err)
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.WithoutCancel(b.Context())) }()
	require.NoError(b, running.Ready(b.Context()))
	go publish()
	select {
	case <-count.done:
	case <-running.Done():
	}
	b.StopTimer()
	require.NoError(b, running.Stop(context.Background()))
	require.NoError(b, <-ended)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// counting counts what is delivered up to want.
type counting struct {
	want, n int64
	first   func()
	done    chan struct{}
}

func (c *counting) write(_ context.Context, batch []flow.Record[int]) error {
	if c.n == 0 {
		c.first()
	}
	before := c.n
	if c.n += int64(len(batch)); before < c.want && c.n >= c.want {
		close(c.done)
	}
	return nil
}

var windows = map[string]source.Option{"window found out": source.Window(0), "no window": source.Window(source.NoWindow)}

// BenchmarkGoChannel reads a Pub/Sub that gives a message after the ack of the one before it, so each needs an epoch: as soon as the message
// is there, or at the topology's interval of 100 ms. With a store an epoch is synced to disk.
func BenchmarkGoChannel(b *testing.B) {
	for name, opt := range windows {
		for _, stored := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/store=%v", name, stored), func(b *testing.B) {
				var topts []flow.TopologyOption
				if stored {
					topts = append(topts, flow.WithStore(pebble.Dir(b.TempDir())))
				}
				pubSub := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, watermill.NopLogger{})
				readAll(b, pubSub, "topic", func() {
					for i := range b.N {
						_ = pubSub.Publish("topic", message.NewMessage("id", message.Payload(strconv.Itoa(i))))
					}
				}, topts, opt)
				require.NoError(b, pubSub.Close())
			})
		}
	}
}

// BenchmarkKafkaSource reads 4 partitions through watermill-kafka, each of which gives a message after the ack of the one before it.
func BenchmarkKafkaSource(b *testing.B) {
	broker := services.Need(b, services.Kafka).Kafka()
	topic := kafkaTopic(b, broker, 4)
	pub := kafkaPublisher(b, broker)
	done := make(chan error, 16)
	for w := range 16 {
		go func() {
			for i := range 1000 {
				m := message.NewMessage(watermill.NewUUID(), message.Payload(strconv.Itoa(i)))
				m.Metadata.Set(sink.MetadataKey, fmt.Sprint(w*1000+i))
				if err := pub.Publish(topic, m); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 16 {
		require.NoError(b, <-done)
	}
	require.NoError(b, pub.Close())
	for name, opt := range windows {
		b.Run(name, func(b *testing.B) {
			require.LessOrEqual(b, b.N, 16_000, "run it with -benchtime=10000x")
			sub := kafkaSubscriber(b, broker, fmt.Sprintf("%s-%x", topic, time.Now().UnixNano()))
			readAll(b, sub, topic, func() {}, nil, opt, source.Partition(partition), source.OwnSubscriber())
		})
	}
}

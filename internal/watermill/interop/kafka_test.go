package interop

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
	sink "github.com/millrace-stream/millrace/sinks/watermill"
	source "github.com/millrace-stream/millrace/sources/watermill"
)

// topic makes a topic of its own.
func kafkaTopic(t testing.TB, broker string, partitions int32) string {
	name := fmt.Sprintf("watermill-%x", time.Now().UnixNano())
	conf := sarama.NewConfig()
	conf.Version = sarama.V3_6_0_0
	admin, err := sarama.NewClusterAdmin([]string{broker}, conf)
	require.NoError(t, err)
	require.NoError(t, admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false))
	require.NoError(t, admin.Close())
	return name
}

func kafkaPublisher(t testing.TB, broker string) message.Publisher {
	conf := kafka.DefaultSaramaSyncPublisherConfig()
	conf.Version = sarama.V3_6_0_0
	conf.Producer.RequiredAcks = sarama.WaitForAll
	pub, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers: []string{broker}, OverwriteSaramaConfig: conf,
		// The sink's key chooses the partition.
		Marshaler: kafka.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) {
			return m.Metadata.Get(sink.MetadataKey), nil
		}),
	}, watermill.NopLogger{})
	require.NoError(t, err)
	return pub
}

func kafkaSubscriber(t testing.TB, broker, group string) message.Subscriber {
	conf := kafka.DefaultSaramaSubscriberConfig()
	conf.Version = sarama.V3_6_0_0
	conf.Consumer.Offsets.Initial = sarama.OffsetOldest
	sub, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: []string{broker}, OverwriteSaramaConfig: conf, ConsumerGroup: group, Unmarshaler: kafka.DefaultMarshaler{},
	}, watermill.NopLogger{})
	require.NoError(t, err)
	return sub
}

func partition(m *message.Message) string {
	p, _ := kafka.MessagePartitionFromCtx(m.Context())
	return strconv.Itoa(int(p))
}

func storedAt(m *message.Message) time.Time {
	at, _ := kafka.MessageTimestampFromCtx(m.Context())
	return at
}

// watermill-kafka gives one message per partition until it is acked. It is stopped, and ended as by kill -9, in the middle of the load.
func TestKafka(t *testing.T) {
	t.Parallel()
	broker := services.Need(t, services.Kafka).Kafka()
	const n, partitions = 3000, 4
	topic := kafkaTopic(t, broker, partitions)
	pub := kafkaPublisher(t, broker)
	write(t, pub, topic, 0, n, sink.Parallel[int](16))
	require.NoError(t, pub.Close())

	r := newReading()
	opts := []source.Option{source.Partition(partition, "0", "1", "2", "3"), source.StoredAt(storedAt), source.OwnSubscriber()}
	began := time.Now()
	for life, goal := range []int{n / 3, 2 * n / 3, n} {
		top := r.topology(kafkaSubscriber(t, broker, "readers-"+topic), topic, opts...)
		switch life {
		case 1:
			running, stopped := r.start(t, top)
			eventually(t, r.has(goal), "some has passed")
			running.Abort()
			stopped()
		case 2:
			r.run(t, top, r.has(goal), "all has passed", flow.Flush())
		default:
			r.run(t, top, r.has(goal), "some has passed")
		}
	}
	r.exactly(t, n)
	r.inOrder(t)
	t.Logf("%v, %d repeats", time.Since(began), r.repeats())
}

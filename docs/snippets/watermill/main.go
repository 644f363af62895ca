// Command watermill copies a topic through Watermill's Kafka Pub/Sub.
package main

import (
	"context"
	"log"
	"strconv"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	sink "github.com/millrace-stream/millrace/sinks/watermill"
	"github.com/millrace-stream/millrace/sources/mqtt"
	source "github.com/millrace-stream/millrace/sources/watermill"
)

// Order is a message.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
}

func customer(o Order) string { return o.Customer }
func id(o Order) string       { return o.ID }

// [source]
func orders(sub message.Subscriber) flow.Source[Order] {
	return source.Source(sub, "orders", source.Payload(codec.JSON[Order]()),
		source.Partition(func(m *message.Message) string {
			p, _ := kafka.MessagePartitionFromCtx(m.Context())
			return strconv.Itoa(int(p))
		}),
		source.StoredAt(func(m *message.Message) time.Time {
			at, _ := kafka.MessageTimestampFromCtx(m.Context())
			return at
		}),
		source.OwnSubscriber())
}

// [sink]
func copies(brokers []string, conf *sarama.Config) (flow.Sink[Order], error) {
	pub, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers: brokers, OverwriteSaramaConfig: conf,
		Marshaler: kafka.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) {
			return m.Metadata.Get(sink.MetadataKey), nil
		}),
	}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	return sink.Sink(pub, "copies", sink.Payload(codec.JSON[Order]()),
		sink.ID(id), sink.Key(customer), sink.Parallel[Order](16), sink.OwnPublisher[Order]()), nil
}

// [pubsub]
func subscriber(brokers []string) (message.Subscriber, error) {
	return source.NewSubscriber(source.SubscriberConfig{
		Source: func(topic string) flow.Source[*message.Message] {
			return mqtt.Source(mqtt.Config{Brokers: brokers, Topics: []string{topic}, ClientID: "reader-" + topic, Meta: true}, source.Plain())
		},
	})
}

// [main]
func main() {
	if err := run(context.Background(), []string{"127.0.0.1:19092"}); err != nil {
		log.Print(err)
	}
}

func run(ctx context.Context, brokers []string) error {
	conf := kafka.DefaultSaramaSubscriberConfig()
	conf.Consumer.Offsets.Initial = sarama.OffsetOldest
	sub, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: brokers, OverwriteSaramaConfig: conf, ConsumerGroup: "copies", Unmarshaler: kafka.DefaultMarshaler{},
	}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	conf = kafka.DefaultSaramaSyncPublisherConfig()
	conf.Producer.RequiredAcks = sarama.WaitForAll
	to, err := copies(brokers, conf)
	if err != nil {
		return err
	}
	t := flow.New("copy")
	flow.To(flow.From(t, "orders", orders(sub)), "copies", to)
	return t.Run(ctx)
}

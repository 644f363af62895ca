package interop

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
	rocketmqsink "github.com/millrace-stream/millrace/sinks/rocketmq"
	sink "github.com/millrace-stream/millrace/sinks/watermill"
	"github.com/millrace-stream/millrace/sources/mqtt"
	rocketmqsource "github.com/millrace-stream/millrace/sources/rocketmq"
	source "github.com/millrace-stream/millrace/sources/watermill"
)

// universal runs the tests of Watermill's universal suite that the features call for: the suite itself skips the others, and no test is
// skipped here. Not claimed, and so not run, are the restart of the broker and subscribers that get what others have acked.
func universal(t *testing.T, features tests.Features, pubSub tests.PubSubConstructor, groups tests.ConsumerGroupPubSubConstructor) {
	run := func(name string, f func(*testing.T, tests.TestContext)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, tests.TestContext{TestID: tests.NewTestID(), Features: features})
		})
	}
	for name, f := range map[string]func(*testing.T, tests.TestContext, tests.PubSubConstructor){
		"PublishSubscribe":                  tests.TestPublishSubscribe,
		"ConcurrentSubscribe":               tests.TestConcurrentSubscribe,
		"ConcurrentSubscribeMultipleTopics": tests.TestConcurrentSubscribeMultipleTopics,
		"ResendOnError":                     tests.TestResendOnError,
		"NoAck":                             tests.TestNoAck,
		"ContinueAfterSubscribeClose":       tests.TestContinueAfterSubscribeClose,
		"ConcurrentClose":                   tests.TestConcurrentClose,
		"ContinueAfterErrors":               tests.TestContinueAfterErrors,
		"PublishSubscribeInOrder":           tests.TestPublishSubscribeInOrder,
		"PublisherClose":                    tests.TestPublisherClose,
		"Topic":                             tests.TestTopic,
		"MessageCtx":                        tests.TestMessageCtx,
		"SubscribeCtx":                      tests.TestSubscribeCtx,
	} {
		run(name, func(t *testing.T, ctx tests.TestContext) { f(t, ctx, pubSub) })
	}
	if features.ConsumerGroups {
		run("ConsumerGroups", func(t *testing.T, ctx tests.TestContext) { tests.TestConsumerGroups(t, ctx, groups) })
	}
}

// The RocketMQ source and sink pass Watermill's universal suite as a Pub/Sub, with topics of one queue.
func TestUniversalRocketMQ(t *testing.T) {
	t.Parallel()
	set := services.Need(t, services.RocketBroker)
	servers := []string{set.NameServer()}
	pubSub := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		pub, err := sink.NewPublisher(sink.PublisherConfig{Sink: func(topic string) flow.Sink[*message.Message] {
			return rocketmqsink.Sink(rocketmqsink.Config{Connection: rocketmqsink.Connection{NameServers: servers}, Topic: topic}, sink.Plain())
		}})
		require.NoError(t, err)
		sub, err := source.NewSubscriber(source.SubscriberConfig{
			Source: func(topic string) flow.Source[*message.Message] {
				return rocketmqsource.Source(rocketmqsource.Config{
					Connection: rocketmqsource.Connection{NameServers: servers}, Topic: topic, Group: group, PollTimeout: time.Second, Meta: true,
				}, source.Plain())
			},
			Initialize: func(ctx context.Context, topic string) error {
				return rocketmq.CreateTopic(ctx, servers, topic, 1)
			},
			NackPause: 10 * time.Millisecond,
		})
		require.NoError(t, err)
		return pub, sub
	}
	universal(t, tests.Features{
		// A group has its own positions. Its members do not share the queues: each reads all.
		ConsumerGroups:                      true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
		Persistent:                          true,
		ForceShort:                          true,
	}, func(t *testing.T) (message.Publisher, message.Subscriber) {
		return pubSub(t, "universal")
	}, pubSub)
}

// The MQTT source passes it with one subscriber at a time, whose session the broker keeps.
func TestUniversalMQTT(t *testing.T) {
	t.Parallel()
	broker := "tcp://" + services.Need(t, services.Mosquitto).MQTT()
	connect := func(t *testing.T, id string, clean bool) paho.Client {
		c := paho.NewClient(paho.NewClientOptions().AddBroker(broker).SetClientID(id).SetCleanSession(clean).SetOrderMatters(false))
		tok := c.Connect()
		require.True(t, tok.WaitTimeout(20*time.Second))
		require.NoError(t, tok.Error())
		return c
	}
	pubSub := func(t *testing.T) (message.Publisher, message.Subscriber) {
		sub, err := source.NewSubscriber(source.SubscriberConfig{
			Source: func(topic string) flow.Source[*message.Message] {
				return mqtt.Source(mqtt.Config{Brokers: []string{broker}, Topics: []string{topic}, ClientID: "reader-" + topic, Meta: true}, source.Envelope())
			},
			// The session must be there before the first message.
			Initialize: func(_ context.Context, topic string) error {
				c := connect(t, "reader-"+topic, false)
				defer c.Disconnect(250)
				tok := c.Subscribe(topic, 1, nil)
				tok.Wait()
				t.Cleanup(func() { connect(t, "reader-"+topic, true).Disconnect(250) })
				return tok.Error()
			},
			NackPause: 10 * time.Millisecond,
		})
		require.NoError(t, err)
		return &mqttPublisher{connect(t, fmt.Sprintf("writer-%x", time.Now().UnixNano()), true)}, sub
	}
	universal(t, tests.Features{
		GuaranteedOrder:       true,
		Persistent:            true,
		RequireSingleInstance: true,
		ForceShort:            true,
	}, pubSub, nil)
}

// mqttPublisher publishes whole messages.
type mqttPublisher struct{ c paho.Client }

func (p *mqttPublisher) Publish(topic string, messages ...*message.Message) error {
	for _, m := range messages {
		b, err := sink.Envelope().Append(nil, &m)
		if err != nil {
			return err
		}
		tok := p.c.Publish(topic, 1, false, b)
		tok.Wait()
		if tok.Error() != nil {
			return tok.Error()
		}
	}
	return nil
}

func (p *mqttPublisher) Close() error {
	p.c.Disconnect(100)
	return nil
}

package interop

import (
	"net/http"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillhttp "github.com/ThreeDotsLabs/watermill-http/v2/pkg/http"
	watermillnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	sink "github.com/millrace-stream/millrace/sinks/watermill"
	source "github.com/millrace-stream/millrace/sources/watermill"
)

// GoChannel gives one message at a time, and forgets what nobody is subscribed to.
func TestGoChannel(t *testing.T) {
	t.Parallel()
	const n = 2000
	pubSub := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	r := newReading()
	running, stopped := r.start(t, r.topology(pubSub, "numbers"))
	require.NoError(t, running.Ready(t.Context()))
	go write(t, pubSub, "numbers", 0, n)
	eventually(t, r.has(n), "all has passed")
	require.NoError(t, running.Stop(t.Context(), flow.Flush()))
	stopped()
	r.exactly(t, n)
	require.Zero(t, r.repeats())
	require.NoError(t, pubSub.Publish("numbers", message.NewMessage("x", nil)), "the publisher is still open")
	require.NoError(t, pubSub.Close())
}

// The HTTP subscriber gives each request when it comes, whether or not those before it are acked, and answers a request with its ack: it does
// not before the epoch is durable.
func TestHTTP(t *testing.T) {
	t.Parallel()
	const n = 1000
	client := &http.Client{Transport: &http.Transport{}}
	var addr string
	pub, err := watermillhttp.NewPublisher(watermillhttp.PublisherConfig{
		Client:                            client,
		DoNotLogResponseBodyOnServerError: true,
		MarshalMessageFunc: func(topic string, m *message.Message) (*http.Request, error) {
			return watermillhttp.DefaultMarshalMessageFunc("http://"+addr+"/"+topic, m)
		},
	}, watermill.NopLogger{})
	require.NoError(t, err)
	r := newReading()
	listen := "127.0.0.1:0"
	// It is stopped between two loads only: a subscriber that closes while requests come panics in its own code (send on closed channel).
	for life := range 2 {
		sub, err := watermillhttp.NewSubscriber(listen, watermillhttp.SubscriberConfig{}, watermill.NopLogger{})
		require.NoError(t, err)
		running, stopped := r.start(t, r.topology(sub, "numbers", source.OwnSubscriber()))
		require.NoError(t, running.Ready(t.Context()), "the subscriber knows its topics before its server starts")
		served := make(chan error, 1)
		go func() { served <- sub.StartHTTPServer() }()
		eventually(t, func() bool { return sub.Addr() != nil }, "it listens")
		addr = sub.Addr().String()
		listen = addr
		write(t, pub, "numbers", life*n/2, n/2, sink.Parallel(16), sink.Batch(1))
		require.Len(t, r.got.Values(), (life+1)*n/2, "a request is answered when it is delivered")
		var opts []flow.StopOption
		if life == 1 {
			opts = append(opts, flow.Flush())
		}
		require.NoError(t, running.Stop(t.Context(), opts...))
		stopped()
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	}
	r.exactly(t, n)
	r.inOrder(t)
	require.Zero(t, r.repeats())
	client.CloseIdleConnections()
}

// NATS JetStream, its server in this process: what is not acked comes again. One message is unacked at a time: the subscriber can panic in
// its own code (send on closed channel) when its subscription ends while further messages wait in the client.
func TestJetStream(t *testing.T) {
	t.Parallel()
	const n = 1500
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	require.True(t, srv.ReadyForConnections(10*time.Second))
	pub, err := watermillnats.NewPublisher(watermillnats.PublisherConfig{
		URL: srv.ClientURL(), Marshaler: &watermillnats.NATSMarshaler{}, JetStream: watermillnats.JetStreamConfig{AutoProvision: true},
	}, watermill.NopLogger{})
	require.NoError(t, err)
	write(t, pub, "numbers", 0, n, sink.Parallel(4))
	require.NoError(t, pub.Close())
	consumer(t, srv.ClientURL(), "numbers", "reader")

	r := newReading()
	for life, goal := range []int{n / 3, 2 * n / 3, n} {
		sub, err := watermillnats.NewSubscriber(watermillnats.SubscriberConfig{
			URL: srv.ClientURL(), QueueGroupPrefix: "reader", AckWaitTimeout: 30 * time.Second, CloseTimeout: 5 * time.Second,
			Unmarshaler: &watermillnats.NATSMarshaler{}, JetStream: watermillnats.JetStreamConfig{
				// Without ManualAck the client acks what the subscriber drops at its end, and that is lost.
				DurablePrefix: "reader", SubscribeOptions: []natsgo.SubOpt{natsgo.ManualAck()},
			},
		}, watermill.NopLogger{})
		require.NoError(t, err)
		top := r.topology(sub, "numbers", source.OwnSubscriber())
		if life == 1 { // as after kill -9, as far as the engine goes
			running, stopped := r.start(t, top)
			eventually(t, r.has(goal), "some has passed")
			running.Abort()
			stopped()
			continue
		}
		var opts []flow.StopOption
		if life == 2 {
			opts = append(opts, flow.Flush())
		}
		r.run(t, top, r.has(goal), "some has passed", opts...)
	}
	r.exactly(t, n)
	t.Logf("%d repeats", r.repeats())
}

// consumer makes a durable consumer: one that a subscription makes ends with it, and forgets what was acked.
func consumer(t *testing.T, url, stream, name string) {
	conn, err := natsgo.Connect(url)
	require.NoError(t, err)
	defer conn.Close()
	js, err := conn.JetStream()
	require.NoError(t, err)
	_, err = js.AddConsumer(stream, &natsgo.ConsumerConfig{
		Durable: name, DeliverSubject: natsgo.NewInbox(), DeliverGroup: name, AckPolicy: natsgo.AckExplicitPolicy,
		AckWait: 2 * time.Second, MaxAckPending: 1,
	})
	require.NoError(t, err)
}

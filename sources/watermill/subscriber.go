package watermill

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/internal/watermill"
)

// SubscriberConfig configures a Subscriber.
type SubscriberConfig struct {
	// Source makes the source of a topic, anew for each Subscribe. Let it fill Record.Meta where it can: acks within a batch count only
	// with the positions that are there, else a batch is acked as a whole; and its headers become the message's metadata. Required.
	Source func(topic string) flow.Source[*message.Message]
	// Initialize prepares a topic before the first message is published, for SubscribeInitialize. Defaults to nothing.
	Initialize func(ctx context.Context, topic string) error
	// NackPause is how long a nacked message waits before it is given again. Defaults to 100 ms.
	NackPause time.Duration
	// Name is how the source is told that its topology is called. Defaults to "subscriber".
	Name string
	// Log takes what the sources say. Defaults to nothing.
	Log *slog.Logger
	// Clock is the clock of the sources. Defaults to flow.SystemClock.
	Clock flow.Clock
}

// Subscriber shows any source of this library as a Watermill subscriber, for services that want its systems without its engine.
//
// One message of each partition of the source is given at a time: the next follows the ack, so that order within a partition is
// kept, as watermill-kafka does. A nacked message is given again, after NackPause, before all others of its partition. What a source cannot
// decode is logged and acked: there are no dead letters here.
//
// Acks are told to the source in the background, in order, and at the latest when the subscription ends; what was not told comes again.
type Subscriber struct {
	cfg SubscriberConfig

	mu      sync.Mutex
	closed  bool
	closing chan struct{}
	subs    sync.WaitGroup
}

// NewSubscriber makes a Subscriber.
func NewSubscriber(cfg SubscriberConfig) (*Subscriber, error) {
	if cfg.Source == nil {
		return nil, errors.New("watermill subscriber: Source is nil: give a function that makes the source of a topic")
	}
	if cfg.NackPause < 0 {
		return nil, errors.New("watermill subscriber: NackPause is negative")
	}
	if cfg.NackPause == 0 {
		cfg.NackPause = 100 * time.Millisecond
	}
	if cfg.Name == "" {
		cfg.Name = "subscriber"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = flow.SystemClock()
	}
	return &Subscriber{cfg: cfg, closing: make(chan struct{})}, nil
}

// Plain is the codec for sources whose messages are payloads as they are: UUID and metadata come from the headers, where the source
// fills Record.Meta, and the UUID is random where there is none.
func Plain() codec.Codec[*message.Message] { return watermill.Plain{} }

// Envelope is the codec of whole messages, UUID and metadata included, as JSON, for systems without headers (MQTT 3.1.1).
func Envelope() codec.Codec[*message.Message] { return watermill.Envelope{} }

var errClosed = errors.New("watermill subscriber: it is closed")

// Subscribe opens the topic's source, and returns the channel of its messages. It ends with ctx or with Close.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	sub := &subscription{
		cfg: &s.cfg, src: s.cfg.Source(topic), topic: topic, log: s.cfg.Log.With("topic", topic), out: make(chan *message.Message), parts: map[string]*subPartition{},
	}
	rt := flow.SourceRuntime{Topology: s.cfg.Name, Node: topic, Clock: s.cfg.Clock, Log: sub.log, Count: func(string, int64) {}}
	if err := sub.src.Open(ctx, rt); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s.subs.Go(func() {
		select {
		case <-s.closing:
		case <-ctx.Done():
		}
		cancel()
	})
	s.subs.Go(func() {
		defer cancel()
		sub.run(ctx)
	})
	return sub.out, nil
}

// SubscribeInitialize prepares a topic as SubscriberConfig.Initialize says.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	if s.cfg.Initialize == nil {
		return nil
	}
	return s.cfg.Initialize(context.Background(), topic)
}

// Close ends all subscriptions, the last acks included, and waits for their end.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.subs.Wait()
	return nil
}

package watermill

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/internal/watermill"
)

// PublisherConfig configures a Publisher.
type PublisherConfig struct {
	// Sink makes the sink of a topic, once per topic. Required.
	Sink func(topic string) flow.Sink[*message.Message]
	// Name is how the sink is told that its topology is called. Defaults to "publisher".
	Name string
	// Log takes what the sinks say. Defaults to nothing.
	Log *slog.Logger
	// Clock is the clock of the sinks. Defaults to flow.SystemClock.
	Clock flow.Clock
}

// Publisher shows any sink of this library as a Watermill publisher, for services that want its systems without its engine.
//
// Publish returns when the sink has delivered the messages. Calls for one topic that come at the same time are delivered together. After an
// error, some of the messages may have been delivered; nothing is tried again here. The records' headers are the message's metadata and its
// UUID.
type Publisher struct {
	cfg PublisherConfig
	id  string

	mu     sync.Mutex
	closed bool
	topics map[string]*topic
	calls  sync.WaitGroup
}

// NewPublisher makes a Publisher.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	if cfg.Sink == nil {
		return nil, errors.New("watermill publisher: Sink is nil: give a function that makes the sink of a topic")
	}
	if cfg.Name == "" {
		cfg.Name = "publisher"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = flow.SystemClock()
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	return &Publisher{cfg: cfg, id: hex.EncodeToString(id[:]), topics: map[string]*topic{}}, nil
}

// Plain is the codec for sinks whose messages are payloads as they are; sinks that have headers send the metadata there.
func Plain() codec.Codec[*message.Message] { return watermill.Plain{} }

// Envelope is the codec of whole messages, UUID and metadata included, as JSON, for systems without headers (MQTT 3.1.1).
func Envelope() codec.Codec[*message.Message] { return watermill.Envelope{} }

var errClosed = errors.New("watermill publisher: it is closed")

// Publish delivers messages to a topic.
func (p *Publisher) Publish(name string, messages ...*message.Message) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return errClosed
	}
	t := p.topics[name]
	if t == nil {
		t = &topic{p: p, name: name}
		p.topics[name] = t
	}
	p.calls.Add(1)
	p.mu.Unlock()
	defer p.calls.Done()
	if err := t.publish(messages); err != nil {
		return fmt.Errorf("watermill publisher: topic %q: %w", name, err)
	}
	return nil
}

// Close waits for calls under way and closes all sinks.
func (p *Publisher) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	p.calls.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for _, t := range p.topics {
		if t.sink != nil {
			errs = append(errs, t.sink.Close(ctx))
		}
	}
	return errors.Join(errs...)
}

// topic is a topic's sink. One of the callers at a time works for all.
type topic struct {
	p    *Publisher
	name string

	sink   flow.Sink[*message.Message]
	writer flow.SinkWriter[*message.Message]

	mu      sync.Mutex
	working bool
	waiting []*call
}

type call struct {
	messages []*message.Message
	err      error
	done     chan struct{}
}

func (t *topic) publish(messages []*message.Message) error {
	if len(messages) == 0 {
		return nil
	}
	c := &call{messages: messages, done: make(chan struct{})}
	t.mu.Lock()
	t.waiting = append(t.waiting, c)
	if t.working {
		t.mu.Unlock()
		<-c.done
		return c.err
	}
	t.working = true
	for len(t.waiting) > 0 {
		calls := t.waiting
		t.waiting = nil
		t.mu.Unlock()
		t.deliver(calls)
		for _, c := range calls {
			close(c.done)
		}
		t.mu.Lock()
	}
	t.working = false
	t.mu.Unlock()
	return c.err
}

// deliver writes and delivers the messages of calls, and sets their errors.
func (t *topic) deliver(calls []*call) {
	if err := t.open(); err != nil {
		for _, c := range calls {
			c.err = err
		}
		return
	}
	var blocks []flow.Block
	var of []*call // of each block
	for _, c := range calls {
		sealed, err := t.write(c.messages)
		if err != nil {
			c.err = err
			continue
		}
		for _, b := range sealed {
			blocks, of = append(blocks, b), append(of, c)
		}
	}
	if len(blocks) == 0 {
		return
	}
	rejects, err := t.sink.Deliver(context.Background(), blocks)
	for _, c := range of {
		if err != nil {
			c.err = err
		}
	}
	for _, r := range rejects {
		of[r.Block].err = errors.Join(of[r.Block].err, r.Err)
	}
}

// open opens the sink; after an error the next call tries again.
func (t *topic) open() error {
	if t.writer != nil {
		return nil
	}
	ctx := context.Background()
	if t.sink == nil {
		t.sink = t.p.cfg.Sink(t.name)
	}
	err := t.sink.Open(ctx, flow.SinkRuntime{
		Topology: t.p.cfg.Name, Node: t.name, Clock: t.p.cfg.Clock, Log: t.p.cfg.Log.With("topic", t.name), StoreID: t.p.id, Incarnation: 1,
		RequestEpoch: func() {}, Count: func(string, int64) {},
	})
	if err != nil {
		return err
	}
	t.writer, err = t.sink.Writer(ctx, flow.TaskInfo{Generation: 1})
	return err
}

// write makes blocks of a call's messages. What an error leaves in the writer is thrown away.
func (t *topic) write(messages []*message.Message) ([]flow.Block, error) {
	now := flow.TimestampOf(t.p.cfg.Clock.Now())
	recs := make([]flow.Record[*message.Message], 0, min(len(messages), flow.MaxBatch))
	var failed error
	for len(messages) > 0 && failed == nil {
		n := min(len(messages), flow.MaxBatch)
		recs = recs[:0]
		for _, m := range messages[:n] {
			recs = append(recs, flow.Record[*message.Message]{Value: m, Time: now, Meta: &flow.Meta{Headers: watermill.Headers(m)}})
		}
		failed = t.writer.Write(context.Background(), recs)
		messages = messages[n:]
	}
	blocks, err := t.writer.Seal(context.Background())
	return blocks, errors.Join(failed, err)
}

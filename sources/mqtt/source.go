// Package mqtt reads topics of MQTT brokers, in MQTT 3.1.1 or 5.
package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/internal/mqttconn"
)

// Source reads the messages of the configured topics, decoded by c.
//
// Order: the order of receipt per client. Time: when the message was received, stamped once.
//
// Delivery: a message is acked to the broker when everything that came of it is durable, in the order of receipt. A crash of
// this process repeats what was not acked, at most the broker's window per client; a broken connection repeats nothing that this
// process still holds, unless the broker lost its session or an ack was under way. Nothing is lost as long as publishers and
// Config.QoS use at least QoS 1, the session is kept (CleanSession false), and the broker's queue and session expiry outlast the
// longest pause; what a broker drops from its queue no client can see.
//
// Messages that c cannot decode go to the dead letters and are acked like the others.
//
// A broker that cannot be reached is tried for as long as it takes, with a warning. A refused password, client id or
// certificate ends the topology if the source has never been connected, and is tried again later on; a refused subscription
// always ends it.
//
// Counters: received, redelivered (sent again by the broker, whether or not it was handed on), retained_dropped, reconnects,
// dropped_by_pause (messages of QoS 0 lost, of QoS 1 left with the broker, because the topology did not read for a third of
// KeepAlive with a full Buffer).
func Source[T any](cfg Config, c codec.Codec[T]) flow.Source[T] {
	return &source[T]{cfg: cfg, codec: c}
}

type source[T any] struct {
	cfg      Config
	codec    codec.Codec[T]
	rt       flow.SourceRuntime
	sessions []*session
	byID     map[string]*reader[T]

	mu     sync.Mutex
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Partitions is the number of clients.
func (s *source[T]) Partitions() int { return max(1, s.cfg.Clients) }

// Replay is Redeliver: the broker sends again what was not acked.
func (s *source[T]) Replay() flow.Replay { return flow.Redeliver }

// Open checks the configuration. Connecting is Run's.
func (s *source[T]) Open(_ context.Context, rt flow.SourceRuntime) error {
	if s.codec == nil {
		return errors.New("mqtt source: codec is nil: use for instance codec.JSON[T]()")
	}
	if err := s.cfg.Validate(); err != nil {
		return err
	}
	if rt.Clock == nil {
		rt.Clock = flow.SystemClock()
	}
	if rt.Log == nil {
		rt.Log = slog.New(slog.DiscardHandler)
	}
	if rt.Count == nil {
		rt.Count = func(string, int64) {}
	}
	s.rt = rt
	cfg := s.cfg.withDefaults(rt.Topology, rt.Node)
	var brokers []mqttconn.Broker
	for _, b := range cfg.Brokers {
		parsed, err := mqttconn.ParseBroker(b)
		if err != nil {
			return fmt.Errorf("mqtt source: brokers %w", err)
		}
		brokers = append(brokers, parsed)
	}
	s.sessions, s.byID = nil, map[string]*reader[T]{}
	for _, id := range cfg.clientIDs() {
		box := newInbox(rt.Clock, cfg)
		s.sessions = append(s.sessions, &session{
			cfg: cfg, id: id, brokers: brokers, clock: rt.Clock, log: rt.Log, count: rt.Count, inbox: box,
		})
		s.byID[id] = &reader[T]{id: id, codec: s.codec, meta: cfg.Meta, count: rt.Count, inbox: box}
	}
	return nil
}

// Run keeps all clients connected until ctx ends. They stay connected beyond it, so that the last acks can go out: Close ends them.
func (s *source[T]) Run(ctx context.Context, a flow.Assign) error {
	parts := make([]flow.Partition, len(s.sessions))
	for i, c := range s.sessions {
		parts[i].ID = c.id
	}
	if err := a.Add(parts...); err != nil {
		return err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
	failed := make(chan error, len(s.sessions))
	for _, c := range s.sessions {
		s.wg.Go(func() {
			if err := c.run(life); err != nil {
				failed <- err
			}
		})
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// Read hands over what the partition's client has received.
func (s *source[T]) Read(ctx context.Context, p flow.Partition, from flow.Position, in *flow.Intake[T]) error {
	r, ok := s.byID[p.ID]
	if !ok {
		return fmt.Errorf("mqtt source: no client %q", p.ID)
	}
	return r.run(ctx, from, in)
}

// Commit acks everything up to the position that came on the connection of now. What came on an earlier one is acked when
// the broker sends it again.
func (s *source[T]) Commit(_ context.Context, p flow.Partition, upTo flow.Position) error {
	r, ok := s.byID[p.ID]
	if !ok {
		return fmt.Errorf("mqtt source: no client %q", p.ID)
	}
	r.inbox.ack(upTo.Offset)
	return nil
}

// Close sends the acks that wait and ends all connections. The broker keeps the sessions, and what was not acked with them.
func (s *source[T]) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.cancel != nil {
		s.cancel()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("mqtt source: connections still closing: %w", ctx.Err())
	}
}

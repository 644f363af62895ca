// Package mqtt publishes to MQTT brokers, in MQTT 3.1.1 or 5.
package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// Sink publishes each record as one message: to one topic, or to the one that a function gives for the record, which must be safe
// for concurrent use. The payload is what c makes of the record.
//
// Order: per topic, that of the task that wrote them; one connection carries them all. What is sent again after a broken
// connection comes in the same order, so a subscriber sees a stretch of messages twice rather than messages swapped.
//
// Delivery: at least once with QoS 1 and 2: Deliver returns when the broker has confirmed every message (PUBACK, PUBCOMP). What is
// unconfirmed when a connection breaks, a write takes too long or the broker is silent is sent again: with QoS 1 it may be there
// twice, with QoS 2 only if the broker has lost the session or this process has died. With QoS 0 Deliver returns when the network
// has taken the messages; those under way are lost with a broken connection, and none is handed to a connection that is gone.
//
// A message that a broker of MQTT 5 refuses for good (not authorized, invalid topic), one that is larger than the broker takes, an
// invalid topic or header go to the dead letters. A broker of MQTT 3.1.1 cannot refuse: it confirms what its access rules forbid
// and drops it, or ends the connection.
//
// A broker that cannot be reached is tried for as long as it takes. Refused credentials, a refused client id or a certificate
// that does not verify stop the topology if the sink has never been connected, and are tried again later on.
//
// With MQTT 5 the headers of Record.Meta become user properties (mqtt.content-type, mqtt.response-topic and
// mqtt.correlation-data the properties of that name); MQTT 3.1.1 has nowhere to put them.
//
// Counters: reconnects, resent (messages sent again), no_subscribers (confirmed and nobody there to get it, as far as a
// broker of MQTT 5 says so).
//
// Memory: what was written since the last commit, encoded.
func Sink[T any, Topic string | func(T) string](cfg Config, topic Topic, c codec.Codec[T], opts ...Option[T]) flow.Sink[T] {
	s := &sink[T]{publisher: publisher{cfg: cfg}, codec: c}
	switch t := any(topic).(type) {
	case string:
		s.topic = t
	case func(T) string:
		s.topicOf = t
	}
	for _, o := range opts {
		o(&s.fields)
	}
	return s
}

// Option says what of a record becomes a property of its message.
type Option[T any] func(*fields[T])

type fields[T any] struct {
	properties func(T) map[string]string
	retained   func(T) bool
}

// UserProperties gives user properties beside the headers of Record.Meta; needs MQTT 5. It must be safe for concurrent use.
func UserProperties[T any](of func(T) map[string]string) Option[T] {
	return func(f *fields[T]) { f.properties = of }
}

// Retained says which messages the broker keeps, in place of Config.Retained. It must be safe for concurrent use.
func Retained[T any](is func(T) bool) Option[T] { return func(f *fields[T]) { f.retained = is } }

type sink[T any] struct {
	publisher
	codec   codec.Codec[T]
	topic   string
	topicOf func(T) string
	fields  fields[T]
}

// Open connects. A broker that cannot be reached is a transient error.
func (s *sink[T]) Open(ctx context.Context, rt flow.SinkRuntime) error {
	var errs []error
	if s.codec == nil {
		errs = append(errs, errors.New("mqtt sink: codec is nil: use for instance codec.JSON[T]()"))
	}
	if s.topicOf == nil {
		if err := checkTopic(s.topic); err != nil {
			errs = append(errs, fmt.Errorf("mqtt sink: topic %w", err))
		}
	}
	if s.fields.properties != nil && !s.cfg.v5() {
		errs = append(errs, errors.New("mqtt sink: UserProperties needs MQTT 5: set protocol to 5"))
	}
	errs = append(errs, s.cfg.Validate())
	if err := errors.Join(errs...); err != nil {
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
	return s.open(ctx, rt)
}

// Writer makes the writer of one task.
func (s *sink[T]) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[T], error) {
	if s.life == nil {
		return nil, errors.New("mqtt sink: Writer before Open")
	}
	return &writer[T]{sink: s}, nil
}

// Deliver publishes the blocks and waits for the broker.
func (s *sink[T]) Deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	return s.deliver(ctx, blocks)
}

// DecodeBlock is the inverse of a block's AppendBinary.
func (s *sink[T]) DecodeBlock(data []byte) (flow.Block, error) { return decodeBlock(data) }

// Close says goodbye to the broker, which then publishes no will.
func (s *sink[T]) Close(ctx context.Context) error { return s.close(ctx) }

package mqtt

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/mqttclient"
)

// epochBytes is how much a writer holds before it asks for the epoch's end.
const epochBytes = 16 << 20

// headBytes is the most that a message takes on the wire beside its topic, properties and payload.
const headBytes = 13

// writer encodes the records of one task.
type writer[T any] struct {
	sink  *sink[T]
	block *block
	hint  int // capacity for the next block: a little more than the last one had
	asked bool

	payload, props []byte // of the record at hand
	known          string // a topic that was found good
}

// Write encodes the batch. Records that no broker would take are refused one by one.
func (w *writer[T]) Write(_ context.Context, batch []flow.Record[T]) error {
	for i := range batch {
		if err := w.add(&batch[i]); err != nil {
			return &flow.RecordError{Index: i, Err: err}
		}
	}
	if w.block != nil && len(w.block.data) >= epochBytes && !w.asked && w.sink.rt.RequestEpoch != nil {
		w.asked = true
		w.sink.rt.RequestEpoch()
	}
	return nil
}

func (w *writer[T]) add(r *flow.Record[T]) (err error) {
	s := w.sink
	topic := s.topic
	if s.topicOf != nil {
		if topic = s.topicOf(r.Value); topic != w.known {
			if err := checkTopic(topic); err != nil {
				return fmt.Errorf("mqtt sink: topic %w", err)
			}
			w.known = topic
		}
	}
	if w.payload, err = s.codec.Append(w.payload[:0], &r.Value); err != nil {
		return err
	}
	if w.props = w.props[:0]; s.cfg.v5() {
		if err := w.addProps(r); err != nil {
			return fmt.Errorf("mqtt sink: message for topic %q: %w", topic, err)
		}
	}
	retained := s.cfg.Retained
	if s.fields.retained != nil {
		retained = s.fields.retained(r.Value)
	}
	if n := headBytes + len(topic) + len(w.props) + len(w.payload); n > s.cfg.MaxPacketBytes {
		return fmt.Errorf("mqtt sink: message of %d bytes for topic %q, more than max_packet_bytes, %d", n, topic, s.cfg.MaxPacketBytes)
	}
	if w.block == nil {
		w.block = &block{data: make([]byte, 0, w.hint)}
	}
	w.block.add(r.Time, retained, topic, w.props, w.payload)
	return nil
}

func (w *writer[T]) addProps(r *flow.Record[T]) error {
	if e := w.sink.cfg.MessageExpiry; e > 0 {
		w.props = mqttclient.AppendExpiry(w.props, uint32(e.Seconds()))
	}
	if r.Meta != nil {
		if err := w.addHeaders(r.Meta.Headers); err != nil {
			return err
		}
	}
	if f := w.sink.fields.properties; f != nil {
		return w.addHeaders(f(r.Value))
	}
	return nil
}

// addHeaders appends headers in the order of their names, so that equal records are equal bytes.
func (w *writer[T]) addHeaders(h map[string]string) error {
	switch len(h) {
	case 0:
		return nil
	case 1:
		for name, value := range h {
			return w.addHeader(name, value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if err := w.addHeader(name, h[name]); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer[T]) addHeader(name, value string) (err error) {
	switch name {
	case mqttclient.HeaderCorrelationData: // bytes, not text
		if len(value) > 65535 {
			err = fmt.Errorf("has %d bytes: at most 65,535 are allowed", len(value))
		}
	case mqttclient.HeaderResponseTopic:
		err = checkTopic(value)
	default:
		if err = checkText(name); err == nil {
			err = checkText(value)
		}
	}
	if err != nil {
		return fmt.Errorf("header %q: %w", name, err)
	}
	w.props = mqttclient.AppendHeader(w.props, name, value)
	return nil
}

// Seal hands over what was written as one block.
func (w *writer[T]) Seal(context.Context) ([]flow.Block, error) {
	b := w.block
	if b == nil {
		return nil, nil
	}
	w.hint = len(b.data) + len(b.data)/8
	w.block, w.asked = nil, false
	return []flow.Block{b}, nil
}

package watermill

import (
	"context"
	"errors"
	"maps"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/cespare/xxhash/v2"

	"github.com/millrace-stream/millrace/flow"
)

// epochBytes is how much a writer holds before it asks for the epoch's end.
const epochBytes = 16 << 20

// writer encodes the records of one task.
type writer[T any] struct {
	sink  *sink[T]
	rows  []row
	bytes int
	asked bool
	round int
}

// Write encodes the batch. Records that cannot be encoded are refused one by one.
func (w *writer[T]) Write(_ context.Context, batch []flow.Record[T]) error {
	for i := range batch {
		r, err := w.encode(&batch[i])
		if err != nil {
			return &flow.RecordError{Index: i, Err: err}
		}
		w.rows = append(w.rows, r)
		w.bytes += r.bytes()
	}
	w.round++
	if w.bytes >= epochBytes && !w.asked {
		w.asked = true
		w.sink.rt.RequestEpoch()
	}
	return nil
}

func (w *writer[T]) encode(rec *flow.Record[T]) (row, error) {
	s := w.sink
	m, err := s.encode(rec.Value)
	if err != nil {
		return row{}, err
	}
	if m == nil {
		return row{}, errors.New("watermill sink: encode returned no message")
	}
	r := row{topic: s.topic, id: m.UUID, metadata: map[string]string(m.Metadata), payload: m.Payload, time: rec.Time, lane: uint64(w.round)}
	if s.topicOf != nil {
		if t := s.topicOf(rec.Value); t != "" {
			r.topic = t
		}
		if r.topic == "" {
			return row{}, errors.New("watermill sink: the record has no topic")
		}
	}
	if s.metadata != nil {
		if more := s.metadata(rec.Value); len(more) > 0 {
			r.metadata = with(r.metadata, more)
		}
	}
	if s.key != nil {
		key := s.key(rec.Value)
		if key == "" {
			return row{}, errors.New("watermill sink: the record's key is empty")
		}
		r.metadata = with(r.metadata, map[string]string{MetadataKey: key})
		r.lane = xxhash.Sum64String(key) % flow.KeyGroups
	}
	if s.id != nil {
		if r.id = s.id(rec.Value); r.id == "" {
			return row{}, errors.New("watermill sink: the record's id is empty")
		}
	}
	if r.id == "" {
		r.id = wm.NewUUID()
	}
	return r, nil
}

// with adds to a message's metadata; the message is ours.
func with(m, more map[string]string) map[string]string {
	if m == nil {
		return maps.Clone(more)
	}
	maps.Copy(m, more)
	return m
}

// Seal hands over what was written as one block.
func (w *writer[T]) Seal(context.Context) ([]flow.Block, error) {
	if len(w.rows) == 0 {
		return nil, nil
	}
	b := &block{rows: w.rows, bytes: w.bytes}
	w.rows, w.bytes, w.asked = make([]row, 0, len(b.rows)), 0, false
	return []flow.Block{b}, nil
}

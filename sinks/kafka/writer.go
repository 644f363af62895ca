package kafka

import (
	"context"
	"encoding/binary"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// writer encodes the records of one task.
type writer[T any] struct {
	sink  *sink[T]
	b     *block
	index map[string]int // of b.topics
	hint  int            // capacity for the next epoch: a little more than the last one had
	asked bool

	value []byte // of the record at hand
}

// epochBytes is how much a writer holds before it asks for the epoch's end.
const epochBytes = 16 << 20

func newWriter[T any](s *sink[T]) *writer[T] {
	w := &writer[T]{sink: s}
	w.begin()
	return w
}

func (w *writer[T]) begin() {
	w.b = &block{data: make([]byte, 0, w.hint)}
	w.asked = false
	if w.sink.byRecord {
		w.index = map[string]int{}
	} else {
		w.b.topics = []string{w.sink.cfg.Topic}
	}
}

// Write encodes the batch.
func (w *writer[T]) Write(_ context.Context, batch []flow.Record[T]) error {
	for i := range batch {
		if err := w.add(&batch[i]); err != nil {
			return &flow.RecordError{Index: i, Err: err}
		}
	}
	if len(w.b.data) >= epochBytes && !w.asked && w.sink.rt.RequestEpoch != nil {
		w.asked = true
		w.sink.rt.RequestEpoch()
	}
	return nil
}

func (w *writer[T]) add(r *flow.Record[T]) (err error) {
	f, b := &w.sink.fields, w.b
	topic := 0
	if f.topic != nil {
		if topic, err = w.topic(f.topic(r.Value)); err != nil {
			return err
		}
	}
	flags, key := uint64(0), ""
	if f.key != nil {
		flags, key = flagKeyed, f.key(r.Value)
	}
	w.value = w.value[:0]
	if f.tombstone != nil && f.tombstone(r.Value) {
		flags |= flagTombstone
	} else if w.value, err = w.sink.codec.Append(w.value, &r.Value); err != nil {
		return err
	}
	b.data = binary.AppendUvarint(b.data, uint64(topic))
	b.data = binary.AppendUvarint(b.data, flags)
	b.data = appendBytes(b.data, key)
	b.data = appendBytes(b.data, w.value)
	var own, passed map[string]string
	if f.headers != nil {
		own = f.headers(r.Value)
	}
	if r.Meta != nil {
		passed = r.Meta.Headers
	}
	b.data = appendHeaders(b.data, own, passed)
	b.rows++
	return nil
}

// topic is the number of a record's topic in the block.
func (w *writer[T]) topic(name string) (int, error) {
	if i, ok := w.index[name]; ok {
		return i, nil
	}
	if err := checkTopic(name); err != nil {
		return 0, err
	}
	i := len(w.b.topics)
	w.index[name] = i
	w.b.topics = append(w.b.topics, name)
	return i, nil
}

// appendHeaders adds the headers that a record brings along; those of ours are set when its partition is known.
func appendHeaders(to []byte, own, passed map[string]string) []byte {
	n := 0
	for name := range passed {
		if _, twice := own[name]; !twice && !reserved(name) {
			n++
		}
	}
	for name := range own {
		if !reserved(name) {
			n++
		}
	}
	to = binary.AppendUvarint(to, uint64(n))
	for name, value := range own {
		if !reserved(name) {
			to = appendBytes(appendBytes(to, name), value)
		}
	}
	for name, value := range passed {
		if _, twice := own[name]; !twice && !reserved(name) {
			to = appendBytes(appendBytes(to, name), value)
		}
	}
	return to
}

// reserved tells whether this sink gives a header its meaning: such headers come along from a Kafka source and are not handed on.
func reserved(name string) bool { return name == kafka.Shard || name == kafka.Shards }

// Seal hands over what was written as one block.
func (w *writer[T]) Seal(context.Context) ([]flow.Block, error) {
	if w.b.rows == 0 {
		return nil, nil
	}
	b := w.b
	w.hint = min(len(b.data)+len(b.data)/8, 2*epochBytes)
	w.begin()
	return []flow.Block{b}, nil
}

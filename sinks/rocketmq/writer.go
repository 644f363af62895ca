package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// writer encodes the records of one task into the form in which they are sent, by shard.
type writer[T any] struct {
	sink  *sink[T]
	parts []part // by shard
	late  []part // delayed messages, by shard; nil: there are none
	marks [][]byte
	rows  int
	bytes int
	asked bool

	singles int // of rows
	round   int // shard of the next batch without keys

	body, props []byte // of the record at hand
}

// What a writer holds before it asks for the epoch's end; singles are messages that are sent one by one.
const (
	epochBytes   = 16 << 20
	epochSingles = 10_000
)

func newWriter[T any](s *sink[T], task flow.TaskInfo) *writer[T] {
	w := &writer[T]{sink: s, round: task.Task % len(s.queues)}
	w.newParts()
	if s.fields.key != nil {
		for i := range s.queues {
			b, _ := rocketmq.AppendProperty(nil, rocketmq.Shard, strconv.Itoa(i)) // digits are always good
			b, _ = rocketmq.AppendProperty(b, rocketmq.Shards, strconv.Itoa(len(s.queues)))
			w.marks = append(w.marks, b)
		}
	}
	return w
}

func (w *writer[T]) newParts() {
	k := batched
	if w.sink.tx != nil {
		k = half
	}
	w.parts = w.partsOf(k)
	if w.sink.delays {
		w.late = w.partsOf(single)
	}
}

func (w *writer[T]) partsOf(k kind) []part {
	parts := make([]part, len(w.sink.queues))
	for i, q := range w.sink.queues {
		parts[i].queue, parts[i].kind = q, k
	}
	return parts
}

// Write encodes the batch. Records that RocketMQ could not hold are refused one by one.
func (w *writer[T]) Write(_ context.Context, batch []flow.Record[T]) error {
	var now time.Time
	if w.sink.fields.at != nil {
		now = w.sink.rt.Clock.Now()
	}
	for i := range batch {
		if err := w.add(&batch[i], now); err != nil {
			return &flow.RecordError{Index: i, Err: err}
		}
	}
	if w.sink.fields.key == nil {
		w.round = (w.round + 1) % len(w.parts)
	}
	if (w.bytes >= epochBytes || w.singles >= epochSingles) && !w.asked && w.sink.rt.RequestEpoch != nil {
		w.asked = true
		w.sink.rt.RequestEpoch()
	}
	return nil
}

func (w *writer[T]) add(r *flow.Record[T], now time.Time) (err error) {
	f := &w.sink.fields
	if w.body, err = w.sink.codec.Append(w.body[:0], &r.Value); err != nil {
		return err
	}
	w.props = w.props[:0]
	shard := w.round
	if f.key != nil {
		key := f.key(r.Value)
		if w.props, err = rocketmq.AppendProperty(w.props, rocketmq.ShardingKey, key); err != nil {
			return err
		}
		shard = shardOf(key, len(w.parts))
		w.props = append(w.props, w.marks[shard]...)
	}
	if f.id != nil {
		if w.props, err = rocketmq.AppendProperty(w.props, rocketmq.Keys, f.id(r.Value)); err != nil {
			return err
		}
	}
	if err = w.addChosen(r.Value); err != nil {
		return err
	}
	if r.Meta != nil && len(r.Meta.Headers) > 0 {
		if err = w.addHeaders(r.Meta.Headers); err != nil {
			return err
		}
	}
	p := &w.parts[shard]
	if w.late != nil {
		delayed, err := w.addDelay(r.Value, now)
		if err != nil {
			return err
		}
		if delayed {
			p = &w.late[shard]
		}
	}
	if p.kind != batched {
		if err := w.checkSingle(); err != nil {
			return err
		}
	}
	size, err := rocketmq.MessageSize(w.body, w.props)
	if err != nil {
		return err
	}
	if limit := w.sink.cfg.MaxMessageBytes; size > limit {
		return fmt.Errorf("rocketmq sink: message of %d bytes, more than max_message_bytes, %d", size, limit)
	}
	c := w.sink.room(p, size)
	if c.data, err = rocketmq.AppendMessage(c.data, w.body, w.props); err != nil {
		return err
	}
	c.rows++
	p.rows++
	w.rows++
	if p.kind != batched {
		w.singles++
	}
	w.bytes += size
	return nil
}

// room is the chunk that a message of that size goes to.
func (p *producer) room(to *part, size int) *chunk {
	if n := len(to.chunks); n > 0 {
		if c := &to.chunks[n-1]; c.rows < p.cfg.BatchMessages && len(c.data)+size <= p.cfg.BatchBytes {
			return c
		}
	}
	to.chunks = append(to.chunks, chunk{data: p.memory.take()})
	return &to.chunks[len(to.chunks)-1]
}

// addChosen adds the tag and the properties that the options choose.
func (w *writer[T]) addChosen(v T) (err error) {
	f := &w.sink.fields
	if f.tag != nil {
		if tag := f.tag(v); tag != "" {
			if strings.TrimSpace(tag) != tag || strings.Contains(tag, "||") {
				return fmt.Errorf("rocketmq sink: tag %q: no subscription could name it: no white space at its ends, no ||", tag)
			}
			if w.props, err = rocketmq.AppendProperty(w.props, rocketmq.Tags, tag); err != nil {
				return err
			}
		}
	}
	for i := range f.properties {
		if value := f.properties[i].of(v); value != "" {
			if w.props, err = rocketmq.AppendProperty(w.props, f.properties[i].name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// addDelay adds the property that delays a message, and tells whether it did.
func (w *writer[T]) addDelay(v T, now time.Time) (bool, error) {
	f := &w.sink.fields
	level, at := 0, time.Time{}
	if f.level != nil {
		level = f.level(v)
	}
	if f.at != nil {
		at = f.at(v)
	}
	switch {
	case level < 0:
		return false, fmt.Errorf("rocketmq sink: delay level %d: want 0 for none, or 1 to 18", level)
	case level > 0 && !at.IsZero():
		return false, fmt.Errorf("rocketmq sink: delay level %d and time %s: want one of them", level, at.Format(time.RFC3339))
	case level > 0:
		w.props = append(w.props, rocketmq.DelayLevel...)
		w.props = append(w.props, 1)
		w.props = strconv.AppendInt(w.props, int64(level), 10)
	case at.After(now):
		w.props = append(w.props, rocketmq.DeliverAt...)
		w.props = append(w.props, 1)
		w.props = strconv.AppendInt(w.props, at.UnixMilli(), 10)
	default:
		return false, nil
	}
	w.props = append(w.props, 2)
	return true, nil
}

// checkSingle refuses what only a batch could carry: the properties of a message by itself travel as text.
func (w *writer[T]) checkSingle() error {
	if !utf8.Valid(w.props) {
		return errors.New("rocketmq sink: a property is not UTF-8: delayed messages and transactions cannot carry it")
	}
	if tx := w.sink.tx; tx != nil && len(w.props)+tx.room() > rocketmq.MaxProperties {
		return fmt.Errorf("rocketmq sink: properties of %d bytes, more than %d", len(w.props), rocketmq.MaxProperties-tx.room())
	}
	return nil
}

func (w *writer[T]) addHeaders(h map[string]string) (err error) {
	for name, value := range h {
		if reserved(name) || w.chosen(name) {
			continue
		}
		if w.props, err = rocketmq.AppendProperty(w.props, name, value); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer[T]) chosen(name string) bool {
	for i := range w.sink.fields.properties {
		if w.sink.fields.properties[i].name == name {
			return true
		}
	}
	return false
}

// Seal hands over what was written as one block.
func (w *writer[T]) Seal(context.Context) ([]flow.Block, error) {
	if w.rows == 0 {
		return nil, nil
	}
	all := slices.Concat(w.parts, w.late)
	b := &block{rows: w.rows, bytes: w.bytes, parts: slices.DeleteFunc(all, func(p part) bool { return p.rows == 0 })}
	w.rows, w.bytes, w.singles, w.asked = 0, 0, 0, false
	w.newParts()
	return []flow.Block{b}, nil
}

// shardOf is the shard of the key's group, the same as that of a task that has the key.
func shardOf(key string, shards int) int {
	group := int(xxhash.Sum64String(key) % flow.KeyGroups)
	return group * shards / flow.KeyGroups
}

// reserved tells whether RocketMQ, or this sink, gives a property its own meaning: such headers come along from a RocketMQ
// source and are not handed on.
func reserved(name string) bool {
	switch name {
	case rocketmq.ShardingKey, rocketmq.Keys, rocketmq.Shard, rocketmq.Shards, rocketmq.Transaction,
		"TAGS", "WAIT", "DELAY", "RETRY_TOPIC", "REAL_TOPIC", "REAL_QID", "TRAN_MSG", "PGROUP", "MIN_OFFSET", "MAX_OFFSET",
		"BUYER_ID", "ORIGIN_MESSAGE_ID", "TRANSFER_FLAG", "CORRECTION_FLAG", "MQ2_FLAG", "RECONSUME_TIME", "MSG_REGION", "TRACE_ON",
		"UNIQ_KEY", "EXTEND_UNIQ_INFO", "MAX_RECONSUME_TIMES", "CONSUME_START_TIME", "TRAN_PREPARED_QUEUE_OFFSET",
		"TRANSACTION_CHECK_TIMES", "CHECK_IMMUNITY_TIME_IN_SECONDS", "INSTANCE_ID", "CORRELATION_ID", "REPLY_TO_CLIENT", "TTL",
		"ARRIVE_TIME", "PUSH_REPLY_TIME", "CLUSTER", "MSG_TYPE", "POP_CK", "POP_CK_OFFSET", "1ST_POP_TIME", "INNER_NUM", "INNER_BASE",
		"DUP_INFO", "DLQ_ORIGIN_TOPIC", "DLQ_ORIGIN_MESSAGE_ID", "__CRC32#", "__transactionId__", "CONSUME_TIMES",
		"TIMER_DELIVER_MS", "TIMER_DELAY_MS", "TIMER_DELAY_SEC", "TIMER_DELAY_LEVEL", "TIMER_IN_MS", "TIMER_OUT_MS",
		"TIMER_ENQUEUE_MS", "TIMER_DEQUEUE_MS", "TIMER_ROLL_TIMES", "TIMER_UNIQKEY", "TIMER_DEL_UNIQKEY", "TIMER_DEL_FLAG":
		return true
	}
	return false
}

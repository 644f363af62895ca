package kafka

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-stream/millrace/internal/kafka"
)

// inbox holds what was fetched of one partition and not read yet: at most two answers, so that a partition that is not read
// holds back nothing but itself.
type inbox struct {
	key kafka.Key
	id  kafka.TopicID // of the topic whose records are read
	in  interface {
		Idle()
		Busy()
		Lag(n int64)
	}

	at *fetcher // under the hub's lock; nil: no leader known

	mu          sync.Mutex
	next        int64 // offset of the next fetch
	epoch       int32 // the leaders' epoch when the last record was written, -1: unknown
	leaderEpoch int32
	round       int // counts resets, so that an answer from before one is dropped
	queue       []chunk
	halted      bool // an error waits in the queue: fetch nothing
	waiting     bool // the reader has nothing to do
	ready       chan struct{}
}

// chunk is what one answer holds of a partition, as it was sent: its reader decompresses it.
type chunk struct {
	part *kmsg.FetchResponseTopicPartition
	err  error
}

const maxChunks = 2

const anyRound = -1

func newInbox(k kafka.Key) *inbox {
	return &inbox{key: k, epoch: -1, leaderEpoch: -1, ready: make(chan struct{}, 1)}
}

// sameTopic tells whether a topic is the one that is read, where brokers tell them apart.
func (b *inbox) sameTopic(id kafka.TopicID) bool {
	return id == b.id || id == (kafka.TopicID{}) || b.id == (kafka.TopicID{})
}

// ask is the part of a fetch for this partition. It is refused while the inbox is full, which full tells, or must not be filled.
func (b *inbox) ask(p *kmsg.FetchRequestTopicPartition) (round int, ok, full bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.halted || len(b.queue) >= maxChunks {
		return 0, false, !b.halted
	}
	p.Partition = b.key.Partition
	p.FetchOffset = b.next
	p.CurrentLeaderEpoch = b.leaderEpoch
	p.LastFetchedEpoch = b.epoch
	return b.round, true, false
}

// put takes an answer, and tells whether it moves the partition on.
func (b *inbox) put(round int, p *kmsg.FetchResponseTopicPartition) (moved bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.round != round || b.halted {
		return true
	}
	if len(p.RecordBatches) == 0 {
		if b.waiting && len(b.queue) == 0 {
			b.nothing(p.HighWatermark)
		}
		return true
	}
	next, epoch := span(p.RecordBatches)
	if next <= b.next {
		return false
	}
	b.next, b.epoch = next, epoch
	b.push(chunk{part: p})
	return true
}

// nothing tells the engine that a broker was asked and had nothing that may be read. Records of an open transaction are there,
// only not readable now.
func (b *inbox) nothing(end int64) {
	lag := max(end-b.next, 0)
	b.in.Lag(lag)
	if lag == 0 {
		b.in.Idle()
	} else {
		b.in.Busy()
	}
}

// fail gives the reader err behind what was fetched. round is that of the fetch that failed, anyRound for what is true of all.
func (b *inbox) fail(round int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.halted && (round == b.round || round == anyRound) {
		b.halted = true
		b.push(chunk{err: err})
	}
}

func (b *inbox) push(c chunk) {
	b.queue = append(b.queue, c)
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// take returns the next chunk, and waits for it.
func (b *inbox) take(ctx context.Context) (c chunk, err error) {
	for {
		if b.pop(&c) {
			return c, nil
		}
		select {
		case <-b.ready:
		case <-ctx.Done():
			return c, ctx.Err()
		}
	}
}

func (b *inbox) pop(c *chunk) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = len(b.queue) == 0
	if b.waiting {
		return false
	}
	*c = b.queue[0]
	copy(b.queue, b.queue[1:])
	b.queue[len(b.queue)-1] = chunk{}
	b.queue = b.queue[:len(b.queue)-1]
	return true
}

// empty tells whether nothing more was fetched.
func (b *inbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) == 0
}

// reset drops what was fetched and goes on at an offset.
func (b *inbox) reset(offset int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.round++
	clear(b.queue)
	b.next, b.epoch, b.queue, b.halted = offset, -1, b.queue[:0], false
}

// span is the offset behind the last whole batch of records in data, and the epoch that it was written in.
func span(data []byte) (next int64, epoch int32) {
	const head = 61 // of a batch in today's format
	next, epoch = -1, -1
	for len(data) > 17 {
		size := 12 + int64(int32(binary.BigEndian.Uint32(data[8:])))
		if size < 17 || size > int64(len(data)) {
			break // cut off, or damaged, which the reader finds
		}
		offset := int64(binary.BigEndian.Uint64(data))
		switch {
		case data[16] < 2: // a message, or a compressed set with the offset of its last message
			next, epoch = offset+1, -1
		case size < head:
			return next, epoch
		default:
			next = offset + int64(int32(binary.BigEndian.Uint32(data[23:]))) + 1
			epoch = int32(binary.BigEndian.Uint32(data[12:]))
		}
		data = data[size:]
	}
	return next, epoch
}

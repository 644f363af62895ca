package rocketmq

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// block is what one task wrote in one epoch: messages in the form in which batches hold them, by queue. It remembers what the
// broker has confirmed, so that a repeated Deliver sends only the rest.
type block struct {
	rows, bytes int
	parts       []part
}

// part is what goes to one queue in one way.
type part struct {
	queue   rocketmq.Queue
	kind    kind
	rows    int
	chunks  []chunk
	rejects []flow.Reject // kept until a Deliver succeeds
	done    bool          // delivered: the chunks are gone
}

// chunk is a piece of memory full of messages, as many as a batch has.
type chunk struct {
	data     []byte
	rows     int
	sent     int // of batches: bytes confirmed or rejected
	sentRows int
	messages []message // of what is sent one by one, from the first Deliver on
}

// kind says how messages are sent.
type kind byte

const (
	batched kind = iota
	single       // one by one, because they are delayed
	half         // one by one, stored first and committed then
	kinds
)

// buffers lends the memory of messages, from one epoch to the next.
type buffers struct{ pool sync.Pool }

func (b *buffers) take() []byte {
	if p, _ := b.pool.Get().(*[]byte); p != nil {
		return (*p)[:0]
	}
	return nil
}

// release gives the memory of a delivered part back.
func (p *part) release(to *buffers) {
	for i := range p.chunks {
		to.pool.Put(&p.chunks[i].data)
	}
	p.chunks, p.rejects, p.done = nil, nil, true
}

func (b *block) Rows() int  { return b.rows }
func (b *block) Bytes() int { return b.bytes }

const blockFormat = 2

// AppendBinary encodes all messages, sent or not.
func (b *block) AppendBinary(to []byte) ([]byte, error) {
	to = append(to, blockFormat)
	to = binary.AppendUvarint(to, uint64(len(b.parts)))
	for i := range b.parts {
		p := &b.parts[i]
		if p.done {
			return nil, errDelivered
		}
		to = binary.AppendUvarint(to, uint64(len(p.queue.Broker)))
		to = append(to, p.queue.Broker...)
		to = binary.AppendUvarint(to, uint64(p.queue.ID))
		to = append(to, byte(p.kind))
		to = binary.AppendUvarint(to, uint64(len(p.chunks)))
		for j := range p.chunks {
			to = binary.AppendUvarint(to, uint64(len(p.chunks[j].data)))
			to = append(to, p.chunks[j].data...)
		}
	}
	return to, nil
}

var errDelivered = errors.New("rocketmq sink: the block is delivered already: its messages are gone")

var errBlock = errors.New("rocketmq sink: not a block of this sink, or a damaged one")

// decodeBlock checks every message, so that a damaged block is found here and not by a broker.
func decodeBlock(data []byte) (flow.Block, error) {
	if len(data) == 0 || data[0] != blockFormat {
		return nil, errBlock
	}
	d := blockReader{rest: data[1:]}
	b := &block{}
	for n := d.number(); n > 0 && !d.bad; n-- {
		p := part{queue: rocketmq.Queue{Broker: string(d.bytes()), ID: int(d.number())}, kind: kind(d.number())}
		if p.kind >= kinds {
			return nil, errBlock
		}
		for k := d.number(); k > 0 && !d.bad; k-- {
			c := chunk{data: append([]byte(nil), d.bytes()...)}
			if err := c.check(); err != nil {
				return nil, err
			}
			p.rows += c.rows
			b.bytes += len(c.data)
			p.chunks = append(p.chunks, c)
		}
		b.rows += p.rows
		b.parts = append(b.parts, p)
	}
	if d.bad || len(d.rest) > 0 {
		return nil, errBlock
	}
	return b, nil
}

// check counts the messages and finds damage.
func (c *chunk) check() error {
	for at := 0; at < len(c.data); c.rows++ {
		size, err := rocketmq.BatchMessageSize(c.data[at:])
		if err != nil {
			return errBlock
		}
		if _, _, err := rocketmq.BatchMessage(c.data[at : at+size]); err != nil {
			return errBlock
		}
		at += size
	}
	return nil
}

type blockReader struct {
	rest []byte
	bad  bool
}

func (d *blockReader) number() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > 1<<40 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *blockReader) bytes() []byte {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

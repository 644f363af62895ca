package watermill

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-stream/millrace/flow"
)

// row is a message to be.
type row struct {
	topic, id string
	metadata  map[string]string
	payload   []byte
	time      flow.Timestamp
	lane      uint64 // modulo Parallel
	state     rowState
	err       error // why it was refused
}

type rowState uint8

const (
	waiting rowState = iota
	alone            // a call with others failed: the next one is for it alone
	published
	refused
)

func (r *row) bytes() int {
	n := len(r.topic) + len(r.id) + len(r.payload)
	for k, v := range r.metadata {
		n += len(k) + len(v)
	}
	return n
}

// message makes the message anew for each call: publishers and their decorators may change it.
func (r *row) message() *message.Message {
	m := message.NewMessage(r.id, r.payload)
	for k, v := range r.metadata {
		m.Metadata[k] = v
	}
	return m
}

// block is what one task wrote in one epoch. Its rows remember what was published, so that a repeated Deliver publishes the rest.
type block struct {
	rows  []row
	bytes int
}

func (b *block) Rows() int  { return len(b.rows) }
func (b *block) Bytes() int { return b.bytes }

const blockFormat = 1

// AppendBinary encodes all rows, published or not.
func (b *block) AppendBinary(to []byte) ([]byte, error) {
	to = append(to, blockFormat)
	to = binary.AppendUvarint(to, uint64(len(b.rows)))
	for i := range b.rows {
		r := &b.rows[i]
		to = appendBytes(to, r.topic)
		to = appendBytes(to, r.id)
		to = binary.AppendVarint(to, int64(r.time))
		to = binary.AppendUvarint(to, r.lane)
		to = binary.AppendUvarint(to, uint64(len(r.metadata)))
		for k, v := range r.metadata {
			to = appendBytes(appendBytes(to, k), v)
		}
		to = appendBytes(to, string(r.payload))
	}
	return to, nil
}

func appendBytes(to []byte, s string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(s))), s...)
}

var errBlock = errors.New("watermill sink: not a block of this sink, or a damaged one")

func decodeBlock(data []byte) (flow.Block, error) {
	if len(data) == 0 || data[0] != blockFormat {
		return nil, errBlock
	}
	d := decoder{rest: data[1:]}
	b := &block{}
	for n := d.number(); n > 0 && !d.bad; n-- {
		r := row{topic: d.text(), id: d.text(), time: flow.Timestamp(d.signed()), lane: d.number()}
		for k := d.number(); k > 0 && !d.bad; k-- {
			if r.metadata == nil {
				r.metadata = map[string]string{}
			}
			key := d.text()
			r.metadata[key] = d.text()
		}
		r.payload = []byte(d.text())
		b.bytes += r.bytes()
		b.rows = append(b.rows, r)
	}
	if d.bad || len(d.rest) > 0 {
		return nil, errBlock
	}
	b.rows = slices.Clip(b.rows)
	return b, nil
}

type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) signed() int64 {
	n, size := binary.Varint(d.rest)
	if size <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) text() string {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

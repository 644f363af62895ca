package kafka

import (
	"encoding/binary"
	"errors"

	"github.com/millrace-stream/millrace/flow"
)

// block is what one task wrote in one epoch: its records, encoded one behind the other. It remembers what the brokers have acked,
// so that a repeated Deliver sends only the rest.
type block struct {
	rows   int
	data   []byte
	topics []string // that records refer to by number

	flight
}

// flight is what is known of a block's delivery. Its producer's lock guards it while records are in flight.
type flight struct {
	begun    bool
	fed      bool // all records were handed to the client
	left     int  // records in flight
	pending  []int
	again    bool // pending holds the rows to send; else all are
	failed   []failure
	refused  map[int]error // rows that are known to be refused
	done     chan struct{}
	finished bool
}

type failure struct {
	row int
	err error
}

func (b *block) Rows() int  { return b.rows }
func (b *block) Bytes() int { return len(b.data) }

const blockFormat = 1

// AppendBinary encodes all records, sent or not.
func (b *block) AppendBinary(to []byte) ([]byte, error) {
	to = append(to, blockFormat)
	to = binary.AppendUvarint(to, uint64(len(b.topics)))
	for _, t := range b.topics {
		to = appendBytes(to, t)
	}
	return appendBytes(to, b.data), nil
}

var errBlock = errors.New("kafka sink: not a block of this sink, or a damaged one")

// decodeBlock checks every record, so that a damaged block is found here and not by a broker.
func decodeBlock(data []byte) (flow.Block, error) {
	if len(data) == 0 || data[0] != blockFormat {
		return nil, errBlock
	}
	d := frames{rest: data[1:]}
	b := &block{}
	for n := d.number(); n > 0 && !d.bad; n-- {
		b.topics = append(b.topics, string(d.bytes()))
	}
	b.data = append([]byte(nil), d.bytes()...)
	if d.bad || len(d.rest) > 0 {
		return nil, errBlock
	}
	var f frame
	for it := (frames{rest: b.data}); it.next(&f); b.rows++ {
		if it.bad || f.topic >= len(b.topics) {
			return nil, errBlock
		}
	}
	return b, nil
}

// frame is one record of a block. Its bytes are the block's.
type frame struct {
	topic      int
	keyed      bool
	tombstone  bool
	key, value []byte
	headers    int    // how many
	rest       []byte // the headers
}

const (
	flagKeyed     = 1
	flagTombstone = 2
)

// frames goes over a block's records.
type frames struct {
	rest []byte
	bad  bool
}

// next returns false at the end. A damaged frame sets bad, once.
func (d *frames) next(f *frame) bool {
	if len(d.rest) == 0 {
		return false
	}
	f.topic = int(d.number())
	flags := d.number()
	f.keyed, f.tombstone = flags&flagKeyed != 0, flags&flagTombstone != 0
	f.key, f.value = d.bytes(), d.bytes()
	n := d.number()
	start := d.rest
	for i := uint64(0); i < 2*n && !d.bad; i++ {
		d.bytes()
	}
	f.headers, f.rest = int(n), start[:len(start)-len(d.rest)]
	return true
}

func (d *frames) number() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > 1<<40 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *frames) bytes() []byte {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func appendBytes[S string | []byte](to []byte, s S) []byte {
	to = binary.AppendUvarint(to, uint64(len(s)))
	return append(to, s...)
}

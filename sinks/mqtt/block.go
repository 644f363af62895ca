package mqtt

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/mqttclient"
)

// block is what one task wrote in one epoch. It remembers what the broker has confirmed, so that a repeated Deliver publishes only
// the rest.
type block struct {
	data []byte // entries
	at   []int  // where each row's entry begins

	// What follows belongs to the publisher's lock once the block is delivered.
	state   []rowState // by row; nil while nothing was done
	left    int        // rows that are neither done nor rejected
	rejects []flow.Reject
}

// rowState is how far a row has come.
type rowState byte

const (
	pending  rowState = iota // to be published
	sent                     // in flight
	finished                 // confirmed or rejected
)

func (b *block) Rows() int  { return len(b.at) }
func (b *block) Bytes() int { return len(b.data) }

// begin prepares a block for its first delivery.
func (b *block) begin() {
	if b.state == nil {
		b.state, b.left = make([]rowState, len(b.at)), len(b.at)
	}
}

func (b *block) finish(row int) {
	if b.state[row] != finished {
		b.state[row] = finished
		b.left--
	}
}

// entry is a message: its time (8 bytes), flags (1), and topic, properties and payload with their sizes in front.
type entry struct {
	time                  flow.Timestamp
	retained              bool
	topic, props, payload []byte
}

const retainedFlag = 1

// add appends a message.
func (b *block) add(at flow.Timestamp, retained bool, topic string, props, payload []byte) {
	b.at = append(b.at, len(b.data))
	d := binary.BigEndian.AppendUint64(b.data, uint64(at))
	flags := byte(0)
	if retained {
		flags = retainedFlag
	}
	d = append(d, flags)
	d = append(binary.AppendUvarint(d, uint64(len(topic))), topic...)
	d = append(binary.AppendUvarint(d, uint64(len(props))), props...)
	b.data = append(binary.AppendUvarint(d, uint64(len(payload))), payload...)
}

// entry reads a row. Blocks that were decoded have been checked.
func (b *block) entry(row int) entry {
	e, _, err := readEntry(b.data[b.at[row]:])
	if err != nil {
		panic(err)
	}
	return e
}

var errBlock = errors.New("mqtt sink: not a block of this sink, or a damaged one")

func readEntry(b []byte) (e entry, rest []byte, err error) {
	if len(b) < 9 || b[8] > retainedFlag {
		return e, nil, errBlock
	}
	e.time, e.retained = flow.Timestamp(binary.BigEndian.Uint64(b)), b[8] == retainedFlag
	b = b[9:]
	for _, part := range [...]*[]byte{&e.topic, &e.props, &e.payload} {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return e, nil, errBlock
		}
		end := size + int(n)
		*part, b = b[size:end:end], b[end:]
	}
	return e, b, nil
}

const blockFormat = 1

// AppendBinary encodes all messages, published or not.
func (b *block) AppendBinary(to []byte) ([]byte, error) {
	to = binary.AppendUvarint(append(to, blockFormat), uint64(len(b.at)))
	return append(to, b.data...), nil
}

func decodeBlock(data []byte) (flow.Block, error) {
	if len(data) == 0 || data[0] != blockFormat {
		return nil, errBlock
	}
	rows, size := binary.Uvarint(data[1:])
	if size <= 0 {
		return nil, errBlock
	}
	b := &block{data: slices.Clone(data[1+size:])}
	for rest := b.data; len(rest) > 0; {
		b.at = append(b.at, len(b.data)-len(rest))
		e, behind, err := readEntry(rest)
		if err != nil || checkTopic(string(e.topic)) != nil || mqttclient.CheckProps(e.props) != nil {
			return nil, errBlock
		}
		rest = behind
	}
	if uint64(len(b.at)) != rows {
		return nil, errBlock
	}
	return b, nil
}

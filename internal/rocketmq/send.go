package rocketmq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limits of a message.
const (
	// MaxProperties is the most bytes that a message's properties may have: the store has 15 bits for their length, and the
	// broker adds some of its own.
	MaxProperties = 32767 - 256
	// batchHead is what a message in a batch has beside body and properties.
	batchHead = 4 + 4 + 4 + 4 + 4 + 2
)

// Errors of messages that a broker would refuse, cut or swallow.
var (
	ErrEmptyBody = errors.New("rocketmq: empty body: brokers refuse it")
)

// AppendProperty appends a property. A broker drops a property with an empty value and cuts one at \x01 or \x02, both
// silently; here they are errors.
func AppendProperty(b []byte, name, value string) ([]byte, error) {
	switch {
	case name == "":
		return b, errors.New("rocketmq: property without a name")
	case value == "":
		return b, fmt.Errorf("rocketmq: property %q is empty: brokers drop it silently", name)
	case cuts(name) || cuts(value):
		return b, fmt.Errorf("rocketmq: property %q holds \\x01 or \\x02: brokers cut it there silently", name)
	}
	b = append(b, name...)
	b = append(b, nameEnd)
	b = append(b, value...)
	return append(b, valueEnd), nil
}

func cuts(s string) bool {
	return strings.IndexByte(s, nameEnd) >= 0 || strings.IndexByte(s, valueEnd) >= 0
}

// MessageSize is how many bytes a message takes in a batch; a message that no broker takes is an error.
func MessageSize(body, properties []byte) (int, error) {
	if len(body) == 0 {
		return 0, ErrEmptyBody
	}
	if len(properties) > MaxProperties {
		return 0, fmt.Errorf("rocketmq: properties of %d bytes, more than %d", len(properties), MaxProperties)
	}
	return batchHead + len(body) + len(properties), nil
}

// AppendMessage appends a message as it stands in a batch.
func AppendMessage(b, body, properties []byte) ([]byte, error) {
	size, err := MessageSize(body, properties)
	if err != nil {
		return b, err
	}
	be := binary.BigEndian
	b = be.AppendUint32(b, uint32(size))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // magic code, checksum (the broker's own) and flag
	b = be.AppendUint32(b, uint32(len(body)))
	b = append(b, body...)
	b = be.AppendUint16(b, uint16(len(properties)))
	return append(b, properties...), nil
}

// BatchMessageSize is how many bytes of b the first message of a batch takes.
func BatchMessageSize(b []byte) (int, error) {
	if len(b) < batchHead {
		return 0, errShort
	}
	n := int(binary.BigEndian.Uint32(b))
	if n < batchHead || n > len(b) {
		return 0, errShort
	}
	return n, nil
}

// BatchMessage splits a message of a batch, of the size that BatchMessageSize says, into body and properties.
func BatchMessage(b []byte) (body []byte, p Properties, err error) {
	const at = batchHead - 2
	if len(b) < batchHead {
		return nil, nil, errShort
	}
	n := int(binary.BigEndian.Uint32(b[at-4:]))
	if n > len(b)-batchHead {
		return nil, nil, errShort
	}
	rest := b[at+n:]
	if int(binary.BigEndian.Uint16(rest)) != len(rest)-2 {
		return nil, nil, errShort
	}
	return b[at : at+n], Properties(rest[2:]), nil
}

// Send is the command that stores one message, for what brokers refuse in batches. The properties travel as text: they must be
// UTF-8. With half the message is stored for no reader to see until EndTransaction.
func Send(group, topic string, q Queue, born time.Time, half bool, body []byte, properties string) Request {
	sysFlag := "0"
	if half {
		sysFlag = "4"
	}
	return Request{Code: 310, Body: [][]byte{body}, Ext: map[string]string{
		"a": group, "b": topic, "c": topic, "d": "4", "e": strconv.Itoa(q.ID), "f": sysFlag, "g": strconv.FormatInt(born.UnixMilli(), 10),
		"h": "0", "i": properties, "j": "0", "k": "false", "l": "0", "m": "false", "n": q.Broker,
	}}
}

// SendBatch is the command that stores messages, as AppendMessage made them, in one queue, all or none.
func SendBatch(group, topic string, q Queue, born time.Time, messages ...[]byte) Request {
	return Request{Code: 320, Body: messages, Ext: map[string]string{
		"a": group, "b": topic,
		"c": topic, // not the topic whose settings new topics get: a missing topic is an error, not made with other queues
		"d": "4", "e": strconv.Itoa(q.ID), "f": "0", "g": strconv.FormatInt(born.UnixMilli(), 10), "h": "0", "i": "",
		"j": "0", "k": "false", "l": "0", "m": "true", "n": q.Broker,
	}}
}

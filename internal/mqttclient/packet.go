package mqttclient

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// packet is what was read: the kind and the flags of the fixed header, and what follows it. The body is the reader's to keep.
type packet struct {
	kind, flags byte
	body        []byte
}

// trusted is how many bytes of a packet are believed in before they have come.
const trusted = 1 << 20

var errTruncated = errors.New("truncated")

// source is what packets are read from.
type source interface {
	io.Reader
	io.ByteReader
}

func readPacket(r source) (packet, error) {
	first, err := r.ReadByte()
	if err != nil {
		return packet{}, err
	}
	size, err := readSize(r)
	if err != nil {
		return packet{}, unexpected(err)
	}
	p := packet{kind: first >> 4, flags: first & 0xf}
	if size <= trusted {
		p.body = make([]byte, size)
		_, err = io.ReadFull(r, p.body)
	} else {
		var b bytes.Buffer
		_, err = io.CopyN(&b, r, int64(size))
		p.body = b.Bytes()
	}
	return p, unexpected(err)
}

// wholePacket tells whether a packet can be read without waiting.
func wholePacket(r *bufio.Reader) bool {
	n := r.Buffered()
	if n < 2 {
		return false
	}
	head, err := r.Peek(min(n, 5))
	if err != nil {
		return false
	}
	size := 0
	for i, b := range head[1:] {
		size |= int(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			return 2+i+size <= n
		}
	}
	return false
}

// unexpected says that an end in the middle of a packet is none at its border.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readSize reads a variable byte integer.
func readSize(r io.ByteReader) (int, error) {
	size := 0
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		size |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			return size, nil
		}
		if shift == 21 {
			return 0, errors.New("a size of more than four bytes")
		}
	}
}

func appendSize(b []byte, n int) []byte {
	for n > 0x7f {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// sizeBytes is how many bytes a variable byte integer takes.
func sizeBytes(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// number is the big-endian number that b begins with.
func number(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

func appendString[S ~string | ~[]byte](b []byte, s S) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// cutString takes a string off the beginning of b.
func cutString(b []byte) (s, rest []byte, err error) {
	if len(b) < 2 {
		return nil, nil, errTruncated
	}
	n := int(number(b))
	if len(b) < 2+n {
		return nil, nil, errTruncated
	}
	return b[2 : 2+n], b[2+n:], nil
}

// AckBytes is the size of an ack without code and properties, which both versions know.
const AckBytes = 4

func appendAck(b []byte, a Ack) []byte {
	flags := byte(0)
	if a.Kind == Pubrel {
		flags = 2
	}
	b = append(b, a.Kind<<4|flags, 2)
	return binary.BigEndian.AppendUint16(b, a.ID)
}

// Out is a message to publish.
type Out struct {
	Topic   []byte
	Payload []byte
	// Props are encoded properties, see AppendHeader and AppendExpiry; MQTT 3.1.1 has none.
	Props     []byte
	ID        uint16
	QoS       byte
	Retained  bool
	Duplicate bool
}

func appendPublish(b []byte, m *Out, size int) []byte {
	first := byte(publish<<4) | m.QoS<<1
	if m.Retained {
		first |= 1
	}
	if m.Duplicate {
		first |= 8
	}
	b = appendSize(append(b, first), size)
	b = appendString(b, m.Topic)
	if m.QoS > 0 {
		b = binary.BigEndian.AppendUint16(b, m.ID)
	}
	return b
}

// bodySize is the size of what both versions put behind the fixed header.
func (m *Out) bodySize() int {
	n := 2 + len(m.Topic) + len(m.Payload)
	if m.QoS > 0 {
		n += 2
	}
	return n
}

func packetSize(body int) int { return 1 + sizeBytes(body) + body }

// cutMessage reads what both versions put in front of the payload.
func cutMessage(c *Conn, p packet) (m Message, rest []byte, err error) {
	m.QoS, m.Retained, m.Duplicate = p.flags>>1&3, p.flags&1 != 0, p.flags&8 != 0
	topic, rest, err := cutString(p.body)
	if err != nil {
		return m, nil, err
	}
	m.Topic = c.topics.string(topic)
	if m.QoS > 0 {
		if len(rest) < 2 {
			return m, nil, errTruncated
		}
		m.ID, rest = number(rest), rest[2:]
	}
	return m, rest, nil
}

// topicCache gives equal topics the same string.
type topicCache struct{ known map[string]string }

// maxTopics bounds the cache: a full one is emptied.
const maxTopics = 1 << 14

func (t *topicCache) string(topic []byte) string {
	if s, ok := t.known[string(topic)]; ok {
		return s
	}
	if t.known == nil || len(t.known) == maxTopics {
		t.known = map[string]string{}
	}
	s := string(topic)
	t.known[s] = s
	return s
}

// codec is a version of the protocol.
type codec interface {
	connect(o Options) ([]byte, error)
	// connack sets what the broker says of the session and of itself. The error is a refusal, or not understood.
	connack(c *Conn, body []byte) error
	message(c *Conn, p packet) (Message, error)
	answer(p packet) (Answer, error)
	subscribe(id uint16, subs []Subscription) ([]byte, error)
	unsubscribe(id uint16, filter string) ([]byte, error)
	// subscribed hands an answer to who waits for it.
	subscribed(c *Conn, p packet) error
	// disconnect encodes the goodbye; with forget the broker drops the session.
	disconnect(forget bool) []byte
	// disconnected is why the broker ends the connection.
	disconnected(p packet) error
	appendPublish(b []byte, m *Out) []byte
	publishSize(m *Out) int
}

func codecOf(v Version) codec {
	if v == V5 {
		return v5{}
	}
	return v311{}
}

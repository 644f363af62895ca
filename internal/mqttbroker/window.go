package mqttbroker

import (
	"net"
	"sync"
)

// Packet types of MQTT, the upper half of the first byte.
const (
	publishPacket = 3
	puback        = 4
	pubcomp       = 7
)

// windowListener gives its connections a window of unacked messages.
type windowListener struct {
	net.Listener
	window int
}

func (l windowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &windowConn{Conn: c, free: l.window}, nil
}

// windowConn is the broker's end of a connection. It keeps back what is published beyond the window until acks come in; other
// packets pass. Neither Read nor Write waits for the window.
type windowConn struct {
	net.Conn

	in frames // read by the broker's reader alone

	mu   sync.Mutex
	out  frames
	free int
	held [][]byte // in order; not empty only when nothing is free
}

// Write passes on what the broker sends, or keeps it back.
func (c *windowConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	c.out.feed(b, func(packet []byte) {
		if packet[0]>>4 == publishPacket && (len(c.held) > 0 || c.free == 0 && qos(packet) > 0) {
			c.held = append(c.held, append([]byte(nil), packet...))
			return
		}
		err = first(err, c.send(packet))
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// Read hands on what the client sends, and lets a message go for each ack.
func (c *windowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	acks := 0
	c.in.feed(b[:n], func(packet []byte) {
		if t := packet[0] >> 4; t == puback || t == pubcomp {
			acks++
		}
	})
	if acks > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.free += acks
		for len(c.held) > 0 && (c.free > 0 || qos(c.held[0]) == 0) {
			packet := c.held[0]
			c.held = c.held[1:]
			err = first(err, c.send(packet))
		}
	}
	return n, err
}

func (c *windowConn) send(packet []byte) error {
	if packet[0]>>4 == publishPacket && qos(packet) > 0 {
		c.free--
	}
	_, err := c.Conn.Write(packet)
	return err
}

func qos(packet []byte) byte { return packet[0] >> 1 & 3 }

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// frames cuts a stream of bytes into MQTT packets.
type frames struct{ rest []byte }

// feed calls f for each packet that b completes. The packet is f's until it returns.
func (s *frames) feed(b []byte, f func(packet []byte)) {
	s.rest = append(s.rest, b...)
	at := 0
	for {
		n := packetLen(s.rest[at:])
		if n == 0 || n > len(s.rest)-at {
			break
		}
		f(s.rest[at : at+n])
		at += n
	}
	s.rest = append(s.rest[:0], s.rest[at:]...)
}

// packetLen is the length of the packet that b begins with, 0 while too little is there to tell.
func packetLen(b []byte) int {
	n := 0
	for i := 1; i < len(b) && i < 5; i++ {
		n |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			return 1 + i + n
		}
	}
	return 0
}

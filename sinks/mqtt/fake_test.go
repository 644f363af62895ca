package mqtt

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/packets"
	paho3 "github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

// fake is a broker that does with each packet what a test says, in either version of the protocol. It keeps the sessions of
// clients that do not start clean.
type fake struct {
	l  net.Listener
	wg sync.WaitGroup

	// on says what to do with packet n (from 0, over all connections): one letter for its kind, and its payload or id.
	on func(n int, kind byte, p seen) verdict
	// session says whether the broker has kept the session on connection n (from 0). Defaults to what the client asks for.
	session func(n int, clean bool) bool
	props   *paho5.Properties // of the CONNACK

	mu       sync.Mutex
	conns    []net.Conn
	connects []connected
	packets  []seen
	kept     bool // there is a session
	received map[uint16]bool
	stored   []string
}

type connected struct {
	clean    bool
	id, user string
	will     string
	expiry   uint32
}

// seen is a packet that came.
type seen struct {
	kind    byte // 'p' for PUBLISH, 'r' for PUBREL
	id      uint16
	payload string
	dup     bool
	conn    int
}

// verdict is what happens to a packet.
type verdict struct {
	forget bool // it is not stored
	silent bool // no answer
	cut    bool // the connection ends then, without an answer
	code   byte
	reason string
}

func newFake(t *testing.T, on func(n int, kind byte, p seen) verdict) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &fake{l: l, on: on, received: map[uint16]bool{}}
	f.wg.Go(f.serve)
	t.Cleanup(func() {
		require.NoError(t, f.l.Close())
		f.cut()
		f.wg.Wait()
	})
	return f
}

func (f *fake) config() Config {
	return Config{Brokers: []string{"tcp://" + f.l.Addr().String()}, MaxReconnectInterval: 50 * time.Millisecond}
}

func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
}

func (f *fake) serve() {
	for {
		c, err := f.l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns = append(f.conns, c)
		f.mu.Unlock()
		f.wg.Go(func() {
			defer func() { _ = c.Close() }()
			f.talk(c)
		})
	}
}

// talk serves one connection. What the two versions share is the same for both libraries.
func (f *fake) talk(c net.Conn) {
	first := make([]byte, 11)
	n, err := io.ReadAtLeast(c, first, len(first))
	if err != nil {
		return
	}
	at := bytes.Index(first, []byte("MQTT"))
	if at < 0 {
		return
	}
	r := io.MultiReader(bytes.NewReader(first[:n]), c)
	if first[at+4] == 5 {
		f.talk5(c, r)
	} else {
		f.talk3(c, r)
	}
}

func (f *fake) enter(in connected) (conn int, present bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	conn = len(f.connects)
	f.connects = append(f.connects, in)
	present = f.kept && !in.clean
	if f.session != nil {
		present = f.session(conn, in.clean)
	}
	if !present {
		clear(f.received)
	}
	f.kept = true
	return conn, present
}

// take decides what happens to a packet and whether it is new.
func (f *fake) take(p seen, qos byte) verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.packets)
	f.packets = append(f.packets, p)
	var v verdict
	if f.on != nil {
		v = f.on(n, p.kind, p)
	}
	if p.kind == 'r' {
		if !v.forget {
			delete(f.received, p.id)
		}
		return v
	}
	if v.forget || v.code >= 0x80 {
		return v
	}
	if qos == 2 {
		if f.received[p.id] { // a repeat
			return v
		}
		f.received[p.id] = true
	}
	f.stored = append(f.stored, p.payload)
	return v
}

func (f *fake) talk3(c net.Conn, r io.Reader) {
	conn := 0
	for {
		p, err := paho3.ReadPacket(r)
		if err != nil {
			return
		}
		var answer paho3.ControlPacket
		var v verdict
		switch p := p.(type) {
		case *paho3.ConnectPacket:
			a := paho3.NewControlPacket(paho3.Connack).(*paho3.ConnackPacket)
			conn, a.SessionPresent = f.enter(connected{clean: p.CleanSession, id: p.ClientIdentifier, user: p.Username, will: p.WillTopic})
			answer = a
		case *paho3.PublishPacket:
			v = f.take(seen{'p', p.MessageID, string(p.Payload), p.Dup, conn}, p.Qos)
			if p.Qos == 1 {
				a := paho3.NewControlPacket(paho3.Puback).(*paho3.PubackPacket)
				a.MessageID, answer = p.MessageID, a
			} else if p.Qos == 2 {
				a := paho3.NewControlPacket(paho3.Pubrec).(*paho3.PubrecPacket)
				a.MessageID, answer = p.MessageID, a
			}
		case *paho3.PubrelPacket:
			v = f.take(seen{kind: 'r', id: p.MessageID, conn: conn}, 2)
			a := paho3.NewControlPacket(paho3.Pubcomp).(*paho3.PubcompPacket)
			a.MessageID, answer = p.MessageID, a
		case *paho3.PingreqPacket:
			answer = paho3.NewControlPacket(paho3.Pingresp)
		case *paho3.DisconnectPacket:
			return
		}
		if v.cut {
			return
		}
		if answer != nil && !v.silent {
			if err := answer.Write(c); err != nil {
				return
			}
		}
	}
}

func (f *fake) talk5(c net.Conn, r io.Reader) {
	conn := 0
	for {
		cp, err := paho5.ReadPacket(r)
		if err != nil {
			return
		}
		var answer paho5.Packet
		var v verdict
		switch p := cp.Content.(type) {
		case *paho5.Connect:
			a := &paho5.Connack{Properties: &paho5.Properties{}}
			if f.props != nil {
				a.Properties = f.props
			}
			in := connected{clean: p.CleanStart, id: p.ClientID, user: p.Username, will: p.WillTopic}
			if p.Properties.SessionExpiryInterval != nil {
				in.expiry = *p.Properties.SessionExpiryInterval
			}
			conn, a.SessionPresent = f.enter(in)
			answer = a
		case *paho5.Publish:
			v = f.take(seen{'p', p.PacketID, string(p.Payload), p.Duplicate, conn}, p.QoS)
			props := &paho5.Properties{ReasonString: v.reason}
			if p.QoS == 1 {
				answer = &paho5.Puback{PacketID: p.PacketID, ReasonCode: v.code, Properties: props}
			} else if p.QoS == 2 {
				answer = &paho5.Pubrec{PacketID: p.PacketID, ReasonCode: v.code, Properties: props}
			}
		case *paho5.Pubrel:
			v = f.take(seen{kind: 'r', id: p.PacketID, conn: conn}, 2)
			answer = &paho5.Pubcomp{PacketID: p.PacketID, Properties: &paho5.Properties{}}
		case *paho5.Pingreq:
			answer = &paho5.Pingresp{}
		case *paho5.Disconnect:
			return
		}
		if v.cut {
			return
		}
		if answer != nil && !v.silent {
			if _, err := answer.WriteTo(c); err != nil {
				return
			}
		}
	}
}

// got is what the broker has stored, in order.
func (f *fake) got() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.stored)
}

func (f *fake) all() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.packets)
}

func (f *fake) connections() []connected {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.connects)
}

// texts are the payloads of the numbers from to to.
func texts(from, to int) []string {
	var s []string
	for i := from; i <= to; i++ {
		s = append(s, strconv.Itoa(i))
	}
	return s
}

func (s seen) String() string {
	dup := ""
	if s.dup {
		dup = "!"
	}
	return strings.TrimSpace(string(s.kind) + strconv.Itoa(int(s.id)) + dup + " " + s.payload)
}

// on returns the packets of a connection.
func on(all []seen, conn int) []string {
	var s []string
	for _, p := range all {
		if p.conn == conn {
			s = append(s, p.String())
		}
	}
	return s
}

var versions = map[string]Protocol{"3.1.1": V311, "5": V5}

func newListener(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }

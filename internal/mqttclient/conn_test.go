package mqttclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/mqttconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe is a connection whose other end the test has.
func pipe(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	client, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	return client, server
}

// inbox is a handler that keeps everything.
type inbox struct {
	mu       sync.Mutex
	messages []Message
	answers  []Answer
	caught   int // messages that were there at the last Caught
	patient  bool
}

func (i *inbox) Receive(m Message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if m.Topic == "panic" {
		panic("asked for")
	}
	i.messages = append(i.messages, m)
}

func (i *inbox) Caught() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.caught = len(i.messages)
	return i.patient
}

func (i *inbox) Answered(a Answer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answers = append(i.answers, a)
}

func options(v Version) Options {
	return Options{
		Version: v, ClientID: "c", KeepAlive: time.Minute, PingTimeout: time.Second, WriteTimeout: time.Second, Headers: true,
		Clock: flow.SystemClock(), Log: slog.New(slog.DiscardHandler),
	}
}

// connected makes a connection with a server that answers the CONNECT with bytes.
func connected(t *testing.T, o Options, connack []byte) (*Conn, net.Conn, *inbox, error) {
	t.Helper()
	client, server := pipe(t)
	go func() {
		_, _ = packets.ReadPacket(server)
		_, _ = server.Write(connack)
	}()
	in := &inbox{}
	c, err := Connect(t.Context(), client, o, in)
	if err == nil {
		t.Cleanup(func() {
			c.End(ErrClosed)
			c.Wait()
		})
	}
	return c, server, in, err
}

var welcome5 = []byte{connack << 4, 3, 0, 0, 0}

func TestRefusals(t *testing.T) {
	_, _, _, err := connected(t, options(V5), []byte{connack << 4, 2, 0, 1})
	var refused *mqttconn.RefusedError
	require.ErrorAs(t, err, &refused, "a broker of 3.1.1 in its own words")
	require.EqualValues(t, packets.ConnackUnsupportedProtocolVersion, refused.Code)

	var b bytes.Buffer
	_, err = (&packets.Connack{ReasonCode: 0x9d, Properties: &packets.Properties{ReasonString: "moved", ServerReference: "other:1883"}}).WriteTo(&b)
	require.NoError(t, err)
	_, _, _, err = connected(t, options(V5), b.Bytes())
	require.EqualError(t, err, "refused with code 0x9d: server moved: moved: other:1883")

	_, _, _, err = connected(t, options(V5), []byte{disconnect << 4, 1, 0x8b})
	require.EqualError(t, err, "the broker ends the connection with code 0x8b: server shutting down")
	_, _, _, err = connected(t, options(V311), []byte{connack << 4, 2, 0, 9})
	require.EqualError(t, err, "refused with code 0x09")
	_, _, _, err = connected(t, options(V311), []byte{publish << 4, 0})
	require.ErrorContains(t, err, "kind 3")
	_, _, _, err = connected(t, options(V5), []byte{connack << 4, 0xff, 0xff, 0xff, 0xff, 1})
	require.ErrorContains(t, err, "more than four bytes")
}

func TestLimits(t *testing.T) {
	var b bytes.Buffer
	_, err := (&packets.Connack{SessionPresent: true, Properties: &packets.Properties{
		ReceiveMaximum: new(uint16(7)), MaximumQOS: new(byte(1)), RetainAvailable: new(byte(0)), SharedSubAvailable: new(byte(0)),
		MaximumPacketSize: new(uint32(99)), SessionExpiryInterval: new(uint32(5)), ServerKeepAlive: new(uint16(3)),
	}}).WriteTo(&b)
	require.NoError(t, err)
	c, _, _, err := connected(t, options(V5), b.Bytes())
	require.NoError(t, err)
	require.True(t, c.SessionPresent)
	require.Equal(t, Limits{ReceiveMaximum: 7, MaximumQoS: 1, MaxPacket: 99, SessionExpiry: 5}, c.Limits)
	require.Equal(t, 3*time.Second, c.keep)

	o := options(V5)
	o.SessionExpiry = 60
	c, _, _, err = connected(t, o, welcome5)
	require.NoError(t, err)
	require.Equal(t, Limits{ReceiveMaximum: 65535, MaximumQoS: 2, Retain: true, SharedSubs: true, SessionExpiry: 60}, c.Limits)
}

func TestConnectEndsWithItsContext(t *testing.T) {
	client, _ := pipe(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := Connect(ctx, client, options(V5), &inbox{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// The connection asks for a sign of life when there is none, takes any packet for one, and ends when none comes.
func TestKeepAlive(t *testing.T) {
	clock := flowtest.NewClock(time.Unix(1000, 0))
	o := options(V5)
	o.Clock, o.KeepAlive, o.PingTimeout = clock, 8*time.Second, 3*time.Second
	c, server, _, err := connected(t, o, welcome5)
	require.NoError(t, err)
	ping := func() {
		t.Helper()
		var p [2]byte
		_, err := io.ReadFull(server, p[:])
		require.NoError(t, err)
		require.Equal(t, [2]byte{pingreq << 4, 0}, p)
	}
	step := func(n int) {
		for range n {
			require.Eventually(t, func() bool { return clock.Sleepers() > 0 }, 5*time.Second, 100*time.Microsecond)
			clock.Advance(2 * time.Second)
		}
	}
	step(2)
	ping()
	received := c.received.Load()
	_, err = server.Write([]byte{pingresp << 4, 0})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.received.Load() > received }, 5*time.Second, time.Millisecond)
	step(3)
	ping()
	_, err = server.Write([]byte{publish << 4, 5, 0, 1, 't', 0, 'x'}) // as good as an answer
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.received.Load() > received+1 }, 5*time.Second, time.Millisecond)
	step(3)
	ping()
	step(2)
	<-c.Done()
	require.ErrorIs(t, c.Err(), errSilent)
}

func TestWhatComesIn(t *testing.T) {
	c, server, in, err := connected(t, options(V5), welcome5)
	require.NoError(t, err)
	var b bytes.Buffer
	for _, p := range []packets.Packet{
		&packets.Publish{Topic: "a", Payload: []byte("1"), Properties: &packets.Properties{}},
		&packets.Publish{Topic: "a", Payload: []byte("2"), QoS: 1, PacketID: 9, Retain: true, Duplicate: true, Properties: &packets.Properties{
			User: []packets.User{{Key: "k", Value: "v"}}, MessageExpiry: new(uint32(1)),
		}},
		&packets.Publish{Topic: "b", Payload: bytes.Repeat([]byte("x"), 2<<20), QoS: 2, PacketID: 10, Properties: &packets.Properties{PayloadFormat: new(byte(1))}},
		&packets.Pubrel{PacketID: 10, Properties: &packets.Properties{}},
		&packets.Puback{PacketID: 1, ReasonCode: 0x97, Properties: &packets.Properties{ReasonString: "later"}},
		&packets.Pubrec{PacketID: 2, Properties: &packets.Properties{}},
	} {
		_, err := p.WriteTo(&b)
		require.NoError(t, err)
	}
	_, err = server.Write(b.Bytes())
	require.NoError(t, err)
	answer := make([]byte, AckBytes)
	_, err = io.ReadFull(server, answer)
	require.NoError(t, err)
	require.Equal(t, []byte{Pubcomp << 4, 2, 0, 10}, answer)
	_, err = (&packets.Disconnect{ReasonCode: 0x98, Properties: &packets.Properties{ReasonString: "maintenance"}}).WriteTo(server)
	require.NoError(t, err)
	<-c.Done()
	c.Wait()
	require.EqualError(t, c.Err(), "the broker ends the connection with code 0x98: administrative action: maintenance")
	large := in.messages[2]
	require.Len(t, large.Payload, 2<<20)
	large.Payload = nil
	require.Equal(t, []Message{
		{Topic: "a", Payload: []byte("1")},
		{Topic: "a", Payload: []byte("2"), ID: 9, QoS: 1, Retained: true, Duplicate: true, Headers: map[string]string{"k": "v"}},
		{Topic: "b", ID: 10, QoS: 2},
	}, []Message{in.messages[0], in.messages[1], large})
	require.Equal(t, []Answer{{Kind: Puback, ID: 1, Code: 0x97, Reason: "quota exceeded: later"}, {Kind: Pubrec, ID: 2}}, in.answers)
}

// What has come in is told before the connection waits for more, even if the beginning of the next packet is there.
func TestCaught(t *testing.T) {
	c, server, in, err := connected(t, options(V5), welcome5)
	require.NoError(t, err)
	caught := func(n int) func() bool {
		return func() bool {
			in.mu.Lock()
			defer in.mu.Unlock()
			return in.caught == n
		}
	}
	message := []byte{publish << 4, 5, 0, 1, 't', 0, 'x'}
	_, err = server.Write(append(bytes.Repeat(message, 3), message[:4]...))
	require.NoError(t, err)
	require.Eventually(t, caught(3), 5*time.Second, time.Millisecond)
	_, err = server.Write(message[4:])
	require.NoError(t, err)
	require.Eventually(t, caught(4), 5*time.Second, time.Millisecond)

	in.mu.Lock()
	in.patient = true
	in.mu.Unlock()
	for range 1000 {
		_, err = server.Write(message)
		require.NoError(t, err)
	}
	require.Eventually(t, caught(1004), 5*time.Second, time.Millisecond)
	_ = c
}

func TestWholePacket(t *testing.T) {
	large := append([]byte{publish << 4, 0x80 | 4, 2}, make([]byte, 260)...) // 4 + 2*128
	for _, p := range [][]byte{{pingresp << 4, 0}, {publish << 4, 5, 0, 1, 't', 0, 'x'}, large} {
		for n := range len(p) + 1 {
			r := bufio.NewReader(bytes.NewReader(p[:n]))
			_, _ = r.Peek(1)
			require.Equal(t, n == len(p), wholePacket(r), "%d of %d bytes", n, len(p))
		}
	}
	r := bufio.NewReader(bytes.NewReader([]byte{publish << 4, 0xff, 0xff, 0xff, 0xff, 1}))
	_, _ = r.Peek(1)
	require.False(t, wholePacket(r))
}

func TestMalformedPacketsEndTheConnection(t *testing.T) {
	for name, p := range map[string][]byte{
		"publish without topic":    {publish << 4, 0},
		"publish without id":       {publish<<4 | 2, 3, 0, 1, 't'},
		"topic alias":              {publish << 4, 3, 0, 0, 0},
		"properties beyond":        {publish << 4, 5, 0, 1, 't', 9, 0},
		"unknown property":         {publish << 4, 6, 0, 1, 't', 2, 0x7f, 0},
		"short answer":             {Puback << 4, 1, 0},
		"short PUBREL":             {Pubrel<<4 | 2, 0},
		"short SUBACK":             {suback << 4, 1, 0},
		"a client's packet":        {pingreq << 4, 0},
		"a panic of the handler's": {publish << 4, 8, 0, 5, 'p', 'a', 'n', 'i', 'c', 0},
	} {
		t.Run(name, func(t *testing.T) {
			c, server, _, err := connected(t, options(V5), welcome5)
			require.NoError(t, err)
			_, err = server.Write(p)
			require.NoError(t, err)
			<-c.Done()
			require.Error(t, c.Err())
			require.NotErrorIs(t, c.Err(), io.EOF)
		})
	}
}

// A place is reached when the network has it; an ended connection tells how far it got.
func TestWritten(t *testing.T) {
	o := options(V311)
	o.WriteTimeout = 200 * time.Millisecond
	c, server, _, err := connected(t, o, []byte{connack << 4, 2, 0, 0})
	require.NoError(t, err)
	small := c.Publish(&Out{Topic: []byte("t"), Payload: []byte("1"), QoS: 1, ID: 1})
	require.EqualValues(t, small, c.PublishSize(&Out{Topic: []byte("t"), Payload: []byte("1"), QoS: 1}))
	written, err := c.Written(t.Context(), small)
	require.NoError(t, err)
	require.Equal(t, small, written)
	require.NoError(t, c.Room(t.Context()))

	large := c.Publish(&Out{Topic: []byte("t"), Payload: make([]byte, 64<<20)}) // nobody reads it
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Written(ctx, large)
	require.ErrorIs(t, err, context.Canceled)
	written, err = c.Written(t.Context(), large)
	require.NoError(t, err)
	require.Less(t, written, large)
	<-c.Done()
	require.ErrorContains(t, c.Err(), "timeout")
	require.NoError(t, c.Room(t.Context()))
	require.Greater(t, c.Publish(&Out{Topic: []byte("t")}), large, "queued for nobody")
	_ = server
}

func TestGoodbye(t *testing.T) {
	for forget, want := range map[bool][]byte{false: {disconnect << 4, 0}, true: {disconnect << 4, 7, 0, 5, 17, 0, 0, 0, 0}} {
		c, server, _, err := connected(t, options(V5), welcome5)
		require.NoError(t, err)
		ends := 0
		c.opts.OnEnd = func(err error) {
			ends++
			require.ErrorIs(t, err, ErrClosed)
		}
		c.Acks([]Ack{{Puback, 7}, {Pubrel, 8}})
		c.Goodbye(forget)
		c.End(errors.New("too late"))
		require.Equal(t, 1, ends)
		all, err := io.ReadAll(server)
		require.NoError(t, err)
		require.Equal(t, append([]byte{Puback << 4, 2, 0, 7, Pubrel<<4 | 2, 2, 0, 8}, want...), all)
	}
}

// What this package encodes the library reads.
func TestPublishIsWhatTheLibraryReads(t *testing.T) {
	props := AppendExpiry(nil, 30)
	props = AppendHeader(props, "k", "v")
	props = AppendHeader(props, HeaderContentType, "text/plain")
	props = AppendHeader(props, HeaderResponseTopic, "r")
	props = AppendHeader(props, HeaderCorrelationData, "\x00")
	require.NoError(t, CheckProps(props))
	require.Error(t, CheckProps(props[:len(props)-1]))
	for _, size := range []int{0, 1, 100, 127, 128, 16383, 16384, 3 << 20} {
		m := &Out{Topic: []byte("a/b"), Payload: bytes.Repeat([]byte("x"), size), Props: props, ID: 77, QoS: 2, Retained: true, Duplicate: true}
		packet := v5{}.appendPublish(nil, m)
		require.Len(t, packet, v5{}.publishSize(m))
		read, err := packets.ReadPacket(bytes.NewReader(packet))
		require.NoError(t, err)
		p := read.Content.(*packets.Publish)
		require.Equal(t, "a/b", p.Topic)
		require.Len(t, p.Payload, size)
		require.EqualValues(t, 77, p.PacketID)
		require.EqualValues(t, 2, p.QoS)
		require.True(t, p.Retain)
		require.True(t, p.Duplicate)
		require.EqualValues(t, 30, *p.Properties.MessageExpiry)
		require.Equal(t, []packets.User{{Key: "k", Value: "v"}}, p.Properties.User)
		require.Equal(t, "text/plain", p.Properties.ContentType)
		require.Equal(t, "r", p.Properties.ResponseTopic)
		require.Equal(t, []byte{0}, p.Properties.CorrelationData)

		packet = v311{}.appendPublish(nil, m)
		require.Len(t, packet, v311{}.publishSize(m))
		again, err := readPacket(bytes.NewReader(packet))
		require.NoError(t, err)
		back, err := v311{}.message(&Conn{}, again)
		require.NoError(t, err)
		require.Equal(t, Message{Topic: "a/b", Payload: m.Payload, ID: 77, QoS: 2, Retained: true, Duplicate: true}, back)
	}
	buf := make([]byte, 0, 1024)
	m := &Out{Topic: []byte("a/b"), Payload: []byte("x"), Props: props, ID: 77, QoS: 1}
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = codecOf(V5).appendPublish(buf, m) }))
}

func TestTopicsAreSharedAndBounded(t *testing.T) {
	var c topicCache
	for i := range 3 * maxTopics {
		topic := []byte{byte(i), byte(i >> 8), byte(i >> 16)}
		require.Equal(t, string(topic), c.string(topic))
		require.LessOrEqual(t, len(c.known), maxTopics)
	}
	topic := []byte("a/b")
	c.string(topic)
	require.Zero(t, testing.AllocsPerRun(100, func() { c.string(topic) }))
}

func FuzzPacket(f *testing.F) {
	f.Add([]byte{publish<<4 | 2, 12, 0, 1, 't', 0, 9, 7, 38, 0, 1, 'k', 0, 1, 'v', 'x'})
	f.Add([]byte{Puback << 4, 4, 0, 1, 0x97, 0})
	f.Add([]byte{suback << 4, 4, 0, 1, 0, 1})
	f.Add([]byte{connack << 4, 6, 0, 0, 3, 33, 0, 1})
	f.Add([]byte{disconnect << 4, 2, 0x8e, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			p, err := readPacket(r)
			if err != nil {
				return
			}
			for _, v := range []Version{V311, V5} {
				c := &Conn{codec: codecOf(v), handler: &inbox{}, opts: Options{Headers: true}}
				c.out.init()
				if p.kind == connack {
					_ = c.codec.connack(c, p.body)
					continue
				}
				func() {
					defer func() {
						if e := recover(); e != nil && e != "asked for" {
							t.Fatal(e)
						}
					}()
					_ = c.take(p)
				}()
			}
		}
	})
}

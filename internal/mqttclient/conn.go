// Package mqttclient is a connection to a broker in MQTT 3.1.1 or 5, below any session: it connects, keeps itself alive, writes
// packets in order and in bulk, and hands on what comes in. Which messages are in flight, which are acked and what is sent again
// after a broken connection belongs to its user, who must know all three.
//
// The packets that open, subscribe and close are encoded and decoded by the Eclipse Paho libraries, one for each version of the
// protocol. Messages and their acks, of which there may be a hundred thousand a second, are encoded here, without allocation.
// The libraries' own clients keep sessions of a kind that does not fit: acks that wait for a ticker and cost a look through all
// unacked messages, one blocked goroutine per published message, QoS 2 that forgets over a reconnect how far it had come.
package mqttclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Version is a version of the protocol, by the number that stands in the packets.
type Version byte

// Versions of the protocol.
const (
	V311 Version = 4
	V5   Version = 5
)

// Options of a connection. All are required but those of MQTT 5, Username, Password and Will.
type Options struct {
	Version    Version
	ClientID   string
	CleanStart bool
	Username   string
	Password   string
	// KeepAlive is the longest silence, in whole seconds; PingTimeout how long a sign of life may take after it was asked for;
	// WriteTimeout how long the network may take nothing.
	KeepAlive, PingTimeout, WriteTimeout time.Duration
	Will                                 *Will

	// SessionExpiry is how many seconds the session outlives the connection (MQTT 5).
	SessionExpiry uint32
	// ReceiveMaximum is how many messages the broker may leave unacked on this connection; 0 leaves it to the broker (MQTT 5).
	ReceiveMaximum uint16
	// Headers asks for the properties of messages (MQTT 5).
	Headers bool

	// OnOpen is called once, before anything comes in.
	OnOpen func(*Conn)
	// OnEnd is called once, if OnOpen was, with the reason, when the connection ends. It must not wait for the connection.
	OnEnd func(error)
	Clock flow.Clock
	Log   *slog.Logger
}

// Will is a message that the broker publishes when the connection ends without a goodbye.
type Will struct {
	Topic    string
	Payload  []byte
	QoS      byte
	Retained bool
	// Delay is how many seconds the broker waits for the client to come back (MQTT 5).
	Delay uint32
}

// Handler takes what comes in. It is called by the connection's reader, one call at a time; while it blocks, nothing is read, not
// even the broker's signs of life.
type Handler interface {
	// Receive takes a message. It owns the payload.
	Receive(m Message)
	// Caught says that everything was handed over that has come in so far, or a good part of it. A patient handler does not mind
	// when what comes next is read up to a millisecond late, so that more of it can be read at once.
	Caught() (patient bool)
	// Answered takes the answer to a published message.
	Answered(a Answer)
}

// Message is a message from the broker.
type Message struct {
	Topic     string
	Payload   []byte
	ID        uint16
	QoS       byte
	Retained  bool
	Duplicate bool
	// Headers are user properties and what Headers' constants name; nil in MQTT 3.1.1, where there are none, and where they were not
	// asked for.
	Headers map[string]string
}

// Answer is a PUBACK, PUBREC or PUBCOMP.
type Answer struct {
	Kind byte
	ID   uint16
	// Code is 0 in MQTT 3.1.1; from 0x80 on it is a refusal.
	Code byte
	// Reason is what the broker has to say about it, or "".
	Reason string
}

// Kinds of packets.
const (
	connect     = 1
	connack     = 2
	publish     = 3
	Puback      = 4
	Pubrec      = 5
	Pubrel      = 6
	Pubcomp     = 7
	subscribe   = 8
	suback      = 9
	unsubscribe = 10
	unsuback    = 11
	pingreq     = 12
	pingresp    = 13
	disconnect  = 14
)

// Limits are what the broker said about itself when it let the client in. In MQTT 3.1.1 it says nothing, and they are wide open.
type Limits struct {
	// ReceiveMaximum is how many messages the broker takes unacked.
	ReceiveMaximum int
	MaximumQoS     byte
	Retain         bool
	SharedSubs     bool
	// MaxPacket is the size of the largest packet that the broker takes, 0 for no limit.
	MaxPacket int
	// SessionExpiry is how many seconds the broker keeps the session.
	SessionExpiry uint32
}

// Conn is an open connection. What is published and acked is queued in order and written by a goroutine of the connection, as much
// at once as has come together.
type Conn struct {
	// SessionPresent: the broker knows the session of an earlier connection.
	SessionPresent bool
	Limits         Limits

	opts    Options
	handler Handler
	nc      net.Conn
	in      *bufio.Reader
	codec   codec
	topics  topicCache
	keep    time.Duration // the broker's word counts

	out outbox

	received atomic.Int64 // packets
	requests requests

	once    sync.Once
	done    chan struct{}
	reason  error // set before done is closed
	workers sync.WaitGroup
}

// ErrClosed is the reason of a connection that its user has ended.
var ErrClosed = errors.New("closed")

// Connect opens the protocol on a network connection, which belongs to the Conn from then on. It gives up when ctx ends; the
// connection itself does not end with ctx.
func Connect(ctx context.Context, nc net.Conn, opts Options, h Handler) (*Conn, error) {
	c := &Conn{
		opts: opts, handler: h, nc: nc, in: bufio.NewReaderSize(nc, readBuffer), keep: opts.KeepAlive,
		done: make(chan struct{}), codec: codecOf(opts.Version),
	}
	c.out.init()
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	err := c.shakeHands(ctx)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		switch _, ok := ctx.Deadline(); {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case ok && errors.Is(err, os.ErrDeadlineExceeded): // the connection was faster than the context's timer
			return nil, fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
		return nil, err
	}
	if opts.OnOpen != nil {
		opts.OnOpen(c)
	}
	c.workers.Go(c.write)
	c.workers.Go(c.read)
	c.workers.Go(c.keepAlive)
	return c, nil
}

func (c *Conn) shakeHands(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.nc.SetDeadline(deadline); err != nil {
			return err
		}
	}
	packet, err := c.codec.connect(c.opts)
	if err != nil {
		return err
	}
	if _, err := c.nc.Write(packet); err != nil {
		return err
	}
	p, err := readPacket(c.in)
	if err != nil {
		return fmt.Errorf("no answer to the CONNECT: %w", err)
	}
	switch p.kind {
	case connack:
	case disconnect:
		return c.codec.disconnected(p)
	default:
		return fmt.Errorf("a packet of kind %d where the answer to the CONNECT was expected", p.kind)
	}
	if err := c.codec.connack(c, p.body); err != nil {
		return unexpected(err)
	}
	return c.nc.SetDeadline(time.Time{})
}

// Done is closed when the connection has ended, by either side.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why the connection has ended. It must not be called before Done.
func (c *Conn) Err() error { return c.reason }

// End ends the connection at once, without a goodbye. It does not wait, and may be called by the handler.
func (c *Conn) End(reason error) {
	c.once.Do(func() {
		c.reason = reason
		close(c.done)
		_ = c.nc.Close()
		c.out.end()
		if c.opts.OnEnd != nil {
			c.opts.OnEnd(reason)
		}
	})
}

// Wait waits until no goroutine of an ended connection runs any more.
func (c *Conn) Wait() { c.workers.Wait() }

// Goodbye sends what is queued and a DISCONNECT, ends the connection, and waits until its goroutines have ended. It takes a
// second at most. The handler must not block any more. With forget the broker drops the session (MQTT 5).
func (c *Conn) Goodbye(forget bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = c.out.await(ctx, c.out.put(c.codec.disconnect(forget)))
	c.End(ErrClosed)
	c.Wait()
}

// goodPart is how many packets are handed over before the handler is told.
const goodPart = 256

// read hands on what comes in until the connection ends.
func (c *Conn) read() {
	defer func() {
		if p := recover(); p != nil {
			c.opts.Log.Error("mqtt: panic on receipt", "client", c.opts.ClientID, "err", p, "stack", string(debug.Stack()))
			c.End(fmt.Errorf("%w: %v", flow.ErrPanic, p))
		}
	}()
	var in stream
	for n := 1; ; n++ {
		if !wholePacket(c.in) {
			in.pause(c.handler.Caught())
		} else if n%goodPart == 0 {
			c.handler.Caught()
		}
		p, err := readPacket(c.in)
		if err == nil {
			in.few++
			c.received.Add(1)
			err = c.take(p)
		}
		if err != nil {
			c.End(err)
			return
		}
	}
}

const (
	// fewPackets are not worth a read of their own: waking up costs more than they do.
	fewPackets = 64
	// gather is how long more are waited for; the system may make a millisecond of it.
	gather = 200 * time.Microsecond
	// dense is how closely packets follow each other where more can be expected.
	dense = time.Millisecond
)

// stream is what the last read of the connection brought.
type stream struct {
	few int // packets
	at  time.Time
}

// pause lets packets come together that follow each other closely, as brokers send them, one by one. The first of a burst is not held
// up, nor one that comes alone.
func (s *stream) pause(patient bool) {
	if !patient {
		s.few = 0
		return
	}
	now := time.Now()
	if s.few > 0 && s.few < fewPackets && now.Sub(s.at) < dense+gather {
		time.Sleep(gather)
		now = time.Now()
	}
	s.few, s.at = 0, now
}

func (c *Conn) take(p packet) error {
	switch p.kind {
	case publish:
		m, err := c.codec.message(c, p)
		if err != nil {
			return fmt.Errorf("malformed message: %w", unexpected(err))
		}
		c.handler.Receive(m)
	case Puback, Pubrec, Pubcomp:
		a, err := c.codec.answer(p)
		if err != nil {
			return fmt.Errorf("malformed answer to a message: %w", unexpected(err))
		}
		c.handler.Answered(a)
	case Pubrel:
		if len(p.body) < 2 {
			return errors.New("malformed PUBREL")
		}
		c.out.puts(Ack{Pubcomp, number(p.body)})
	case suback, unsuback:
		if err := c.codec.subscribed(c, p); err != nil {
			return fmt.Errorf("malformed answer to a subscription: %w", unexpected(err))
		}
	case disconnect:
		return c.codec.disconnected(p)
	case pingresp:
	default:
		return fmt.Errorf("a packet of kind %d, which no broker may send", p.kind)
	}
	return nil
}

// Subscription is a topic filter to subscribe to.
type Subscription struct {
	Filter string
	QoS    byte
	// Retained says whether the broker sends what it has retained (MQTT 5; in 3.1.1 it always does).
	Retained Retained
}

// Retained says when the broker sends retained messages for a subscription.
type Retained byte

// The values of Retained.
const (
	Always Retained = iota
	IfNew
	Never
)

// Granted is the answer to a subscription: a code per filter; from 0x80 on it is a refusal.
type Granted struct {
	Codes  []byte
	Reason string
}

// Refused tells whether a code of an answer is a refusal.
func Refused(code byte) bool { return code >= refusal }

// Request is a subscription that was asked for.
type Request struct {
	done    chan struct{}
	granted Granted
}

// Done is closed when the answer has come. It stays open when the connection ends before.
func (r *Request) Done() <-chan struct{} { return r.done }

// Granted is the answer. It must not be called before Done.
func (r *Request) Granted() Granted { return r.granted }

// Subscribe asks for messages.
func (c *Conn) Subscribe(subs []Subscription) (*Request, error) {
	id, r := c.requests.add()
	packet, err := c.codec.subscribe(id, subs)
	if err != nil {
		return nil, err
	}
	c.out.put(packet)
	return r, nil
}

// Heard waits until the broker has read everything that was queued before. A connection that is closed while messages come in
// is reset, and a reset may take along what the broker has not read yet.
func (c *Conn) Heard(ctx context.Context) error {
	id, r := c.requests.add()
	packet, err := c.codec.unsubscribe(id, nobody)
	if err != nil {
		return err
	}
	c.out.put(packet)
	select {
	case <-r.done:
		return nil
	case <-c.done:
		return c.reason
	case <-ctx.Done():
		return ctx.Err()
	}
}

// nobody is a topic filter that nobody subscribes to, so that unsubscribing it changes nothing.
const nobody = "$millrace/nobody"

// requests are those that wait for an answer. Their ids count down from the highest: some brokers mistake one for that of a message
// which they have sent themselves, and those count up.
type requests struct {
	mu      sync.Mutex
	last    uint16
	waiting map[uint16]*Request
}

func (r *requests) add() (uint16, *Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = map[uint16]*Request{}
	}
	if r.last--; r.last == 0 {
		r.last--
	}
	request := &Request{done: make(chan struct{})}
	r.waiting[r.last] = request
	return r.last, request
}

func (r *requests) answer(id uint16, g Granted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if request := r.waiting[id]; request != nil {
		delete(r.waiting, id)
		request.granted = g
		close(request.done)
	}
}

// Package mqttbroker runs a small MQTT broker inside the process, for the demo and for tests that need no real one.
//
// It is mochi-mqtt for MQTT 3.1.1 clients, with its limits raised. It is not a lossless broker: it confirms a message to the
// publisher before it has handed it on, keeps sessions in memory only, and sends what it repeats after a reconnect in no order
// and beside new messages, and can lose or double what is published while it hands a session to a new connection. Tests about loss and
// about shared subscriptions whose members leave belong to a real broker.
package mqttbroker

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// MaxUnacked is how many messages of QoS 1 and 2 the broker keeps per client; what comes on top is dropped and counted.
const MaxUnacked = 65535

// maxPending is how many messages wait per client to be written to its connection.
const maxPending = 1 << 20

// Options of a broker. The zero value lets everybody in.
type Options struct {
	// Username and Password are what a client must give. Defaults to no check.
	Username, Password string
	// DenyFilter is a prefix of topic filters that nobody may subscribe to (SUBACK 0x80). Defaults to none.
	DenyFilter string
	// MaxUnacked is how many unacked messages are kept per client. Defaults to 65,535, the most that the protocol can number.
	MaxUnacked uint16
	// Window is how many unacked messages a connection is given at once; the others wait for an ack. Defaults to no window.
	Window int
	// TLS makes the listener speak TLS. Defaults to plain TCP.
	TLS *tls.Config
	// Log takes what the broker has to say. Defaults to silence.
	Log *slog.Logger
}

// Broker is a running broker.
type Broker struct {
	server *mochi.Server
	addr   string
	tls    bool
	once   sync.Once
	err    error
	stop   func() bool
}

// Start listens on addr, an address of this machine ("127.0.0.1:0" picks a port), and serves until Close or the end of ctx.
func Start(ctx context.Context, addr string, opts Options) (*Broker, error) {
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	limits := mochi.NewDefaultServerCapabilities()
	limits.MaximumInflight = MaxUnacked
	if opts.MaxUnacked > 0 {
		limits.MaximumInflight = opts.MaxUnacked
	}
	limits.MaximumClientWritesPending = maxPending
	server := mochi.New(&mochi.Options{Capabilities: limits, Logger: log, InlineClient: true})
	if err := server.AddHook(&gate{opts: opts}, nil); err != nil {
		return nil, fmt.Errorf("mqtt broker: %w", err)
	}
	if host, _, err := net.SplitHostPort(addr); err != nil || !loopback(host) {
		return nil, fmt.Errorf("mqtt broker: address %q is not one of this machine alone: use 127.0.0.1:PORT", addr)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("mqtt broker: listen on %s: %w", addr, err)
	}
	if opts.TLS != nil {
		l = tls.NewListener(l, opts.TLS)
	}
	if opts.Window > 0 {
		l = windowListener{Listener: l, window: opts.Window}
	}
	if err := server.AddListener(listeners.NewNet("mqtt", l)); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("mqtt broker: %w", err)
	}
	if err := server.Serve(); err != nil {
		return nil, fmt.Errorf("mqtt broker: %w", err)
	}
	b := &Broker{server: server, addr: l.Addr().String(), tls: opts.TLS != nil}
	b.stop = context.AfterFunc(ctx, func() { _ = b.Close() })
	return b, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Addr is the address the broker listens on, host:port.
func (b *Broker) Addr() string { return b.addr }

// URL is the address as clients want it.
func (b *Broker) URL() string {
	if b.tls {
		return "ssl://" + b.addr
	}
	return "tcp://" + b.addr
}

// Dropped counts the messages that the broker took and could not hand on.
type Dropped struct {
	// Queue counts those dropped because too many waited to be written to a client, Unacked those because a client had too
	// many unacked.
	Queue, Unacked int64
}

// Dropped tells what was dropped since the start.
func (b *Broker) Dropped() Dropped {
	return Dropped{
		Queue:   atomic.LoadInt64(&b.server.Info.MessagesDropped),
		Unacked: atomic.LoadInt64(&b.server.Info.InflightDropped),
	}
}

// Unacked is how many messages are kept for all clients together because they have not acked them.
func (b *Broker) Unacked() int {
	n := 0
	for _, c := range b.server.Clients.GetAll() {
		if !c.Net.Inline {
			n += c.State.Inflight.Len()
		}
	}
	return n
}

// Connected tells whether the client has a connection.
func (b *Broker) Connected(clientID string) bool {
	c, ok := b.server.Clients.Get(clientID)
	return ok && !c.Closed()
}

// Publish hands a message to all subscribers, from inside the process.
func (b *Broker) Publish(topic string, payload []byte, retain bool, qos byte) error {
	if err := b.server.Publish(topic, payload, retain, qos); err != nil {
		return fmt.Errorf("mqtt broker: publish to %q: %w", topic, err)
	}
	return nil
}

// Cut closes the connection of a client without a word, as a broken network does; its session stays. It reports whether
// there was one.
func (b *Broker) Cut(clientID string) bool {
	c, ok := b.server.Clients.Get(clientID)
	if !ok || c.Closed() {
		return false
	}
	c.Stop(packets.ErrUnspecifiedError)
	return true
}

// Forget closes the connection of a client and drops its session with everything in it.
func (b *Broker) Forget(clientID string) {
	c, ok := b.server.Clients.Get(clientID)
	if !ok {
		return
	}
	c.Stop(packets.ErrUnspecifiedError)
	c.ClearInflights()
	b.server.UnsubscribeClient(c)
	b.server.Clients.Delete(clientID)
}

// Close ends all connections and the broker. Further calls return the same error.
func (b *Broker) Close() error {
	b.once.Do(func() {
		b.stop()
		b.err = b.server.Close()
	})
	return b.err
}

// gate decides who may connect and what they may subscribe to.
type gate struct {
	mochi.HookBase
	opts Options
}

func (g *gate) ID() string { return "gate" }

func (g *gate) Provides(b byte) bool {
	return bytes.IndexByte([]byte{mochi.OnConnectAuthenticate, mochi.OnACLCheck}, b) >= 0
}

func (g *gate) OnConnectAuthenticate(_ *mochi.Client, pk packets.Packet) bool {
	if g.opts.Username == "" && g.opts.Password == "" {
		return true
	}
	user := subtle.ConstantTimeCompare(pk.Connect.Username, []byte(g.opts.Username))
	pass := subtle.ConstantTimeCompare(pk.Connect.Password, []byte(g.opts.Password))
	return user&pass == 1
}

func (g *gate) OnACLCheck(_ *mochi.Client, topic string, write bool) bool {
	return write || g.opts.DenyFilter == "" || !strings.HasPrefix(topic, g.opts.DenyFilter)
}

// Package rocketmq speaks RocketMQ's remoting protocol, for the source and the sink of this system.
//
// The client library's pull waits 33 s after its broker died and its commits are one-way: it cannot tell a lost commit from
// a done one. Here every request has an answer, a dead connection fails its requests at once, contexts are obeyed, and no
// goroutine outlives Close.
//
// The sink sends by it too. The library's producer wants a message object with a map for each record and encodes it again
// for the batch, starts a goroutine per send, obeys no context while it waits, and leaves goroutines behind, one of them from
// being imported. Side by side (package interop, BenchmarkSink and BenchmarkClientProducer) it is slower and allocates a
// hundred times as much; here a record is encoded once, at Write, into the bytes that go to the socket.
package rocketmq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Options say how to reach and to be accepted by name servers and brokers.
type Options struct {
	// NameServers are host:port addresses; all know the same, one that answers is enough.
	NameServers []string
	// Timeout bounds dialing and every request but long polls. Defaults to 5 s.
	Timeout time.Duration
	// TLS encrypts all connections. Defaults to none.
	TLS *tls.Config
	// Credentials sign every request. Defaults to none.
	Credentials Credentials
	// Via makes the TCP connections instead, to where a broker or name server of this address is reached from here: by a proxy, say.
	// Defaults to the address itself.
	Via func(ctx context.Context, addr string) (net.Conn, error)
}

// Client holds one connection per address, shared by all its callers, and makes connections of their own for long polls. It
// is safe for concurrent use.
type Client struct {
	opts Options

	mu     sync.Mutex
	closed bool
	slots  map[string]*slot
	own    map[*Conn]struct{}
	server int // index of the name server that answered last
}

// slot is the shared connection to one address. Its mutex is held while dialing, so that callers of one address wait for one
// dial and those of other addresses for none.
type slot struct {
	dial chan struct{} // holds one token
	conn *Conn
}

// ErrClosed says that the client was closed.
var ErrClosed = errors.New("rocketmq: client is closed")

// New checks the options; it does not connect.
func New(opts Options) (*Client, error) {
	if len(opts.NameServers) == 0 {
		return nil, errors.New("rocketmq: no name server: set name_servers to host:port of one or more")
	}
	for _, a := range opts.NameServers {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return nil, fmt.Errorf("rocketmq: name server %q: %w: write host:port", a, err)
		}
	}
	if (opts.Credentials.AccessKey == "") != (opts.Credentials.SecretKey == "") {
		return nil, errors.New("rocketmq: access_key and secret_key: set both or neither")
	}
	if opts.Timeout <= 0 {
		opts.Timeout = 5 * time.Second
	}
	return &Client{opts: opts, slots: map[string]*slot{}, own: map[*Conn]struct{}{}}, nil
}

// Call sends a request on the shared connection to addr and returns the answer, whatever its code. No answer is a transient
// error, unless ctx has ended or the client is closed; the request may have been done or not.
func (c *Client) Call(ctx context.Context, addr string, req Request) (*Response, error) {
	resp, err := c.call(ctx, addr, req)
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
		err = flow.Transient(err)
	}
	return resp, err
}

func (c *Client) call(ctx context.Context, addr string, req Request) (*Response, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.Timeout, fmt.Errorf("rocketmq: %s: no answer within %s", addr, c.opts.Timeout))
	defer cancel()
	conn, err := c.shared(ctx, addr)
	if err != nil {
		return nil, err
	}
	call, err := conn.Start(req)
	if err != nil {
		return nil, err
	}
	return call.Wait(ctx)
}

// Dial makes a connection for the caller alone, to be closed by it.
func (c *Client) Dial(ctx context.Context, addr string) (*Conn, error) {
	return c.Listen(ctx, addr, nil)
}

// Listen is Dial with a function that gets what the server asks by itself: it owns the command and must not block.
func (c *Client) Listen(ctx context.Context, addr string, asked func(*Response)) (*Conn, error) {
	conn, err := c.connect(ctx, addr, asked)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		conn.Close()
		return nil, ErrClosed
	}
	defer c.mu.Unlock()
	conn.onClose = func() {
		c.mu.Lock()
		delete(c.own, conn)
		c.mu.Unlock()
	}
	c.own[conn] = struct{}{}
	return conn, nil
}

// Close closes all connections and waits for their goroutines. Requests under way fail.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	var conns []*Conn
	for _, s := range c.slots {
		if s.conn != nil {
			conns = append(conns, s.conn)
		}
	}
	for conn := range c.own {
		conns = append(conns, conn)
	}
	c.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
	}
}

// shared returns the connection to addr that all callers share, and makes a new one in place of a dead one.
func (c *Client) shared(ctx context.Context, addr string) (*Conn, error) {
	c.mu.Lock()
	s := c.slots[addr]
	if s == nil {
		s = &slot{dial: make(chan struct{}, 1)}
		c.slots[addr] = s
	}
	conn, closed := s.conn, c.closed
	c.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if conn != nil && conn.Err() == nil {
		return conn, nil
	}
	select {
	case s.dial <- struct{}{}:
		defer func() { <-s.dial }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	c.mu.Lock()
	conn = s.conn
	c.mu.Unlock()
	if conn != nil {
		if conn.Err() == nil {
			return conn, nil
		}
		conn.Close()
	}
	conn, err := c.connect(ctx, addr, nil)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.Close()
		return nil, ErrClosed
	}
	s.conn = conn
	return conn, nil
}

func (c *Client) connect(ctx context.Context, addr string, asked func(*Response)) (*Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.Timeout, fmt.Errorf("rocketmq: %s: no connection within %s", addr, c.opts.Timeout))
	defer cancel()
	d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	var nc net.Conn
	var err error
	switch {
	case c.opts.Via != nil:
		if nc, err = c.opts.Via(ctx, addr); err == nil && c.opts.TLS != nil {
			nc, err = secure(ctx, nc, addr, c.opts.TLS)
		}
	case c.opts.TLS != nil:
		nc, err = (&tls.Dialer{NetDialer: d, Config: c.opts.TLS}).DialContext(ctx, "tcp", addr)
	default:
		nc, err = d.DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("rocketmq: connect to %s: %w", addr, err)
	}
	return newConn(addr, nc, c.opts.Timeout, c.opts.Credentials, asked), nil
}

// secure speaks TLS on a connection, with the name of the address that was asked for.
func secure(ctx context.Context, nc net.Conn, addr string, conf *tls.Config) (net.Conn, error) {
	if conf.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, errors.Join(err, nc.Close())
		}
		conf = conf.Clone()
		conf.ServerName = host
	}
	tc := tls.Client(nc, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return tc, nil
}

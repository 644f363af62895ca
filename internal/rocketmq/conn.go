package rocketmq

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Conn is one connection. Requests of several callers are in flight at once and are told apart by their number. It is safe
// for concurrent use.
type Conn struct {
	addr    string
	nc      net.Conn
	timeout time.Duration // of a write
	cred    Credentials
	onClose func()
	// asked gets what the server asks by itself; nil: it asks nothing of us. It must not block.
	asked func(*Response)

	writing sync.Mutex
	head    []byte // the frame's head, reused

	mu      sync.Mutex
	pending map[int32]*Call
	last    int32
	err     error

	done chan struct{} // closed when the reader has ended
}

// Call is a request under way.
type Call struct {
	conn   *Conn
	opaque int32
	ready  chan struct{}
	resp   *Response
	err    error
}

func newConn(addr string, nc net.Conn, timeout time.Duration, cred Credentials, asked func(*Response)) *Conn {
	c := &Conn{addr: addr, nc: nc, timeout: timeout, cred: cred, asked: asked, pending: map[int32]*Call{}, done: make(chan struct{})}
	go c.read()
	return c
}

// Addr is the address dialed.
func (c *Conn) Addr() string { return c.addr }

// Err is what ended the connection, nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close ends the connection, fails the requests under way and waits for the reader. It may be called more than once.
func (c *Conn) Close() {
	c.fail(fmt.Errorf("rocketmq: connection to %s: %w", c.addr, net.ErrClosed))
	<-c.done
	if c.onClose != nil {
		c.onClose()
	}
}

// Start sends a request and returns without waiting for the answer.
func (c *Conn) Start(req Request) (*Call, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	call := &Call{conn: c, ready: make(chan struct{})}
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	c.last++
	call.opaque = c.last
	c.pending[call.opaque] = call
	c.mu.Unlock()
	if err := c.write(call.opaque, req); err != nil {
		c.fail(err)
		return nil, err
	}
	return call, nil
}

// Wait returns the answer, whatever its code. When ctx ends first the answer is dropped on arrival. It is called once.
func (call *Call) Wait(ctx context.Context) (*Response, error) {
	select {
	case <-call.ready:
		return call.resp, call.err
	case <-ctx.Done():
		call.conn.mu.Lock()
		delete(call.conn.pending, call.opaque)
		call.conn.mu.Unlock()
		return nil, context.Cause(ctx)
	}
}

// Ready is closed when Wait will not block.
func (call *Call) Ready() <-chan struct{} { return call.ready }

func (c *Conn) write(opaque int32, req Request) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	head, err := appendHead(c.head[:0], opaque, req, c.cred)
	if err != nil {
		return err
	}
	c.head = head
	// The network's own patience is wall time, whatever clock the topology runs on.
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return fmt.Errorf("rocketmq: write to %s: %w", c.addr, err)
	}
	if len(req.Body) == 0 {
		_, err = c.nc.Write(head)
	} else {
		buffers := make(net.Buffers, 0, 1+len(req.Body))
		buffers = append(append(buffers, head), req.Body...)
		_, err = buffers.WriteTo(c.nc)
	}
	if err != nil {
		return fmt.Errorf("rocketmq: write to %s: %w", c.addr, err)
	}
	return nil
}

func (c *Conn) read() {
	defer close(c.done)
	r := bufio.NewReaderSize(c.nc, 64<<10)
	for {
		resp, err := readFrame(r)
		if err != nil {
			c.fail(fmt.Errorf("rocketmq: connection to %s: %w", c.addr, err))
			return
		}
		resp.Addr = c.addr
		if !resp.isResponse() {
			if c.asked != nil {
				c.asked(resp)
			} else {
				resp.Release() // a broker's notice to registered clients; we are none
			}
			continue
		}
		c.mu.Lock()
		call := c.pending[resp.opaque]
		delete(c.pending, resp.opaque)
		c.mu.Unlock()
		if call == nil {
			resp.Release() // given up by its caller
			continue
		}
		call.resp = resp
		close(call.ready)
	}
}

// fail ends the connection for all.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	for _, call := range c.pending {
		call.err = err
		close(call.ready)
	}
	clear(c.pending)
	if err := c.nc.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		c.err = errors.Join(c.err, err)
	}
}

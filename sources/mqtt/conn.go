package mqtt

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
)

const (
	// readBuffer saves the client's three system calls per message.
	readBuffer = 64 << 10
	// writeBuffer is how many bytes of acks go out at once.
	writeBuffer = 16 << 10
)

// conn is a network connection that reads ahead, sends acks in bulk, and knows when it takes nothing more: the client drops
// acks then without a word.
type conn struct {
	net.Conn
	in     *bufio.Reader
	broken atomic.Bool

	mu     sync.Mutex
	corked bool
	out    []byte
}

func newConn(c net.Conn) *conn { return &conn{Conn: c, in: bufio.NewReaderSize(c, readBuffer)} }

func (c *conn) Read(b []byte) (int, error) { return c.in.Read(b) }

func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.corked {
		c.out = append(c.out, b...)
		if len(c.out) < writeBuffer {
			return len(b), nil
		}
		return len(b), c.flush()
	}
	return len(b), c.send(b)
}

// cork makes writes wait for uncork, or until enough of them have come together.
func (c *conn) cork() {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
}

func (c *conn) uncork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	_ = c.flush() // a failure shows in broken, and at the next write
}

func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.send(c.out)
	c.out = c.out[:0]
	return err
}

func (c *conn) send(b []byte) error {
	_, err := c.Conn.Write(b)
	if err != nil {
		c.broken.Store(true)
	}
	return err
}

// Close makes writes that wait fail, which is why it takes no lock.
func (c *conn) Close() error {
	c.broken.Store(true)
	return c.Conn.Close()
}

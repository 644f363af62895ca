package mqtt

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// quiesce is how long the broker may take to hear what was sent before a disconnect.
	quiesce = time.Second
	// sendTimeout is how long the network may take nothing.
	sendTimeout = 10 * time.Second
)

var (
	errClosed = errors.New("closed")
	// errPaused ends a connection whose messages are not read.
	errPaused = errors.New("not read fast enough")
)

// link is one connection, from the attempt to its end.
type link struct {
	driver driver
	once   sync.Once
	gone   chan struct{}
	reason error // set before gone is closed
	paused bool  // belongs to the inbox's lock
}

// driver is the connection itself. What it receives it hands to the inbox, in order, from its own goroutine; when it ends, it ends
// its link.
type driver interface {
	// connect opens it, and tells whether the broker has kept the session. Messages may come before it returns.
	connect(ctx context.Context) (session bool, err error)
	// subscribe asks for the configured topics.
	subscribe() (*suback, error)
	// ack acks messages, in order, and returns those whose acks could not be sent.
	ack(messages []*message) (unsent []*message)
	// ackNow acks a message from the goroutine that received it.
	ackNow(m *message)
	// leave sends what waits, the acks among it, says goodbye and closes the connection; the broker keeps the session. On a
	// connection that is gone, or never was, it does nothing.
	leave()
}

func newLink() *link { return &link{gone: make(chan struct{})} }

// end says that the connection is over, or has to be.
func (l *link) end(reason error) {
	l.once.Do(func() {
		l.reason = reason
		close(l.gone)
	})
}

// disconnect ends the connection in good order, as far as there is one. It must not be called by the connection's own handlers,
// and the inbox must have ended the link, so that what still comes in does not wait for anybody.
func (l *link) disconnect() {
	l.end(errClosed)
	if l.driver != nil {
		l.driver.leave()
	}
}

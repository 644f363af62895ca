package mqtt

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

const (
	// quiesce is how long each of the two steps of a disconnect may take.
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

// driver is a connection in one version of the protocol. What it receives it hands to the inbox, in order, from its own goroutine;
// when it ends, it ends its link.
type driver interface {
	// connect opens it, and tells whether the broker has kept the session. Messages may come before it returns.
	connect(ctx context.Context) (session bool, err error)
	// subscribe asks for the configured topics.
	subscribe() (subscription, error)
	// ack acks messages, in order, and returns those whose acks could not be sent.
	ack(messages []*message) (unsent []*message)
	// ackNow acks a message from the goroutine that received it.
	ackNow(m *message)
	// leave sends what waits, the acks among it, says goodbye and closes the connection; the broker keeps the session. On a
	// connection that is gone, or never was, it does nothing.
	//
	// A connection that is closed while messages are coming in is reset, and a reset may take the acks with it that the broker
	// has not read yet. So the broker is asked something first: when it answers, it has read all that was sent before.
	leave(clock flow.Clock)
}

// subscription is one that the broker has been asked for.
type subscription interface {
	// Done is closed when the answer is there.
	Done() <-chan struct{}
	// denied are the filters that the broker refuses, and its reason. It must not be called before Done.
	denied() (filters []string, reason string, err error)
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
func (l *link) disconnect(clock flow.Clock) {
	l.end(errClosed)
	if l.driver != nil {
		l.driver.leave(clock)
	}
}

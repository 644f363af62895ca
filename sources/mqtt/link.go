package mqtt

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/millrace-stream/millrace/flow"
)

const (
	// quiesce is how long each of the two steps of a disconnect may take.
	quiesce = time.Second
	// sendTimeout is how long a subscription may wait to be sent on a connection that takes nothing.
	sendTimeout = 2 * time.Second
	// nobody is a topic filter that nobody subscribes to, so that unsubscribing it changes nothing.
	nobody = "$millrace/nobody"
)

// errPaused ends a connection whose messages are not read.
var errPaused = errors.New("not read fast enough")

// link is one connection, from the attempt to its end.
type link struct {
	client paho.Client
	conn   atomic.Pointer[conn] // the network connection, once there is one
	once   sync.Once
	gone   chan struct{}
	reason error // set before gone is closed
	paused bool  // belongs to the inbox's lock
}

func newLink() *link { return &link{gone: make(chan struct{})} }

// end says that the connection is over, or has to be.
func (l *link) end(reason error) {
	l.once.Do(func() {
		l.reason = reason
		close(l.gone)
	})
}

// disconnect sends what waits, the acks among it, says goodbye and closes the connection; the broker keeps the session. On a
// connection that is gone it does nothing. It must not be called by the connection's own handlers, and the inbox must have
// ended the link, so that what still comes in does not wait for anybody.
//
// A connection that is closed while messages are coming in is reset, and a reset may take the acks with it that the broker
// has not read yet. So the broker is asked something first: when it answers, it has read all that was sent before.
func (l *link) disconnect(clock flow.Clock) {
	l.end(errClosed)
	if l.client == nil {
		return
	}
	t := clock.NewTimer(quiesce)
	defer t.Stop()
	select {
	case <-l.client.Unsubscribe(nobody).Done():
	case <-t.C():
	}
	l.client.Disconnect(uint(quiesce.Milliseconds()))
}

// hangUp ends an attempt to connect.
func (l *link) hangUp() {
	if c := l.conn.Load(); c != nil {
		_ = c.Close()
	}
}

// broken tells whether nothing more can be sent.
func (l *link) broken() bool {
	c := l.conn.Load()
	return c != nil && c.broken.Load()
}

var errClosed = errors.New("closed")

// noStore keeps nothing. The client would write every message down until it is acked, and never look at it again: what is
// not acked is the broker's to keep.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}

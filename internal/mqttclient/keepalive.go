package mqttclient

import (
	"errors"
	"time"
)

// errSilent ends a connection whose broker gives no sign of life.
var errSilent = errors.New("the broker gives no sign of life")

// keepAlive asks for a sign of life when there was none for a while, and ends the connection when none comes. Any packet is one.
// It looks four times per KeepAlive and asks after half of it, so that neither side is silent for longer than it.
func (c *Conn) keepAlive() {
	if c.keep <= 0 { // a broker may switch it off
		<-c.done
		return
	}
	look := c.keep / 4
	t := c.opts.Clock.NewTimer(look)
	defer t.Stop()
	var (
		received, written     = c.received.Load(), c.out.progress()
		receivedAt, writtenAt = c.opts.Clock.Now(), c.opts.Clock.Now()
		asked                 time.Time // zero: nothing is waited for
	)
	for {
		select {
		case <-c.done:
			return
		case <-t.C():
		}
		now := c.opts.Clock.Now()
		if n := c.received.Load(); n != received {
			received, receivedAt, asked = n, now, time.Time{}
		}
		if n := c.out.progress(); n != written {
			written, writtenAt = n, now
		}
		next := look
		switch {
		case !asked.IsZero() && now.Sub(asked) >= c.opts.PingTimeout:
			c.End(errSilent)
			return
		case !asked.IsZero():
			next = min(look, c.opts.PingTimeout-now.Sub(asked))
		case now.Sub(receivedAt) >= c.keep/2 || now.Sub(writtenAt) >= c.keep/2:
			c.out.put([]byte{pingreq << 4, 0})
			asked, next = now, min(look, c.opts.PingTimeout)
		}
		t.Reset(next)
	}
}

// progress is how many bytes the network has taken.
func (o *outbox) progress() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.written
}

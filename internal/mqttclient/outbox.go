package mqttclient

import (
	"context"
	"sync"
	"time"
)

const (
	readBuffer = 64 << 10
	// crowded is how many queued bytes make a publisher wait. Answers are queued beyond it: the reader must never wait for the
	// writer, since the broker may be waiting for the reader.
	crowded = 256 << 10
	// keptBuffer is the largest buffer that is kept for the next write.
	keptBuffer = 1 << 20
)

// outbox is what waits to be written.
type outbox struct {
	mu      sync.Mutex
	buf     []byte
	queued  uint64 // bytes ever queued
	written uint64 // bytes that the network has taken
	ended   bool
	work    chan struct{} // capacity 1: something is queued, or it has ended
	moved   chan struct{} // closed at the next change of written or ended; nil when nobody waits
}

func (o *outbox) init() { o.work = make(chan struct{}, 1) }

// put queues a packet and returns the place behind it.
func (o *outbox) put(packet []byte) uint64 {
	o.mu.Lock()
	o.buf = append(o.buf, packet...)
	return o.unlock(len(packet))
}

// unlock ends a change that has added n bytes to buf.
func (o *outbox) unlock(n int) uint64 {
	o.queued += uint64(n)
	if o.ended {
		o.buf = o.buf[:0]
	}
	end := o.queued
	o.mu.Unlock()
	select {
	case o.work <- struct{}{}:
	default:
	}
	return end
}

// Ack is an answer to a message that the broker sent, or to its answer.
type Ack struct {
	Kind byte
	ID   uint16
}

func (o *outbox) puts(acks ...Ack) uint64 {
	o.mu.Lock()
	for _, a := range acks {
		o.buf = appendAck(o.buf, a)
	}
	return o.unlock(AckBytes * len(acks))
}

// await waits until everything up to a place has been written, the connection has ended, or ctx has, and tells how far the
// network got.
func (o *outbox) await(ctx context.Context, end uint64) (written uint64, err error) {
	for {
		o.mu.Lock()
		if o.written >= end || o.ended {
			defer o.mu.Unlock()
			return o.written, nil
		}
		moved := o.wait()
		o.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			o.mu.Lock()
			defer o.mu.Unlock()
			return o.written, ctx.Err()
		}
	}
}

// room waits until little is queued.
func (o *outbox) room(ctx context.Context) error {
	for {
		o.mu.Lock()
		if len(o.buf) < crowded || o.ended {
			o.mu.Unlock()
			return nil
		}
		moved := o.wait()
		o.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (o *outbox) wait() <-chan struct{} {
	if o.moved == nil {
		o.moved = make(chan struct{})
	}
	return o.moved
}

func (o *outbox) tell() {
	if o.moved != nil {
		close(o.moved)
		o.moved = nil
	}
}

// take exchanges what is queued for an empty buffer.
func (o *outbox) take(empty []byte) (full []byte, ended bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended || len(o.buf) == 0 {
		return nil, o.ended
	}
	full, o.buf = o.buf, empty
	return full, false
}

func (o *outbox) wrote(n int) {
	o.mu.Lock()
	o.written += uint64(n)
	o.tell()
	o.mu.Unlock()
}

func (o *outbox) end() {
	o.mu.Lock()
	o.ended = true
	o.tell()
	o.mu.Unlock()
	select {
	case o.work <- struct{}{}:
	default:
	}
}

// write empties the outbox until the connection ends.
func (c *Conn) write() {
	var empty []byte
	for {
		full, ended := c.out.take(empty)
		if ended {
			return
		}
		if full == nil {
			select {
			case <-c.out.work:
			case <-c.done:
				return
			}
			continue
		}
		err := c.nc.SetWriteDeadline(time.Now().Add(c.opts.WriteTimeout))
		n := 0
		if err == nil {
			n, err = c.nc.Write(full)
		}
		c.out.wrote(n)
		if err != nil {
			c.End(err)
			return
		}
		empty = nil
		if cap(full) <= keptBuffer {
			empty = full[:0]
		}
	}
}

// Acks queues acks and returns the place behind them, for Written.
func (c *Conn) Acks(acks []Ack) uint64 { return c.out.puts(acks...) }

// Publish queues a message and returns the place behind it. Props are encoded properties (AppendHeaders), left out in
// MQTT 3.1.1. The message is copied.
func (c *Conn) Publish(m *Out) uint64 {
	c.out.mu.Lock()
	before := len(c.out.buf)
	c.out.buf = c.codec.appendPublish(c.out.buf, m)
	return c.out.unlock(len(c.out.buf) - before)
}

// PublishSize is the size of the packet that Publish makes of a message.
func (c *Conn) PublishSize(m *Out) int { return c.codec.publishSize(m) }

// Room waits until the next Publish would not pile up. The error is that of ctx.
func (c *Conn) Room(ctx context.Context) error { return c.out.room(ctx) }

// Written waits until the network has taken everything up to a place, or the connection has ended, and tells how far it got. The
// error is that of ctx.
func (c *Conn) Written(ctx context.Context, upTo uint64) (uint64, error) {
	return c.out.await(ctx, upTo)
}

package mqtt

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/mqttclient"
)

// deliver publishes what is pending, in order, and waits until nothing of the blocks is in flight any more.
func (p *publisher) deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	if p.life == nil {
		return nil, errors.New("mqtt sink: Deliver before Open")
	}
	own := make([]*block, len(blocks))
	for i, fb := range blocks {
		b, ok := fb.(*block)
		if !ok {
			return nil, fmt.Errorf("mqtt sink: %T is not a block of this sink", fb)
		}
		b.begin()
		own[i] = b
	}
	c, err := p.connection(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.exhausted = nil
	p.mu.Unlock()
	if *p.cfg.QoS == 0 {
		err = p.write(ctx, c, own)
	} else {
		err = p.publishAll(ctx, c, own)
	}
	p.report()
	if err != nil {
		return nil, err
	}
	return p.rejects(own), nil
}

// connection waits for one, as long as an attempt may take.
func (p *publisher) connection(ctx context.Context) (*mqttclient.Conn, error) {
	late := p.rt.Clock.NewTimer(p.cfg.ConnectTimeout)
	defer late.Stop()
	for {
		p.mu.Lock()
		c, changed, trouble := p.conn, p.changed, p.trouble
		p.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.life.Done():
			return nil, errClosed
		case <-late.C():
			return nil, flow.Transient(fmt.Errorf("mqtt sink: not connected to %s: %w", p.addresses(), trouble))
		}
	}
}

// publishAll is for QoS 1 and 2: the broker has to confirm the messages.
func (p *publisher) publishAll(ctx context.Context, c *mqttclient.Conn, blocks []*block) error {
	room := func() bool { return p.flights.span() < p.limit }
	for _, b := range blocks {
		for row := range b.at {
			if err := p.await(ctx, c, room); err != nil {
				return err
			}
			if !p.launch(c, b, row) {
				continue
			}
			if err := c.Room(ctx); err != nil {
				return err
			}
		}
	}
	if err := p.await(ctx, c, func() bool { return p.flights.span() == 0 }); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range blocks {
		if b.left > 0 {
			return flow.Transient(cmp.Or(p.exhausted, errUnfinished))
		}
	}
	return nil
}

var errUnfinished = errors.New("mqtt sink: not everything is published")

// launch publishes a row that is pending, and tells whether it was.
func (p *publisher) launch(c *mqttclient.Conn, b *block, row int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != c || p.exhausted != nil || b.state[row] != pending || p.tooLarge(c, b, row) {
		return false // a lost connection shows at the next await
	}
	b.state[row] = sent
	p.publish(c, b, row, p.flights.add(b, row), false)
	return true
}

// await waits until is, called under the lock, holds. It fails when the connection is lost, which has turned what was in flight
// into something to be published again.
func (p *publisher) await(ctx context.Context, c *mqttclient.Conn, is func() bool) error {
	var late flow.Timer
	landed := int64(-1)
	for {
		p.mu.Lock()
		mine, done, now := p.conn == c, is(), p.landed
		p.mu.Unlock()
		switch {
		case !mine:
			return p.lost(c)
		case done:
			return nil
		case late == nil:
			late = p.rt.Clock.NewTimer(p.cfg.AckTimeout)
			defer late.Stop()
		case now != landed:
			late.Reset(p.cfg.AckTimeout)
		}
		landed = now
		select {
		case <-p.progress:
		case <-c.Done():
			return p.lost(c)
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C():
			c.End(fmt.Errorf("the broker has confirmed nothing for %v", p.cfg.AckTimeout))
		}
	}
}

func (p *publisher) lost(c *mqttclient.Conn) error {
	err := errClosed
	select {
	case <-c.Done():
		err = c.Err()
	default:
	}
	return flow.Transient(fmt.Errorf("mqtt sink: connection to %s lost, what is unconfirmed is sent again: %w", p.addresses(), err))
}

// write is for QoS 0: the network has to take the messages.
func (p *publisher) write(ctx context.Context, c *mqttclient.Conn, blocks []*block) error {
	for _, b := range blocks {
		ends := make([]uint64, len(b.at)) // 0: nothing is written
		for row := range b.at {
			if b.state[row] != pending || p.tooLarge(c, b, row) {
				continue
			}
			if err := c.Room(ctx); err != nil {
				return err
			}
			ends[row] = p.publish(c, b, row, 0, false)
		}
		last := uint64(0)
		for _, end := range ends {
			last = max(last, end)
		}
		written, err := c.Written(ctx, last)
		for row, end := range ends {
			if end > 0 && end <= written {
				b.finish(row)
			}
		}
		if err != nil {
			return err
		}
		if b.left > 0 {
			return p.lost(c)
		}
	}
	return nil
}

// tooLarge rejects a row that is larger than the broker takes.
func (p *publisher) tooLarge(c *mqttclient.Conn, b *block, row int) bool {
	most := c.Limits.MaxPacket
	if most == 0 {
		return false
	}
	e := b.entry(row)
	n := c.PublishSize(&mqttclient.Out{Topic: e.topic, Payload: e.payload, Props: e.props, QoS: *p.cfg.QoS})
	if n <= most {
		return false
	}
	b.reject(row, fmt.Errorf("mqtt sink: message of %d bytes for topic %q, more than broker %s takes, %d: raise the broker's limit", n, e.topic, p.addresses(), most))
	return true
}

func (b *block) reject(row int, err error) {
	e := b.entry(row)
	b.rejects = append(b.rejects, flow.Reject{Row: row, Err: err, Record: append([]byte(nil), e.payload...), Time: e.time})
	b.finish(row)
}

func (p *publisher) rejects(blocks []*block) []flow.Reject {
	var all []flow.Reject
	for i, b := range blocks {
		for _, r := range b.rejects {
			r.Block = i
			all = append(all, r)
		}
	}
	return all
}

// report counts what is counted once per delivery.
func (p *publisher) report() {
	p.mu.Lock()
	n := p.nobody
	p.nobody = 0
	p.mu.Unlock()
	p.count("no_subscribers", int(n))
}

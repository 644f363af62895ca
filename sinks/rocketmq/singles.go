package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// underWay is how many messages of one queue are under way at a time where they are sent one by one.
const underWay = 32

// message is one that is sent by itself. A repeated Deliver finds it as the last one left it.
type message struct {
	data []byte // as in a batch
	row  int    // in its block
	done bool   // confirmed or rejected; a half message: committed or rejected

	// Of a half message; guarded by transactions.mu.
	number uint64
	stored bool
	half   rocketmq.Half
}

// open makes the messages of a chunk that are sent one by one, at the first Deliver.
func (c *chunk) open(row int) {
	if c.messages != nil {
		return
	}
	c.messages = make([]message, c.rows)
	rest := c.data
	for i := range c.messages {
		n, err := rocketmq.BatchMessageSize(rest)
		if err != nil { // checked when the block was made
			panic(err)
		}
		c.messages[i] = message{data: rest[:n], row: row + i}
		rest = rest[n:]
	}
}

// each calls f for every message of a lane that is not done, a number of them at a time, in their order. It stops at an error; a
// permanent one is returned before a transient one.
func (l *lane) each(ctx context.Context, atOnce int, f func(piece, *message) error) error {
	type job struct {
		piece piece
		m     *message
	}
	var jobs []job
	for _, piece := range l.pieces {
		for i := range piece.chunk.messages {
			if m := &piece.chunk.messages[i]; !m.done {
				jobs = append(jobs, job{piece, m})
			}
		}
	}
	var next atomic.Int64
	var mu sync.Mutex
	var first error
	failed := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return first != nil
	}
	var all sync.WaitGroup
	for range min(atOnce, len(jobs)) {
		all.Go(func() {
			for !failed() && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(jobs) {
					return
				}
				if err := f(jobs[i].piece, jobs[i].m); err != nil {
					mu.Lock()
					if first == nil || flow.IsTransient(first) && !flow.IsTransient(err) {
						first = err
					}
					mu.Unlock()
					return
				}
			}
		})
	}
	all.Wait()
	if first == nil {
		return ctx.Err()
	}
	return first
}

// sendSingle sends one message by itself.
func (p *producer) sendSingle(ctx context.Context, l *lane, piece piece, m *message) error {
	body, props, err := rocketmq.BatchMessage(m.data)
	if err != nil {
		return err
	}
	_, err = p.ask(ctx, l, rocketmq.Send(p.cfg.Group, p.cfg.Topic, l.queue, p.rt.Clock.Now(), false, body, string(props)), 1)
	switch {
	case err == nil:
	case rocketmq.IsRefused(err):
		l.reject(piece, m, err)
	default:
		return err
	}
	m.done = true
	return nil
}

// reject sets a message aside for the dead letters.
func (l *lane) reject(piece piece, m *message, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	piece.part.rejects = append(piece.part.rejects, flow.Reject{
		Block: piece.block, Row: m.row, Err: err, Record: append([]byte(nil), readable(m.data)...), Time: flow.None,
	})
}

// ask sends a command that stores messages, and says what became of it. The answer's fields stay good.
func (p *producer) ask(ctx context.Context, l *lane, req rocketmq.Request, rows int) (*rocketmq.Response, error) {
	addr := p.addr(l.queue.Broker)
	if addr == "" {
		return nil, flow.Transient(fmt.Errorf("rocketmq sink: the name servers know no master of broker %q", l.queue.Broker))
	}
	resp, err := p.client.Call(ctx, addr, req)
	if err == nil {
		// Only the code 0 means stored as durably as the cluster is set up to; others look like successes in some clients.
		switch resp.Code {
		case rocketmq.FlushDiskTimeout:
			p.rt.Count("flush_disk_timeout", 1)
		case rocketmq.FlushSlaveTimeout:
			p.rt.Count("flush_slave_timeout", 1)
		case rocketmq.SlaveNotAvailable:
			p.rt.Count("slave_not_available", 1)
		}
		err = resp.Err()
		resp.Release()
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("rocketmq sink: send %d messages to queue %s of topic %q: %w", rows, l.queue, p.cfg.Topic, err)
	}
	return resp, err
}

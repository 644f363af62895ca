package rocketmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
)

// producer sends blocks.
type producer struct {
	cfg     Config
	rt      flow.SinkRuntime
	client  *rocketmq.Client
	queues  []rocketmq.Queue // by shard; fixed at Open
	masters map[string]string
	warned  bool
}

// lane is what has to go to one queue, oldest first.
type lane struct {
	queue  rocketmq.Queue
	addr   string
	pieces []piece
	next   int // the first piece that is not sent whole
	err    error
}

type piece struct {
	part  *part
	block int // index in Deliver's blocks
	row   int // row of the part's first message in its block
}

func (p *producer) deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	lanes, err := p.lanes(blocks)
	if err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	slots := make(chan struct{}, p.cfg.Parallel)
	for _, l := range lanes {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			l.err = p.send(ctx, l)
		})
	}
	all.Wait()
	if err := p.firstError(ctx, lanes); err != nil {
		return nil, err
	}
	var rejects []flow.Reject
	for _, l := range lanes {
		for _, piece := range l.pieces {
			rejects = append(rejects, piece.part.rejects...)
		}
	}
	slices.SortFunc(rejects, func(a, b flow.Reject) int { return cmp.Or(cmp.Compare(a.Block, b.Block), cmp.Compare(a.Row, b.Row)) })
	return rejects, nil
}

// lanes sorts what the blocks hold by queue.
func (p *producer) lanes(blocks []flow.Block) ([]*lane, error) {
	byQueue := map[rocketmq.Queue]*lane{}
	var lanes []*lane
	for i, fb := range blocks {
		b, ok := fb.(*block)
		if !ok {
			return nil, fmt.Errorf("rocketmq sink: %T is not a block of this sink", fb)
		}
		row := 0
		for j := range b.parts {
			part := &b.parts[j]
			l := byQueue[part.queue]
			if l == nil {
				// A block of an outbox may be older than a change of the topic; its keys belong to the queue that they had.
				if !slices.Contains(p.queues, part.queue) {
					return nil, fmt.Errorf("rocketmq sink: topic %q has no queue %s any more, and messages wait for it: "+
						"give the topic its queues back (mqadmin updateTopic)", p.cfg.Topic, part.queue)
				}
				l = &lane{queue: part.queue, addr: p.masters[part.queue.Broker]}
				byQueue[part.queue] = l
				lanes = append(lanes, l)
			}
			for k := range part.rejects {
				part.rejects[k].Block = i // the blocks of a repeated Deliver are the same, in this order
			}
			l.pieces = append(l.pieces, piece{part: part, block: i, row: row})
			row += part.rows
		}
	}
	return lanes, nil
}

// firstError is the error of a Deliver: a permanent one first. It asks for the brokers' addresses when one did not answer.
func (p *producer) firstError(ctx context.Context, lanes []*lane) error {
	var transient error
	failed := int64(0)
	for _, l := range lanes {
		switch {
		case l.err == nil:
			continue
		case !flow.IsTransient(l.err):
			return l.err
		}
		failed++
		transient = l.err
	}
	if transient == nil {
		return nil
	}
	p.rt.Count("retries", failed)
	if route, err := p.client.Route(ctx, p.cfg.Topic); err == nil {
		maps.Copy(p.masters, route.Masters)
		if !p.warned && len(route.Masters) > 0 && p.changed(route) {
			p.warned = true
			p.rt.Log.Warn("rocketmq: the topic has other queues than at the start, which stay in use until a restart",
				"topic", p.cfg.Topic, "queues", len(p.queues), "now", len(route.Writable))
		}
	}
	return transient
}

// send empties a lane, batch by batch, each confirmed before the next: that is what keeps order.
func (p *producer) send(ctx context.Context, l *lane) error {
	limit := p.cfg.BatchMessages
	for {
		b := p.cut(l, limit)
		if b.rows == 0 {
			return nil
		}
		err := p.sendBatch(ctx, l, &b)
		switch {
		case err == nil:
			b.done()
			limit = p.cfg.BatchMessages
		case !rocketmq.IsRefused(err):
			return err
		case b.rows > 1:
			limit = b.rows / 2 // refused as a whole, for one message: find it
		default:
			b.reject(err)
			limit = p.cfg.BatchMessages
		}
	}
}

func (p *producer) sendBatch(ctx context.Context, l *lane, b *batch) error {
	if l.addr == "" {
		return flow.Transient(fmt.Errorf("rocketmq sink: the name servers know no master of broker %q", l.queue.Broker))
	}
	resp, err := p.client.Call(ctx, l.addr, rocketmq.SendBatch(p.cfg.Group, p.cfg.Topic, l.queue, p.rt.Clock.Now(), b.data...))
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
		return fmt.Errorf("rocketmq sink: send %d messages to queue %s of topic %q: %w", b.rows, l.queue, p.cfg.Topic, err)
	}
	return err
}

// batch is a run of messages of a lane, over the borders of parts.
type batch struct {
	rows, bytes int
	data        [][]byte
	spans       []span
}

type span struct {
	piece piece
	end   int // of the data in the part
	rows  int
}

// cut takes the next messages of a lane that are not sent: at most limit, and no more bytes than a batch may have, but one message
// at least.
func (p *producer) cut(l *lane, limit int) (b batch) {
	for l.next < len(l.pieces) && l.pieces[l.next].part.sent == len(l.pieces[l.next].part.data) {
		l.next++
	}
	for _, piece := range l.pieces[l.next:] {
		part := piece.part
		end, rows, full := part.sent, 0, false
		for end < len(part.data) {
			size, err := rocketmq.BatchMessageSize(part.data[end:])
			if err != nil { // checked when the block was made
				panic(err)
			}
			if full = b.rows > 0 && (b.rows == limit || b.bytes+size > p.cfg.BatchBytes); full {
				break
			}
			end += size
			rows++
			b.rows++
			b.bytes += size
		}
		if rows > 0 {
			b.data = append(b.data, part.data[part.sent:end])
			b.spans = append(b.spans, span{piece: piece, end: end, rows: rows})
		}
		if full {
			break
		}
	}
	return b
}

func (b *batch) done() {
	for _, s := range b.spans {
		s.piece.part.sent = s.end
		s.piece.part.sentRows += s.rows
	}
}

// reject sets the batch's only message aside for the dead letters.
func (b *batch) reject(err error) {
	s := b.spans[0]
	part := s.piece.part
	part.rejects = append(part.rejects, flow.Reject{
		Block: s.piece.block, Row: s.piece.row + part.sentRows, Err: err,
		Record: append([]byte(nil), readable(b.data[0])...), Time: flow.None,
	})
	b.done()
}

// readable is a rejected message in the form of the dead letter: its body, which the sink's codec can read.
func readable(message []byte) []byte {
	body, _, err := rocketmq.BatchMessage(message)
	if err != nil {
		return message
	}
	return body
}

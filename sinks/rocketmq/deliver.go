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
	cfg    Config
	rt     flow.SinkRuntime
	client *rocketmq.Client
	queues []rocketmq.Queue // by shard; fixed at Open
	keyed  bool             // order per queue matters
	delays bool             // some messages may be delayed
	warned bool
	memory buffers
	tx     *transactions // nil: none
	checks *checkBacks

	mu      sync.Mutex
	masters map[string]string
}

// addr is where a broker's master is, empty when nobody knows.
func (p *producer) addr(broker string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.masters[broker]
}

// setMasters takes the addresses of a new route. A broker that is missing in it keeps its address.
func (p *producer) setMasters(m map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.masters == nil {
		p.masters = map[string]string{}
	}
	maps.Copy(p.masters, m)
}

// lane is what has to go to one queue in one way, oldest first.
type lane struct {
	queue  rocketmq.Queue
	kind   kind
	pieces []piece
	next   int // the first piece that is not sent whole
	err    error

	mu sync.Mutex // of the rejects
}

type piece struct {
	part  *part
	chunk *chunk
	block int // index in Deliver's blocks
	row   int // row of the chunk's first message in its block
}

func (p *producer) deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	lanes, err := p.lanes(blocks)
	if err != nil {
		return nil, err
	}
	if err := p.beside(ctx, lanes, p.send); err != nil {
		return nil, err
	}
	if p.tx != nil {
		p.tx.decide()
		if err := p.beside(ctx, lanes, p.commit); err != nil {
			return nil, err
		}
		p.tx.forget(lanes)
	}
	var rejects []flow.Reject
	for i := range blocks {
		for parts, j := blocks[i].(*block).parts, 0; j < len(parts); j++ {
			rejects = append(rejects, parts[j].rejects...)
			parts[j].release(&p.memory)
		}
	}
	slices.SortFunc(rejects, func(a, b flow.Reject) int { return cmp.Or(cmp.Compare(a.Block, b.Block), cmp.Compare(a.Row, b.Row)) })
	return rejects, nil
}

// beside calls f for all lanes, Config.Parallel at the same time.
func (p *producer) beside(ctx context.Context, lanes []*lane, f func(context.Context, *lane) error) error {
	var all sync.WaitGroup
	slots := make(chan struct{}, p.cfg.Parallel)
	for _, l := range lanes {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			l.err = f(ctx, l)
		})
	}
	all.Wait()
	return p.firstError(ctx, lanes)
}

// lanes sorts what the blocks hold by queue.
func (p *producer) lanes(blocks []flow.Block) ([]*lane, error) {
	type way struct {
		queue rocketmq.Queue
		kind  kind
	}
	known := map[way]*lane{}
	var lanes []*lane
	for i, fb := range blocks {
		b, ok := fb.(*block)
		if !ok {
			return nil, fmt.Errorf("rocketmq sink: %T is not a block of this sink", fb)
		}
		row := 0
		for j := range b.parts {
			part := &b.parts[j]
			if part.done {
				row += part.rows
				continue
			}
			w := way{part.queue, part.kind}
			l := known[w]
			if l == nil {
				if err := p.check(w.queue, w.kind); err != nil {
					return nil, err
				}
				l = &lane{queue: w.queue, kind: w.kind}
				known[w] = l
				lanes = append(lanes, l)
			}
			for k := range part.rejects {
				part.rejects[k].Block = i // the blocks of a repeated Deliver are the same, in this order
			}
			for k := range part.chunks {
				c := &part.chunks[k]
				if part.kind != batched {
					c.open(row)
				}
				l.pieces = append(l.pieces, piece{part: part, chunk: c, block: i, row: row})
				row += c.rows
			}
		}
	}
	return lanes, nil
}

// check refuses what a block of an outbox may be from before a change.
func (p *producer) check(q rocketmq.Queue, k kind) error {
	if !slices.Contains(p.queues, q) { // keys belong to the queue that they had
		return fmt.Errorf("rocketmq sink: topic %q has no queue %s any more, and messages wait for it: "+
			"give the topic its queues back (mqadmin updateTopic)", p.cfg.Topic, q)
	}
	if k == half && p.tx == nil {
		return errors.New("rocketmq sink: messages of a transaction wait to be sent: set transactional=true until they are")
	}
	return nil
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
		p.setMasters(route.Masters)
		if !p.warned && len(route.Masters) > 0 && p.changed(route) {
			p.warned = true
			p.rt.Log.Warn("rocketmq: the topic has other queues than at the start, which stay in use until a restart",
				"topic", p.cfg.Topic, "queues", len(p.queues), "now", len(route.Writable))
		}
	}
	return transient
}

// send empties a lane; of a transaction it only stores the messages.
func (p *producer) send(ctx context.Context, l *lane) error {
	switch l.kind {
	case single:
		return l.each(ctx, underWay, func(piece piece, m *message) error { return p.sendSingle(ctx, l, piece, m) })
	case half:
		return l.each(ctx, underWay, func(piece piece, m *message) error { return p.sendHalf(ctx, l, piece, m) })
	}
	return p.sendBatches(ctx, l)
}

// commit lets readers see what a transaction has stored. Messages of one key come in their order: one after the other.
func (p *producer) commit(ctx context.Context, l *lane) error {
	if l.kind != half {
		return nil
	}
	atOnce := underWay
	if p.keyed {
		atOnce = 1
	}
	return l.each(ctx, atOnce, func(_ piece, m *message) error { return p.commitHalf(ctx, l, m) })
}

// sendBatches sends batch by batch, each confirmed before the next: that is what keeps order.
func (p *producer) sendBatches(ctx context.Context, l *lane) error {
	limit := p.cfg.BatchMessages
	for {
		b := p.cut(l, limit)
		if b.rows == 0 {
			return nil
		}
		req := rocketmq.SendBatch(p.cfg.Group, p.cfg.Topic, l.queue, p.rt.Clock.Now(), b.data...)
		_, err := p.ask(ctx, l, req, b.rows)
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

// batch is a run of messages of a lane: one chunk, several small ones, or a piece of one.
type batch struct {
	rows, bytes int
	data        [][]byte
	spans       []span
}

type span struct {
	piece piece
	end   int // of the data in the chunk
	rows  int
}

// cut takes the next messages of a lane that are not sent: at most limit, and no more bytes than a batch may have, but one message
// at least. Chunks are taken whole where that is possible.
func (p *producer) cut(l *lane, limit int) (b batch) {
	for l.next < len(l.pieces) && l.pieces[l.next].chunk.sent == len(l.pieces[l.next].chunk.data) {
		l.next++
	}
	for _, piece := range l.pieces[l.next:] {
		c := piece.chunk
		end, rows := len(c.data), c.rows-c.sentRows
		if rows > limit-b.rows || end-c.sent > p.cfg.BatchBytes-b.bytes {
			if b.rows > 0 {
				break
			}
			end, rows = c.head(limit, p.cfg.BatchBytes)
		}
		b.data = append(b.data, c.data[c.sent:end])
		b.spans = append(b.spans, span{piece: piece, end: end, rows: rows})
		b.rows += rows
		b.bytes += end - c.sent
		if rows < c.rows-c.sentRows {
			break
		}
	}
	return b
}

// head finds the end of the first messages that are not sent: so many, in so many bytes, but one at least.
func (c *chunk) head(limit, bytes int) (end, rows int) {
	for end = c.sent; end < len(c.data) && rows < limit; rows++ {
		size, err := rocketmq.BatchMessageSize(c.data[end:])
		if err != nil { // checked when the block was made
			panic(err)
		}
		if rows > 0 && end+size-c.sent > bytes {
			break
		}
		end += size
	}
	return end, rows
}

func (b *batch) done() {
	for _, s := range b.spans {
		s.piece.chunk.sent = s.end
		s.piece.chunk.sentRows += s.rows
	}
}

// reject sets the batch's only message aside for the dead letters.
func (b *batch) reject(err error) {
	s := b.spans[0]
	s.piece.part.rejects = append(s.piece.part.rejects, flow.Reject{
		Block: s.piece.block, Row: s.piece.row + s.piece.chunk.sentRows, Err: err,
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

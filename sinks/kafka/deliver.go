package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
)

func (p *producer) deliver(ctx context.Context, blocks []flow.Block) ([]flow.Reject, error) {
	own := make([]*block, len(blocks))
	for i, fb := range blocks {
		b, ok := fb.(*block)
		if !ok {
			return nil, fmt.Errorf("kafka sink: %T is not a block of this sink", fb)
		}
		own[i] = b
		for _, t := range b.topics {
			if err := p.resolve(ctx, t); err != nil {
				return nil, err
			}
		}
	}
	send := p.send
	if p.cfg.TransactionalID != "" {
		send = p.sendInTransaction
	}
	if err := send(ctx, own); err != nil {
		return nil, err
	}
	var rejects []flow.Reject
	for i, b := range own {
		rejects = append(rejects, b.rejects(i)...)
	}
	return rejects, nil
}

// send writes what of the blocks is not acked yet.
func (p *producer) send(ctx context.Context, blocks []*block) error {
	if err := p.settle(ctx, blocks); err != nil {
		return err
	}
	var transient error
	for _, b := range blocks {
		if b.finished {
			continue
		}
		refused, pending, err := p.triage(ctx, b)
		if err != nil {
			return err
		}
		if len(refused) > 0 {
			late, err := p.isolate(ctx, b, refused)
			if err != nil {
				return err
			}
			pending = append(pending, late...)
		}
		if len(pending) > 0 {
			transient = pending[0].err
		}
		b.next(pending)
	}
	if transient != nil {
		return transient
	}
	return nil
}

// settle hands the blocks' records to the client and waits until each is acked or has failed. The client tries on by itself, under
// sequence numbers that keep a record from being stored twice; when nothing was acked for Config.Timeout the error is transient, and
// the next call waits on.
func (p *producer) settle(ctx context.Context, blocks []*block) error {
	p.mu.Lock()
	for _, b := range blocks {
		if !b.begun && !b.finished {
			b.begun, b.fed, b.failed, b.done = true, false, nil, make(chan struct{})
			p.queue = append(p.queue, b)
		}
	}
	if len(p.queue) > 0 && !p.feeding {
		p.feeding = true
		p.all.Go(p.feed)
	}
	last := p.settled
	p.mu.Unlock()
	timer := p.rt.Clock.NewTimer(p.cfg.Timeout)
	defer timer.Stop()
	for _, b := range blocks {
		for waiting := !b.finished; waiting; {
			select {
			case <-b.done:
				waiting = false
			case <-ctx.Done():
				return ctx.Err()
			case <-timer.C():
				p.mu.Lock()
				now := p.settled
				p.mu.Unlock()
				if now == last {
					return flow.Transient(fmt.Errorf("kafka sink: %w within %s: records wait for their acks", kafka.ErrNoAnswer, p.cfg.Timeout))
				}
				last = now
				timer.Reset(p.cfg.Timeout)
			}
		}
	}
	return nil
}

// feed hands queued blocks to the client, in order, until none is queued. The client blocks it while it holds Config.InFlight records.
func (p *producer) feed() {
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.feeding = false
			p.mu.Unlock()
			return
		}
		b := p.queue[0]
		p.queue = p.queue[1:]
		p.mu.Unlock()
		p.feedBlock(b)
	}
}

// slabRecords is how many records are made at once.
const slabRecords = 512

func (p *producer) feedBlock(b *block) {
	var s *slab
	names := map[string]string{}
	p.eachRow(b, func(row int, f *frame) {
		t := p.target(b.topics[f.topic])
		if t.compacted && !f.keyed {
			p.mu.Lock()
			b.failed = append(b.failed, failure{row, errNoKey})
			p.mu.Unlock()
			return
		}
		if s == nil || s.full() {
			s = newSlab(p, b, min(slabRecords, b.rows))
		}
		r := s.add(row)
		t.fill(r, f, names)
		r.Timestamp = s.now
		p.client.Produce(p.ctx, r, s.promise)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	b.fed = true
	if b.left == 0 {
		close(b.done)
	}
}

var errNoKey = errors.New("a record without a key on a compacted topic: give the sink the option Key")

// eachRow calls f for each record that is to be sent.
func (p *producer) eachRow(b *block, f func(row int, f *frame)) {
	rows := b.pending
	var x frame
	it := frames{rest: b.data}
	for row := 0; it.next(&x); row++ {
		if b.again {
			if len(rows) == 0 {
				return
			}
			if rows[0] != row {
				continue
			}
			rows = rows[1:]
		}
		if _, bad := b.refused[row]; bad {
			continue
		}
		f(row, &x)
	}
}

// fill makes a record of a frame, whose bytes it shares. names keeps the names of headers, which are few.
func (t *target) fill(r *kgo.Record, f *frame, names map[string]string) {
	r.Topic = t.name
	if !f.tombstone {
		r.Value = f.value
	}
	if f.keyed {
		shard := kafka.ShardOf(f.key, t.shards)
		r.Key, r.Partition, r.Headers = f.key, int32(shard), t.marks[shard]
	} else {
		r.Partition = int32(t.round / runRecords % t.shards)
		t.round++
	}
	if f.headers == 0 {
		return
	}
	headers := append(make([]kgo.RecordHeader, 0, f.headers+2), r.Headers...)
	d := frames{rest: f.rest}
	for range f.headers {
		name := d.bytes()
		key, known := names[string(name)]
		if !known {
			key = string(name)
			if len(names) < maxNames {
				names[key] = key
			}
		}
		headers = append(headers, kgo.RecordHeader{Key: key, Value: d.bytes()})
	}
	r.Headers = headers
}

const (
	runRecords = 1024 // records without a key that go to one partition before the next one's turn
	maxNames   = 256
)

// triage sorts a block's failures: what the brokers refuse, and what passes. Anything else stops the topology.
func (p *producer) triage(ctx context.Context, b *block) (refused, pending []failure, err error) {
	p.mu.Lock()
	failed := b.failed
	p.mu.Unlock()
	slices.SortFunc(failed, func(x, y failure) int { return cmp.Compare(x.row, y.row) })
	for _, f := range failed {
		if kafka.Refused(f.err) || errors.Is(f.err, errNoKey) {
			refused = append(refused, f)
			continue
		}
		f.err = p.classed(ctx, f.err)
		if !flow.IsTransient(f.err) {
			return nil, nil, f.err
		}
		pending = append(pending, f)
	}
	return refused, pending, nil
}

// classed says what an error of a record means.
func (p *producer) classed(ctx context.Context, err error) error {
	var owner *ownerError
	if errors.As(err, &owner) {
		return err
	}
	if kafka.IsUnknownTopic(err) {
		return fmt.Errorf("kafka sink: %w: the topic was deleted: create it again (kafka-topics --create), with as many partitions", err)
	}
	return fmt.Errorf("kafka sink: %w", kafka.Err(ctx, err))
}

// isolate finds out which records of refused batches are at fault, by sending each alone. It returns those that have to be sent again.
func (p *producer) isolate(ctx context.Context, b *block, refused []failure) (pending []failure, err error) {
	b.pending, b.again = rowsOf(refused), true
	byRow := map[int]error{}
	for _, f := range refused {
		byRow[f.row] = f.err
	}
	names := map[string]string{}
	p.eachRow(b, func(row int, f *frame) {
		if err != nil {
			return
		}
		fail := byRow[row]
		if !errors.Is(fail, errNoKey) {
			r := &kgo.Record{Timestamp: p.rt.Clock.Now()}
			p.target(b.topics[f.topic]).fill(r, f, names)
			fail = p.client.ProduceSync(ctx, r).FirstErr()
		}
		switch {
		case fail == nil:
		case kafka.Refused(fail), errors.Is(fail, errNoKey):
			b.refuse(row, fmt.Errorf("kafka sink: topic %q: %w", b.topics[f.topic], fail))
		default:
			if fail = p.classed(ctx, fail); !flow.IsTransient(fail) {
				err = fail
				return
			}
			pending = append(pending, failure{row, fail})
		}
	})
	return pending, err
}

func rowsOf(failed []failure) []int {
	rows := make([]int, len(failed))
	for i, f := range failed {
		rows[i] = f.row
	}
	slices.Sort(rows)
	return rows
}

// next prepares what a repeated Deliver has to send; nothing means that the block is delivered.
func (b *block) next(pending []failure) {
	b.begun, b.failed = false, nil
	b.pending, b.again = rowsOf(pending), true
	b.finished = len(pending) == 0
}

func (b *block) refuse(row int, err error) {
	if b.refused == nil {
		b.refused = map[int]error{}
	}
	b.refused[row] = err
}

// rejects are the block's refused records, in the form of the dead letter: values, which the sink's codec can read.
func (b *block) rejects(index int) []flow.Reject {
	if len(b.refused) == 0 {
		return nil
	}
	var rejects []flow.Reject
	var f frame
	it := frames{rest: b.data}
	for row := 0; it.next(&f); row++ {
		if err := b.refused[row]; err != nil {
			rejects = append(rejects, flow.Reject{Block: index, Row: row, Err: err, Record: append([]byte(nil), f.value...), Time: flow.None})
		}
	}
	return rejects
}

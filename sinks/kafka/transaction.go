package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// transaction is the one that a delivery is in.
type transaction struct {
	open   bool
	began  time.Time
	blocks []*block
	unsure bool // the commit was sent, and its answer is lost
	stale  bool // the client must be made anew, which aborts what is open
}

// sendInTransaction writes the blocks in one transaction. After a failure the transaction is aborted and all of it is written again.
func (p *producer) sendInTransaction(ctx context.Context, blocks []*block) error {
	for {
		if err := p.mend(ctx); err != nil {
			return err
		}
		open := unfinished(blocks)
		if len(open) == 0 {
			return nil
		}
		if err := p.begin(); err != nil {
			return p.inTransaction(ctx, err)
		}
		p.tx.blocks = open
		if err := p.settle(ctx, open); err != nil {
			return err
		}
		again := false
		for _, b := range open {
			refused, pending, err := p.triageInTransaction(ctx, b)
			if err != nil {
				p.tx.stale = true
				return err
			}
			if len(pending) > 0 {
				p.tx.stale = true
				return pending[0].err
			}
			if len(refused) > 0 {
				again = true
				if err := p.probe(ctx, b, refused); err != nil {
					return err
				}
			}
		}
		if again {
			continue
		}
		return p.commit(ctx)
	}
}

// begin begins a transaction unless one is open.
func (p *producer) begin() error {
	if p.tx.open {
		return nil
	}
	p.tx.began = p.rt.Clock.Now()
	if err := p.client.BeginTransaction(); err != nil {
		return err
	}
	p.tx.open = true
	return nil
}

func (p *producer) commit(ctx context.Context) error {
	err := p.client.EndTransaction(ctx, kgo.TryCommit)
	if err == nil {
		p.finishTransaction()
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.tx.unsure = true
	return p.inTransaction(ctx, err)
}

func (p *producer) finishTransaction() {
	for _, b := range p.tx.blocks {
		b.finished = true
	}
	p.tx.open, p.tx.blocks = false, nil
}

// mend deals with what the last call has left.
func (p *producer) mend(ctx context.Context) error {
	if p.tx.unsure {
		done, err := p.outcome(ctx)
		if err != nil {
			return err
		}
		p.tx.unsure, p.tx.stale = false, true
		if done {
			p.finishTransaction()
		}
	}
	if !p.tx.stale {
		return nil
	}
	p.client.Close()
	p.all.Wait() // the feeder, whose records have failed
	for _, b := range p.tx.blocks {
		b.begun, b.again, b.pending = false, false, nil
	}
	p.tx.open, p.tx.blocks = false, nil
	if err := p.dial(); err != nil {
		return err
	}
	if err := p.fence(ctx); err != nil {
		return err
	}
	p.tx.stale = false
	p.rt.Count("transactions_again", 1)
	return nil
}

// outcome asks what became of a transaction whose commit was not answered. Brokers before 3.0 do not say; it is then written again.
func (p *producer) outcome(ctx context.Context) (committed bool, err error) {
	wait, cancel := context.WithTimeoutCause(ctx, p.cfg.Timeout, kafka.ErrNoAnswer)
	defer cancel()
	all, err := kadm.NewClient(p.client).DescribeTransactions(wait, p.cfg.TransactionalID)
	if err == nil {
		x := all[p.cfg.TransactionalID]
		if err = x.Err; err == nil {
			return x.State == "PrepareCommit" || x.State == "CompleteCommit", nil
		}
	}
	if err = kafka.Err(wait, err); !flow.IsTransient(err) && ctx.Err() == nil {
		return false, nil
	}
	return false, fmt.Errorf("kafka sink: what became of the transaction: %w", err)
}

// fence takes the transactional id over: an open transaction of a process before us is aborted.
func (p *producer) fence(ctx context.Context) error {
	if p.cfg.TransactionalID == "" {
		return nil
	}
	wait, cancel := context.WithTimeoutCause(ctx, p.cfg.Timeout, kafka.ErrNoAnswer)
	defer cancel()
	if _, _, err := p.client.ProducerID(wait); err != nil {
		return fmt.Errorf("kafka sink: take over the transactional id %q: %w", p.cfg.TransactionalID, kafka.Err(wait, err))
	}
	return nil
}

func (p *producer) triageInTransaction(ctx context.Context, b *block) (refused, pending []failure, err error) {
	p.mu.Lock()
	for i, f := range b.failed {
		if fenced(f.err) {
			b.failed[i].err = p.inTransaction(ctx, f.err)
		}
	}
	p.mu.Unlock()
	return p.triage(ctx, b)
}

// fenced tells whether brokers say that the transactional id has a newer owner. They say so too when a transaction has timed out.
func fenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
}

// ownerError says that somebody else has taken the transactional id over.
type ownerError struct {
	id  string
	err error
}

func (e *ownerError) Error() string {
	return fmt.Sprintf("kafka sink: transactional id %q: %v; another process writes under it: give each its own", e.id, e.err)
}

func (e *ownerError) Unwrap() error { return e.err }

// inTransaction says what an error of a transaction means. Whatever passes begins with a client made anew.
func (p *producer) inTransaction(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.tx.stale = true
	if fenced(err) && p.rt.Clock.Now().Sub(p.tx.began) < p.cfg.TransactionTimeout {
		return &ownerError{p.cfg.TransactionalID, err}
	}
	if !fenced(err) {
		err = kafka.Err(ctx, err)
		if !flow.IsTransient(err) && !errors.Is(err, kgo.ErrClientClosed) {
			return fmt.Errorf("kafka sink: %w", err)
		}
	}
	return flow.Transient(fmt.Errorf("kafka sink: the transaction is written again: %w", err))
}

// probe finds out which records of refused batches are at fault, by sending each alone in a transaction that is aborted.
func (p *producer) probe(ctx context.Context, b *block, refused []failure) error {
	p.tx.stale = true
	if err := p.mend(ctx); err != nil {
		return err
	}
	if err := p.begin(); err != nil {
		return p.inTransaction(ctx, err)
	}
	p.tx.stale = true
	pending, err := p.isolate(ctx, b, refused)
	b.begun, b.again, b.pending, b.failed = false, false, nil, nil
	if err == nil && len(pending) > 0 {
		err = pending[0].err
	}
	return err
}

// leave aborts the transaction that is open, so that no consumer waits for its end.
func (p *producer) leave() {
	if !p.tx.open {
		return
	}
	ctx, cancel := context.WithTimeoutCause(p.ctx, p.cfg.Timeout, kafka.ErrNoAnswer)
	defer cancel()
	if err := p.client.AbortBufferedRecords(ctx); err == nil {
		err = p.client.EndTransaction(ctx, kgo.TryAbort)
		if err != nil {
			p.rt.Log.Info("kafka: the open transaction was not aborted; the brokers do it when it times out", "transactional_id", p.cfg.TransactionalID, "err", err)
		}
	}
}

func unfinished(blocks []*block) (open []*block) {
	for _, b := range blocks {
		if !b.finished {
			open = append(open, b)
		}
	}
	return open
}

package watermill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cenkalti/backoff/v5"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/watermill"
)

// closeTimeout bounds the last acks and the closing of a subscription's source.
const closeTimeout = 10 * time.Second

// subscription runs one source without an engine.
type subscription struct {
	cfg   *SubscriberConfig
	src   flow.Source[*message.Message]
	topic string
	log   *slog.Logger
	out   chan *message.Message
	wg    sync.WaitGroup // reads and commits

	mu    sync.Mutex
	parts map[string]*subPartition
}

// run reads until ctx ends or the source has.
func (s *subscription) run(ctx context.Context) {
	defer close(s.out)
	err := s.persist(ctx, "run", func() error { return s.src.Run(ctx, &assigner{s, ctx}) })
	if err != nil && ctx.Err() == nil {
		s.log.Error("watermill subscriber: the subscription ends", "err", err)
		s.stop()
	}
	s.wg.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if err := p.commit(last); err != nil {
			s.log.Warn("watermill subscriber: the last acks are lost, their messages come again", "partition", p.p.ID, "err", err)
		}
	}
	if err := s.src.Close(last); err != nil {
		s.log.Warn("watermill subscriber: closing the source", "err", err)
	}
}

// stop ends all partitions.
func (s *subscription) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		p.cancel()
	}
}

// persist calls f until it succeeds, fails for good, or ctx ends.
func (s *subscription) persist(ctx context.Context, what string, f func() error) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval, pause.Multiplier = 20*time.Millisecond, maxPause, 2
	pause.Reset()
	for n := 1; ; n++ {
		err := f()
		if err == nil || ctx.Err() != nil || !flow.IsTransient(err) {
			return err
		}
		if n == 1 || n%12 == 0 {
			s.log.Warn("watermill subscriber: trying again", "doing", what, "err", err, "attempt", n)
		}
		if s.cfg.Clock.Sleep(ctx, pause.NextBackOff()) != nil {
			return err
		}
	}
}

// assigner is the source's view of the subscription.
type assigner struct {
	s   *subscription
	ctx context.Context
}

func (a *assigner) Add(ps ...flow.Partition) error {
	for _, p := range ps {
		if err := a.s.add(a.ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (a *assigner) Remove(ctx context.Context, ps ...flow.Partition) error {
	for _, p := range ps {
		a.s.mu.Lock()
		part := a.s.parts[p.ID]
		delete(a.s.parts, p.ID)
		a.s.mu.Unlock()
		if part == nil {
			return fmt.Errorf("partition %q is not assigned", p.ID)
		}
		part.cancel()
		select {
		case <-part.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := a.s.persist(ctx, "commit", func() error { return part.commit(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *subscription) add(ctx context.Context, p flow.Partition) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parts[p.ID] != nil {
		return fmt.Errorf("partition %q is assigned already", p.ID)
	}
	part := &subPartition{s: s, p: p, read: p.Committed, acks: make(chan struct{}, 1), ended: make(chan struct{})}
	ctx, part.cancel = context.WithCancel(ctx)
	s.parts[p.ID] = part
	s.wg.Go(func() {
		defer close(part.ended)
		var committing sync.WaitGroup
		committing.Go(func() { part.commits(ctx) })
		err := s.persist(ctx, "read", func() error { return s.src.Read(ctx, p, part.read, flow.NewIntake[*message.Message](part)) })
		if err != nil && ctx.Err() == nil {
			s.log.Error("watermill subscriber: a partition is not read any more", "partition", p.ID, "err", err)
		}
		if err != nil || ctx.Err() != nil {
			part.cancel()
		} else { // read to its end: the acks may still be told
			<-ctx.Done()
		}
		committing.Wait()
	})
	return nil
}

// subPartition is one partition of a subscription, and the intake of its reader.
type subPartition struct {
	s      *subscription
	p      flow.Partition
	read   flow.Position // behind what was acked
	cancel context.CancelFunc
	ended  chan struct{}
	acks   chan struct{}
	rec    []flow.Record[*message.Message]

	mu          sync.Mutex
	acked, told flow.Position
}

// commits tells the source what is acked, the latest only.
func (p *subPartition) commits(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.acks:
		}
		if err := p.s.persist(ctx, "commit", func() error { return p.commit(ctx) }); err != nil && ctx.Err() == nil {
			p.s.log.Error("watermill subscriber: acks are not taken", "partition", p.p.ID, "err", err)
			p.cancel()
			return
		}
	}
}

// commit is called by commits, and behind its end.
func (p *subPartition) commit(ctx context.Context) error {
	p.mu.Lock()
	acked, told := p.acked, p.told
	p.mu.Unlock()
	if acked.IsZero() || acked == told {
		return nil
	}
	if err := p.s.src.Commit(ctx, p.p, acked); err != nil {
		return err
	}
	p.mu.Lock()
	p.told = acked
	p.mu.Unlock()
	return nil
}

func (p *subPartition) ack(at flow.Position) {
	p.mu.Lock()
	p.acked = at
	p.mu.Unlock()
	select {
	case p.acks <- struct{}{}:
	default:
	}
}

// Buffer implements flow.IntakeBackend.
func (p *subPartition) Buffer() []flow.Record[*message.Message] {
	if p.rec == nil {
		p.rec = make([]flow.Record[*message.Message], 0, flow.MaxBatch)
	}
	return p.rec[:0]
}

// Emit gives the messages one by one and returns when the last is acked.
func (p *subPartition) Emit(ctx context.Context, batch []flow.Record[*message.Message], upTo flow.Position) error {
	for i := range batch {
		r := &batch[i]
		if r.Value == nil {
			return errors.New("watermill subscriber: the source emits no message: its codec must be Plain, Envelope, or one that makes a message")
		}
		if r.Meta != nil {
			watermill.SetHeaders(r.Value, r.Meta.Headers)
		}
		if err := p.give(ctx, r.Value); err != nil {
			return err
		}
		if i < len(batch)-1 && r.Meta != nil && !r.Meta.Position.IsZero() {
			p.ack(r.Meta.Position)
		}
	}
	p.read = upTo
	p.ack(upTo)
	return nil
}

// give gives a message until it is acked.
func (p *subPartition) give(ctx context.Context, m *message.Message) error {
	for {
		mctx, done := context.WithCancel(ctx)
		m.SetContext(mctx)
		acked, err := p.giveOnce(ctx, m)
		done()
		if acked || err != nil {
			return err
		}
		if err := p.s.cfg.Clock.Sleep(ctx, p.s.cfg.NackPause); err != nil {
			return err
		}
		m = m.Copy()
	}
}

func (p *subPartition) giveOnce(ctx context.Context, m *message.Message) (acked bool, err error) {
	select {
	case p.s.out <- m:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	select {
	case <-m.Acked():
		return true, nil
	case <-m.Nacked():
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// Reject implements flow.IntakeBackend.
func (p *subPartition) Reject(_ []byte, cause error, at flow.Position) {
	p.s.log.Error("watermill subscriber: a message is dropped", "partition", p.p.ID, "position", at.Offset, "err", cause)
}

// Reference, Idle, Busy, Lag and Window implement flow.IntakeBackend: a subscription has no use for them.
func (*subPartition) Reference(time.Time) {}

// Idle implements flow.IntakeBackend.
func (*subPartition) Idle() {}

// Busy implements flow.IntakeBackend.
func (*subPartition) Busy() {}

// Lag implements flow.IntakeBackend.
func (*subPartition) Lag(int64) {}

// Window implements flow.IntakeBackend.
func (*subPartition) Window(int) {}

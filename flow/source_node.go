package flow

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
)

// sourceNode is a source without its type.
type sourceNode interface {
	node() *node
	fixed() int
	open(ctx context.Context, rt SourceRuntime) error
	run(ctx context.Context, a Assign) error
	commit(ctx context.Context, p Partition, upTo Position) error
	close(ctx context.Context) error
	// newPartition builds the task of a partition.
	newPartition(u *unit, sub *subscriber, p Partition) *partition
}

type sourceImpl[T any] struct {
	n   *node
	src Source[T]
	out *port[T]
}

func (s *sourceImpl[T]) node() *node { return s.n }

func (s *sourceImpl[T]) fixed() int {
	if f, ok := s.src.(FixedPartitions); ok {
		return f.Partitions()
	}
	return 0
}

func (s *sourceImpl[T]) open(ctx context.Context, rt SourceRuntime) error { return s.src.Open(ctx, rt) }
func (s *sourceImpl[T]) run(ctx context.Context, a Assign) error          { return s.src.Run(ctx, a) }
func (s *sourceImpl[T]) close(ctx context.Context) error                  { return s.src.Close(ctx) }

func (s *sourceImpl[T]) commit(ctx context.Context, p Partition, upTo Position) error {
	return s.src.Commit(ctx, p, upTo)
}

// partition is a source partition that is being read.
type partition struct {
	src  sourceNode
	sub  *subscriber
	p    Partition
	t    *task
	u    *unit
	read func(ctx context.Context, from Position) error
	end  func() parcel // the message that ends the partition's stream

	// pos is the position behind what the task has processed; the task alone writes it.
	pos     Position
	records int64 // processed records, by the task
	// What the last committed epoch acked.
	ackedPos     Position
	ackedRecords int64

	emitted   Position     // by Read
	given     atomic.Int64 // records that Read has emitted, or is emitting
	accepted  atomic.Int64
	acked     atomic.Int64
	window    atomic.Int64
	lag       atomic.Int64
	idleSince atomic.Int64 // 0: not idle
	times     []*partitionTime

	pump    chan *delivery
	pumped  chan struct{}
	readEnd chan struct{}
	cancel  context.CancelFunc
	ended   atomic.Bool
	seq     uint64
	random  *rand.ChaCha8
}

func (s *sourceImpl[T]) newPartition(u *unit, sub *subscriber, p Partition) *partition {
	part := &partition{src: s, sub: sub, u: u, p: p, pump: make(chan *delivery, convoyMax-1), pumped: make(chan struct{}), readEnd: make(chan struct{})}
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails
	part.random = rand.NewChaCha8(seed)
	t := u.newTask(s.n.name+"/"+p.ID, 0)
	t.part = part
	part.t = t
	b := &builder{u: u, t: t, shared: map[*node]any{}}
	stats := u.statsOf(s.n)
	entry := s.out.build(b)
	t.entry = entry
	in := &intake[T]{u: u, part: part, entry: entry, stats: stats, ref: None, free: make(chan []Record[T], 2*convoyMax)}
	part.read = func(ctx context.Context, from Position) error { return s.src.Read(ctx, p, from, NewIntake[T](in)) }
	part.end = func() parcel {
		return control(func(*task) { entry.mark(mark{kind: markWatermark, wm: EndOfTime}) })
	}
	return part
}

// silent tells the partition's task how long its source has had nothing.
func (p *partition) silent(u *unit, now time.Time) {
	if p.given.Load() != p.t.doneRecords.Load() {
		return
	}
	since := p.idleSince.Load() // behind what sourceBatch.run has written there
	if since == 0 {
		return
	}
	d := now.UnixNano() - since
	if d <= 0 {
		return
	}
	if m, ok := p.t.entry.(interface{ mark(mark) }); ok {
		u.post(p.t, control(func(*task) { m.mark(mark{kind: markSilent, wm: Timestamp(d)}) }))
	}
}

// intake is the engine's IntakeBackend.
type intake[T any] struct {
	u       *unit
	part    *partition
	entry   receiver[T]
	stats   *nodeStats
	ref     Timestamp
	rejects []Record[DeadLetter]
	free    chan []Record[T]
}

func (in *intake[T]) Buffer() []Record[T] {
	select {
	case b := <-in.free:
		return b
	default:
		return make([]Record[T], 0, MaxBatch)
	}
}

func (in *intake[T]) Emit(ctx context.Context, batch []Record[T], upTo Position) error {
	if len(batch) > MaxBatch {
		return fmt.Errorf("a batch of %d records: emit at most flow.MaxBatch (%d) at once", len(batch), MaxBatch)
	}
	if n := len(batch); n > 0 {
		in.part.idleSince.Store(0)
	}
	m := &sourceBatch[T]{in: in, recs: batch, ref: in.ref, upTo: upTo, rejects: in.rejects}
	m.d = delivery{part: in.part, m: m, n: int64(len(batch) + len(in.rejects)), done: make(chan struct{})}
	d := &m.d
	in.rejects = nil
	in.u.handed.Add(1)
	in.part.given.Add(d.n)
	select {
	case in.part.pump <- d:
		in.part.emitted = upTo
		return nil
	case <-ctx.Done():
		in.part.given.Add(-d.n)
		in.u.processed(1)
		return ctx.Err()
	case <-in.u.ctx.Done():
		in.part.given.Add(-d.n)
		in.u.processed(1)
		return ErrStopped
	}
}

func (in *intake[T]) Reject(raw []byte, cause error, at Position) {
	n := in.part.src.node()
	in.stats.errors.Add(1)
	in.u.hookError(n.name, cause)
	if n.cfg.OnError == DropOnError {
		in.stats.dropped.Add(1)
		return
	}
	if !in.u.t.dead.connected() || n.cfg.OnError == StopOnError {
		in.u.fail(&NodeError{in.u.t.name, n.name, fmt.Errorf("partition %s: %w; connect the topology's DeadLetters() to keep such messages", in.part.p.ID, cause)})
		return
	}
	in.stats.deadLetters.Add(1)
	in.rejects = append(in.rejects, Record[DeadLetter]{Time: in.ref, Value: DeadLetter{
		Topology: in.u.t.name, Node: n.name, Cause: cause.Error(), Attempts: 1, Raw: append([]byte(nil), raw...),
		Time: in.ref, At: TimestampOf(in.u.t.cfg.clock.Now()), Partition: in.part.p.ID, Position: at,
	}})
}

func (in *intake[T]) Reference(t time.Time) { in.ref = TimestampOf(t) }

func (in *intake[T]) Idle() {
	if in.part.idleSince.Load() == 0 {
		in.part.idleSince.CompareAndSwap(0, in.u.t.cfg.clock.Now().UnixNano())
	}
}
func (in *intake[T]) Busy()        { in.part.idleSince.Store(0) }
func (in *intake[T]) Lag(n int64)  { in.part.lag.Store(n) }
func (in *intake[T]) Window(n int) { in.part.window.Store(int64(n)) }

// sourceBatch is what a source's message carries by reference.
type sourceBatch[T any] struct {
	in      *intake[T]
	recs    []Record[T]
	ref     Timestamp
	upTo    Position
	rejects []Record[DeadLetter]
	d       delivery
}

func (b *sourceBatch[T]) run(t *task) {
	in := b.in
	in.stats.in.Add(int64(len(b.recs)))
	in.stats.out.Add(int64(len(b.recs)))
	b.refer()
	in.entry.push(b.recs)
	t.dead = append(t.dead, b.rejects...)
	in.part.pos = b.upTo
	in.part.records += b.d.n
	if since := in.part.idleSince.Load(); since != 0 && b.d.n > 0 { // silence begins behind the last record
		in.part.idleSince.CompareAndSwap(since, in.u.t.cfg.clock.Now().UnixNano())
	}
	t.doneRecords.Add(b.d.n)
	if cap(b.recs) >= MaxBatch {
		select {
		case in.free <- b.recs[:0]:
		default:
		}
	}
	close(b.d.done)
}

// refer gives the reference time to records that have no time.
func (b *sourceBatch[T]) refer() {
	for i := range b.recs {
		if r := &b.recs[i]; r.Time == 0 || r.Time == None {
			r.Time = b.ref
		}
	}
}

// delivery is one batch on its way through the router. It is accepted once.
type delivery struct {
	part     *partition
	m        parcel
	n        int64
	accepted atomic.Bool
	done     chan struct{}
}

type deliveryKey struct{}

// subscriber is the message.Subscriber of one source on the router.
type subscriber struct {
	e    *engine
	src  sourceNode
	out  chan *message.Message
	once sync.Once
	// byPayload finds a delivery when a middleware has replaced the message's context.
	mu        sync.Mutex
	byPayload map[string]*delivery
}

func (s *subscriber) hold(payload string, d *delivery) {
	s.mu.Lock()
	s.byPayload[payload] = d
	s.mu.Unlock()
}

func (s *subscriber) release(payloads ...string) {
	s.mu.Lock()
	for _, p := range payloads {
		delete(s.byPayload, p)
	}
	s.mu.Unlock()
}

// held is nil for an old copy of a batch that is done.
func (s *subscriber) held(payload message.Payload) *delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPayload[string(payload)]
}

// Subscribe is called once by the router. It returns at once; connecting is the source's work. The end of ctx is that of the router or of the
// handler: the topology stops, and the router ends this channel when it has.
func (s *subscriber) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	s.e.subscribed(ctx)
	go func() {
		select {
		case <-ctx.Done():
			s.e.requestStop(stopRequest{})
		case <-s.e.closed:
		}
	}()
	return s.out, nil
}

// Close is called when the handler or the router ends: the topology stops, its last epoch included.
func (s *subscriber) Close() error {
	s.e.requestStop(stopRequest{})
	<-s.e.closed
	return nil
}

// pumpLoop carries the partition's deliveries through the router, one message at a time.
func (p *partition) pumpLoop(u *unit) {
	defer close(p.pumped)
	quick := false
	for d := range p.pump {
		if !u.align(p) || !u.enter() {
			u.processed(1)
			return
		}
		n := int64(1)
		if quick && !p.aligned() {
			d, n = p.together(d)
		}
		p.accepted.Add(d.n)
		u.accepted.Add(d.n)
		p.seq++
		start := u.t.cfg.clock.Now()
		ok := p.offer(u, d)
		quick = u.t.cfg.clock.Now().Sub(start) < time.Duration(n)*time.Millisecond
		u.processed(n)
		if !ok {
			return
		}
		switch w := p.window.Load(); {
		case w == 0:
		case 2*(p.accepted.Load()-p.acked.Load()) >= w:
			u.kick(triggerWindow)
		default:
			select {
			case u.wake <- struct{}{}:
			default:
			}
		}
	}
}

// convoyMax is how many batches one message of the router carries at most: those that wait while the batches before them take less than
// a millisecond each, so that crossing the router would be a good part of their cost.
const convoyMax = 4

// convoy is several batches in one message.
type convoy struct {
	d   delivery
	all []parcel
}

func (c *convoy) run(t *task) {
	for i, m := range c.all {
		if i > 0 {
			t.between()
		}
		m.run(t)
	}
	close(c.d.done)
}

// together joins a delivery with those that wait behind it, and tells how many they are. What may be pending bounds it as if each went by
// itself.
func (p *partition) together(d *delivery) (*delivery, int64) {
	u := p.u
	room := u.t.cfg.maxPending - (u.accepted.Load() - u.committed.Load()) - d.n
	var c *convoy
	for room > 0 && (c == nil || len(c.all) < convoyMax) {
		var next *delivery
		select {
		case next = <-p.pump: // nil: closed
		default:
		}
		if next == nil {
			break
		}
		if c == nil {
			c = &convoy{all: append(make([]parcel, 0, convoyMax), d.m)}
			c.d = delivery{part: p, m: c, n: d.n, done: make(chan struct{})}
		}
		c.all = append(c.all, next.m)
		c.d.n += next.n
		room -= next.n
	}
	if c == nil {
		return d, 1
	}
	return &c.d, int64(len(c.all))
}

// acksWithout is how often a batch's message may be acked without reaching its handler.
const acksWithout = 4

// patience is how long a batch whose message was acked for the nth time may take to reach its handler before it is offered again. A
// copy that comes late after all does no harm: a batch is accepted once.
func (u *unit) patience(n int) time.Duration {
	w := u.t.cfg.acceptWithin
	return [acksWithout]time.Duration{w / 20, w / 4, w, 10 * w}[n-1]
}

// offer sends a batch until it is processed. It returns false when the topology stops first. An ack without the handler having been
// entered is a middleware that swallows, which stops the topology in the end; a nack is one that refuses for now (a circuit breaker that is
// open), which is tried again for as long as it takes.
func (p *partition) offer(u *unit, d *delivery) bool {
	name := p.src.node().name
	offers := make([]string, 0, 4)
	defer func() { p.sub.release(offers...) }()
	acked, nacked := 0, 0
	for {
		// Each offer has a payload of its own: a deduplicating middleware would take the second one for a repeat.
		id := uuid.Must(uuid.NewRandomFromReader(p.random)).String() // which never fails
		b := make(message.Payload, 0, len(name)+len(p.p.ID)+60)
		b = append(append(append(append(b, name...), '/'), p.p.ID...), '/')
		b = append(append(strconv.AppendUint(b, p.seq, 10), '/'), id...)
		payload := string(b)
		offers = append(offers, payload)
		p.sub.hold(payload, d)
		msg := message.NewMessageWithContext(context.WithValue(u.ctx, deliveryKey{}, d), id, b)
		select {
		case p.sub.out <- msg:
		case <-u.ctx.Done():
			return false
		}
		var wait time.Duration
		refused := false
		select {
		case <-d.done:
			return true
		case <-u.ctx.Done():
			return false
		case <-msg.Acked():
			acked++
			wait = u.patience(acked)
		case <-msg.Nacked():
			nacked++
			wait = backoff(nacked)
			if refused = !d.accepted.Load(); refused {
				u.count(name, "refused", 1)
				if nacked == 3 || nacked%12 == 0 {
					u.log.Warn("a middleware of the router refuses this topology's batches, offering again", "node", name, "partition", p.p.ID, "attempt", nacked)
				}
			}
		}
		// Settled, perhaps without the handler having been entered.
		timer := u.t.cfg.clock.NewTimer(wait)
		select {
		case <-d.done:
			timer.Stop()
			return true
		case <-u.ctx.Done():
			timer.Stop()
			return false
		case <-timer.C():
		}
		if d.accepted.Load() {
			select {
			case <-d.done:
				return true
			case <-u.ctx.Done():
				return false
			}
		}
		if refused {
			p.sub.release(payload)
		}
		if acked == acksWithout {
			u.fail(&NodeError{u.t.name, name, errSwallowed})
			return false
		}
	}
}

// handle is the consumer handler of the source on the router.
func (s *subscriber) handle(msg *message.Message) error {
	d, _ := msg.Context().Value(deliveryKey{}).(*delivery)
	if d == nil {
		if d = s.held(msg.Payload); d == nil {
			return nil // an old copy of a batch that is done
		}
	}
	if d.accepted.CompareAndSwap(false, true) {
		select {
		case d.part.t.box <- d.m:
		case <-s.e.ctx.Done():
			d.part.u.finished()
			return s.e.stoppedErr()
		}
	}
	select {
	case <-d.done:
		return nil
	case <-s.e.ctx.Done():
		return s.e.stoppedErr()
	}
}

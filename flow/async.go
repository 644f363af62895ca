package flow

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/flow/codec"
)

// AsyncOperator asks outside systems without holding up its task. Results keep the order of the inputs, unless AsyncConfig says
// otherwise. One instance serves one task; Try is called by that task, Call by up to Concurrency goroutines at once.
//
// Delivery: inputs that wait for an answer are state. They are written with the epoch and asked again after a restart, before new
// input, so a call is made at least once.
type AsyncOperator[In, Out any] interface {
	// Try answers an input at once, if that needs no waiting: done says so, and what was emitted goes on. It must not block.
	Try(ctx context.Context, r *Record[In], out *Output[Out]) (done bool, err error)
	// Call answers a batch of inputs: answers[i] is for in[i]. An error is that of the whole call; a transient one, a timeout
	// included, is tried again in place for as long as it takes, a permanent one is tried again record by record.
	Call(ctx context.Context, in []Record[In], answers []Answer[Out]) error
}

// BatchEnder is an AsyncOperator that wants to know when it was offered the last input of a batch: what it counts in Try it can hand
// to Runtime.Count there.
type BatchEnder interface {
	// EndBatch is called by the task, as Try is.
	EndBatch()
}

// Answer is the result for one input.
type Answer[Out any] struct {
	Value Out
	// Drop: nothing goes on for this input.
	Drop bool
	// Err is this input's own error, with its fate.
	Err error
}

// AsyncConfig configures ApplyAsync.
type AsyncConfig struct {
	NodeConfig
	// Capacity is how many inputs may wait per task; at it the task takes no more. Defaults to 1,024.
	Capacity int
	// Concurrency is how many calls are under way per task. Defaults to 4.
	Concurrency int
	// BatchSize is the most inputs in one call. Defaults to 128.
	BatchSize int
	// Timeout bounds one call; what takes longer is tried again. Below 0 the operator bounds its calls itself. Defaults to 10 s.
	Timeout time.Duration
	// Unordered lets a result go on as soon as it is there. It may overtake other records and watermarks, by which no record becomes
	// late; a watermark waits for all records that came before it. The order of one key's records is lost. Defaults to false.
	Unordered bool
	// Codec encodes waiting inputs, a codec.Codec[In]. Defaults to CBOR by field name.
	Codec any
}

// ApplyAsync adds an operator that waits for answers from outside. It ends its task: what stands behind it has a task of its own.
func ApplyAsync[In, Out any, Op AsyncOperator[In, Out]](s Stream[In], name string, newOp func() Op, cfg AsyncConfig, opts ...NodeOption) Stream[Out] {
	in := s.stream()
	c := Configure(&cfg, opts)
	c.Traits.Async = true
	if c.Traits.Kind == "" {
		c.Traits.Kind = "async"
	}
	c.Capacity, c.Concurrency = orDefault(c.Capacity, 1024), orDefault(c.Concurrency, 4)
	c.BatchSize = orDefault(c.BatchSize, 128)
	c.Timeout = time.Duration(orDefault(int(c.Timeout), int(10*time.Second)))
	var code codec.Codec[In] = codec.CBOR[In]()
	if c.Codec != nil {
		own, ok := c.Codec.(codec.Codec[In])
		if !ok {
			c.Problem(fmt.Sprintf("the codec is %T, not one of %T", c.Codec, *new(In)), "give a codec of the input's type")
		} else {
			code = own
		}
	}
	if c.Capacity < 1 || c.Concurrency < 1 || c.BatchSize < 1 {
		c.Problem("capacity, concurrency or batch size is negative", "leave them 0 for the defaults")
	}
	n := in.t.addOperator(name, &c.NodeConfig, in.timed)
	p := newPort[Out](in.t, n, "").like(in.timed, true)
	in.connect(n, func(b *builder) receiver[In] {
		t := b.u.newTask(b.t.id+">"+name, b.t.index)
		t.lo, t.hi = b.t.lo, b.t.hi
		if t.behind = b.t.behind; b.t.exchange != nil {
			t.behind = b.t.exchange
		}
		b.t.children = append(b.t.children, t)
		tb := &builder{u: b.u, t: t, shared: map[*node]any{}}
		op := newOp()
		st := &asyncStage[In, Out]{
			nodeTask: newNodeTask(tb, n), op: op, cfg: c, code: code, next: p.build(tb),
			done: make(chan asyncDone[Out], c.Concurrency), wake: make(chan struct{}, 1),
		}
		st.ender, _ = any(op).(BatchEnder)
		t.async = st
		st.nodeTask.open(op)
		t.openers = append(t.openers, func(context.Context) error { return st.restore() })
		send := &asyncSender[In, Out]{t: b.t, to: st, free: make(chan *asyncBatch[In, Out], mailboxSize+2)}
		b.t.ends = append(b.t.ends, send.flush)
		return send
	})
	return p
}

func orDefault(v, d int) int {
	if v == 0 {
		return d
	}
	return v
}

// asyncPart is an asyncStage without its types.
type asyncPart interface {
	step() bool
	collect(w *changes) (int, error)
	// empty is nil when nothing waits, else a channel closed when nothing does any more.
	empty() <-chan struct{}
	nudge()
	size() int
}

func (u *unit) wakeAsync() {
	for _, t := range u.tasks {
		if t.async != nil {
			t.async.nudge()
		}
	}
}

// asyncSender copies batches over to the async operator's task.
type asyncSender[In, Out any] struct {
	t       *task
	to      *asyncStage[In, Out]
	pending *asyncBatch[In, Out]
	free    chan *asyncBatch[In, Out]
}

type asyncBatch[In, Out any] struct {
	to    *asyncStage[In, Out]
	recs  []Record[In]
	marks []posMark
	free  chan *asyncBatch[In, Out]
}

func (s *asyncSender[In, Out]) batch() *asyncBatch[In, Out] {
	if s.pending == nil {
		select {
		case s.pending = <-s.free:
		default:
			s.pending = &asyncBatch[In, Out]{to: s.to, free: s.free}
		}
	}
	return s.pending
}

func (s *asyncSender[In, Out]) push(batch []Record[In]) {
	if s.t.err != nil {
		return
	}
	b := s.batch()
	b.recs = append(b.recs, batch...)
	if len(b.recs) >= MaxBatch {
		s.flush()
	}
}

func (s *asyncSender[In, Out]) mark(m mark) {
	if s.t.err != nil || m.kind == markSilent {
		return
	}
	b := s.batch()
	b.marks = append(b.marks, posMark{len(b.recs), m})
}

func (s *asyncSender[In, Out]) flush() {
	if b := s.pending; b != nil {
		s.pending = nil
		s.t.u.post(s.to.t, b)
	}
}

func (b *asyncBatch[In, Out]) run(*task) {
	b.to.take(b.recs, b.marks)
	clear(b.recs)
	b.recs, b.marks = b.recs[:0], b.marks[:0]
	select {
	case b.free <- b:
	default:
	}
}

// asyncStage holds inputs until their answers are there, in order of arrival.
type asyncStage[In, Out any] struct {
	*nodeTask
	op    AsyncOperator[In, Out]
	ender BatchEnder // nil, or op
	cfg   *AsyncConfig
	code  codec.Codec[In]
	next  receiver[Out]
	out   Output[Out]

	ring  []asyncSlot[In, Out] // by number; the first is a record that waits
	count uint64               // numbers given so far
	ask   []uint64             // inputs not yet asked for
	waits int                  // records in the ring
	gone  int                  // records in the ring whose results went on before those in front of them
	calls int                  // under way
	done  chan asyncDone[Out]
	held  []asyncDone[Out] // came during a pause
	wake  chan struct{}
	dirty bool
	asyncTaken

	mu      sync.Mutex
	pending int
	onEmpty chan struct{}
}

type asyncSlot[In, Out any] struct {
	number uint64
	rec    Record[In]
	m      mark
	isMark bool
	ready  bool
	gone   bool
	answer Answer[Out]
}

type asyncDone[Out any] struct {
	numbers []uint64
	answers []Answer[Out]
}

func (s *asyncStage[In, Out]) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *asyncStage[In, Out]) empty() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == 0 {
		return nil
	}
	if s.onEmpty == nil {
		s.onEmpty = make(chan struct{})
	}
	return s.onEmpty
}

func (s *asyncStage[In, Out]) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending
}

func (s *asyncStage[In, Out]) setPending() {
	s.mu.Lock()
	s.pending = len(s.ring) - s.gone
	if s.pending == 0 && s.onEmpty != nil {
		close(s.onEmpty)
		s.onEmpty = nil
	}
	s.mu.Unlock()
}

// step handles one event of the task. While the unit is paused inputs are taken beyond the capacity, so that the queues drain, and
// answers wait.
func (s *asyncStage[In, Out]) step() bool {
	u := s.t.u
	paused := u.paused.Load()
	if !paused {
		held := s.held
		s.held = nil
		for _, d := range held {
			s.settle(d)
		}
		s.passGate()
		s.dispatch()
	}
	box := s.t.box
	if !paused && (s.waits >= s.cfg.Capacity || s.gate != nil) {
		box = nil
	}
	select {
	case m := <-box:
		s.t.handle(m)
	case d := <-s.done:
		s.calls--
		s.settle(d)
	case <-s.wake:
	case <-s.t.quit:
		for s.calls > 0 { // calls end with the unit's context
			<-s.done
			s.calls--
		}
		return false
	}
	return true
}

// settle takes answers, unless the unit is paused: then they wait.
func (s *asyncStage[In, Out]) settle(d asyncDone[Out]) {
	u := s.t.u
	u.inflight.Add(1)
	defer u.finished()
	if u.paused.Load() {
		s.held = append(s.held, d)
		return
	}
	for i, n := range d.numbers {
		slot := s.slot(n)
		slot.ready, slot.answer = true, d.answers[i]
		if s.cfg.Unordered && s.t.err == nil {
			s.send(slot)
			*slot = asyncSlot[In, Out]{number: n, gone: true}
			s.gone++
		}
	}
	s.release()
	s.t.endMessage()
}

// slot finds an input by its number.
func (s *asyncStage[In, Out]) slot(n uint64) *asyncSlot[In, Out] {
	if i := n - s.ring[0].number; i < uint64(len(s.ring)) && s.ring[i].number == n {
		return &s.ring[i]
	}
	i := sort.Search(len(s.ring), func(i int) bool { return s.ring[i].number >= n })
	return &s.ring[i]
}

// hold appends an input or a mark.
func (s *asyncStage[In, Out]) hold(slot asyncSlot[In, Out]) {
	slot.number = s.count
	s.count++
	s.ring = append(s.ring, slot)
	s.dirty = true
}

// holdMark appends a mark. Of marks without a record between them what cancels out is dropped: the rest is bounded by the capacity.
func (s *asyncStage[In, Out]) holdMark(m mark) {
	if n := len(s.ring); n > 0 && s.ring[n-1].isMark {
		last := &s.ring[n-1]
		switch {
		case m.kind == markWatermark && last.m.kind == markWatermark:
			last.m = m
			s.dirty = true
			return
		case m.kind == markIdle && last.m.kind == markActive, m.kind == markActive && last.m.kind == markIdle:
			s.ring = s.ring[:len(s.ring)-1]
			s.dirty = true
			return
		}
	}
	s.hold(asyncSlot[In, Out]{m: m, isMark: true})
}

// send sends an answered input's result on, or decides its fate.
func (s *asyncStage[In, Out]) send(slot *asyncSlot[In, Out]) {
	s.waits--
	s.dirty = true
	if slot.answer.Err != nil {
		s.attempts = 0
		s.fate(slot.answer.Err, letterOf(&slot.rec))
		return
	}
	if slot.answer.Drop {
		return
	}
	*s.out.Next(slot.rec.Time, slot.rec.Meta) = slot.answer.Value
	if len(s.out.buf) >= MaxBatch {
		s.out.buf = flushTo(s.out.buf, s.next, s.stats)
	}
}

// release sends on what is ready in front, and takes what has gone out of the ring.
func (s *asyncStage[In, Out]) release() {
	if s.gate != nil {
		s.setPending()
		return
	}
	n := 0
	for n < len(s.ring) && s.t.err == nil {
		slot := &s.ring[n]
		switch {
		case slot.isMark:
			s.dirty = true
			s.out.buf = flushTo(s.out.buf, s.next, s.stats)
			s.next.mark(slot.m)
		case slot.gone:
			s.gone--
		case slot.ready:
			s.send(slot)
		}
		if !slot.isMark && !slot.gone && !slot.ready {
			break
		}
		n++
	}
	if n > 0 {
		rest := copy(s.ring, s.ring[n:])
		clear(s.ring[rest:])
		s.ring = s.ring[:rest]
	}
	if s.t.err == nil && s.gone > 64 && s.gone > s.waits {
		s.compact()
	}
	s.out.buf = flushTo(s.out.buf, s.next, s.stats)
	s.setPending()
}

// compact takes what has gone out of the ring behind an input that waits long.
func (s *asyncStage[In, Out]) compact() {
	all := s.ring
	s.ring = s.ring[:0]
	for i := range all {
		slot := &all[i]
		last := len(s.ring) - 1
		switch {
		case slot.gone:
		case slot.isMark && slot.m.kind == markWatermark && s.ring[last].isMark && s.ring[last].m.kind == markWatermark:
			s.ring[last].m = slot.m
		default:
			s.ring = append(s.ring, *slot)
		}
	}
	clear(all[len(s.ring):])
	s.gone = 0
}

// take takes inputs from the task upstream.
func (s *asyncStage[In, Out]) take(recs []Record[In], marks []posMark) {
	if s.t.err != nil {
		return
	}
	s.stats.in.Add(int64(len(recs)))
	from := 0
	for _, pm := range marks {
		s.takeRecords(recs[from:pm.at])
		from = pm.at
		if len(s.ring) == 0 && s.gate == nil {
			s.out.buf = flushTo(s.out.buf, s.next, s.stats)
			s.next.mark(pm.m)
		} else {
			s.holdMark(pm.m)
		}
	}
	s.takeRecords(recs[from:])
	if s.ender != nil {
		s.ender.EndBatch()
	}
	s.out.buf = flushTo(s.out.buf, s.next, s.stats)
	s.setPending()
	if !s.t.u.paused.Load() {
		s.dispatch()
	}
}

func (s *asyncStage[In, Out]) takeRecords(recs []Record[In]) {
	for i := 0; i < len(recs) && s.t.err == nil; {
		if (len(s.ring) == 0 || s.cfg.Unordered) && s.gate == nil {
			done, err := s.try(&recs[i])
			if err != nil {
				if !s.fate(err, letterOf(&recs[i])) {
					i++
				}
				continue
			}
			s.attempts = 0
			if done {
				i++
				continue
			}
		}
		s.ask = append(s.ask, s.count)
		s.hold(asyncSlot[In, Out]{rec: recs[i]})
		s.waits++
		i++
	}
}

func (s *asyncStage[In, Out]) try(r *Record[In]) (done bool, err error) {
	before := len(s.out.buf)
	defer func() {
		if p := recover(); p != nil {
			err = panicError(p)
		}
		if err != nil {
			s.out.truncate(before)
		}
	}()
	return s.op.Try(s.t.ctx, r, &s.out)
}

// dispatch starts calls for what was not asked yet.
func (s *asyncStage[In, Out]) dispatch() {
	for s.calls < s.cfg.Concurrency && len(s.ask) > 0 && s.t.err == nil {
		n := min(len(s.ask), s.cfg.BatchSize)
		numbers := append([]uint64(nil), s.ask[:n]...)
		s.ask = s.ask[:copy(s.ask, s.ask[n:])]
		in := make([]Record[In], n)
		for i, k := range numbers {
			in[i] = s.slot(k).rec
		}
		s.calls++
		go func() { s.done <- asyncDone[Out]{numbers, s.call(in)} }()
	}
}

// call makes a call until it is answered or the unit ends.
func (s *asyncStage[In, Out]) call(in []Record[In]) []Answer[Out] {
	answers := make([]Answer[Out], len(in))
	for try := 1; ; try++ {
		err := s.once(in, answers)
		if err == nil {
			for i := range answers {
				if IsTransient(answers[i].Err) {
					answers[i] = s.call(in[i : i+1])[0]
				}
			}
			return answers
		}
		if s.t.ctx.Err() != nil {
			for i := range answers {
				answers[i].Err = ErrStopped
			}
			return answers
		}
		if !IsTransient(err) {
			if len(in) == 1 {
				answers[0] = Answer[Out]{Err: err}
				return answers
			}
			for i := range in {
				answers[i] = s.call(in[i : i+1])[0]
			}
			return answers
		}
		s.stats.retries.Add(1)
		if try == 1 || try%12 == 0 {
			s.log.Warn("call failed, trying again", "err", err, "attempt", try, "inputs", len(in))
		}
		_ = s.clock.Sleep(s.t.ctx, backoff(try))
	}
}

func (s *asyncStage[In, Out]) once(in []Record[In], answers []Answer[Out]) (err error) {
	ctx := s.t.ctx
	if s.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.Timeout)
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			err = panicError(p)
		}
	}()
	clear(answers)
	err = s.op.Call(ctx, in, answers)
	if err != nil && ctx.Err() != nil && s.t.ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = Transient(fmt.Errorf("no answer within %v: %w", s.cfg.Timeout, err))
	}
	return err
}

package flow

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// KeyGroups is the number of groups that keys are hashed into. State is stored by group, and a task owns a run of groups.
const KeyGroups = 1024

// Slot is the dense number of a key within one task. Slots of one page (64 in a row) hold keys of one key group.
type Slot uint32

// PageSize is how many slots make a page.
const PageSize = 64

// Page is the number of a page: slot / PageSize.
func (s Slot) Page() uint32 { return uint32(s) / PageSize }

// Whole is the key of a whole stream: flow.KeyBy(s, flow.Whole) gives one key and so one task.
func Whole[T any](T) struct{} { return struct{}{} }

// KeyBy gives each record a key. Records of one key are processed by one task, in the order in which their path brings them; the
// key's xxhash64 modulo 1,024 chooses its group, and each task owns a run of groups. It is a property of the edge, not a node.
//
// Keys must have natural bytes (strings, numbers, bool, byte arrays, struct{}) or a KeyCodec.
func KeyBy[K comparable, T any](s Stream[T], key func(T) K, opts ...KeyOption) KeyedStream[K, T] {
	in := s.stream()
	t := in.t
	cfg := Configure(&keyConfig{}, opts)
	part := &partitioning{parallelism: cfg.Parallelism, id: t.nextPartitioning(), co: cfg.co}
	e := &keying[K, T]{t: t, part: part, from: in.from, in: in, key: key}
	t.keyings = append(t.keyings, e)
	where := fmt.Sprintf("KeyBy behind %s", nameOf(in.from))
	for _, p := range cfg.problems {
		t.problem("", where+": "+p, "")
	}
	switch c := cfg.codec.(type) {
	case nil:
		if e.code = bytesOf[K](); e.code == nil {
			t.problem("", fmt.Sprintf("%s: keys of type %T have no natural bytes", where, *new(K)), "add flow.KeyCodec to the KeyBy, or key by a string")
		}
	case *keyBytes[K]:
		e.code = c
	default:
		t.problem("", fmt.Sprintf("%s: the KeyCodec is for another type than %T", where, *new(K)), "give a codec of the key's type")
	}
	if e.code == nil {
		e.code = bytesOf[K]()
	}
	if key == nil {
		t.problem("", where+": the key function is nil", "pass a function from record to key")
	}
	return KeyedStream[K, T]{in: s, key: key, edge: e}
}

func nameOf(n *node) string {
	if n == nil {
		return "a side output"
	}
	return fmt.Sprintf("%q", n.name)
}

// partitioning is one way of spreading keys over tasks; the results of ApplyKept share their input's.
type partitioning struct {
	id          int
	parallelism int
	co          bool
	// nodes are those behind it, in order of their adding: the merged watermarks are stored under the first of them.
	nodes []string
}

func (t *Topology) nextPartitioning() int {
	n := 0
	for _, k := range t.keyings {
		n = max(n, k.partition().id+1)
	}
	return n
}

// keying is a keyed edge: the one that KeyBy made, with an exchange on it, or an operator's kept output.
type keying[K comparable, T any] struct {
	t    *Topology
	part *partitioning
	from *node
	in   *port[T] // nil on kept outputs
	twin *port[T] // the plain port of a kept output
	key  func(T) K
	code *keyBytes[K]
	// consumers are what stands behind it, and owner the first of them, after which stored watermarks are named.
	consumers []func(*builder, *keyTable[K]) keyedReceiver[T]
	owner     *node
	// joined: a join reads the plain stream and has an exchange of its own.
	joined bool
}

type anyKeying interface {
	partition() *partitioning
	exchange() *exchange
	used() (from *node, n int, kept bool)
	// froms are the nodes whose records reach it.
	froms() []*node
}

func (e *keying[K, T]) partition() *partitioning { return e.part }

func (e *keying[K, T]) used() (*node, int, bool) {
	n := len(e.consumers)
	if e.joined {
		n++
	}
	if e.twin != nil {
		n += len(e.twin.consumers)
	}
	return e.from, n, e.in == nil
}

func (e *keying[K, T]) froms() []*node { return []*node{e.from} }

// connect adds a consumer; the first one puts the exchange, or its fused stand-in, behind the port.
func (e *keying[K, T]) connect(to *node, build func(*builder, *keyTable[K]) keyedReceiver[T]) {
	label := ""
	if e.in != nil {
		label = e.in.label
	}
	e.t.addEdge(e.from, to, label, true)
	if to.cfg.Parallelism > 0 {
		e.part.parallelism = to.cfg.Parallelism
	}
	e.part.nodes = append(e.part.nodes, to.name)
	e.consumers = append(e.consumers, build)
	if e.owner != nil || e.in == nil {
		return
	}
	e.owner = to
	e.in.consumers = append(e.in.consumers, func(b *builder) receiver[T] {
		if x := b.u.exchanges[e.part.id]; x.fused {
			return e.entry(b)
		}
		return newExchangeSender(b, e.part.id, e.key, e.code, e.blame(), "", func(t *task) *exchangeWorker[K, T] {
			return t.entry.(*exchangeWorker[K, T])
		})
	})
}

// build makes what stands behind the edge within a task.
func (e *keying[K, T]) build(b *builder, keys *keyTable[K]) keyedReceiver[T] {
	if len(e.consumers) == 1 {
		return e.consumers[0](b, keys)
	}
	f := make(keyedFan[T], len(e.consumers))
	for i, c := range e.consumers {
		f[i] = c(b, keys)
	}
	return f
}

// keyedReceiver is a receiver whose records come with their keys' slots.
type keyedReceiver[T any] interface {
	pushKeyed(keys []Slot, batch []Record[T])
	mark(m mark)
}

type keyedFan[T any] []keyedReceiver[T]

func (f keyedFan[T]) pushKeyed(keys []Slot, batch []Record[T]) {
	for _, r := range f {
		r.pushKeyed(keys, batch)
	}
}

func (f keyedFan[T]) mark(m mark) {
	for _, r := range f {
		r.mark(m)
	}
}

// KeyedFilter is an optional fast path of an operator given to ApplyKept that only drops records: keep[i] says whether in[i] goes
// on. Record n failing ends the call as in BatchOperator.
type KeyedFilter[K comparable, T any] interface {
	Keep(ctx context.Context, keys []Slot, in []Record[T], keep []bool) (n int, err error)
}

// keyedStage runs a KeyedOperator.
type keyedStage[K comparable, In, Out any] struct {
	*nodeTask
	op    KeyedOperator[K, In, Out]
	batch KeyedBatchOperator[K, In, Out]
	scr   KeyedScreen[In, Out]
	notes []Note // of the records in work, nil where they were not screened
	wmh   WatermarkHandler[Out]
	steps WatermarkStepper[Out]
	pacer StepPacer
	// paced is when the next step is to be made, EndOfTime if none waits for its time.
	paced Timestamp
	// held are the marks that wait for the last step.
	held []mark
	th   TimerHandler[K, Out]
	ch   ClockTimerHandler[K, Out]
	tab  *keyTable[K]
	out  Output[Out]
	next receiver[Out]
	at   int
}

func newKeyedStage[K comparable, In, Out any](b *builder, n *node, op KeyedOperator[K, In, Out], keys *keyTable[K], p *port[Out]) keyedReceiver[In] {
	s := &keyedStage[K, In, Out]{nodeTask: newNodeTask(b, n), op: op, tab: keys, next: p.build(b)}
	s.keys = keys
	s.batch, _ = op.(KeyedBatchOperator[K, In, Out])
	s.scr, _ = op.(KeyedScreen[In, Out])
	s.wmh, _ = op.(WatermarkHandler[Out])
	s.stepwise(op)
	s.th, _ = op.(TimerHandler[K, Out])
	s.alarmed(op)
	s.out.buf = make([]Record[Out], 0, 64)
	s.open(op)
	return s
}

// screens implements screenReceiver.
func (s *keyedStage[K, In, Out]) screens() bool { return s.scr != nil && s.scr.Screens() }

// screen implements screenReceiver.
func (s *keyedStage[K, In, Out]) screen(in []Record[In], notes []Note) (n int, err error) {
	notes = notes[:len(in)]
	for i := range notes {
		notes[i] = unscreened
	}
	defer func() {
		if p := recover(); p != nil {
			n, err = slices.Index(notes, unscreened), panicError(p)
			s.stats.in.Add(1)
		}
	}()
	s.scr.Screen(in, notes)
	return len(in), nil
}

// pushScreened implements screenReceiver.
func (s *keyedStage[K, In, Out]) pushScreened(keys []Slot, notes []Note, in []Record[In]) {
	s.notes = notes
	s.pushKeyed(keys, in)
	s.notes = nil
}

func (s *keyedStage[K, In, Out]) pushKeyed(keys []Slot, in []Record[In]) {
	if s.t.err != nil {
		return
	}
	s.stats.in.Add(int64(len(in)))
	for len(in) > 0 && s.t.err == nil {
		n, err := s.run(keys, in)
		keys, in = keys[n:], in[n:]
		if n > 0 {
			s.attempts = 0
		}
		if err != nil && !s.fate(err, letterOf(&in[0])) {
			keys, in = keys[1:], in[1:]
		}
	}
	s.out.buf = flushTo(s.out.buf, s.next, s.stats)
	s.flushSides()
}

func (s *keyedStage[K, In, Out]) run(keys []Slot, in []Record[In]) (n int, err error) {
	before := len(s.out.buf)
	s.at = -1
	defer func() {
		if p := recover(); p != nil {
			err = panicError(p)
			if s.at < 0 { // state may hold half a batch: only the last epoch is sound
				s.t.fail(&NodeError{s.topology, s.node, err})
				n, err = len(in), nil
				return
			}
			n = s.at
			s.out.truncate(before)
		}
	}()
	switch {
	case s.notes != nil:
		n, err = s.scr.ProcessScreened(s.t.ctx, keys, s.notes[len(s.notes)-len(in):], in, &s.out)
		if err == nil {
			n = len(in)
		}
		return n, err
	case s.batch != nil:
		n, err = s.batch.ProcessBatch(s.t.ctx, keys, in, &s.out)
		if err == nil {
			n = len(in)
		}
		return n, err
	}
	for i := range in {
		s.at, before = i, len(s.out.buf)
		if err := s.op.Process(s.t.ctx, s.tab.keys[keys[i]], &in[i], &s.out); err != nil {
			s.out.truncate(before)
			return i, err
		}
		if len(s.out.buf) >= MaxBatch {
			s.out.buf = flushTo(s.out.buf, s.next, s.stats)
		}
	}
	return len(in), nil
}

func (s *keyedStage[K, In, Out]) mark(m mark) {
	if s.t.err != nil {
		return
	}
	if m.kind == markWatermark {
		if s.group != nil {
			if m.wm < s.group.wm { // another number of tasks, whose marks do not reach up to the stored one yet
				if len(s.held) == 0 {
					s.next.mark(m)
				}
				return
			}
			s.group.wm = m.wm
		}
		if s.timers != nil && s.th != nil {
			s.fireTimers(s.timers, m.wm, math.MaxInt, s.th.OnTimer)
		}
		if s.wmh != nil && s.t.err == nil {
			onWatermark(s.nodeTask, s.wmh, m.wm, &s.out, s.next)
		}
		if s.steps != nil {
			s.hold(m)
			return
		}
		s.out.buf = flushTo(s.out.buf, s.next, s.stats)
		s.flushSides()
	}
	if len(s.held) > 0 {
		s.held = append(s.held, m)
		return
	}
	s.next.mark(m)
}

// hold keeps a watermark until the operator has done its steps; the first one it does at once, and all of them at the end of the stream.
func (s *keyedStage[K, In, Out]) hold(m mark) {
	began := len(s.held) > 0
	if n := len(s.held); began && s.held[n-1].kind == markWatermark {
		s.held[n-1] = m
	} else {
		s.held = append(s.held, m)
	}
	for s.step() && (m.wm == EndOfTime || s.t.async != nil) {
	}
	if !began && len(s.held) > 0 {
		s.later()
	}
}

// later makes the task go on with the steps, at once or when it is time.
func (s *keyedStage[K, In, Out]) later() {
	if s.pace() {
		return
	}
	s.t.stepping = append(s.t.stepping, func() bool { return s.step() && !s.pace() })
	s.t.u.stepping.Add(1)
}

// pace tells whether the next step has to wait for its time.
func (s *keyedStage[K, In, Out]) pace() bool {
	if s.pacer == nil {
		return false
	}
	at := s.pacer.NextStep()
	if at == None || at <= TimestampOf(s.clock.Now()) {
		return false
	}
	s.paced = at
	return true
}

// stepwise takes note of what the operator does at watermarks in steps.
func (s *keyedStage[K, In, Out]) stepwise(op any) {
	s.paced = EndOfTime
	if s.steps, _ = op.(WatermarkStepper[Out]); s.steps != nil {
		s.pacer, _ = op.(StepPacer)
	}
}

// step makes a step, and lets the held marks go after the last one.
func (s *keyedStage[K, In, Out]) step() (more bool) {
	if s.t.err != nil {
		s.held = nil
		return false
	}
	streaming(s.nodeTask, &s.out, s.next, func() (err error) {
		more, err = s.steps.Step(s.t.ctx, &s.out)
		return err
	})
	s.out.buf = flushTo(s.out.buf, s.next, s.stats)
	s.flushSides()
	if more && s.t.err == nil {
		return true
	}
	held := s.held
	s.held = nil
	for _, m := range held {
		s.next.mark(m)
	}
	s.held = held[:0]
	return false
}

// alarmsPerTurn bounds how many timers by the clock fire before the task looks at what else there is to do: a timer is state until it fires, so
// an epoch may come between.
const alarmsPerTurn = 4096

// fireTimers calls f for the timers up to a time, most of them at most.
func (s *keyedStage[K, In, Out]) fireTimers(q timerQueue, upTo Timestamp, most int, f func(context.Context, K, Timestamp, *Output[Out]) error) {
	streaming(s.nodeTask, &s.out, s.next, func() error {
		for ; most > 0; most-- {
			slot, at, ok := q.pop(upTo)
			if !ok {
				return nil
			}
			if err := f(s.t.ctx, s.tab.keys[slot], at, &s.out); err != nil {
				q.back(slot, at)
				return err
			}
			q.done(slot)
		}
		return nil
	})
}

// alarmed makes the task look after the operator's processing-time timers, if it has any.
func (s *keyedStage[K, In, Out]) alarmed(op any) {
	if s.ch, _ = op.(ClockTimerHandler[K, Out]); s.ch != nil || s.pacer != nil {
		s.t.alarmed = append(s.t.alarmed, s)
	}
}

// nextAlarm implements alarmed.
func (s *keyedStage[K, In, Out]) nextAlarm() Timestamp {
	if s.alarms == nil {
		return s.paced
	}
	return min(s.alarms.next(), s.paced)
}

// ring fires the processing-time timers that are due.
func (s *keyedStage[K, In, Out]) ring(now Timestamp) {
	if s.t.err != nil {
		return
	}
	if s.paced <= now {
		s.paced = EndOfTime
		if s.step() {
			s.later()
		}
	}
	if s.alarms == nil || s.ch == nil {
		return
	}
	s.fireTimers(s.alarms, now, alarmsPerTurn, s.ch.OnClockTimer) // what is left rings again
	s.out.buf = flushTo(s.out.buf, s.next, s.stats)
	s.flushSides()
}

// keptStage runs an operator that leaves the key alone.
type keptStage[K comparable, T any] struct {
	keyedStage[K, T, T]
	filter KeyedFilter[K, T]
	plain  receiver[T]
	keyed  keyedReceiver[T]
	keep   []bool
	slots  []Slot
}

func newKeptStage[K comparable, T any](b *builder, n *node, op KeyedOperator[K, T, T], keys *keyTable[K], p *port[T], e *keying[K, T]) keyedReceiver[T] {
	s := &keptStage[K, T]{}
	s.nodeTask, s.op, s.tab = newNodeTask(b, n), op, keys
	s.keys = keys
	s.filter, _ = op.(KeyedFilter[K, T])
	s.wmh, _ = op.(WatermarkHandler[T])
	s.stepwise(op)
	s.th, _ = op.(TimerHandler[K, T])
	s.alarmed(op)
	s.out.buf = make([]Record[T], 0, 64)
	s.plain, s.keyed = discard[T]{}, nil
	if len(p.consumers) > 0 {
		s.plain = p.build(b)
	}
	if len(e.consumers) > 0 {
		s.keyed = e.build(b, keys)
	}
	s.next = &keptOut[K, T]{s, newKeyedEntry(b, keys, e.key, n, s.keyed)}
	s.open(op)
	return s
}

// keptOut takes what timers and watermark handlers emit: records without slots, interned again.
type keptOut[K comparable, T any] struct {
	s     *keptStage[K, T]
	again *keyedEntry[K, T]
}

func (o *keptOut[K, T]) push(batch []Record[T]) {
	o.s.plain.push(batch)
	if o.s.keyed != nil {
		o.again.push(batch)
	}
}

func (o *keptOut[K, T]) mark(m mark) {
	o.s.plain.mark(m)
	if o.s.keyed != nil {
		o.s.keyed.mark(m)
	}
}

func (s *keptStage[K, T]) pushKeyed(keys []Slot, in []Record[T]) {
	if s.t.err != nil {
		return
	}
	s.stats.in.Add(int64(len(in)))
	s.slots = s.slots[:0]
	for len(in) > 0 && s.t.err == nil {
		n, err := s.run(keys, in)
		keys, in = keys[n:], in[n:]
		if n > 0 {
			s.attempts = 0
		}
		if err != nil && !s.fate(err, letterOf(&in[0])) {
			keys, in = keys[1:], in[1:]
		}
	}
	if n := len(s.out.buf); n > 0 {
		s.stats.out.Add(int64(n))
		s.plain.push(s.out.buf)
		if s.keyed != nil {
			s.keyed.pushKeyed(s.slots, s.out.buf)
		}
		s.out.buf = s.out.buf[:0]
	}
	s.flushSides()
}

func (s *keptStage[K, T]) run(keys []Slot, in []Record[T]) (n int, err error) {
	before, slots := len(s.out.buf), len(s.slots)
	s.at = -1
	defer func() {
		if p := recover(); p != nil {
			err = panicError(p)
			if s.at < 0 {
				s.t.fail(&NodeError{s.topology, s.node, err})
				n, err = len(in), nil
				return
			}
			n = s.at
			s.out.truncate(before)
			s.slots = s.slots[:slots]
		}
	}()
	if s.filter != nil {
		if cap(s.keep) < len(in) {
			s.keep = make([]bool, max(len(in), MaxBatch))
		}
		keep := s.keep[:len(in)]
		n, err = s.filter.Keep(s.t.ctx, keys, in, keep)
		if err == nil {
			n = len(in)
		}
		for i := range n {
			if keep[i] {
				s.out.Emit(in[i])
				s.slots = append(s.slots, keys[i])
			}
		}
		return n, err
	}
	for i := range in {
		s.at, before, slots = i, len(s.out.buf), len(s.slots)
		if err := s.op.Process(s.t.ctx, s.tab.keys[keys[i]], &in[i], &s.out); err != nil {
			s.out.truncate(before)
			return i, err
		}
		for range s.out.buf[before:] {
			s.slots = append(s.slots, keys[i])
		}
	}
	return len(in), nil
}

package flow

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// mailboxSize is how many messages (of up to 1,024 records) a task's queue holds.
const mailboxSize = 8

// parcel is what a task receives.
type parcel interface{ run(t *task) }

// control is a message that is a function.
type control func(t *task)

func (c control) run(t *task) { c(t) }

// task is one goroutine that owns a chain of operators and their state.
type task struct {
	u     *unit
	id    string
	index int // within its node or exchange
	ctx   context.Context
	box   chan parcel
	// err is sticky: behind a failure every stage does nothing, and nothing is committed any more.
	err  error
	dead []Record[DeadLetter]

	// What the stages registered while they were built.
	openers []func(context.Context) error
	states  []*nodeState
	tables  []interface{ sweep() }
	clocks  []partitionClock
	seals   []func(context.Context) (sealed, error)
	ends    []func() // end of each message: flush what is pending
	// boundaries are called when an epoch ends.
	boundaries []func()
	inputs     []func() // forget this task downstream
	onClose    []func()
	alarmed    []alarmed // with timers in processing time
	// stepping are the stages that are in the middle of what a watermark makes them do.
	stepping []func() (more bool)
	async    asyncPart // of a task that begins with an async operator
	// children are the tasks behind this one's async operators.
	children []*task

	exchange *exchange // of a worker
	behind   *exchange // of a worker whose async operator this task begins with
	gate     *gate
	entry    any // *exchangeWorker, or the receiver[T] of a source partition
	part     *partition

	lo, hi int

	done chan struct{}
	quit chan struct{}
	live bool
	// alarm is when the earliest timer in processing time is due.
	alarm atomic.Int64
	// doneRecords counts the source records that were processed.
	doneRecords atomic.Int64
}

// sealed are the blocks of one sink's writer.
type sealed struct {
	sink   sinkNode
	blocks []Block
}

func (t *task) groupRange() (lo, hi int) { return t.lo, t.hi }

// fail stops the topology with an error. The first one counts.
func (t *task) fail(err error) {
	if t.err == nil {
		t.err = err
	}
	t.u.fail(err)
}

// loop runs the task until its mailbox is closed.
func (t *task) loop() {
	defer close(t.done)
	for {
		if t.async != nil {
			if !t.async.step() {
				return
			}
			continue
		}
		var resumed <-chan struct{}
		if len(t.stepping) > 0 && t.err == nil {
			if resumed = t.u.enterNow(); resumed == nil {
				t.step()
				select {
				case m := <-t.box:
					t.handle(m)
				case <-t.quit:
					return
				default:
				}
				continue
			}
		}
		select {
		case m := <-t.box:
			t.handle(m)
		case <-resumed:
		case <-t.quit:
			return
		}
	}
}

// step makes one step of each stage that is in the middle of its work. It counts as a message in flight.
func (t *task) step() {
	defer t.u.finished()
	defer t.guard()
	all := t.stepping
	t.stepping = nil
	for _, f := range all {
		if f() {
			t.stepping = append(t.stepping, f)
		} else {
			t.u.stepped()
		}
	}
	t.endMessage()
}

// between does, between two batches of one message, what the loop does between two messages.
func (t *task) between() {
	t.endMessage()
	if len(t.stepping) > 0 && t.err == nil && t.u.enterNow() == nil {
		t.step()
	}
}

// family is the task and those behind its async operators, upstream first.
func (t *task) family() []*task {
	f := []*task{t}
	for _, c := range t.children {
		f = append(f, c.family()...)
	}
	return f
}

// start runs the task's goroutine.
func (t *task) start() {
	t.live = true
	go t.loop()
}

// stop ends it, once nothing is in flight or the unit has failed, and closes the operators.
func (t *task) stop() {
	close(t.quit)
	if t.live {
		<-t.done
	}
	t.close()
}

func (t *task) handle(m parcel) {
	defer t.u.finished()
	defer t.guard()
	m.run(t)
	t.endMessage()
}

// guard is the last resort against panics that no stage could pin to a record: they stop the topology, not the process.
func (t *task) guard() {
	if p := recover(); p != nil {
		t.fail(&NodeError{t.u.t.name, t.id, panicError(p)})
	}
}

func (t *task) endMessage() {
	for _, f := range t.ends {
		f()
	}
	if len(t.alarmed) > 0 {
		t.setAlarm()
	}
}

// alarmed is a stage with timers in processing time.
type alarmed interface {
	nextAlarm() Timestamp
	ring(now Timestamp)
}

// setAlarm tells the coordinator when to ring.
func (t *task) setAlarm() {
	at := EndOfTime
	for _, a := range t.alarmed {
		at = min(at, a.nextAlarm())
	}
	if before := Timestamp(t.alarm.Swap(int64(at))); at < before {
		select {
		case t.u.wake <- struct{}{}:
		default:
		}
	}
}

// ringing is the message that fires what is due.
func (u *unit) ringing(now Timestamp) control {
	return func(t *task) {
		for _, a := range t.alarmed {
			a.ring(now)
		}
	}
}

// nextAlarm is the earliest of all tasks. It runs on the coordinator.
func (u *unit) nextAlarm() Timestamp {
	at := EndOfTime
	for _, t := range u.tasks {
		if len(t.alarmed) > 0 {
			at = min(at, Timestamp(t.alarm.Load()))
		}
	}
	return at
}

// until is the time from now to at, saturating.
func until(now, at Timestamp) time.Duration {
	if d := at - now; d >= 0 || at < now {
		return time.Duration(d)
	}
	return math.MaxInt64
}

// tick does what the clock asks for now. It runs on the coordinator.
func (u *unit) tick() {
	u.ring()
	if u.t.tick > 0 {
		u.silent()
	}
}

// silent tells the partitions' tasks how long their sources have had nothing. It runs on the coordinator.
func (u *unit) silent() {
	now := u.t.cfg.clock.Now()
	for _, p := range u.parts {
		p.silent(u, now)
	}
}

// ring fires the timers that are due. It runs on the coordinator.
func (u *unit) ring() {
	now := TimestampOf(u.t.cfg.clock.Now())
	for _, t := range u.tasks {
		if len(t.alarmed) > 0 && Timestamp(t.alarm.Load()) <= now {
			t.alarm.Store(int64(EndOfTime)) // until it says anew, after it has fired
			u.post(t, u.ringing(now))
		}
	}
}

// open opens every operator of the task, and brings restored watermarks back.
func (t *task) open(ctx context.Context) error {
	for i := 0; i < len(t.openers); i++ { // an operator that opens a side output adds to them
		if err := t.openers[i](ctx); err != nil {
			return err
		}
	}
	for _, s := range t.states {
		for _, f := range s.restored {
			f()
		}
		if err := t.u.checkFingerprint(s); err != nil {
			return err
		}
	}
	for _, tab := range t.tables {
		tab.sweep()
	}
	t.alarm.Store(int64(EndOfTime))
	t.setAlarm()
	return nil
}

// collect gathers what the epoch writes. The task is drained.
func (t *task) collect(ctx context.Context) (taskEpoch, error) {
	if t.err != nil {
		return taskEpoch{}, t.err
	}
	e := taskEpoch{dead: t.dead}
	t.dead = nil
	for _, f := range t.seals {
		s, err := f(ctx)
		if err != nil {
			return e, err
		}
		if len(s.blocks) > 0 {
			e.sealed = append(e.sealed, s)
		}
	}
	if t.u.db != nil {
		w := t.u.takeChanges()
		for _, s := range t.states {
			s.collect(w)
		}
		e.state = w.n
		for _, s := range t.states {
			s.collectWatermark(w)
		}
		for _, c := range t.clocks {
			c.collectClock(w)
		}
		if t.async != nil {
			n, err := t.async.collect(w)
			e.state += n
			if err != nil {
				return e, err
			}
		}
		if t.exchange != nil && t.index == 0 {
			t.exchange.collect(t.u, w)
		}
		e.changes = w
	}
	for _, f := range t.boundaries {
		f()
	}
	for _, tab := range t.tables {
		tab.sweep()
	}
	return e, t.err
}

// taskEpoch is one task's part of an epoch.
type taskEpoch struct {
	sealed  []sealed
	dead    []Record[DeadLetter]
	changes *changes
	state   int // changes of operators' state among them
}

// builder builds the chain of one task.
type builder struct {
	u      *unit
	t      *task
	shared map[*node]any
}

// inTask returns the stage of a node with several inputs, one per task.
func inTask[S any](b *builder, n *node, make func() S) S {
	if s, ok := b.shared[n]; ok {
		return s.(S)
	}
	s := make()
	b.shared[n] = s
	return s
}

func (t *task) close() {
	for i := len(t.onClose) - 1; i >= 0; i-- {
		t.onClose[i]()
	}
}

var errAborted = errors.New("aborted")

func (t *task) String() string { return fmt.Sprintf("task %s/%d", t.id, t.index) }

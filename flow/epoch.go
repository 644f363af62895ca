package flow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// coordinate starts the topology, runs the root unit's epochs and ends everything.
func (e *engine) coordinate() {
	defer close(e.closed)
	if err := e.live(); err != nil {
		e.fail(err)
	}
	close(e.root.ended)
	e.shutdown()
}

func (e *engine) live() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &NodeError{Topology: e.t.name, Err: panicError(p)}
		}
	}()
	if err := e.begin(); err != nil {
		return err
	}
	return e.root.epochs()
}

// coordinate is the coordinator of a partition's unit.
func (u *unit) coordinate() {
	defer close(u.ended)
	defer func() {
		if p := recover(); p != nil {
			u.fail(&NodeError{Topology: u.t.name, Err: panicError(p)})
		}
	}()
	if err := u.epochs(); err != nil {
		u.fail(err)
	}
}

// begin waits until the router has subscribed to every source, then opens everything.
func (e *engine) begin() error {
	for waiting := len(e.subs) > 0; waiting; {
		select {
		case <-e.allSub:
			waiting = false
		case r := <-e.root.stops:
			e.root.stops <- r
			return nil
		case <-e.ctx.Done():
			return e.stoppedErr()
		}
	}
	if err := e.start(); err != nil {
		return err
	}
	return e.openSources()
}

// epochs runs until a stop is asked for or something fails.
func (u *unit) epochs() error {
	d := u.t.cfg.epochInterval
	if d <= 0 || u.t.cfg.manual {
		return u.epochLoop(nil, func() {})
	}
	timer := u.t.cfg.clock.NewTimer(d)
	defer timer.Stop()
	return u.epochLoop(timer.C(), func() { timer.Reset(d) })
}

func (u *unit) epochLoop(interval <-chan time.Time, rearm func()) error {
	clock := u.t.cfg.clock
	var tickC, idleC <-chan time.Time
	var tick, idle Timer
	if u.t.tick > 0 {
		tick = clock.NewTimer(min(max(u.t.tick, time.Millisecond), time.Second))
		defer tick.Stop()
		tickC = tick.C()
	}
	// Sources with a window must not wait for the interval when they have nothing more to give: see idleEpoch.
	idle = clock.NewTimer(time.Hour)
	defer idle.Stop()
	idleArmed := false
	alarm := clock.NewTimer(time.Hour)
	defer alarm.Stop()
	alarmAt := EndOfTime
	var idleMark int64
	pending := "" // trigger that waits for the commit under way
	for {
		if !u.commitBusy && pending != "" {
			why := pending
			pending = ""
			if err := u.endEpoch(why); err != nil {
				return err
			}
		}
		if !u.t.cfg.manual && !idleArmed && !u.commitBusy && u.windowed() {
			idleArmed = true
			idleMark = u.accepted.Load()
			idle.Reset(max(time.Millisecond, u.lastCommit))
			idleC = idle.C()
		}
		if at := u.nextAlarm(); at != alarmAt {
			if alarmAt = at; at != EndOfTime {
				alarm.Reset(until(TimestampOf(clock.Now()), at))
			}
		}
		select {
		case <-interval:
			rearm()
			if pending == "" {
				pending = triggerInterval
			}
		case why := <-u.kicks:
			pending = why
		case <-u.wake:
		case <-idleC:
			idleArmed, idleC = false, nil
			if !u.commitBusy && pending == "" && u.windowed() && u.inflight.Load() == 0 && u.accepted.Load() == idleMark {
				pending = triggerIdle
			}
		case <-tickC:
			tick.Reset(min(max(u.t.tick, time.Millisecond), time.Second))
			u.silent()
		case <-alarm.C():
			alarmAt = EndOfTime
			u.ring()
		case f := <-u.cmds:
			f()
		case r := <-u.commitDone:
			if err := u.committedEpoch(r); err != nil {
				return err
			}
		case r := <-u.stops:
			if u != u.root {
				return u.lastEpoch(r)
			}
			return u.stop(r)
		case <-u.ctx.Done():
			return u.stoppedErr()
		}
	}
}

// windowed tells whether a source that limits what may be unacked has records that are not.
func (u *unit) windowed() bool {
	for _, p := range u.parts {
		if p.window.Load() > 0 && p.accepted.Load() > p.acked.Load() {
			return true
		}
	}
	return false
}

// epochData is what an epoch commits.
type epochData struct {
	epoch   uint64
	parts   []partEpoch
	tasks   []taskEpoch
	flush   bool
	info    EpochInfo
	records int64
	after   []func() // called once it is committed
}

type partEpoch struct {
	p       *partition
	pos     Position
	records int64
}

type commitResult struct {
	e   *epochData
	err error
}

// endEpoch drains, collects and starts the commit.
func (u *unit) endEpoch(why string) error {
	e, err := u.collect(why, false)
	if err != nil {
		return err
	}
	if e == nil {
		u.runAfterCommit(u.takeAfterCommit())
		return nil
	}
	u.commitBusy = true
	go func() { u.commitDone <- commitResult{e, u.commit(e)} }()
	return nil
}

// takeAfterCommit returns what waits for the epoch that is being collected: a commit under way is of an older one.
func (u *unit) takeAfterCommit() []func() {
	f := u.afterCommit
	u.afterCommit = nil
	return f
}

func (u *unit) runAfterCommit(fs []func()) {
	for _, f := range fs {
		f()
	}
}

// collect drains the unit and gathers the epoch's changes; nil when nothing has changed.
func (u *unit) collect(why string, flush bool) (*epochData, error) {
	clock := u.t.cfg.clock
	start := clock.Now()
	if err := u.drain(); err != nil {
		return nil, err
	}
	drained := clock.Now()
	u.epoch++
	e := &epochData{epoch: u.epoch, flush: flush, tasks: make([]taskEpoch, len(u.tasks))}
	var wg sync.WaitGroup
	errs := make([]error, len(u.tasks))
	for i, t := range u.tasks {
		wg.Add(1)
		u.post(t, control(func(t *task) {
			defer wg.Done()
			errs[i] = guarded(func() (err error) {
				e.tasks[i], err = t.collect(u.ctx)
				return err
			})
		}))
	}
	if !u.waitFor(&wg) {
		return nil, u.stoppedErr()
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	moved := flush
	for _, p := range u.parts {
		if p.records != p.ackedRecords || p.pos != p.ackedPos {
			moved = true
		}
		e.records += p.records - p.ackedRecords
		e.parts = append(e.parts, partEpoch{p, p.pos, p.records})
		p.ackedRecords, p.ackedPos = p.records, p.pos
	}
	for _, t := range e.tasks {
		if len(t.sealed) > 0 || len(t.dead) > 0 || t.state > 0 {
			moved = true
		}
	}
	u.resume()
	if !moved {
		u.epoch--
		u.recycle(e)
		return nil, nil
	}
	e.after = u.takeAfterCommit()
	e.info = EpochInfo{Topology: u.t.name, Unit: u.name, Epoch: e.epoch, Records: e.records, Trigger: why, Drain: drained.Sub(start), Collect: clock.Now().Sub(drained)}
	return e, nil
}

// waitFor waits for the tasks, unless the unit fails.
func (u *unit) waitFor(wg *sync.WaitGroup) bool {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-u.ctx.Done():
		return false
	}
}

func (u *unit) recycle(e *epochData) {
	for _, t := range e.tasks {
		if t.changes == nil {
			continue
		}
		if cap(t.changes.buf) > 256<<20 {
			continue
		}
		t.changes.reset()
		select {
		case u.spare <- t.changes:
		default:
		}
	}
}

// committedEpoch takes note of a commit. It runs on the coordinator.
func (u *unit) committedEpoch(r commitResult) error {
	u.commitBusy = false
	if r.err != nil {
		return r.err
	}
	for _, p := range r.e.parts {
		p.p.acked.Store(p.records)
	}
	u.committed.Add(r.e.records)
	i := &r.e.info
	u.lastCommit = i.Drain + i.Collect + i.Deliver + i.Write + i.Ack
	u.recycle(r.e)
	u.lookAgain()
	u.hookEpoch(*i)
	u.runAfterCommit(r.e.after)
	return nil
}

// commit makes an epoch durable: blocks, dead letters, state, acks, in this order.
func (u *unit) commit(e *epochData) error {
	clock := u.t.cfg.clock
	t0 := clock.Now()
	dead, err := u.deliver(e)
	if err != nil {
		return err
	}
	for _, t := range e.tasks {
		dead = append(dead, t.dead...)
	}
	if err := u.deliverDead(dead); err != nil {
		return err
	}
	e.info.DeadLetters = len(dead)
	t1 := clock.Now()
	if err := u.writeState(e); err != nil {
		return err
	}
	t2 := clock.Now()
	if err := u.ack(e); err != nil {
		return err
	}
	e.info.Deliver, e.info.Write, e.info.Ack = t1.Sub(t0), t2.Sub(t1), clock.Now().Sub(t2)
	return nil
}

// deliver hands the epoch's blocks to their sinks, all sinks at once, and returns the rejects as dead letters.
func (u *unit) deliver(e *epochData) ([]Record[DeadLetter], error) {
	bySink := map[sinkNode][]Block{}
	var order []sinkNode
	for _, t := range e.tasks {
		for _, s := range t.sealed {
			if bySink[s.sink] == nil {
				order = append(order, s.sink)
			}
			for _, b := range s.blocks {
				e.info.Rows += b.Rows()
			}
			e.info.Blocks += len(s.blocks)
			bySink[s.sink] = append(bySink[s.sink], s.blocks...)
		}
	}
	type result struct {
		dead []Record[DeadLetter]
		err  error
	}
	results := make([]result, len(order))
	var wg sync.WaitGroup
	for i, s := range order {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rejects, err := u.couriers[s].deliver(u.engine, bySink[s])
			results[i].err = err
			for _, r := range rejects {
				d, err := u.reject(s.node(), r)
				if err != nil {
					results[i].err = err
					return
				}
				results[i].dead = append(results[i].dead, d...)
			}
		}()
	}
	wg.Wait()
	var dead []Record[DeadLetter]
	for _, r := range results {
		if r.err != nil {
			return nil, r.err
		}
		dead = append(dead, r.dead...)
	}
	return dead, nil
}

func (e *engine) deliverTo(s sinkNode, blocks []Block) (rejects []Reject, err error) {
	err = e.retry(s.node().name, "deliver", func(ctx context.Context) error {
		r, err := s.deliver(ctx, blocks)
		rejects = append(rejects, r...)
		return err
	})
	return rejects, err
}

// reject decides the fate of a row that a sink's system refused.
func (u *unit) reject(n *node, r Reject) ([]Record[DeadLetter], error) {
	u.stats[n].errors.Add(1)
	u.hookError(n.name, r.Err)
	switch {
	case n.cfg.OnError == DropOnError:
		u.stats[n].dropped.Add(1)
		u.log.Warn("row dropped by OnError", "node", n.name, "err", r.Err)
		return nil, nil
	case n.cfg.OnError == DeadLetterOrStop && u.t.dead.connected():
		u.stats[n].deadLetters.Add(1)
		return []Record[DeadLetter]{{Time: r.Time, Value: DeadLetter{
			Topology: u.t.name, Node: n.name, Cause: r.Err.Error(), Attempts: 1, Record: r.Record, Time: r.Time, At: TimestampOf(u.t.cfg.clock.Now()),
		}}}, nil
	}
	return nil, &NodeError{u.t.name, n.name, fmt.Errorf("row refused: %w; connect the topology's DeadLetters() to keep such rows", r.Err)}
}

// deliverDead writes dead letters. They have no dead letters of their own: transient errors are retried, others stop.
func (u *unit) deliverDead(dead []Record[DeadLetter]) error {
	if len(dead) == 0 {
		return nil
	}
	u.deadMu.Lock() // one writer for all units
	defer u.deadMu.Unlock()
	for _, d := range u.t.dead.sinks {
		w := u.deadW[d]
		for rest := dead; len(rest) > 0; {
			n := min(len(rest), MaxBatch)
			if err := u.retry(d.n.name, "write", func(ctx context.Context) error { return w.Write(ctx, rest[:n]) }); err != nil {
				return err
			}
			rest = rest[n:]
		}
		blocks, err := w.Seal(u.ctx)
		if err != nil {
			return &NodeError{u.t.name, d.n.name, err}
		}
		rejects, err := u.deliverTo(d, blocks)
		if err != nil {
			return err
		}
		if len(rejects) > 0 {
			return &NodeError{u.t.name, d.n.name, fmt.Errorf("the dead-letter sink refused %d letters, the first: %w", len(rejects), rejects[0].Err)}
		}
	}
	return nil
}

// writeState puts the epoch's changes and positions into the store.
func (u *unit) writeState(e *epochData) error {
	if u.db == nil {
		return nil
	}
	b := u.db.NewBatch()
	defer func() { _ = b.Close() }()
	for _, t := range e.tasks {
		if t.changes != nil {
			t.changes.replay(b)
			e.info.Changes += t.changes.n
			e.info.ChangeBytes += len(t.changes.buf)
		}
	}
	for _, p := range e.parts {
		v := binary.BigEndian.AppendUint64(nil, uint64(p.pos.Offset))
		b.Put(u.positionKey(p.p.src.node().name, p.p.p.ID), append(v, p.pos.Token...))
	}
	b.Put(metaKey("epoch"), binary.BigEndian.AppendUint64(nil, e.epoch))
	if changed := u.registry.takeChanged(); changed {
		b.Put(metaKey("nodes"), u.registry.encode())
	}
	if e.flush && !u.co {
		b.Put(metaKey("finished"), []byte{1})
	}
	if err := b.Commit(); err != nil {
		return &NodeError{Topology: u.t.name, Err: fmt.Errorf("the store did not take epoch %d: %w", e.epoch, err)}
	}
	return nil
}

// ack tells the sources what is durable.
func (u *unit) ack(e *epochData) error {
	var wg sync.WaitGroup
	errs := make([]error, len(e.parts))
	for i, p := range e.parts {
		if p.pos.IsZero() {
			continue
		}
		if len(e.parts) == 1 {
			return u.ackPartition(p)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = u.ackPartition(p)
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (u *unit) ackPartition(p partEpoch) error {
	return u.retry(p.p.src.node().name, "commit", func(ctx context.Context) error {
		return p.p.src.commit(ctx, p.p.p, p.pos)
	})
}

// stop ends the topology in order: sources stop reading, what they emitted is processed, the last epoch is committed.
func (u *unit) stop(r stopRequest) error {
	u.stopped.Store(true)
	clock := u.t.cfg.clock
	u.endRead()
	for _, other := range u.all() {
		other.lookAgain()
	}
	deadline := clock.NewTimer(u.t.cfg.stopTimeout)
	defer deadline.Stop()
	out := make(chan struct{})
	defer close(out)
	go func() {
		select {
		case <-deadline.C():
			u.fail(&NodeError{Topology: u.t.name, Err: fmt.Errorf("the stop took longer than %v: the last epoch is not committed, its records come again; busiest task: %s", u.t.cfg.stopTimeout, u.busiest())})
		case <-out:
		}
	}()
	// Readers end, pumps hand over what they have. Commands of theirs are refused meanwhile.
	done := make(chan struct{})
	go func() { u.wg.Wait(); close(done) }()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case f := <-u.cmds:
			f()
		case c := <-u.commitDone:
			if err := u.committedEpoch(c); err != nil {
				return err
			}
		case <-u.ctx.Done():
			return u.stoppedErr()
		}
	}
	for _, other := range u.all() {
		for _, p := range other.parts {
			select {
			case <-p.pumped:
			case <-u.ctx.Done():
				return u.stoppedErr()
			}
		}
	}
	if !u.co {
		return u.lastEpoch(r)
	}
	others := u.all()[1:]
	for _, o := range others {
		o.stops <- r
	}
	for _, o := range others {
		select {
		case <-o.ended:
		case <-u.ctx.Done():
			return u.stoppedErr()
		}
	}
	if err := u.failure(); err != nil {
		return err
	}
	u.runAfterCommit(u.takeAfterCommit())
	if r.flush && u.db != nil {
		b := u.db.NewBatch()
		b.Put(metaKey("finished"), []byte{1})
		if err := errors.Join(b.Commit(), b.Close()); err != nil {
			return &NodeError{Topology: u.t.name, Err: fmt.Errorf("the store did not take the end of the run: %w", err)}
		}
	}
	return nil
}

// lastEpoch commits what the unit has processed, once nothing comes in any more.
func (u *unit) lastEpoch(r stopRequest) error {
	if u.commitBusy {
		select {
		case c := <-u.commitDone:
			if err := u.committedEpoch(c); err != nil {
				return err
			}
		case <-u.ctx.Done():
			return u.stoppedErr()
		}
	}
	if r.flush {
		if err := u.drain(); err != nil {
			return err
		}
		for _, s := range u.subs { // one that has not connected has nothing to give any more
			u.arrived(s)
		}
		for _, p := range u.parts {
			if !p.ended.Load() {
				u.post(p.t, p.end())
			}
		}
		if err := u.drainAsync(); err != nil {
			return err
		}
	}
	e, err := u.collect(triggerStop, r.flush)
	if err != nil {
		return err
	}
	if e != nil {
		if err := u.commit(e); err != nil {
			return err
		}
		if err := u.committedEpoch(commitResult{e: e}); err != nil {
			return err
		}
	}
	u.runAfterCommit(u.takeAfterCommit())
	return nil
}

// drainAsync drains at a flush until no async operator waits for an answer: nobody will ask again.
func (u *unit) drainAsync() error {
	for {
		if err := u.drain(); err != nil {
			return err
		}
		var waiting []<-chan struct{}
		for _, t := range u.tasks {
			if t.async != nil {
				if c := t.async.empty(); c != nil {
					waiting = append(waiting, c)
				}
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		u.resume()
		for _, c := range waiting {
			select {
			case <-c:
			case <-u.ctx.Done():
				return u.stoppedErr()
			}
		}
	}
}

// shutdown closes everything, in order, after a stop or a failure.
func (e *engine) shutdown() {
	e.endRead()
	e.wg.Wait()
	units := e.all()
	for _, u := range units {
		for _, p := range u.parts {
			<-p.pumped
		}
		if u.begun {
			<-u.ended
		}
		if u.commitBusy {
			<-u.commitDone
		}
	}
	for _, u := range units {
		for _, t := range u.tasks {
			t.stop()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.t.cfg.stopTimeout)
	defer cancel()
	for _, s := range e.t.sources {
		if err := s.close(ctx); err != nil {
			e.log.Warn("closing a source", "node", s.node().name, "err", err)
		}
	}
	for _, s := range e.t.sinks {
		if err := s.close(ctx); err != nil {
			e.log.Warn("closing a sink", "node", s.node().name, "err", err)
		}
	}
	if e.storeDB != nil {
		if err := e.storeDB.Close(); err != nil {
			e.log.Warn("closing the store", "err", err)
		}
	}
	e.cancel()
	for _, s := range e.subs {
		s.once.Do(func() { close(s.out) })
	}
}

package flow

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-stream/millrace/flow/state"
)

// engine runs a topology: what all of its units share. The root unit's coordinator starts and stops it.
type engine struct {
	t   *Topology
	log *slog.Logger
	ctx context.Context
	// cancel ends everything at once, without a last epoch.
	cancel context.CancelFunc
	// readCtx ends when the sources are to stop reading.
	readCtx context.Context
	endRead context.CancelFunc

	db         state.DB // nil: state is in memory only
	storeDB    state.DB
	storeID    string
	generation uint64
	seed       uint64
	registry   *registry
	cold       bool // the store had no committed epoch

	// root is the unit of the whole topology, or, of a co-partitioned one, only the keeper of the list of units: one per partition.
	root   *unit
	unitMu sync.Mutex
	units  []*unit
	co     bool

	exchanges map[int]*exchange
	couriers  map[sinkNode]*courier
	gates     map[*node]*asyncGate // of async operators, as they are restored
	subs      []*subscriber
	stats     map[*node]*nodeStats
	added     chan struct{} // closed when the first partitions are there
	addedOnce sync.Once
	subbed    atomic.Int32
	allSub    chan struct{}
	closed    chan struct{} // everything has ended
	err       error
	errOnce   sync.Once
	errMu     sync.Mutex
	stopped   atomic.Bool
	wg        sync.WaitGroup // sources' goroutines
	partMu    sync.Mutex
	reading   []*partition // never changed in place
	aligning  atomic.Int32 // partitions that wait for others
	running   atomic.Int32 // sources whose Run has not returned

	deadMu     sync.Mutex
	deadW      map[*sinkImpl[DeadLetter]]SinkWriter[DeadLetter]
	hookMu     sync.Mutex
	countersMu sync.Mutex
	counters   map[string]int64
}

// unit is what has epochs of its own: tasks that hang together, and the partitions that feed them. One goroutine, the coordinator,
// owns the epochs; it alone pauses, collects and changes which tasks there are.
type unit struct {
	*engine
	name  string // the partition of a co-partitioned topology's unit
	scope int    // its number, -1 in other topologies

	epoch uint64
	tasks []*task
	parts []*partition

	inflight  atomic.Int64
	handed    atomic.Int64 // batches that sources have emitted and that are not processed
	stepping  atomic.Int64 // stages that are in the middle of what a watermark makes them do
	handedQ   chan struct{}
	quiet     chan struct{}
	paused    atomic.Bool
	accepted  atomic.Int64 // source records
	committed atomic.Int64
	changeMu  sync.Mutex
	changed   chan struct{} // closed and replaced when emitters should look again

	kicks chan string
	wake  chan struct{} // records of a source with a window came in: the coordinator may have to arm its idle timer
	cmds  chan func()
	stops chan stopRequest
	spare chan *changes
	begun bool          // the coordinator was started
	ended chan struct{} // it has returned

	lastCommit  time.Duration
	commitBusy  bool
	commitDone  chan commitResult
	afterCommit []func()
}

type stopRequest struct {
	flush bool
}

// Reasons for which an epoch ends.
const (
	triggerInterval = "interval"
	triggerWindow   = "window"
	triggerSink     = "sink"
	triggerPending  = "pending"
	triggerIdle     = "idle"
	triggerStop     = "stop"
	triggerManual   = "manual"
	triggerRemove   = "remove"
)

// newEngine opens the store and starts the root unit's coordinator.
func newEngine(t *Topology) (*engine, error) {
	e := &engine{
		t: t, log: t.cfg.log.With("topology", t.name), co: t.coPartitioned(),
		exchanges: map[int]*exchange{}, couriers: map[sinkNode]*courier{}, gates: map[*node]*asyncGate{}, stats: map[*node]*nodeStats{}, counters: map[string]int64{},
		added: make(chan struct{}), allSub: make(chan struct{}), closed: make(chan struct{}), deadW: map[*sinkImpl[DeadLetter]]SinkWriter[DeadLetter]{},
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.readCtx, e.endRead = context.WithCancel(e.ctx)
	for _, n := range t.nodes {
		e.stats[n] = &nodeStats{}
	}
	e.root = newUnit(e, "", -1)
	if err := e.openStore(); err != nil {
		e.cancel()
		if ne := (*NodeError)(nil); errors.As(err, &ne) {
			return nil, err
		}
		return nil, &NodeError{Topology: t.name, Err: err}
	}
	for _, s := range t.sources {
		e.subs = append(e.subs, newSubscriber(e, s))
	}
	for _, s := range t.sinks {
		e.couriers[s] = &courier{sink: s}
	}
	go e.coordinate()
	return e, nil
}

func newUnit(e *engine, name string, scope int) *unit {
	u := &unit{
		engine: e, name: name, scope: scope,
		quiet: make(chan struct{}, 1), handedQ: make(chan struct{}, 1), changed: make(chan struct{}), kicks: make(chan string, 1),
		wake: make(chan struct{}, 1), cmds: make(chan func()), stops: make(chan stopRequest, 16), spare: make(chan *changes, 64),
		ended: make(chan struct{}), commitDone: make(chan commitResult, 1),
	}
	e.unitMu.Lock()
	e.units = append(e.units, u)
	e.unitMu.Unlock()
	return u
}

// all returns the units there are now, the root first.
func (e *engine) all() []*unit {
	e.unitMu.Lock()
	defer e.unitMu.Unlock()
	return append([]*unit(nil), e.units...)
}

func (e *engine) forget(u *unit) {
	e.unitMu.Lock()
	e.units = without(e.units, u)
	e.unitMu.Unlock()
}

// fail stops the topology with an error: no last epoch, nothing acked after the last commit.
func (e *engine) fail(err error) {
	e.errOnce.Do(func() {
		e.errMu.Lock()
		e.err = err
		e.errMu.Unlock()
		if !errors.Is(err, errAborted) {
			e.log.Error("topology stops", "err", err)
		}
		e.cancel()
	})
}

func (e *engine) failure() error {
	e.errMu.Lock()
	defer e.errMu.Unlock()
	return e.err
}

func (e *engine) stoppedErr() error {
	if err := e.failure(); err != nil {
		return err
	}
	return ErrStopped
}

func (e *engine) statsOf(n *node) *nodeStats { return e.stats[n] }

func (nt *nodeTask) count(name string, n int64) { nt.t.u.count(nt.node, name, n) }

func (e *engine) count(node, name string, n int64) {
	e.countersMu.Lock()
	e.counters[node+"."+name] += n
	e.countersMu.Unlock()
}

// post sends a message to a task; it blocks while the task's queue is full.
func (u *unit) post(t *task, m parcel) {
	u.inflight.Add(1)
	select {
	case t.box <- m:
	case <-u.ctx.Done():
		u.finished()
	}
}

// finished takes a message off the count of those in flight.
func (u *unit) finished() {
	if u.inflight.Add(-1) == 0 {
		select {
		case u.quiet <- struct{}{}:
		default:
		}
	}
}

// processed takes n batches off the count of those emitted.
func (u *unit) processed(n int64) {
	if u.handed.Add(-n) == 0 {
		select {
		case u.handedQ <- struct{}{}:
		default:
		}
	}
}

// stepped takes a stage off the count of those in the middle of their work.
func (u *unit) stepped() {
	if u.stepping.Add(-1) == 0 {
		select {
		case u.handedQ <- struct{}{}:
		default:
		}
	}
}

// enterNow counts a message as in flight, unless the unit is paused: then it returns what is closed when to look again.
func (u *unit) enterNow() <-chan struct{} {
	u.changeMu.Lock()
	changed := u.changed
	u.changeMu.Unlock()
	u.inflight.Add(1)
	if !u.paused.Load() {
		return nil
	}
	u.finished()
	return changed
}

// enter waits until sources may hand out a batch, and counts it as in flight. It returns false when the topology stops.
func (u *unit) enter() bool {
	for {
		u.changeMu.Lock()
		changed := u.changed
		u.changeMu.Unlock()
		pending := u.accepted.Load() - u.committed.Load()
		// At a stop what sources have handed out goes in also beyond the bound: no further epoch would make room for it.
		if pending >= u.t.cfg.maxPending && !u.stopped.Load() {
			u.kick(triggerPending)
		} else {
			if 2*pending >= u.t.cfg.maxPending {
				u.kick(triggerPending)
			}
			u.inflight.Add(1)
			if !u.paused.Load() {
				return u.ctx.Err() == nil
			}
			u.finished()
		}
		select {
		case <-changed:
		case <-u.ctx.Done():
			return false
		}
	}
}

func (u *unit) lookAgain() {
	u.changeMu.Lock()
	close(u.changed)
	u.changed = make(chan struct{})
	u.changeMu.Unlock()
}

func (u *unit) kick(why string) {
	if u.t.cfg.manual {
		return
	}
	select {
	case u.kicks <- why:
	default:
	}
}

func (e *engine) subscribed(context.Context) {
	if int(e.subbed.Add(1)) == len(e.subs) {
		close(e.allSub)
	}
}

func (e *engine) requestStop(r stopRequest) {
	e.stopped.Store(true)
	select {
	case e.root.stops <- r:
	default: // enough asked already
	}
}

func (u *unit) newTask(id string, index int) *task {
	t := &task{u: u, id: id, index: index, ctx: u.ctx, box: make(chan parcel, mailboxSize), done: make(chan struct{}), quit: make(chan struct{}), lo: 0, hi: KeyGroups}
	if u.scope >= 0 {
		t.lo, t.hi = u.scope, u.scope+1
	}
	return t
}

func (u *unit) takeChanges() *changes {
	select {
	case c := <-u.spare:
		return c
	default:
		return &changes{}
	}
}

// start opens sinks and builds the worker tasks. Nothing is read yet.
func (e *engine) start() error {
	for _, s := range e.t.sinks {
		rt := SinkRuntime{
			Topology: e.t.name, Node: s.node().name, Clock: e.t.cfg.clock, Log: e.log.With("node", s.node().name),
			StoreID: e.storeID, Incarnation: e.generation,
			RequestEpoch: func() {
				for _, u := range e.all() {
					u.kick(triggerSink)
				}
			},
			Count: func(name string, n int64) { e.count(s.node().name, name, n) },
		}
		if err := e.retry(s.node().name, "open", func(ctx context.Context) error { return s.open(ctx, rt) }); err != nil {
			return err
		}
	}
	for _, d := range e.t.dead.sinks {
		w, err := d.sink.Writer(e.ctx, TaskInfo{Generation: e.generation})
		if err != nil {
			return &NodeError{e.t.name, d.n.name, err}
		}
		e.deadW[d] = w
	}
	// All exchanges have their tasks before any chain is built: senders look their workers up.
	u := e.root
	var order []*exchange
	for _, k := range e.t.keyings {
		x := k.exchange()
		if x == nil {
			continue
		}
		if x.parts == 0 {
			x.parts = e.t.cfg.parallelism
		}
		x.fused = !x.apart && (e.co || x.parts == 1 && e.t.singlePartition(k))
		e.exchanges[x.id] = x
		if x.fused {
			continue
		}
		for i := range x.parts {
			t := u.newTask(x.owner, i)
			t.exchange = x
			t.lo, t.hi = (i*KeyGroups+x.parts-1)/x.parts, ((i+1)*KeyGroups+x.parts-1)/x.parts
			t.gate = &gate{}
			t.id = fmt.Sprintf("%s#%d", x.owner, i)
			x.tasks, x.gates = append(x.tasks, t), append(x.gates, t.gate)
		}
		if e.db != nil {
			if err := x.restore(u); err != nil {
				return &NodeError{e.t.name, x.owner, err}
			}
		}
		for _, s := range e.t.sources {
			if e.t.reaches(s.node(), k.froms()) {
				x.await(s.node().name)
			}
		}
		order = append(order, x)
	}
	// Downstream first: a sender needs its workers' entries.
	for i := len(order) - 1; i >= 0; i-- {
		x := order[i]
		for _, t := range x.tasks {
			b := &builder{u: u, t: t, shared: map[*node]any{}}
			t.entry = x.make(b)
			t.gate.emit = t.entry.(interface{ emit(mark) }).emit
		}
	}
	for _, x := range order {
		for _, t := range x.tasks {
			for _, t := range t.family() {
				u.tasks = append(u.tasks, t)
				if err := t.open(e.ctx); err != nil {
					return err
				}
			}
		}
	}
	for _, x := range order {
		for _, t := range x.tasks {
			for _, t := range t.family() {
				t.start()
			}
			u.post(t, control(func(t *task) {
				if v := &t.gate.valve; v.some {
					t.gate.emit(mark{kind: markWatermark, wm: v.out})
				}
			}))
		}
	}
	return e.failure()
}

// retry calls f until it succeeds or fails for good.
func (e *engine) retry(node, what string, f func(ctx context.Context) error) error {
	for n := 1; ; n++ {
		err := guarded(func() error { return f(e.ctx) })
		if err == nil {
			return nil
		}
		if e.ctx.Err() != nil {
			return e.stoppedErr()
		}
		if !IsTransient(err) {
			return &NodeError{e.t.name, node, err}
		}
		e.stats[e.t.byName[node]].retries.Add(1)
		if n == 1 || n%12 == 0 {
			e.log.Warn("transient error, trying again", "node", node, "doing", what, "err", err, "attempt", n)
		}
		if e.t.cfg.clock.Sleep(e.ctx, backoff(n)) != nil {
			return e.stoppedErr()
		}
	}
}

// guarded turns a panic of f into an error.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicError(p)
		}
	}()
	return f()
}

// openSources opens the sources and starts their Run.
func (e *engine) openSources() error {
	for _, s := range e.t.sources {
		name := s.node().name
		rt := SourceRuntime{
			Topology: e.t.name, Node: name, Clock: e.t.cfg.clock, Log: e.log.With("node", name),
			Count: func(counter string, n int64) { e.count(name, counter, n) }, CoPartitioned: e.co,
		}
		if err := e.retry(name, "open", func(ctx context.Context) error { return s.open(ctx, rt) }); err != nil {
			return err
		}
	}
	for _, sub := range e.subs {
		e.running.Add(1)
		e.wg.Add(1)
		go e.runSource(sub)
	}
	return nil
}

func (e *engine) runSource(sub *subscriber) {
	defer e.wg.Done()
	a := &assign{e: e, sub: sub}
	for n := 1; ; n++ {
		err := guarded(func() error { return sub.src.run(e.readCtx, a) })
		if e.readCtx.Err() != nil {
			return
		}
		if err == nil {
			break
		}
		if !IsTransient(err) {
			e.fail(&NodeError{e.t.name, sub.src.node().name, err})
			return
		}
		if n == 1 || n%12 == 0 {
			e.log.Warn("source failed, trying again", "node", sub.src.node().name, "err", err, "attempt", n)
		}
		if e.t.cfg.clock.Sleep(e.readCtx, backoff(n)) != nil {
			return
		}
	}
	e.running.Add(-1)
	e.root.do(func() {
		e.arrived(sub)
		e.checkEnd()
	})
}

// do runs f on the coordinator, which is then between epochs.
func (u *unit) do(f func()) bool {
	done := make(chan struct{})
	select {
	case u.cmds <- func() { f(); close(done) }:
	case <-u.ctx.Done():
		return false
	case <-u.ended:
		return false
	}
	<-done
	return true
}

// checkEnd flushes the topology when every partition of every source has ended.
func (e *engine) checkEnd() {
	if e.running.Load() > 0 || len(e.subs) == 0 {
		return
	}
	for _, u := range e.all() {
		for _, p := range u.parts {
			if !p.ended.Load() {
				return
			}
		}
	}
	e.requestStop(stopRequest{flush: true})
}

// assign is a source's view of the engine.
type assign struct {
	e   *engine
	sub *subscriber
}

func (a *assign) Add(ps ...Partition) error {
	var err error
	if !a.e.root.do(func() { err = a.e.addPartitions(a.sub, ps) }) {
		return ErrStopped
	}
	return err
}

func (a *assign) Remove(ctx context.Context, ps ...Partition) error {
	for _, p := range ps {
		if err := a.e.removePartition(ctx, a.sub, p); err != nil {
			return err
		}
	}
	return nil
}

// addPartitions builds the tasks of new partitions and starts reading. It runs on the root coordinator.
func (e *engine) addPartitions(sub *subscriber, ps []Partition) error {
	if e.readCtx.Err() != nil {
		return ErrStopped
	}
	if !e.co {
		if err := e.root.drain(); err != nil {
			return err
		}
		defer e.root.resume()
	}
	e.registry.keep(sub.src.node().name)
	var fresh []*partition
	for _, p := range ps {
		part, err := e.addPartition(sub, p)
		if err != nil {
			return err
		}
		fresh = append(fresh, part)
	}
	if err := e.storeNodes(); err != nil {
		e.fail(err)
		return err
	}
	for _, part := range fresh {
		u := part.u
		if e.co {
			u.begun = true
			go u.coordinate()
		}
		for _, t := range part.t.family() {
			t.start()
		}
		u.post(part.t, control(func(t *task) {
			for _, c := range t.clocks {
				c.announce()
			}
		}))
	}
	for _, part := range fresh {
		var ctx context.Context
		ctx, part.cancel = context.WithCancel(e.readCtx)
		go part.pumpLoop(part.u)
		e.wg.Add(1)
		go part.u.readPartition(ctx, part)
	}
	e.arrived(sub)
	e.addedOnce.Do(func() { close(e.added) })
	return nil
}

// arrived notes that a source has named what it has to read, or that it has nothing. It runs on the root coordinator.
func (e *engine) arrived(sub *subscriber) {
	for _, x := range e.exchanges {
		x.arrived(e.root, sub.src.node().name)
	}
}

// addPartition builds one partition's tasks, in a unit of their own where the topology is co-partitioned.
func (e *engine) addPartition(sub *subscriber, p Partition) (*partition, error) {
	name := sub.src.node().name
	if e.partition(sub.src, p.ID) != nil {
		return nil, fmt.Errorf("partition %q is assigned already", p.ID)
	}
	from, known, err := e.position(name, p.ID)
	if err != nil {
		return nil, err
	}
	if !known {
		if !p.Committed.IsZero() && e.t.stateful() && e.db != nil && (e.cold || e.co) && !e.t.cfg.allowColdStart && !e.t.cfg.drop[e.t.name] {
			err := &NodeError{e.t.name, name, fmt.Errorf("%w: the broker knows position %d of partition %s, but the store has no state for this topology; bring the store's directory here, or set flow.AllowColdStart() to start empty", ErrStateElsewhere, p.Committed.Offset, p.ID)}
			e.fail(err)
			return nil, err
		}
		from = p.Committed
	}
	u := e.root
	if e.co {
		scope, err := e.registry.scope(p.ID)
		if err != nil {
			err = &NodeError{e.t.name, name, err}
			e.fail(err)
			return nil, err
		}
		u = newUnit(e, p.ID, scope)
		u.epoch = e.root.epoch
	}
	part := sub.src.newPartition(u, sub, p)
	part.pos, part.emitted, part.ackedPos = from, from, from
	if e.db != nil {
		for _, c := range part.t.clocks {
			if err := c.restoreClock(); err != nil {
				return nil, &NodeError{e.t.name, name, err}
			}
		}
	}
	for _, t := range part.t.family() {
		u.tasks = append(u.tasks, t)
		if err := t.open(e.ctx); err != nil {
			e.fail(err)
			return nil, err
		}
	}
	u.parts = append(u.parts, part)
	e.enlist(part)
	return part, nil
}

func (e *engine) partition(src sourceNode, id string) *partition {
	for _, u := range e.all() {
		for _, p := range u.parts {
			if p.src == src && p.p.ID == id {
				return p
			}
		}
	}
	return nil
}

func (u *unit) readPartition(ctx context.Context, p *partition) {
	defer u.wg.Done()
	defer close(p.readEnd)
	defer close(p.pump)
	name := p.src.node().name
	for n := 1; ; n++ {
		before := p.emitted
		err := guarded(func() error { return p.read(ctx, p.emitted) })
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			break
		}
		if !IsTransient(err) {
			u.fail(&NodeError{u.t.name, name, fmt.Errorf("partition %s: %w", p.p.ID, err)})
			return
		}
		if p.emitted != before {
			n = 1
		}
		if n == 1 || n%12 == 0 {
			u.log.Warn("reading failed, trying again", "node", name, "partition", p.p.ID, "err", err, "attempt", n)
		}
		if u.t.cfg.clock.Sleep(ctx, backoff(n)) != nil {
			return
		}
	}
	// The partition has ended: its last batch first, then the end of its time.
	d := &delivery{part: p, done: make(chan struct{})}
	u.handed.Add(1)
	end := p.end()
	d.m = control(func(t *task) { end.run(t); close(d.done) })
	select {
	case p.pump <- d:
	case <-ctx.Done():
		u.processed(1)
		return
	}
	select {
	case <-d.done:
	case <-u.ctx.Done():
		return
	}
	p.ended.Store(true)
	for _, u := range u.all() {
		u.lookAgain()
	}
	go u.root.do(u.checkEnd)
}

// removePartition stops reading a partition and waits until what it emitted is durable.
func (e *engine) removePartition(ctx context.Context, sub *subscriber, p Partition) error {
	var part *partition
	committed := make(chan struct{})
	if !e.root.do(func() { part = e.partition(sub.src, p.ID) }) {
		return ErrStopped
	}
	if part == nil {
		return fmt.Errorf("partition %q is not assigned", p.ID)
	}
	part.cancel()
	e.delist(part)
	select {
	case <-part.pumped:
	case <-ctx.Done():
		return ctx.Err()
	}
	u := part.u
	if !u.do(func() {
		u.afterCommit = append(u.afterCommit, func() { close(committed) })
		u.kickNow(triggerRemove)
	}) {
		return ErrStopped
	}
	select {
	case <-committed:
	case <-ctx.Done():
		return ctx.Err()
	case <-e.ctx.Done():
		return ErrStopped
	}
	if e.co {
		u.stops <- stopRequest{}
		<-u.ended
		e.root.do(func() {
			for _, t := range u.tasks {
				t.stop()
			}
			e.forget(u)
		})
		return nil
	}
	u.do(func() {
		if u.drain() != nil {
			return
		}
		defer u.resume()
		for _, t := range part.t.family() {
			for _, f := range t.inputs {
				f()
			}
			t.stop()
			u.tasks = without(u.tasks, t)
		}
		u.parts = without(u.parts, part)
	})
	return nil
}

func without[T comparable](s []T, x T) []T {
	var r []T
	for _, v := range s {
		if v != x {
			r = append(r, v)
		}
	}
	return r
}

func (u *unit) kickNow(why string) {
	select {
	case u.kicks <- why:
	default:
	}
}

// drain pauses the sources and waits until nothing is in flight. It runs on the coordinator.
func (u *unit) drain() error {
	u.paused.Store(true)
	u.wakeAsync()
	slow := u.t.cfg.clock.NewTimer(time.Second)
	defer slow.Stop()
	for u.inflight.Load() != 0 {
		select {
		case <-u.quiet:
		case <-u.ctx.Done():
			return u.stoppedErr()
		case <-slow.C():
			u.log.Warn("an epoch waits for a slow node", "node", u.busiest(), "in_flight", u.inflight.Load())
		}
	}
	return u.failure()
}

// busiest names the task with the fullest queue.
func (u *unit) busiest() string {
	name, n := "", -1
	for _, t := range u.tasks {
		if l := len(t.box); l > n {
			name, n = t.id, l
		}
	}
	return name
}

func (u *unit) resume() {
	u.paused.Store(false)
	u.wakeAsync()
	u.lookAgain()
}

// --- store ---

func (e *engine) openStore() error {
	cfg := &e.t.cfg
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	e.storeID, e.cold = hex.EncodeToString(id[:]), true
	e.seed = binary.LittleEndian.Uint64(id[:])
	e.generation = firstGeneration(cfg.clock.Now())
	e.registry = newRegistry()
	if cfg.store == nil {
		return nil
	}
	db, err := cfg.store.Open(e.t.name)
	if err != nil {
		return err
	}
	e.storeDB = db
	if !cfg.store.Durable() {
		return nil
	}
	e.db = db
	if err := e.loadMeta(); err != nil {
		_ = db.Close()
		return err
	}
	return nil
}

// firstGeneration is the incarnation of a new store: minutes since 2020. A version column is generation<<40 | sequence, so it must
// fit 24 bits, and the generation of a store that replaces a dropped one must be above the old one's.
func firstGeneration(now time.Time) uint64 {
	m := now.Sub(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)) / time.Minute
	return uint64(max(m, 1))
}

func metaKey(name string) []byte { return append([]byte{prefixMeta}, name...) }

func (e *engine) loadMeta() error {
	if e.t.cfg.drop[e.t.name] {
		b := e.db.NewBatch()
		b.DeleteRange([]byte{prefixMeta}, []byte{prefixMeta + 1})
		b.DeleteRange([]byte{prefixPosition}, []byte{prefixPosition + 1})
		b.DeleteRange([]byte{prefixValve}, []byte{prefixValve + 1})
		b.DeleteRange([]byte{prefixNode}, []byte{prefixNode + 1})
		if err := errors.Join(b.Commit(), b.Close()); err != nil {
			return err
		}
	}
	if _, ok, err := e.db.Get(metaKey("finished")); err != nil {
		return err
	} else if ok {
		return fmt.Errorf("%w: its run was flushed to the end, open windows included; start it under a new name, or with flow.DropState(%q)", ErrFinished, e.t.name)
	}
	id, ok, err := e.db.Get(metaKey("store"))
	if err != nil {
		return err
	}
	if ok {
		e.storeID = string(id)
	}
	raw, _ := hex.DecodeString(e.storeID)
	if len(raw) == 8 {
		e.seed = binary.LittleEndian.Uint64(raw)
	}
	if b, ok, err := e.db.Get(metaKey("incarnation")); err != nil {
		return err
	} else if ok && len(b) == 8 {
		e.generation = max(e.generation, binary.BigEndian.Uint64(b)+1)
	}
	if b, ok, err := e.db.Get(metaKey("epoch")); err != nil {
		return err
	} else if ok && len(b) == 8 {
		e.root.epoch, e.cold = binary.BigEndian.Uint64(b), false
	}
	b, _, err := e.db.Get(metaKey("nodes"))
	if err != nil {
		return err
	}
	if err := e.registry.load(b, e.t); err != nil {
		return err
	}
	batch := e.db.NewBatch()
	for _, id := range e.registry.dropped {
		batch.DeleteRange(nodePrefix(id, 0)[:3], nodePrefix(id+1, 0)[:3])
	}
	batch.Put(metaKey("store"), []byte(e.storeID))
	batch.Put(metaKey("incarnation"), binary.BigEndian.AppendUint64(nil, e.generation))
	batch.Put(metaKey("nodes"), e.registry.encode())
	return errors.Join(batch.Commit(), batch.Close())
}

// storeNodes writes the list of nodes and scopes at once, where epochs of several units commit side by side: none of them may use a
// number that is not stored yet.
func (e *engine) storeNodes() error {
	if !e.co || e.db == nil || !e.registry.takeChanged() {
		return nil
	}
	b := e.db.NewBatch()
	b.Put(metaKey("nodes"), e.registry.encode())
	if err := errors.Join(b.Commit(), b.Close()); err != nil {
		return &NodeError{Topology: e.t.name, Err: fmt.Errorf("the store did not take the list of nodes: %w", err)}
	}
	return nil
}

func (e *engine) nodeID(name string) uint16 { return e.registry.id(name) }

// checkFingerprint compares what a node's state is now with what the store holds.
func (e *engine) checkFingerprint(s *nodeState) error {
	if e.db == nil {
		return nil
	}
	return e.registry.check(e.t.name, s)
}

func (e *engine) positionKey(source, partition string) []byte {
	k := []byte{prefixPosition}
	k = binary.BigEndian.AppendUint16(k, e.nodeID(source))
	return append(k, partition...)
}

func (e *engine) position(source, partition string) (p Position, known bool, err error) {
	if e.db == nil {
		return p, false, nil
	}
	b, ok, err := e.db.Get(e.positionKey(source, partition))
	if err != nil || !ok {
		return p, false, err
	}
	if len(b) < 8 {
		return p, false, &NodeError{e.t.name, source, errCorrupt}
	}
	return Position{Offset: int64(binary.BigEndian.Uint64(b)), Token: string(b[8:])}, true, nil
}

// Counter is one of a node's counters.
type Counter struct {
	Node, Name string
	Value      int64
}

// counterList returns all counters, sorted.
func (e *engine) counterList() []Counter {
	var l []Counter
	add := func(node, name string, v int64) {
		if v != 0 {
			l = append(l, Counter{node, name, v})
		}
	}
	for n, s := range e.stats {
		add(n.name, "in", s.in.Load())
		add(n.name, "out", s.out.Load())
		add(n.name, "errors", s.errors.Load())
		add(n.name, "retries", s.retries.Load())
		add(n.name, "dropped", s.dropped.Load())
		add(n.name, "dead_letters", s.deadLetters.Load())
	}
	e.countersMu.Lock()
	for k, v := range e.counters {
		for i := len(k) - 1; i >= 0; i-- {
			if k[i] == '.' {
				add(k[:i], k[i+1:], v)
				break
			}
		}
	}
	e.countersMu.Unlock()
	sort.Slice(l, func(i, j int) bool {
		if l[i].Node != l[j].Node {
			return l[i].Node < l[j].Node
		}
		return l[i].Name < l[j].Name
	})
	return l
}

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

// unit runs a topology: tasks, sources, and the epochs that bind them. One goroutine, the coordinator, owns the epochs; it alone
// pauses, collects and changes which tasks there are.
type unit struct {
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
	epoch      uint64
	seed       uint64
	registry   *registry
	cold       bool // the store had no committed epoch

	exchanges map[int]*exchange
	tasks     []*task
	parts     []*partition
	subs      []*subscriber
	stats     map[*node]*nodeStats

	inflight  atomic.Int64
	handed    atomic.Int64 // batches that sources have emitted and that are not processed
	handedQ   chan struct{}
	added     chan struct{} // closed when the first partitions are there
	addedOnce sync.Once
	quiet     chan struct{}
	paused    atomic.Bool
	accepted  atomic.Int64 // source records
	committed atomic.Int64
	changeMu  sync.Mutex
	changed   chan struct{} // closed and replaced when emitters should look again

	kicks   chan string
	wake    chan struct{} // records of a source with a window came in: the coordinator may have to arm its idle timer
	cmds    chan func()
	stops   chan stopRequest
	spare   chan *changes
	subbed  atomic.Int32
	allSub  chan struct{}
	closed  chan struct{} // everything has ended
	err     error
	errOnce sync.Once
	errMu   sync.Mutex
	stopped atomic.Bool
	wg      sync.WaitGroup // sources' goroutines
	running atomic.Int32   // sources whose Run has not returned

	deadW       map[*sinkImpl[DeadLetter]]SinkWriter[DeadLetter]
	lastCommit  time.Duration
	commitBusy  bool
	commitDone  chan commitResult
	afterCommit []func()
	countersMu  sync.Mutex
	counters    map[string]int64
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

func newUnit(t *Topology) (*unit, error) {
	u := &unit{
		t: t, log: t.cfg.log.With("topology", t.name),
		exchanges: map[int]*exchange{}, stats: map[*node]*nodeStats{}, counters: map[string]int64{},
		quiet: make(chan struct{}, 1), handedQ: make(chan struct{}, 1), added: make(chan struct{}), changed: make(chan struct{}), kicks: make(chan string, 1), wake: make(chan struct{}, 1), cmds: make(chan func()),
		stops: make(chan stopRequest, 16), spare: make(chan *changes, 64), allSub: make(chan struct{}), closed: make(chan struct{}),
		commitDone: make(chan commitResult, 1), deadW: map[*sinkImpl[DeadLetter]]SinkWriter[DeadLetter]{},
	}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	u.readCtx, u.endRead = context.WithCancel(u.ctx)
	for _, n := range t.nodes {
		u.stats[n] = &nodeStats{}
	}
	if err := u.openStore(); err != nil {
		u.cancel()
		if ne := (*NodeError)(nil); errors.As(err, &ne) {
			return nil, err
		}
		return nil, &NodeError{Topology: t.name, Err: err}
	}
	for _, s := range t.sources {
		u.subs = append(u.subs, newSubscriber(u, s))
	}
	go u.coordinate()
	return u, nil
}

// fail stops the topology with an error: no last epoch, nothing acked after the last commit.
func (u *unit) fail(err error) {
	u.errOnce.Do(func() {
		u.errMu.Lock()
		u.err = err
		u.errMu.Unlock()
		if !errors.Is(err, errAborted) {
			u.log.Error("topology stops", "err", err)
		}
		u.cancel()
	})
}

func (u *unit) failure() error {
	u.errMu.Lock()
	defer u.errMu.Unlock()
	return u.err
}

func (u *unit) stoppedErr() error {
	if err := u.failure(); err != nil {
		return err
	}
	return ErrStopped
}

func (u *unit) statsOf(n *node) *nodeStats { return u.stats[n] }

func (nt *nodeTask) count(name string, n int64) { nt.t.u.count(nt.node, name, n) }

func (u *unit) count(node, name string, n int64) {
	u.countersMu.Lock()
	u.counters[node+"."+name] += n
	u.countersMu.Unlock()
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

// processed takes a batch off the count of those emitted.
func (u *unit) processed() {
	if u.handed.Add(-1) == 0 {
		select {
		case u.handedQ <- struct{}{}:
		default:
		}
	}
}

// enter waits until sources may hand out a batch, and counts it as in flight. It returns false when the topology stops.
func (u *unit) enter() bool {
	for {
		u.changeMu.Lock()
		changed := u.changed
		u.changeMu.Unlock()
		pending := u.accepted.Load() - u.committed.Load()
		if pending >= u.t.cfg.maxPending {
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

func (u *unit) subscribed(context.Context) {
	if int(u.subbed.Add(1)) == len(u.subs) {
		close(u.allSub)
	}
}

func (u *unit) requestStop(r stopRequest) {
	u.stopped.Store(true)
	select {
	case u.stops <- r:
	default: // enough asked already
	}
}

func (u *unit) newTask(id string, index int) *task {
	return &task{u: u, id: id, index: index, ctx: u.ctx, box: make(chan parcel, mailboxSize), done: make(chan struct{}), quit: make(chan struct{}), lo: 0, hi: KeyGroups}
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
func (u *unit) start() error {
	for _, s := range u.t.sinks {
		rt := SinkRuntime{
			Topology: u.t.name, Node: s.node().name, Clock: u.t.cfg.clock, Log: u.log.With("node", s.node().name),
			StoreID: u.storeID, Incarnation: u.generation,
			RequestEpoch: func() { u.kick(triggerSink) },
			Count:        func(name string, n int64) { u.count(s.node().name, name, n) },
		}
		if err := u.retry(s.node().name, "open", func(ctx context.Context) error { return s.open(ctx, rt) }); err != nil {
			return err
		}
	}
	for _, d := range u.t.dead.sinks {
		w, err := d.sink.Writer(u.ctx, TaskInfo{Generation: u.generation})
		if err != nil {
			return &NodeError{u.t.name, d.n.name, err}
		}
		u.deadW[d] = w
	}
	// All exchanges have their tasks before any chain is built: senders look their workers up.
	var order []*exchange
	for _, k := range u.t.keyings {
		x := k.exchange()
		if x == nil {
			continue
		}
		if x.parts == 0 {
			x.parts = u.t.cfg.parallelism
		}
		x.fused = x.parts == 1 && u.t.singlePartition(k)
		u.exchanges[x.id] = x
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
		if u.db != nil {
			if err := x.restore(u); err != nil {
				return &NodeError{u.t.name, x.owner, err}
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
				if err := t.open(u.ctx); err != nil {
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
	return u.failure()
}

// retry calls f until it succeeds or fails for good.
func (u *unit) retry(node, what string, f func(ctx context.Context) error) error {
	for n := 1; ; n++ {
		err := guarded(func() error { return f(u.ctx) })
		if err == nil {
			return nil
		}
		if u.ctx.Err() != nil {
			return u.stoppedErr()
		}
		if !IsTransient(err) {
			return &NodeError{u.t.name, node, err}
		}
		u.stats[u.t.byName[node]].retries.Add(1)
		if n == 1 || n%12 == 0 {
			u.log.Warn("transient error, trying again", "node", node, "doing", what, "err", err, "attempt", n)
		}
		if u.t.cfg.clock.Sleep(u.ctx, backoff(n)) != nil {
			return u.stoppedErr()
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
func (u *unit) openSources() error {
	for _, s := range u.t.sources {
		name := s.node().name
		rt := SourceRuntime{
			Topology: u.t.name, Node: name, Clock: u.t.cfg.clock, Log: u.log.With("node", name),
			Count: func(counter string, n int64) { u.count(name, counter, n) },
		}
		if err := u.retry(name, "open", func(ctx context.Context) error { return s.open(ctx, rt) }); err != nil {
			return err
		}
	}
	for _, sub := range u.subs {
		u.running.Add(1)
		u.wg.Add(1)
		go u.runSource(sub)
	}
	return nil
}

func (u *unit) runSource(sub *subscriber) {
	defer u.wg.Done()
	a := &assign{u: u, sub: sub}
	for n := 1; ; n++ {
		err := guarded(func() error { return sub.src.run(u.readCtx, a) })
		if u.readCtx.Err() != nil {
			return
		}
		if err == nil {
			break
		}
		if !IsTransient(err) {
			u.fail(&NodeError{u.t.name, sub.src.node().name, err})
			return
		}
		if n == 1 || n%12 == 0 {
			u.log.Warn("source failed, trying again", "node", sub.src.node().name, "err", err, "attempt", n)
		}
		if u.t.cfg.clock.Sleep(u.readCtx, backoff(n)) != nil {
			return
		}
	}
	u.running.Add(-1)
	u.do(u.checkEnd)
}

// do runs f on the coordinator, which is then between epochs.
func (u *unit) do(f func()) bool {
	done := make(chan struct{})
	select {
	case u.cmds <- func() { f(); close(done) }:
	case <-u.ctx.Done():
		return false
	case <-u.closed:
		return false
	}
	<-done
	return true
}

// checkEnd flushes the topology when every partition of every source has ended.
func (u *unit) checkEnd() {
	if u.running.Load() > 0 || len(u.subs) == 0 {
		return
	}
	for _, p := range u.parts {
		if !p.ended {
			return
		}
	}
	u.requestStop(stopRequest{flush: true})
}

// assign is a source's view of the unit.
type assign struct {
	u   *unit
	sub *subscriber
}

func (a *assign) Add(ps ...Partition) error {
	var err error
	if !a.u.do(func() { err = a.u.addPartitions(a.sub, ps) }) {
		return ErrStopped
	}
	return err
}

func (a *assign) Remove(ctx context.Context, ps ...Partition) error {
	for _, p := range ps {
		if err := a.u.removePartition(ctx, a.sub, p); err != nil {
			return err
		}
	}
	return nil
}

// addPartitions builds the tasks of new partitions and starts reading. It runs on the coordinator.
func (u *unit) addPartitions(sub *subscriber, ps []Partition) error {
	if u.readCtx.Err() != nil {
		return ErrStopped
	}
	if err := u.drain(); err != nil {
		return err
	}
	defer u.resume()
	name := sub.src.node().name
	u.registry.keep(name)
	var fresh []*partition
	for _, p := range ps {
		if u.partition(sub.src, p.ID) != nil {
			return fmt.Errorf("partition %q is assigned already", p.ID)
		}
		from, known, err := u.position(name, p.ID)
		if err != nil {
			return err
		}
		if !known {
			if !p.Committed.IsZero() && u.t.stateful() && u.db != nil && u.cold && !u.t.cfg.allowColdStart && !u.t.cfg.drop[u.t.name] {
				err := &NodeError{u.t.name, name, fmt.Errorf("%w: the broker knows position %d of partition %s, but the store has no state for this topology; bring the store's directory here, or set flow.AllowColdStart() to start empty", ErrStateElsewhere, p.Committed.Offset, p.ID)}
				u.fail(err)
				return err
			}
			from = p.Committed
		}
		part := sub.src.newPartition(u, sub, p)
		part.pos, part.emitted, part.ackedPos = from, from, from
		if u.db != nil {
			for _, c := range part.t.clocks {
				if err := c.restoreClock(); err != nil {
					return &NodeError{u.t.name, name, err}
				}
			}
		}
		for _, t := range part.t.family() {
			u.tasks = append(u.tasks, t)
			if err := t.open(u.ctx); err != nil {
				u.fail(err)
				return err
			}
		}
		fresh = append(fresh, part)
		u.parts = append(u.parts, part)
	}
	for _, part := range fresh {
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
		ctx, part.cancel = context.WithCancel(u.readCtx)
		go part.pumpLoop(u)
		u.wg.Add(1)
		go u.readPartition(ctx, part)
	}
	u.addedOnce.Do(func() { close(u.added) })
	return nil
}

func (u *unit) partition(src sourceNode, id string) *partition {
	for _, p := range u.parts {
		if p.src == src && p.p.ID == id {
			return p
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
		u.processed()
		return
	}
	select {
	case <-d.done:
	case <-u.ctx.Done():
		return
	}
	go u.do(func() { p.ended = true; u.checkEnd() })
}

// removePartition stops reading a partition and waits until what it emitted is durable.
func (u *unit) removePartition(ctx context.Context, sub *subscriber, p Partition) error {
	var part *partition
	committed := make(chan struct{})
	if !u.do(func() { part = u.partition(sub.src, p.ID) }) {
		return ErrStopped
	}
	if part == nil {
		return fmt.Errorf("partition %q is not assigned", p.ID)
	}
	part.cancel()
	select {
	case <-part.pumped:
	case <-ctx.Done():
		return ctx.Err()
	}
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
	case <-u.ctx.Done():
		return ErrStopped
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
		u.tasks = without(u.tasks, part.t)
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

func (u *unit) openStore() error {
	cfg := &u.t.cfg
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	u.storeID, u.cold = hex.EncodeToString(id[:]), true
	u.seed = binary.LittleEndian.Uint64(id[:])
	u.generation = firstGeneration(cfg.clock.Now())
	u.registry = newRegistry()
	if cfg.store == nil {
		return nil
	}
	db, err := cfg.store.Open(u.t.name)
	if err != nil {
		return err
	}
	u.storeDB = db
	if !cfg.store.Durable() {
		return nil
	}
	u.db = db
	if err := u.loadMeta(); err != nil {
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

func (u *unit) loadMeta() error {
	if u.t.cfg.drop[u.t.name] {
		b := u.db.NewBatch()
		b.DeleteRange([]byte{prefixMeta}, []byte{prefixMeta + 1})
		b.DeleteRange([]byte{prefixPosition}, []byte{prefixPosition + 1})
		b.DeleteRange([]byte{prefixValve}, []byte{prefixValve + 1})
		b.DeleteRange([]byte{prefixNode}, []byte{prefixNode + 1})
		if err := errors.Join(b.Commit(), b.Close()); err != nil {
			return err
		}
	}
	if _, ok, err := u.db.Get(metaKey("finished")); err != nil {
		return err
	} else if ok {
		return fmt.Errorf("%w: its run was flushed to the end, open windows included; start it under a new name, or with flow.DropState(%q)", ErrFinished, u.t.name)
	}
	id, ok, err := u.db.Get(metaKey("store"))
	if err != nil {
		return err
	}
	if ok {
		u.storeID = string(id)
	}
	raw, _ := hex.DecodeString(u.storeID)
	if len(raw) == 8 {
		u.seed = binary.LittleEndian.Uint64(raw)
	}
	if b, ok, err := u.db.Get(metaKey("incarnation")); err != nil {
		return err
	} else if ok && len(b) == 8 {
		u.generation = max(u.generation, binary.BigEndian.Uint64(b)+1)
	}
	if b, ok, err := u.db.Get(metaKey("epoch")); err != nil {
		return err
	} else if ok && len(b) == 8 {
		u.epoch, u.cold = binary.BigEndian.Uint64(b), false
	}
	b, _, err := u.db.Get(metaKey("nodes"))
	if err != nil {
		return err
	}
	if err := u.registry.load(b, u.t); err != nil {
		return err
	}
	batch := u.db.NewBatch()
	for _, id := range u.registry.dropped {
		batch.DeleteRange(nodePrefix(id, 0)[:3], nodePrefix(id+1, 0)[:3])
	}
	batch.Put(metaKey("store"), []byte(u.storeID))
	batch.Put(metaKey("incarnation"), binary.BigEndian.AppendUint64(nil, u.generation))
	batch.Put(metaKey("nodes"), u.registry.encode())
	return errors.Join(batch.Commit(), batch.Close())
}

func (u *unit) nodeID(name string) uint16 { return u.registry.id(name) }

// checkFingerprint compares what a node's state is now with what the store holds.
func (u *unit) checkFingerprint(s *nodeState) error {
	if u.db == nil {
		return nil
	}
	return u.registry.check(u.t.name, s)
}

func (u *unit) positionKey(source, partition string) []byte {
	k := []byte{prefixPosition}
	k = binary.BigEndian.AppendUint16(k, u.nodeID(source))
	return append(k, partition...)
}

func (u *unit) position(source, partition string) (p Position, known bool, err error) {
	if u.db == nil {
		return p, false, nil
	}
	b, ok, err := u.db.Get(u.positionKey(source, partition))
	if err != nil || !ok {
		return p, false, err
	}
	if len(b) < 8 {
		return p, false, &NodeError{u.t.name, source, errCorrupt}
	}
	return Position{Offset: int64(binary.BigEndian.Uint64(b)), Token: string(b[8:])}, true, nil
}

// Counter is one of a node's counters.
type Counter struct {
	Node, Name string
	Value      int64
}

// counterList returns all counters, sorted.
func (u *unit) counterList() []Counter {
	var l []Counter
	add := func(node, name string, v int64) {
		if v != 0 {
			l = append(l, Counter{node, name, v})
		}
	}
	for n, s := range u.stats {
		add(n.name, "in", s.in.Load())
		add(n.name, "out", s.out.Load())
		add(n.name, "errors", s.errors.Load())
		add(n.name, "retries", s.retries.Load())
		add(n.name, "dropped", s.dropped.Load())
		add(n.name, "dead_letters", s.deadLetters.Load())
	}
	u.countersMu.Lock()
	for k, v := range u.counters {
		for i := len(k) - 1; i >= 0; i-- {
			if k[i] == '.' {
				add(k[:i], k[i+1:], v)
				break
			}
		}
	}
	u.countersMu.Unlock()
	sort.Slice(l, func(i, j int) bool {
		if l[i].Node != l[j].Node {
			return l[i].Node < l[j].Node
		}
		return l[i].Name < l[j].Name
	})
	return l
}

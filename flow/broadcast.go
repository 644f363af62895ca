package flow

import (
	"context"
	"fmt"
	"iter"
	"maps"

	"github.com/millrace-stream/millrace/flow/codec"
)

// BroadcastOperator processes a keyed stream beside a small one that every task sees whole: rules, thresholds, metadata. It may be an
// Opener, a WatermarkHandler, a TimerHandler, a ClockTimerHandler and an io.Closer, as a KeyedOperator may.
type BroadcastOperator[K comparable, T, V, Out any] interface {
	Process(ctx context.Context, key K, r *Record[T], out *Output[Out]) error
	// ProcessBroadcast is called for the same records in every task, and must do the same in each: change a Shared, nothing that
	// belongs to keys. What it emits comes out once per task.
	ProcessBroadcast(ctx context.Context, r *Record[V], out *Output[Out]) error
}

// ApplyBroadcast adds an operator on a keyed stream that also receives all of the control stream, in each of its tasks; newOp makes the
// instance of each task.
//
// Order: every task takes the control stream's records in the order of their partition, so that all come to the same state; between them
// and the keyed records there is no order within an epoch. What an epoch has committed of the control stream is seen by every record
// behind that epoch, also after a crash. Event time is the keyed stream's alone: a control stream that says nothing for days holds
// nothing back, and may be without times.
//
// A control record that fails for good goes to the dead letters once, by the word of the first task.
func ApplyBroadcast[K comparable, T, V, Out any, Op BroadcastOperator[K, T, V, Out]](s KeyedStream[K, T], control Stream[V], name string, newOp func() Op, opts ...NodeOption) Stream[Out] {
	l, r := s.in.stream(), control.stream()
	cfg := Configure(&NodeConfig{}, opts)
	switch {
	case newOp == nil:
		cfg.Problem(noInstance, "")
	case l.t != r.t:
		cfg.Problem(fmt.Sprintf("its inputs belong to the topologies %q and %q", l.t.name, r.t.name), "build one topology from one New")
	case s.edge.part.co:
		cfg.Problem("a broadcast reaches every task, and a co-partitioned topology keeps them apart", "take flow.CoPartitioned out")
	}
	t := l.t
	n := t.addOperator(name, cfg, l.timed)
	p := newPort[Out](t, n, "").like(l.timed, true)
	j := &joining[K]{
		part: &partitioning{parallelism: n.cfg.Parallelism, id: t.nextPartitioning(), co: s.edge.part.co, nodes: []string{name}},
		from: []*node{l.from}, owner: n, code: s.edge.code, apart: true,
	}
	if j.code == nil {
		return p // KeyBy has said so
	}
	t.keyings = append(t.keyings, j)
	j.make = func(b *builder) any {
		tab := keyTableOf(b, j.code)
		stage := newBroadcastStage(b, n, newOp(), tab, p)
		return &broadcastEnd[K, T, V, Out]{exchangeWorker[K, T]{entry: newKeyedEntry(b, tab, s.key, n, stage.keyed), gate: b.t.gate}, stage}
	}
	s.edge.joined = true
	t.addEdge(l.from, n, l.label, true)
	t.addEdge(r.from, n, r.label, false)
	l.consumers = append(l.consumers, func(b *builder) receiver[T] {
		return newExchangeSender(b, j.part.id, s.key, j.code, n, "", func(t *task) *exchangeWorker[K, T] {
			return &t.entry.(*broadcastEnd[K, T, V, Out]).exchangeWorker
		})
	})
	r.consumers = append(r.consumers, func(b *builder) receiver[V] {
		s := &broadcastSender[V]{t: b.t}
		for _, t := range b.u.exchanges[j.part.id].tasks {
			stage := t.entry.(*broadcastEnd[K, T, V, Out]).stage
			s.tasks, s.pushes = append(s.tasks, t), append(s.pushes, stage.pushControl)
		}
		return s
	})
	return p
}

// broadcastEnd is where both inputs come in within a worker.
type broadcastEnd[K comparable, T, V, Out any] struct {
	exchangeWorker[K, T]
	stage *broadcastStage[K, T, V, Out]
}

// broadcastSender sends each batch to every worker. Marks end here.
type broadcastSender[V any] struct {
	t      *task
	tasks  []*task
	pushes []func([]Record[V])
}

func (s *broadcastSender[V]) mark(mark) {}

func (s *broadcastSender[V]) push(batch []Record[V]) {
	if s.t.err != nil || len(batch) == 0 {
		return
	}
	copied := append([]Record[V](nil), batch...) // read only from here on, shared by all
	for i, t := range s.tasks {
		push := s.pushes[i]
		s.t.u.post(t, control(func(*task) { push(copied) }))
	}
}

// broadcastStage runs a BroadcastOperator: a keyed stage and, on the same node's task, the control stream.
type broadcastStage[K comparable, T, V, Out any] struct {
	keyed *keyedStage[K, T, Out]
	op    BroadcastOperator[K, T, V, Out]
}

func newBroadcastStage[K comparable, T, V, Out any](b *builder, n *node, op BroadcastOperator[K, T, V, Out], tab *keyTable[K], p *port[Out]) *broadcastStage[K, T, V, Out] {
	nt := newNodeTask(b, n)
	nt.keys = tab
	k := &keyedStage[K, T, Out]{nodeTask: nt, op: op, tab: tab, next: p.build(b)}
	k.batch, _ = op.(KeyedBatchOperator[K, T, Out])
	k.wmh, _ = op.(WatermarkHandler[Out])
	k.stepwise(op)
	k.th, _ = op.(TimerHandler[K, Out])
	k.alarmed(op)
	k.open(op)
	return &broadcastStage[K, T, V, Out]{k, op}
}

func (s *broadcastStage[K, T, V, Out]) pushControl(in []Record[V]) {
	k := s.keyed
	if k.t.err != nil {
		return
	}
	first := k.t.index == 0
	if first {
		k.stats.in.Add(int64(len(in)))
	}
	for i := 0; i < len(in) && k.t.err == nil; {
		err := s.one(&in[i])
		if err == nil {
			k.attempts = 0
			i++
			continue
		}
		if !first && !IsTransient(err) {
			i++ // the first task decides
			continue
		}
		if !k.fate(err, letterOf(&in[i])) {
			i++
		}
	}
	k.out.buf = flushTo(k.out.buf, k.next, k.stats)
	k.flushSides()
}

func (s *broadcastStage[K, T, V, Out]) one(r *Record[V]) (err error) {
	before := len(s.keyed.out.buf)
	defer func() {
		if p := recover(); p != nil {
			err = panicError(p)
		}
		if err != nil {
			s.keyed.out.truncate(before)
		}
	}()
	return s.op.ProcessBroadcast(s.keyed.t.ctx, r, &s.keyed.out)
}

// Shared is state that every task of a broadcast operator holds whole: a map from ids to values. Change it in ProcessBroadcast only.
// Open it by OpenShared.
//
// State: all entries, in every task's memory and once in the store.
type Shared[ID comparable, V any] struct {
	s     *nodeState
	space byte
	ids   *keyBytes[ID]
	code  codec.Codec[V]
	vals  map[ID]V
	dirty map[ID]bool
	store bool // this task writes it
}

// OpenShared opens shared state. Call it in Open, in the same order at each start; ids must have natural bytes.
func OpenShared[ID comparable, V any](rt Runtime, name string, s *Shared[ID, V], opts ...StateOption) (err error) {
	if s.ids = bytesOf[ID](); s.ids == nil {
		return fmt.Errorf("shared %q: ids of type %T have no natural bytes: use a string, a number or a byte array", name, *new(ID))
	}
	if s.code, err = stateCodecOf[V](name, opts); err != nil {
		return err
	}
	s.s = rt.n.state()
	s.vals, s.dirty = map[ID]V{}, map[ID]bool{}
	s.store = s.s.lo == 0 && s.s.u.db != nil
	s.space = s.s.nextSpace("shared", name, s.ids.id+"/"+s.code.ID(), s)
	return s.s.scan(s.space, func(k, v []byte) error {
		id, ok := s.ids.decode(k)
		if !ok {
			return errCorrupt
		}
		var val V
		if err := s.code.Decode(v, &val); err != nil {
			return fmt.Errorf("shared %q: %w", name, err)
		}
		s.vals[id] = val
		return nil
	})
}

// Get returns the value of an id.
func (s *Shared[ID, V]) Get(id ID) (V, bool) {
	v, ok := s.vals[id]
	return v, ok
}

// Len is the number of entries.
func (s *Shared[ID, V]) Len() int { return len(s.vals) }

// All visits the entries, in no order.
func (s *Shared[ID, V]) All() iter.Seq2[ID, V] { return maps.All(s.vals) }

// Put sets the value of an id.
func (s *Shared[ID, V]) Put(id ID, v V) {
	id = s.ids.clone(id)
	s.vals[id] = v
	s.touch(id)
}

// Delete forgets an id.
func (s *Shared[ID, V]) Delete(id ID) {
	if _, ok := s.vals[id]; ok {
		delete(s.vals, id)
		s.touch(id)
	}
}

func (s *Shared[ID, V]) touch(id ID) {
	if s.store {
		s.dirty[id] = true
	}
}

func (s *Shared[ID, V]) collect(w *changes) {
	for id := range s.dirty {
		w.space(s.s.id, s.space)
		w.buf = s.ids.append(w.buf, id)
		v, ok := s.vals[id]
		if !ok {
			w.delete()
			continue
		}
		w.value()
		b, err := s.code.Append(w.buf, &v)
		if err != nil {
			s.s.u.fail(&NodeError{s.s.u.t.name, s.s.n.name, err})
			return
		}
		w.buf = b
		w.put()
	}
	clear(s.dirty)
}

package flow

import (
	"context"
	"errors"
	"fmt"
)

// JoinOperator processes two keyed streams that share their keys, and so one state and one event time: the earlier of the two. Records of
// one key come to one task; each input keeps its own order, between the two there is none. It may be an Opener, a WatermarkHandler, a
// TimerHandler, a ClockTimerHandler and an io.Closer, as a KeyedOperator may.
type JoinOperator[K comparable, T, V, Out any] interface {
	ProcessLeft(ctx context.Context, key K, r *Record[T], out *Output[Out]) error
	ProcessRight(ctx context.Context, key K, r *Record[V], out *Output[Out]) error
}

// JoinBatchOperator is an optional fast path of a JoinOperator, with the contract of KeyedBatchOperator.
type JoinBatchOperator[K comparable, T, V, Out any] interface {
	ProcessLeftBatch(ctx context.Context, keys []Slot, in []Record[T], out *Output[Out]) (n int, err error)
	ProcessRightBatch(ctx context.Context, keys []Slot, in []Record[V], out *Output[Out]) (n int, err error)
}

// ApplyJoin adds an operator on two keyed streams of one topology; newOp makes the instance of each task. Both inputs are exchanged to the
// operator's tasks, also where they were keyed before; not so in a co-partitioned topology, where both must come of one partition.
//
// The watermark is the least of both inputs'. An input whose partitions are all idle holds nothing back.
func ApplyJoin[K comparable, T, V, Out any, Op JoinOperator[K, T, V, Out]](left KeyedStream[K, T], right KeyedStream[K, V], name string, newOp func() Op, opts ...NodeOption) Stream[Out] {
	l, r := left.in.stream(), right.in.stream()
	cfg := Configure(&NodeConfig{}, opts)
	switch {
	case newOp == nil:
		cfg.Problem(noInstance, "")
	case l.t != r.t:
		cfg.Problem(fmt.Sprintf("its inputs belong to the topologies %q and %q", l.t.name, r.t.name), "build one topology from one New")
	case l.timed != r.timed:
		cfg.Problem("one input has event time and the other has not", "assign time on both, or on none")
	case left.edge.code != nil && right.edge.code != nil && left.edge.code.id != right.edge.code.id:
		cfg.Problem("the two KeyBys encode their keys differently", "give both the same KeyCodec")
	}
	t := l.t
	n := t.addOperator(name, cfg, l.timed && r.timed)
	p := newPort[Out](t, n, "").like(l.timed, true)
	j := &joining[K]{
		part: &partitioning{parallelism: n.cfg.Parallelism, id: t.nextPartitioning(), co: left.edge.part.co && right.edge.part.co, nodes: []string{name}},
		from: []*node{l.from, r.from}, owner: n, code: left.edge.code,
	}
	if j.code == nil {
		return p // KeyBy has said so
	}
	t.keyings = append(t.keyings, j)
	make := func(b *builder) *joinEnd[K, T, V] {
		return inTask(b, n, func() *joinEnd[K, T, V] {
			tab := keyTableOf(b, j.code)
			return newJoinEnd(b, tab, newJoinStage(b, n, newOp(), tab, p), left.key, right.key, n)
		})
	}
	j.make = func(b *builder) any { return make(b) }
	left.edge.joined, right.edge.joined = true, true
	t.addEdge(l.from, n, l.label, true)
	t.addEdge(r.from, n, r.label, true)
	l.consumers = append(l.consumers, func(b *builder) receiver[T] {
		if b.u.exchanges[j.part.id].fused {
			return make(b).left.fused()
		}
		return newExchangeSender(b, j.part.id, left.key, j.code, n, "/left", func(t *task) *exchangeWorker[K, T] {
			return t.entry.(*joinEnd[K, T, V]).left.worker(t.gate)
		})
	})
	r.consumers = append(r.consumers, func(b *builder) receiver[V] {
		if b.u.exchanges[j.part.id].fused {
			return make(b).right.fused()
		}
		return newExchangeSender(b, j.part.id, right.key, j.code, n, "/right", func(t *task) *exchangeWorker[K, V] {
			return t.entry.(*joinEnd[K, T, V]).right.worker(t.gate)
		})
	})
	return p
}

// joining is the keyed edge in front of a join.
type joining[K comparable] struct {
	part  *partitioning
	from  []*node
	owner *node
	code  *keyBytes[K]
	make  func(b *builder) any
	// apart: it is never fused.
	apart bool
}

func (j *joining[K]) partition() *partitioning { return j.part }
func (j *joining[K]) used() (*node, int, bool) { return j.from[0], 1, false }
func (j *joining[K]) froms() []*node           { return j.from }
func (j *joining[K]) exchange() *exchange {
	return &exchange{id: j.part.id, owner: j.owner.name, nodes: j.part.nodes, parts: j.part.parallelism, ins: map[string]int{}, make: j.make, apart: j.apart}
}

// joinEnd is where both inputs come in within a task. The marks of an exchanged join are merged by the exchange's gate, those of a fused
// one by the valve.
type joinEnd[K comparable, T, V any] struct {
	left  joinInput[K, T]
	right joinInput[K, V]
	mark  func(mark)
	valve valve
}

func newJoinEnd[K comparable, T, V, Out any](b *builder, tab *keyTable[K], s *joinStage[K, T, V, Out], leftKey func(T) K, rightKey func(V) K, n *node) *joinEnd[K, T, V] {
	e := &joinEnd[K, T, V]{mark: s.left.mark}
	e.together(b, n)
	e.left = joinInput[K, T]{entry: newKeyedEntry(b, tab, leftKey, n, s.left), valve: &e.valve}
	e.right = joinInput[K, V]{entry: newKeyedEntry[K, V](b, tab, rightKey, n, &unmarked[V]{s.right, s.left.mark}), valve: &e.valve}
	return e
}

func (e *joinEnd[K, T, V]) emit(m mark) { e.mark(m) }

// unmarked is the right input, whose marks go the left one's way.
type unmarked[V any] struct {
	keyedReceiver[V]
	to func(mark)
}

func (u *unmarked[V]) mark(m mark) { u.to(m) }

// joinInput is one input of a join within a task.
type joinInput[K comparable, T any] struct {
	entry *keyedEntry[K, T]
	valve *valve
}

func (i joinInput[K, T]) worker(g *gate) *exchangeWorker[K, T] {
	return &exchangeWorker[K, T]{entry: i.entry, gate: g}
}

func (i joinInput[K, T]) fused() receiver[T] {
	return &fusedInput[K, T]{i.entry, i.valve, i.valve.add()}
}

// together checks that both inputs of a fused join have come to one task.
func (e *joinEnd[K, T, V]) together(b *builder, n *node) {
	b.t.openers = append(b.t.openers, func(context.Context) error {
		if len(e.valve.in) == 1 {
			return &NodeError{b.u.t.name, n.name, errors.New("in a co-partitioned topology both inputs of a join must come in one task, but an operator that asks outside (Enrich) stands above one of them only: put it above the place where they part, or behind the join")}
		}
		return nil
	})
}

// fusedInput is an input whose other one comes in the same task.
type fusedInput[K comparable, T any] struct {
	*keyedEntry[K, T]
	valve *valve
	in    int
}

func (f *fusedInput[K, T]) mark(m mark) {
	if m.kind != markSilent {
		f.valve.take(f.in, m, f.next.mark)
	}
}

// joinStage runs a JoinOperator: two keyed stages on one node's task. Marks and timers are the left one's.
type joinStage[K comparable, T, V, Out any] struct {
	left  *keyedStage[K, T, Out]
	right *keyedStage[K, V, Out]
}

func newJoinStage[K comparable, T, V, Out any](b *builder, n *node, op JoinOperator[K, T, V, Out], tab *keyTable[K], p *port[Out]) *joinStage[K, T, V, Out] {
	nt, next := newNodeTask(b, n), p.build(b)
	nt.keys = tab
	s := &joinStage[K, T, V, Out]{
		left:  &keyedStage[K, T, Out]{nodeTask: nt, op: leftOf[K, T, V, Out]{op}, tab: tab, next: next},
		right: &keyedStage[K, V, Out]{nodeTask: nt, op: rightOf[K, T, V, Out]{op}, tab: tab, next: next},
	}
	if batch, ok := op.(JoinBatchOperator[K, T, V, Out]); ok {
		s.left.batch, s.right.batch = leftBatch[K, T, V, Out]{batch}, rightBatch[K, T, V, Out]{batch}
	}
	s.left.wmh, _ = op.(WatermarkHandler[Out])
	s.left.stepwise(op)
	s.left.th, _ = op.(TimerHandler[K, Out])
	s.left.alarmed(op)
	s.left.open(op)
	return s
}

type leftOf[K comparable, T, V, Out any] struct{ JoinOperator[K, T, V, Out] }

func (o leftOf[K, T, V, Out]) Process(ctx context.Context, key K, r *Record[T], out *Output[Out]) error {
	return o.ProcessLeft(ctx, key, r, out)
}

type rightOf[K comparable, T, V, Out any] struct{ JoinOperator[K, T, V, Out] }

func (o rightOf[K, T, V, Out]) Process(ctx context.Context, key K, r *Record[V], out *Output[Out]) error {
	return o.ProcessRight(ctx, key, r, out)
}

type leftBatch[K comparable, T, V, Out any] struct {
	JoinBatchOperator[K, T, V, Out]
}

func (o leftBatch[K, T, V, Out]) ProcessBatch(ctx context.Context, keys []Slot, in []Record[T], out *Output[Out]) (int, error) {
	return o.ProcessLeftBatch(ctx, keys, in, out)
}

type rightBatch[K comparable, T, V, Out any] struct {
	JoinBatchOperator[K, T, V, Out]
}

func (o rightBatch[K, T, V, Out]) ProcessBatch(ctx context.Context, keys []Slot, in []Record[V], out *Output[Out]) (int, error) {
	return o.ProcessRightBatch(ctx, keys, in, out)
}

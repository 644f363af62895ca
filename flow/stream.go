package flow

import "fmt"

// Stream is a flow of records of one type. It is a value: used twice it is a branch. Operators take one and return one. The
// interface is sealed: what embeds a Stream is one, nothing else can be.
type Stream[T any] interface {
	Topology() *Topology
	stream() *port[T]
}

// KeyedStream is a stream whose records belong to keys: what stateful operators take. It is not a Stream; Unkeyed gives the plain one.
type KeyedStream[K comparable, T any] struct {
	in   Stream[T]
	key  func(T) K
	edge *keying[K, T]
}

// Unkeyed returns the stream without its key, for a sink or a stateless operator.
func (s KeyedStream[K, T]) Unkeyed() Stream[T] { return s.in }

// Topology returns the topology the stream belongs to.
func (s KeyedStream[K, T]) Topology() *Topology { return s.in.Topology() }

// Key returns the function that gives a record's key.
func (s KeyedStream[K, T]) Key() func(T) K { return s.key }

// port is an output of a node: the Stream that users hold.
type port[T any] struct {
	t     *Topology
	from  *node
	label string
	// optional: nobody needs to use it (side outputs).
	optional bool
	timed    bool
	// moved: behind an exchange, a union or a KeyBy, where AssignTime has no partition any more.
	moved     bool
	consumers []func(*builder) receiver[T]
}

type anyPort interface {
	info() (from *node, label string, optional bool, used int)
}

func (p *port[T]) info() (*node, string, bool, int) {
	return p.from, p.label, p.optional, len(p.consumers)
}

func (p *port[T]) Topology() *Topology { return p.t }
func (p *port[T]) stream() *port[T]    { return p }

func newPort[T any](t *Topology, from *node, label string) *port[T] {
	p := &port[T]{t: t, from: from, label: label}
	t.ports = append(t.ports, p)
	return p
}

// like makes the port inherit the time properties of its input.
func (p *port[T]) like(timed, moved bool) *port[T] {
	p.timed, p.moved = timed, moved
	return p
}

// connect adds a consumer.
func (p *port[T]) connect(to *node, build func(*builder) receiver[T]) {
	p.t.addEdge(p.from, to, p.label, false)
	p.consumers = append(p.consumers, build)
}

// build makes the receiver for everything behind the port, within the builder's task.
func (p *port[T]) build(b *builder) receiver[T] {
	switch len(p.consumers) {
	case 0:
		return discard[T]{}
	case 1:
		return p.consumers[0](b)
	}
	f := make(fan[T], len(p.consumers))
	for i, c := range p.consumers {
		f[i] = c(b)
	}
	return f
}

// From reads a source. Its records have no event time until AssignTime.
func From[T any](t *Topology, name string, src Source[T], opts ...SourceOption) Stream[T] {
	cfg := Configure(&NodeConfig{}, opts)
	n := t.addNode(name, "source", cfg)
	p := newPort[T](t, n, "")
	if src == nil {
		t.problem(name, "the source is nil", "pass a source")
		return p
	}
	n.redelivers = src.Replay() == Redeliver
	t.sources = append(t.sources, &sourceImpl[T]{n: n, src: src, out: p})
	return p
}

// To writes a stream to a sink.
func To[T any](s Stream[T], name string, sink Sink[T], opts ...SinkOption) {
	p := s.stream()
	t := p.t
	cfg := Configure(&NodeConfig{}, opts)
	n := t.addNode(name, "sink", cfg)
	if sink == nil {
		t.problem(name, "the sink is nil", "pass a sink")
		return
	}
	impl := &sinkImpl[T]{n: n, sink: sink}
	if d, ok := any(p).(*port[DeadLetter]); ok && d == t.dead.port {
		t.addEdge(p.from, n, "", false)
		t.dead.sinks = append(t.dead.sinks, any(impl).(*sinkImpl[DeadLetter]))
		t.sinks = append(t.sinks, impl)
		impl.dead = true
		return
	}
	t.sinks = append(t.sinks, impl)
	p.connect(n, func(b *builder) receiver[T] { return newSinkStage(b, impl) })
}

// Apply adds a stateless operator; newOp makes the instance of each task.
func Apply[In, Out any, Op Operator[In, Out]](s Stream[In], name string, newOp func() Op, opts ...NodeOption) Stream[Out] {
	in := s.stream()
	cfg := Configure(&NodeConfig{}, opts)
	if newOp == nil {
		cfg.Problem(noInstance, "")
	}
	n := in.t.addOperator(name, cfg, in.timed)
	p := newPort[Out](in.t, n, "").like(in.timed, in.moved)
	in.connect(n, func(b *builder) receiver[In] { return newOpStage[In, Out](b, n, newOp(), p) })
	return p
}

// ApplyKeyed adds an operator on a keyed stream; newOp makes the instance of each task.
func ApplyKeyed[K comparable, In, Out any, Op KeyedOperator[K, In, Out]](s KeyedStream[K, In], name string, newOp func() Op, opts ...NodeOption) Stream[Out] {
	in := s.in.stream()
	cfg := Configure(&NodeConfig{}, opts)
	if newOp == nil {
		cfg.Problem(noInstance, "")
	}
	n := in.t.addOperator(name, cfg, in.timed)
	p := newPort[Out](in.t, n, "").like(in.timed, true)
	s.edge.connect(n, func(b *builder, keys *keyTable[K]) keyedReceiver[In] {
		return newKeyedStage[K, In, Out](b, n, newOp(), keys, p)
	})
	return p
}

// ApplyKept adds a keyed operator whose results have the key of the record they came of, so that no new exchange is needed.
func ApplyKept[K comparable, T any, Op KeyedOperator[K, T, T]](s KeyedStream[K, T], name string, newOp func() Op, opts ...NodeOption) KeyedStream[K, T] {
	in := s.in.stream()
	cfg := Configure(&NodeConfig{}, opts)
	if newOp == nil {
		cfg.Problem(noInstance, "")
	}
	n := in.t.addOperator(name, cfg, in.timed)
	p := newPort[T](in.t, n, "").like(in.timed, true)
	p.optional = true // used by its keyed twin, or both
	out := &keying[K, T]{t: in.t, part: s.edge.part, from: n, key: s.key, code: s.edge.code}
	in.t.keyings = append(in.t.keyings, out)
	s.edge.connect(n, func(b *builder, keys *keyTable[K]) keyedReceiver[T] {
		return newKeptStage(b, n, newOp(), keys, p, out)
	})
	out.twin = p
	return KeyedStream[K, T]{in: p, key: s.key, edge: out}
}

const noInstance = "newOp is nil: pass a function that makes an instance of the operator"

func (t *Topology) addOperator(name string, cfg *NodeConfig, timed bool) *node {
	kind := cfg.Traits.Kind
	if kind == "" {
		kind = "operator"
	}
	n := t.addNode(name, kind, cfg)
	if cfg.Traits.EventTime && !timed {
		t.problem(name, "the operator needs event time, but no AssignTime stands above it", "add flow.AssignTime behind the source")
	}
	return n
}

// Union merges streams of one type. Order is promised only within each input.
func Union[T any](name string, first Stream[T], more ...Stream[T]) Stream[T] {
	all := append([]Stream[T]{first}, more...)
	t := first.Topology()
	n := t.addNode(name, "union", &NodeConfig{})
	p := newPort[T](t, n, "")
	p.moved, p.timed = true, first.stream().timed
	for i, s := range all {
		in := s.stream()
		if in.t != t {
			t.problem(name, fmt.Sprintf("input %d belongs to topology %q", i, in.t.name), "build one topology from one New")
			continue
		}
		if in.timed != p.timed {
			t.problem(name, "some inputs have event time and some have not", "assign time on every input, or on none")
		}
		in.connect(n, func(b *builder) receiver[T] {
			u := inTask(b, n, func() *unionStage[T] { return newUnionStage(b, n, p) })
			return u.input()
		})
	}
	return p
}

// Split sends each record to yes or no.
func Split[T any](s Stream[T], name string, is func(T) bool, opts ...NodeOption) (yes, no Stream[T]) {
	in := s.stream()
	cfg := Configure(&NodeConfig{Traits: Traits{Kind: "split"}}, opts)
	if is == nil {
		cfg.Problem("its function is nil", "pass a function")
	}
	n := in.t.addOperator(name, cfg, in.timed)
	y := newPort[T](in.t, n, "yes").like(in.timed, in.moved)
	o := newPort[T](in.t, n, "no").like(in.timed, in.moved)
	in.connect(n, func(b *builder) receiver[T] { return newSplitStage(b, n, is, y, o) })
	return y, o
}

// SideOutput makes a second, typed output of the operator named node, before that operator is added. Unused, what is emitted to
// it is counted and dropped.
func SideOutput[T any](t *Topology, node, label string) (*Side[T], Stream[T]) {
	p := newPort[T](t, nil, label)
	p.optional, p.moved = true, true
	s := &Side[T]{key: sideKey{node, label}, port: p}
	t.sides[s.key] = s
	return s, p
}

type sideKey struct{ node, label string }

type anySide interface{ attach(n *node) }

// Side is the operator's end of a side output.
type Side[T any] struct {
	key  sideKey
	port *port[T]
}

func (s *Side[T]) attach(n *node) { s.port.from = n }

// Open returns the output for one task. Call it in the operator's Open.
func (s *Side[T]) Open(rt Runtime) *Output[T] {
	st := &sideStage[T]{n: rt.n, next: s.port.build(rt.n.b)}
	st.used = len(s.port.consumers) > 0
	st.out.flush = st.flush
	st.out.buf = make([]Record[T], 0, 64)
	rt.n.sides = append(rt.n.sides, st)
	return &st.out
}

// Used tells whether anything reads the side output.
func (s *Side[T]) Used() bool { return len(s.port.consumers) > 0 }

package flow

import (
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/flow/state"
)

// Topology is a graph of named nodes joined by typed streams. It is built by From, To and the operators, from one goroutine, and
// then run once, by Run or AddTo.
//
// Delivery is at least once: a source record is acked when everything that came of it is durable. What a crash repeats is the
// matter of each sink, which documents it.
type Topology struct {
	name string
	cfg  topologyConfig

	nodes    []*node
	byName   map[string]*node
	edges    []edge
	ports    []anyPort
	keyings  []anyKeying
	sources  []sourceNode
	sinks    []sinkNode
	sides    map[sideKey]anySide
	problems []Problem
	dead     *deadLetters
	// tick is how often silent partitions are looked at: a quarter of the shortest IdleAfter.
	tick time.Duration

	mu      sync.Mutex
	started bool
}

type topologyConfig struct {
	store          state.Store
	clock          Clock
	log            *slog.Logger
	parallelism    int
	epochInterval  time.Duration
	stopTimeout    time.Duration
	maxPending     int64
	acceptRepeats  bool
	allowColdStart bool
	renamed        map[string]string
	drop           map[string]bool
	manual         bool
	hooks          []any
	acceptWithin   time.Duration
}

// TopologyOption configures a Topology.
type TopologyOption func(*topologyConfig)

// Defaults of a topology.
const (
	DefaultEpochInterval = time.Second
	DefaultStopTimeout   = 24 * time.Second
	DefaultMaxPending    = 200_000
)

// New starts a topology. Its name labels metrics, errors, handlers and the store; it is kebab-case like the nodes' names.
func New(name string, opts ...TopologyOption) *Topology {
	t := &Topology{
		name:   name,
		byName: map[string]*node{},
		sides:  map[sideKey]anySide{},
		cfg: topologyConfig{
			clock:         SystemClock(),
			log:           slog.Default(),
			parallelism:   runtime.GOMAXPROCS(0),
			epochInterval: DefaultEpochInterval,
			stopTimeout:   DefaultStopTimeout,
			maxPending:    DefaultMaxPending,
			acceptWithin:  time.Second,
			renamed:       map[string]string{},
			drop:          map[string]bool{},
		},
	}
	for _, o := range opts {
		o(&t.cfg)
	}
	t.dead = newDeadLetters(t)
	if msg := checkName(name); msg != "" {
		t.problem("", "the topology's name "+msg, "use lower-case words joined by hyphens, like \"device-metrics\"")
	}
	return t
}

// Name returns the topology's name.
func (t *Topology) Name() string { return t.name }

// WithStore sets where state is kept: pebble.Dir for a durable store, state.InMemory() to lose it knowingly. Without it a
// topology with stateful nodes is invalid.
func WithStore(s state.Store) TopologyOption { return func(c *topologyConfig) { c.store = s } }

// WithClock replaces the clock, for tests. Defaults to SystemClock().
func WithClock(clock Clock) TopologyOption { return func(c *topologyConfig) { c.clock = clock } }

// WithLogger sets where the engine and connectors log. Defaults to slog.Default().
func WithLogger(l *slog.Logger) TopologyOption { return func(c *topologyConfig) { c.log = l } }

// WithParallelism sets into how many tasks each KeyBy splits, 1 to 1,024. Defaults to GOMAXPROCS.
func WithParallelism(n int) TopologyOption { return func(c *topologyConfig) { c.parallelism = n } }

// WithEpochInterval sets how often state is committed and sources are acked at the latest. Defaults to 1 s. 0 means only on other
// triggers: a full window, a full sink, Stop.
func WithEpochInterval(d time.Duration) TopologyOption {
	return func(c *topologyConfig) { c.epochInterval = d }
}

// WithStopTimeout bounds how long a stop may take, the last commit included. Behind it the topology ends without that commit:
// nothing is lost, the records come again. Defaults to 24 s, 0.8 of Watermill's default CloseTimeout; change both together.
func WithStopTimeout(d time.Duration) TopologyOption {
	return func(c *topologyConfig) { c.stopTimeout = d }
}

// WithMaxPending bounds how many records may be accepted and not committed; at the bound sources pause. Defaults to 200,000.
func WithMaxPending(n int64) TopologyOption { return func(c *topologyConfig) { c.maxPending = n } }

// AcceptRepeats accepts that a source which redelivers makes counting nodes count some records twice after a crash.
func AcceptRepeats() TopologyOption { return func(c *topologyConfig) { c.acceptRepeats = true } }

// AllowColdStart lets a stateful topology start without state although its broker remembers a position.
func AllowColdStart() TopologyOption { return func(c *topologyConfig) { c.allowColdStart = true } }

// Renamed says that a node was called old before, so that it finds its state.
func Renamed(old, now string) TopologyOption {
	return func(c *topologyConfig) { c.renamed[now] = old }
}

// DropState forgets the stored state of a node that is gone or has changed, or, with the topology's own name, all state and the
// mark that a flushed run left. It drops at every start while it stands in the program: take it out again after one.
func DropState(node string) TopologyOption { return func(c *topologyConfig) { c.drop[node] = true } }

// WithHooks adds observers: values that implement one or more of the small hook interfaces (EpochHook, ErrorHook …).
func WithHooks(h ...any) TopologyOption {
	return func(c *topologyConfig) { c.hooks = append(c.hooks, h...) }
}

// ManualEpochs is for test kits: epochs end only when Running.Epoch is called, or at a stop.
func ManualEpochs() TopologyOption { return func(c *topologyConfig) { c.manual = true } }

// node is one vertex of the graph.
type node struct {
	id   int
	name string
	kind string
	cfg  *NodeConfig
	// redelivers is set on sources whose Replay is Redeliver.
	redelivers bool
}

// edge joins two nodes. label names a side output; keyed says that a KeyBy lies on it.
type edge struct {
	from, to *node
	label    string
	keyed    bool
}

func (t *Topology) problem(node, what, cure string) {
	t.problems = append(t.problems, Problem{Node: node, What: what, Cure: cure})
}

// addNode registers a node; problems are kept for Validate.
func (t *Topology) addNode(name, kind string, cfg *NodeConfig) *node {
	n := &node{id: len(t.nodes), name: name, kind: kind, cfg: cfg}
	t.nodes = append(t.nodes, n)
	if msg := checkName(name); msg != "" {
		t.problem(name, "the name "+msg, "use lower-case words joined by hyphens; a slash separates the parts of a sub-topology")
	}
	if t.byName[name] != nil {
		t.problem(name, "the name is used twice", "give each node of a topology a name of its own")
	} else {
		t.byName[name] = n
	}
	for key, side := range t.sides {
		if key.node == name {
			side.attach(n)
		}
	}
	return n
}

func (t *Topology) addEdge(from, to *node, label string, keyed bool) {
	t.edges = append(t.edges, edge{from, to, label, keyed})
}

// checkName returns what is wrong with a name, "" if nothing is.
func checkName(s string) string {
	if s == "" {
		return "is empty"
	}
	if len(s) > 100 {
		return "is longer than 100 bytes"
	}
	prev := byte('-')
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case (c == '-' || c == '/') && prev != '-' && prev != '/' && i != len(s)-1:
		default:
			return "is not kebab-case"
		}
		prev = c
	}
	return ""
}

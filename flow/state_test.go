package flow_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// windowed is a topology of one Dedup and one window whose settings may change from start to start.
type windowed struct {
	src  *flowtest.Source[reading]
	out  *flowtest.Sink[minute]
	late *flowtest.Sink[flow.Late[reading]]
	bad  *flowtest.Sink[flow.Late[reading]] // nil: not connected

	in       string // the source's name
	name     string
	size     time.Duration
	lateness time.Duration
	wm       flow.WatermarkStrategy
	dedup    []operators.DedupOption
	ttl      time.Duration
	noDedup  bool
	opts     []flow.TopologyOption
	from     flow.Source[reading] // instead of src
}

func newWindowed(partitions ...string) *windowed {
	return &windowed{
		src: flowtest.NewSource[reading](partitions...), out: flowtest.NewSink[minute](), late: flowtest.NewSink[flow.Late[reading]](),
		in: "in", name: "win", size: 10 * time.Second, ttl: time.Hour, wm: watermark.Monotonous().Every(0),
	}
}

func (w *windowed) build(opts ...flow.TopologyOption) *flow.Topology {
	top := flow.New("windowed", append(append([]flow.TopologyOption{flow.WithParallelism(2)}, opts...), w.opts...)...)
	var from flow.Source[reading] = w.src
	if w.from != nil {
		from = w.from
	}
	timed := flow.AssignTime(flow.From(top, w.in, from), "time", reading.time, w.wm)
	if w.bad != nil {
		flow.To(timed.BadClock(), "bad", w.bad)
	}
	s := flow.KeyBy(timed, reading.device)
	if !w.noDedup {
		s = operators.Dedup(s, "dedup", reading.id, w.ttl, w.dedup...)
	}
	win := operators.Window(s, w.name, window.Tumbling(w.size), agg.Sum(reading.temp), window.AllowedLateness(w.lateness))
	flow.To(win, "out", w.out)
	flow.To(win.Late(), "late", w.late)
	return top
}

func (w *windowed) start(t testing.TB) *flowtest.Run { return flowtest.Start(t, w.build, w.src) }

// sums are the windows' values by device and start in seconds; a window that fired again counts with its last value.
func (w *windowed) sums() map[string]float64 {
	m := map[string]float64{}
	for _, r := range w.out.Values() {
		m[fmt.Sprint(r.Key, " ", r.Start.Time().Unix())] = r.Value
	}
	return m
}

func TestStopKeepsWindowsOpen(t *testing.T) {
	w := newWindowed()
	r := w.start(t)
	w.src.Feed(readings("a", 1, 5)...)
	r.Settle()
	r.Stop()
	require.Empty(t, w.out.Values(), "a stop is not the end of the stream")
	require.EqualValues(t, 5, w.src.Committed("0"))
	r.Restart()
	w.src.Feed(readings("a", 6, 3)...)
	r.Flush()
	require.Equal(t, map[string]float64{"a 0": 8}, w.sums(), "what was there before the stop counts")
}

func TestFlushFinishesTheStore(t *testing.T) {
	w := newWindowed()
	r := w.start(t)
	w.src.Feed(readings("a", 1, 5)...)
	r.Flush()
	require.Equal(t, map[string]float64{"a 0": 5}, w.sums())

	err := r.TryRestart()
	require.ErrorIs(t, err, flow.ErrFinished)
	require.ErrorContains(t, err, `flow.DropState("windowed")`)
	require.ErrorIs(t, r.TryRestart(), flow.ErrFinished, "the store is not left locked")
}

func TestDropStateCuresAFlushedStore(t *testing.T) {
	w := newWindowed()
	r := w.start(t)
	w.src.Feed(readings("a", 1, 5)...)
	r.Flush()
	require.ErrorIs(t, r.TryRestart(), flow.ErrFinished)
	w.opts = []flow.TopologyOption{flow.DropState("windowed")}
	r.Restart()
	w.src.Feed(readings("a", 16, 2)...)
	r.Flush()
	require.Equal(t, map[string]float64{"a 0": 5, "a 10": 2}, w.sums(), "a new run, from the broker's position: what is dropped is not missed")
}

// A bounded source's end is a flush.
func TestTheEndOfABoundedSource(t *testing.T) {
	w := newWindowed("0", "1")
	r := w.start(t)
	w.src.FeedTo("0", readings("a", 1, 5)...)
	w.src.FeedTo("1", readings("b", 12, 2)...)
	w.src.End()
	require.NoError(t, r.Wait())
	require.Equal(t, map[string]float64{"a 0": 5, "b 10": 2}, w.sums())
	require.EqualValues(t, 5, w.src.Committed("0"))
	require.EqualValues(t, 2, w.src.Committed("1"))
	require.ErrorIs(t, r.TryRestart(), flow.ErrFinished)
}

func TestStateThatDoesNotFit(t *testing.T) {
	start := func(t *testing.T) (*windowed, *flowtest.Run) {
		w := newWindowed()
		r := w.start(t)
		w.src.Feed(readings("a", 1, 5)...)
		r.Epoch()
		r.Kill()
		return w, r
	}
	refused := func(t *testing.T, r *flowtest.Run, node string) {
		t.Helper()
		err := r.TryRestart()
		if err == nil {
			err = r.Wait()
		}
		require.ErrorIs(t, err, flow.ErrStateMismatch)
		var ne *flow.NodeError
		require.ErrorAs(t, err, &ne)
		require.Equal(t, node, ne.Node)
		require.ErrorContains(t, err, fmt.Sprintf("flow.DropState(%q)", node))
	}
	t.Run("another window size", func(t *testing.T) {
		w, r := start(t)
		w.size = 20 * time.Second
		refused(t, r, "win")
		w.opts = []flow.TopologyOption{flow.DropState("win")}
		r.Restart()
		w.src.Feed(readings("a", 6, 1)...)
		r.Flush()
		require.Equal(t, map[string]float64{"a 0": 1}, w.sums(), "its state is forgotten, that of the others and the positions are not")
	})
	t.Run("another ttl of Dedup", func(t *testing.T) {
		w, r := start(t)
		w.ttl = 2 * time.Hour
		refused(t, r, "dedup")
		w.opts = []flow.TopologyOption{flow.DropState("dedup")}
		r.Restart()
		w.src.Feed(readings("a", 3, 4)...) // three of them repeats
		r.Flush()
		require.Equal(t, map[string]float64{"a 0": 9}, w.sums(), "repeats of what the old one had seen count once more")
	})
	t.Run("the size back again", func(t *testing.T) {
		w, r := start(t)
		w.size = 20 * time.Second
		refused(t, r, "win")
		w.size = 10 * time.Second
		r.Restart()
		r.Flush()
		require.Equal(t, map[string]float64{"a 0": 5}, w.sums(), "a refused start has harmed nothing")
	})
	t.Run("another name", func(t *testing.T) {
		w, r := start(t)
		w.name = "window"
		refused(t, r, "win")
		w.opts = []flow.TopologyOption{flow.Renamed("win", "window")}
		r.Restart()
		w.src.Feed(readings("a", 6, 1)...)
		r.Epoch()
		w.opts = nil // once is enough
		r.Crash()
		r.Flush()
		require.Equal(t, map[string]float64{"a 0": 6}, w.sums())
	})
	t.Run("a node that is gone", func(t *testing.T) {
		w, r := start(t)
		w.noDedup = true
		refused(t, r, "dedup")
		w.opts = []flow.TopologyOption{flow.DropState("dedup")}
		r.Restart()
		r.Flush()
		require.Equal(t, map[string]float64{"a 0": 5}, w.sums())
	})
	t.Run("a node that is new", func(t *testing.T) {
		w := newWindowed()
		w.noDedup = true
		r := w.start(t)
		w.src.Feed(readings("a", 1, 5)...)
		r.Epoch()
		w.noDedup = false
		r.Crash()
		w.src.Feed(readings("a", 6, 1)...)
		r.Flush()
		require.Equal(t, map[string]float64{"a 0": 6}, w.sums())
	})
	t.Run("another lateness", func(t *testing.T) {
		w, r := start(t)
		w.lateness = time.Minute
		r.Restart()
		r.Flush()
		require.Equal(t, map[string]float64{"a 0": 5}, w.sums(), "it is no part of the state")
	})
}

func TestStoreIsLocked(t *testing.T) {
	w := newWindowed()
	r := w.start(t)
	other := flowtest.New(t, newWindowed().build)
	other.Store = r.Store
	err := other.TryRestart()
	require.ErrorIs(t, err, flow.ErrLocked)
	require.ErrorContains(t, err, fmt.Sprint("pid ", os.Getpid()))
	r.Stop()
	require.NoError(t, other.TryRestart(), "it is free again")
	other.Stop()
}

func TestStateIsElsewhere(t *testing.T) {
	w := newWindowed()
	r := w.start(t)
	w.src.Feed(readings("a", 1, 5)...)
	r.Epoch()
	r.Kill()

	r.Store = flowtest.NewStore()
	r.Restart()
	err := r.Wait()
	require.ErrorIs(t, err, flow.ErrStateElsewhere)
	require.ErrorContains(t, err, `node "in"`)
	require.ErrorContains(t, err, "flow.AllowColdStart()")
	require.EqualValues(t, 5, w.src.Committed("0"))

	w.opts = []flow.TopologyOption{flow.AllowColdStart()}
	r.Restart()
	w.src.Feed(readings("a", 6, 2)...)
	r.Flush()
	require.Equal(t, map[string]float64{"a 0": 2}, w.sums(), "it reads on from the broker's position")
}

// Without state the broker's position is the truth.
func TestStatelessTopologyReadsOnFromTheBroker(t *testing.T) {
	src, out, r := chain(t, func(s flow.Stream[int]) flow.Stream[int] { return s }, nil)
	src.Feed(1, 2, 3)
	r.Epoch()
	r.Kill()
	r.Store = flowtest.NewStore()
	src.Feed(4)
	r.Restart()
	r.Epoch()
	require.Equal(t, []int{1, 2, 3, 4}, out.Values())
	r.Stop()
}

func TestDedupEvictsTheOldest(t *testing.T) {
	w := newWindowed()
	w.ttl, w.dedup = 10*time.Second, []operators.DedupOption{operators.MaxEntries(20)}
	w.opts = []flow.TopologyOption{flow.WithParallelism(1)}
	w.wm = watermark.BoundedOutOfOrderness(time.Hour).Every(0) // nothing is forgotten in time
	r := w.start(t)
	w.src.Feed(readings("a", 1, 60)...)
	r.Epoch()
	require.GreaterOrEqual(t, counter(r, "dedup", "dedup_evicted"), int64(30))
	before := counter(r, "dedup", "duplicates")
	w.src.Feed(readings("a", 55, 6)...)
	r.Epoch()
	require.EqualValues(t, 6, counter(r, "dedup", "duplicates")-before, "the youngest are remembered")
	w.src.Feed(reading{Device: "a", ID: 1, Temp: 1, At: 1})
	r.Crash()
	r.Epoch()
	require.Zero(t, counter(r, "dedup", "duplicates"), "the oldest are forgotten, also behind a crash")
	w.src.Feed(readings("a", 58, 3)...)
	r.Epoch()
	require.EqualValues(t, 3, counter(r, "dedup", "duplicates"))
	r.Stop()
}

func TestStoreThatFailsStops(t *testing.T) {
	w := newWindowed()
	r := w.start(t)
	w.src.Feed(readings("a", 1, 5)...)
	r.Epoch()
	w.src.Feed(readings("a", 11, 5)...)
	r.Settle()
	full := errors.New("no space left on device")
	r.Store.Fail = func() error { return full }
	err := r.Running().Epoch(t.Context())
	require.ErrorIs(t, err, full)
	require.ErrorContains(t, err, `topology "windowed": the store did not take epoch 2`)
	require.ErrorIs(t, r.Wait(), full)
	require.EqualValues(t, 5, w.src.Committed("0"), "nothing is acked")
	require.Equal(t, map[string]float64{"a 0": 5}, w.sums(), "sinks come before the state")

	r.Store.Fail = nil
	r.Restart()
	r.Flush()
	require.Equal(t, map[string]float64{"a 0": 5, "a 10": 5}, w.sums())
	require.Len(t, w.out.Values(), 3, "what was delivered and not committed comes twice")
}

func TestSinkThatFails(t *testing.T) {
	t.Run("for a while", func(t *testing.T) {
		w := newWindowed()
		down := make(chan struct{})
		w.out.Fail = func() error {
			select {
			case <-down:
				return nil
			default:
				return flow.Transient(errors.New("connection refused"))
			}
		}
		r := w.start(t)
		w.src.Feed(readings("a", 1, 25)...)
		r.Settle()
		done := make(chan error, 1)
		go func() { done <- r.Running().Epoch(t.Context()) }()
		advancing(r.Clock, time.Second, func() {
			eventually(t, func() bool { return counter(r, "out", "retries") > 3 }, "it tries again")
		})
		require.Zero(t, w.src.Committed("0"), "nothing is acked")
		w.src.Feed(readings("a", 26, 10)...)
		r.Settle() // processing goes on beside the commit
		close(down)
		advancing(r.Clock, time.Second, func() { require.NoError(t, <-done) })
		require.EqualValues(t, 25, w.src.Committed("0"))
		require.Equal(t, map[string]float64{"a 0": 9, "a 10": 10}, w.sums())
		r.Epoch()
		require.EqualValues(t, 35, w.src.Committed("0"))
		require.Equal(t, map[string]float64{"a 0": 9, "a 10": 10, "a 20": 10}, w.sums())
		require.Len(t, w.out.Values(), 3, "each once")
		r.Stop()
	})
	t.Run("for good", func(t *testing.T) {
		w := newWindowed()
		w.out.Fail = func() error { return errors.New("no such table") }
		r := w.start(t)
		w.src.Feed(readings("a", 1, 25)...)
		r.Settle()
		require.Error(t, r.Running().Epoch(t.Context()))
		err := r.Wait()
		require.ErrorContains(t, err, `node "out": no such table`)
		require.Zero(t, w.src.Committed("0"))
	})
	t.Run("until it is killed", func(t *testing.T) {
		w := newWindowed()
		w.out.Fail = func() error { return flow.Transient(errors.New("connection refused")) }
		r := w.start(t)
		w.src.Feed(readings("a", 1, 25)...)
		r.Settle()
		done := make(chan error, 1)
		go func() { done <- r.Running().Epoch(context.Background()) }()
		eventually(t, func() bool { return counter(r, "out", "retries") > 0 }, "it waits")
		r.Kill()
		require.Error(t, <-done)
		w.out.Fail = nil
		r.Restart()
		r.Flush()
		require.Equal(t, map[string]float64{"a 0": 9, "a 10": 10, "a 20": 6}, w.sums())
	})
}

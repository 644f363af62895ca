package operators

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Step is what GapFill emits: a reading, or a step of the grid in which there was none.
type Step[K comparable, T any] struct {
	Key K
	// Time is the reading's event time; where there was none, the beginning of the step.
	Time  flow.Timestamp
	Value T
	Kind  StepKind
}

// StepKind says where a Step comes from.
type StepKind uint8

// Kinds of steps.
const (
	// Observed is a reading as it came.
	Observed StepKind = iota
	// Filled is a step without a reading whose value was made of the readings around it.
	Filled
	// Missing is a step without a reading and without a value.
	Missing
)

// String names the kind: "observed", "filled", "missing".
func (k StepKind) String() string {
	switch k {
	case Observed:
		return "observed"
	case Filled:
		return "filled"
	}
	return "missing"
}

// Gapless is the result of GapFill: a stream of steps with the side output of late readings.
type Gapless[K comparable, T any] struct {
	flow.Stream[Step[K, T]]
	late flow.Stream[flow.Late[T]]
}

// Late is the stream of readings that came when the steps up to their time had been filled. Unconnected, they are counted (late) and dropped.
func (g Gapless[K, T]) Late() flow.Stream[flow.Late[T]] { return g.late }

// GapOption configures GapFill.
type GapOption func(flow.Configurable)

// GridOffset moves the grid of GapFill: a step begins where time - d is a multiple of the step. Defaults to 0, the Unix epoch in UTC.
func GridOffset(d time.Duration) GapOption {
	return flow.SetOption(func(c *gapConfig) { c.offset = flow.Timestamp(d) })
}

type gapConfig struct {
	flow.NodeConfig
	offset flow.Timestamp
}

// GapFill puts each key's readings in order of event time and adds the steps of a grid in which none came: of a gap between two readings,
// or after the last one, at most limit. All readings pass as they are, several in a step too; filled steps never replace one. What a
// filled step holds is what fill says: LastValue, NoValue, Linear, or FillBy for a function of one's own.
//
// Order and time: a reading comes out when the watermark reaches its time, so a key's results are in order of time however its readings
// arrived. LastValue and NoValue fill a step when the watermark reaches its end, so a silent key is filled while time goes on, up to
// limit steps; Linear and FillBy fill a gap of at most limit steps when the reading behind it comes out, and a longer one not at
// all. A filled step's event time is the last moment of the step, as that of a window's result is. With Linear and FillBy that may lie up
// to limit steps behind the watermark: a window behind them needs so much AllowedLateness.
//
// Late: a reading whose time the watermark has reached goes to Late().
//
// End of stream: what waits comes out, gaps between readings are filled, nothing is added behind a key's last reading.
//
// State: per key the last reading and those that the watermark has not reached. A key is forgotten when its last reading lies more
// than limit steps behind the watermark. T is stored as CBOR by field name (see codec.CBOR). Meta of readings is not kept. A crash rolls
// back to the last epoch together with the sources; results of the replayed part are emitted again, and are the same.
func GapFill[K comparable, T any](s flow.KeyedStream[K, T], name string, step time.Duration, limit int, fill Fill[T], opts ...GapOption) Gapless[K, T] {
	cfg := flow.Configure(&gapConfig{}, opts)
	cfg.Traits = flow.Traits{Kind: "gap-fill"}
	if step <= 0 {
		cfg.Problem(fmt.Sprintf("steps of %v", step), "give the grid a positive step")
	}
	if limit < 1 {
		cfg.Problem(fmt.Sprintf("a limit of %d steps", limit), "give how many steps of a gap are filled at most")
	}
	how := &FillConfig{}
	if fill != nil {
		fill(how)
	}
	between, ok := how.between.(func(Gap[T]) (T, bool))
	if how.kind == Observed && (!ok || between == nil) {
		cfg.Problem("there is nothing to fill by", "give LastValue, NoValue, Linear or FillBy with its functions")
	}
	g := &gapFill[K, T]{step: flow.Timestamp(step), offset: cfg.offset, limit: limit, kind: how.kind, between: between, own: newOwnStrings[T]()}
	var late flow.Stream[flow.Late[T]]
	g.late, late = flow.SideOutput[flow.Late[T]](s.Topology(), name, "late")
	out := Stateful(s, name, 0, g.take, OnTimer(g.goOn), EmitsTo(g.late), flow.With(cfg))
	return Gapless[K, T]{out, late}
}

// gapFill has the functions of the Stateful that a GapFill is.
type gapFill[K comparable, T any] struct {
	step, offset flow.Timestamp
	limit        int
	kind         StepKind // Observed: by what lies on both sides
	between      func(Gap[T]) (T, bool)
	own          ownStrings[T]
	late         *flow.Side[flow.Late[T]]
}

// gapState is what is kept of a key. Its fields are stored by their names.
type gapState[T any] struct {
	// Last is the last reading that came out.
	Last waiting[T] `cbor:"l"`
	Has  bool       `cbor:"h"`
	// Done is how many steps behind it are filled.
	Done int `cbor:"d"`
	// Waiting are readings that the watermark has not reached, in order of time.
	Waiting []waiting[T] `cbor:"w"`
}

type waiting[T any] struct {
	At    flow.Timestamp `cbor:"t"`
	Value T              `cbor:"v"`
}

// Clone spares the copy before each call: nothing is changed before what can fail.
func (s *gapState[T]) Clone() gapState[T] { return *s }

type gapCell[K comparable, T any] = Cell[K, gapState[T], Step[K, T]]

func (g *gapFill[K, T]) take(_ context.Context, c *gapCell[K, T], v T) error {
	at := c.Time()
	if at <= c.Watermark() {
		c.Count("late", 1)
		EmitTo(c, g.late, flow.Late[T]{Value: v, Time: at, Reason: "the steps up to its time have been filled"})
		if c.New() {
			c.Clear()
		}
		return nil
	}
	g.own.cut(&v, &c.State.Last.Value)
	w := c.State.Waiting
	i := len(w)
	for i > 0 && w[i-1].At > at {
		i--
	}
	c.State.Waiting = slices.Insert(w, i, waiting[T]{at, v})
	if t := c.Timer(); t == flow.None || at < t {
		c.SetTimer(at)
	}
	return nil
}

// goOn lets out what the watermark has reached.
func (g *gapFill[K, T]) goOn(_ context.Context, c *gapCell[K, T], _ flow.Timestamp) error {
	s := c.State
	n := 0
	for ; n < len(s.Waiting) && s.Waiting[n].At <= c.Watermark(); n++ {
		w := &s.Waiting[n]
		g.fillTo(c, w)
		c.EmitAt(w.At, Step[K, T]{c.Key(), w.At, w.Value, Observed})
		s.Last, s.Has, s.Done = *w, true, 0
	}
	s.Waiting = slices.Delete(s.Waiting, 0, n)
	if c.Watermark() == flow.EndOfTime {
		return nil
	}
	next := g.goOnSilent(c)
	if len(s.Waiting) > 0 {
		next = min(next, s.Waiting[0].At)
	}
	if next == flow.EndOfTime {
		c.Clear()
		return nil
	}
	c.SetTimer(next)
	return nil
}

// fillTo fills the gap before a reading, as far as it is not filled already.
func (g *gapFill[K, T]) fillTo(c *gapCell[K, T], next *waiting[T]) {
	s := c.State
	if !s.Has {
		return
	}
	from, to := windowStart(s.Last.At, g.offset, g.step), windowStart(next.At, g.offset, g.step)
	steps := uint64(to-from)/uint64(g.step) - 1 // without the reading's own
	if to <= from || steps == 0 {
		return
	}
	if g.kind != Observed {
		for s.Done < g.limit && uint64(s.Done) < steps {
			g.fillOne(c)
		}
		return
	}
	if steps > uint64(g.limit) {
		return
	}
	gap := Gap[T]{Before: s.Last.Value, After: next.Value, BeforeTime: s.Last.At, AfterTime: next.At, Steps: int(steps)}
	for gap.Step = range int(steps) {
		gap.Time = from + flow.Timestamp(gap.Step+1)*g.step
		if v, ok := g.between(gap); ok {
			c.EmitAt(g.last(gap.Time), Step[K, T]{c.Key(), gap.Time, v, Filled})
		}
	}
}

// last is the last moment of the step that begins at a time.
func (g *gapFill[K, T]) last(start flow.Timestamp) flow.Timestamp {
	return windowEnd(start, g.step) - 1
}

// start is where the n-th step behind the last reading's begins, EndOfTime where it is out of range.
func (g *gapFill[K, T]) start(last flow.Timestamp, n int) flow.Timestamp {
	from := windowStart(last, g.offset, g.step)
	if uint64(n) > uint64(flow.EndOfTime-from)/uint64(g.step) {
		return flow.EndOfTime
	}
	return from + flow.Timestamp(n)*g.step
}

// fillOne fills the next step by what is known without the next reading.
func (g *gapFill[K, T]) fillOne(c *gapCell[K, T]) {
	s := c.State
	s.Done++
	step := Step[K, T]{Key: c.Key(), Time: g.start(s.Last.At, s.Done), Kind: g.kind}
	if g.kind == Filled {
		step.Value = s.Last.Value
	}
	c.EmitAt(g.last(step.Time), step)
}

// goOnSilent fills the steps that have ended without a reading, and returns when the key has to be looked at again; EndOfTime where it
// may be forgotten.
func (g *gapFill[K, T]) goOnSilent(c *gapCell[K, T]) flow.Timestamp {
	s := c.State
	if !s.Has {
		return flow.EndOfTime
	}
	if g.kind == Observed {
		// A reading in the step behind the limit still has a gap of limit steps before it.
		if end := g.last(g.start(s.Last.At, g.limit+1)); end > c.Watermark() {
			return end
		}
		return flow.EndOfTime
	}
	for s.Done < g.limit {
		at := g.start(s.Last.At, s.Done+1)
		if at == flow.EndOfTime {
			break
		}
		if end := g.last(at); end > c.Watermark() {
			return end
		}
		g.fillOne(c)
	}
	return flow.EndOfTime
}

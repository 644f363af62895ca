package flowtest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// OperatorCheck is an operator, or a piece of topology, with the script of inputs that CheckOperator runs it over.
type OperatorCheck[In, Out any] struct {
	// Inputs are read in this order, by one source partition.
	Inputs []In
	// Build puts what is tested behind in. It is called at each start, and must build the same each time. Event time, where the
	// operator needs it, is assigned in it.
	Build func(in flow.Stream[In]) flow.Stream[Out]
	// BuildMany is Build for several streams, like an operator's results and its side outputs. Set one of the two.
	BuildMany func(in flow.Stream[In]) []flow.Stream[Out]
	// Key, if set, demands that outputs of one key come in the same order in all modes. Without it the order is free.
	Key func(Out) string
	// Want, if set, is what must come out, in any order.
	Want []Out
	// Options are for the topology.
	Options []flow.TopologyOption
}

// CheckOperator runs an operator over its script in all modes: record by record, in batches, with an epoch after each input or only one
// at the end, with a crash and restore after each epoch and between epochs, with and without exchange, with one task and with four, and with
// the number of tasks changing from start to start. All must deliver the same. The stream is flushed at the end.
func CheckOperator[In, Out any](t *testing.T, c OperatorCheck[In, Out]) {
	t.Helper()
	first := modes[0]
	want := c.run(t, first)
	if c.Want != nil {
		require.ElementsMatch(t, c.Want, values(want), "wrong, in the plainest mode: %s", first.name)
	}
	for _, m := range modes[1:] {
		t.Run(m.name, func(t *testing.T) {
			if d := c.difference(want, c.run(t, m)); d != "" {
				t.Fatalf("not the same as %s: %s", first.name, d)
			}
		})
	}
}

// mode is a way to run a script.
type mode struct {
	name string
	// tasks are the parallelism of each start, in turn.
	tasks []int
	// exchanged hides that the source has one partition for ever, so that KeyBy is an exchange even with one task.
	exchanged bool
	// batch is the source's BatchSize.
	batch int
	// epochs commits after each step of inputs.
	epochs bool
	step   int
	// crash restarts after each step; behind the epoch, or, without epochs, once per two steps with the epoch in between.
	crash bool
}

var modes = []mode{
	{name: "record by record", tasks: []int{1}, batch: 1, epochs: true, step: 1},
	{name: "one batch", tasks: []int{1}, batch: flow.MaxBatch},
	{name: "batches of one, one epoch", tasks: []int{1}, batch: 1},
	{name: "batches of seven", tasks: []int{1}, batch: 7, epochs: true, step: 10},
	{name: "exchanged, one task", tasks: []int{1}, exchanged: true, batch: flow.MaxBatch},
	{name: "exchanged, one task, record by record", tasks: []int{1}, exchanged: true, batch: 1, epochs: true, step: 1},
	{name: "four tasks, one batch", tasks: []int{4}, batch: flow.MaxBatch},
	{name: "four tasks, record by record", tasks: []int{4}, batch: 1, epochs: true, step: 1},
	{name: "crash after each epoch", tasks: []int{1}, epochs: true, step: 1, crash: true},
	{name: "crash between epochs", tasks: []int{1}, step: 2, crash: true},
	{name: "four tasks, crash after each epoch", tasks: []int{4}, epochs: true, step: 3, crash: true},
	{name: "four tasks, crash between epochs", tasks: []int{4}, step: 3, crash: true},
	{name: "exchanged, one task, crash after each epoch", tasks: []int{1}, exchanged: true, epochs: true, step: 3, crash: true},
	{name: "tasks change from 1 to 4 to 2", tasks: []int{1, 4, 2}, exchanged: true, epochs: true, step: 3, crash: true},
}

// unbounded hides everything of a source but flow.Source.
type unbounded[T any] struct{ flow.Source[T] }

// run gives what came out of one mode, in order of delivery.
func (c *OperatorCheck[In, Out]) run(t testing.TB, m mode) []flow.Record[Out] {
	src, out := NewSource[In](), NewSink[Out]()
	src.BatchSize = m.batch
	starts := 0
	r := Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		opts = append(opts, flow.WithParallelism(m.tasks[starts%len(m.tasks)]))
		starts++
		top := flow.New("check", append(opts, c.Options...)...)
		var from flow.Source[In] = src
		if m.exchanged {
			from = unbounded[In]{src}
		}
		in := flow.From(top, "in", from)
		if c.BuildMany == nil {
			flow.To(c.Build(in), "out", out)
			return top
		}
		for i, s := range c.BuildMany(in) {
			flow.To(s, fmt.Sprint("out-", i), out)
		}
		return top
	}, src)
	step := m.step
	if step == 0 {
		step = max(len(c.Inputs), 1)
	}
	for in := range slices.Chunk(c.Inputs, step) {
		src.Feed(in...)
		switch {
		case m.epochs:
			r.Epoch()
		case m.crash: // what is processed and not committed comes again
			r.Settle()
			r.Crash()
			r.Epoch()
			continue
		}
		if m.crash {
			r.Crash()
		}
	}
	r.Flush()
	return out.Records()
}

// difference says how got is not what it should be, "" if it is.
func (c *OperatorCheck[In, Out]) difference(want, got []flow.Record[Out]) string {
	w, g := c.lines(want), c.lines(got)
	for key := range w {
		if !slices.Equal(w[key], g[key]) {
			return fmt.Sprintf("key %q:\nwant %d: %v\ngot  %d: %v", key, len(w[key]), w[key], len(g[key]), g[key])
		}
	}
	for key := range g {
		if w[key] == nil {
			return fmt.Sprintf("key %q came, which should not: %v", key, g[key])
		}
	}
	return ""
}

// lines are records as text, with their times, by key; sorted where the order is free.
func (c *OperatorCheck[In, Out]) lines(rs []flow.Record[Out]) map[string][]string {
	lines := map[string][]string{}
	for _, r := range rs {
		key := ""
		if c.Key != nil {
			key = c.Key(r.Value)
		}
		lines[key] = append(lines[key], fmt.Sprintf("%+v @%d", r.Value, r.Time))
	}
	if c.Key == nil {
		slices.Sort(lines[""])
	}
	return lines
}

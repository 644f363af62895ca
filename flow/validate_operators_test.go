package flow_test

import (
	"testing"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// What operators say of functions, options and figures that cannot be right.
func TestValidateOperators(t *testing.T) {
	source := func(t *flow.Topology) flow.Stream[reading] {
		return flow.From(t, "in", flowtest.NewSource[reading]())
	}
	timed := func(t *flow.Topology) flow.Stream[reading] {
		return flow.AssignTime(source(t), "time", reading.time, watermark.Monotonous())
	}
	keyed := func(s flow.Stream[reading]) flow.KeyedStream[string, reading] { return flow.KeyBy(s, reading.device) }
	win := func(s flow.KeyedStream[string, reading], opts ...window.Option) flow.Stream[minute] {
		return operators.Window(s, "win", window.Tumbling(time.Minute), agg.Avg(reading.temp), opts...)
	}
	store := flow.WithStore(flowtest.NewStore())

	for name, c := range map[string]validateCase{
		"an option of another operator": {
			build: func(t *flow.Topology) {
				o := flow.SetOption(func(*window.Config) {})
				flow.To(operators.Filter(source(t), "f", keep, o), "out", sinkOf[reading]())
			},
			want: []problem{{"f", "an option for *window.Config does not fit", "take it off"}},
		},
		"parallelism out of range": {
			opts: []flow.TopologyOption{store, flow.WithParallelism(0)},
			build: func(t *flow.Topology) {
				s := timed(t)
				flow.To(win(flow.KeyBy(s, reading.device, flow.Parallelism(1025)), flow.Parallelism(-1)), "out", sinkOf[minute]())
			},
			want: []problem{
				{"", `KeyBy behind "time": Parallelism(1025)`, "between 1 and 1024"}, {"win", "Parallelism(-1)", "between 1 and 1024"},
				{"", "parallelism 0", "flow.WithParallelism"},
			},
		},
		"nil functions of operators": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				s := operators.Filter(timed(t), "filter", nil)
				s = operators.Map[reading, reading](s, "map", nil)
				s = operators.FlatMap[reading, reading](s, "flat-map", nil)
				s = operators.Update(s, "update", nil)
				yes, no := flow.Split(s, "split", nil)
				flow.To(no, "no", sinkOf[reading]())
				fresh := operators.Dedup[string, int64](keyed(yes), "dedup", nil, time.Hour)
				flow.To(operators.Window[string, reading, float64](fresh, "win", nil, nil), "out", sinkOf[minute]())
				flow.To(flow.Apply[reading, reading, flow.OperatorFunc[reading, reading]](s, "apply", nil), "own", sinkOf[reading]())
			},
			want: []problem{
				{"split", "function is nil", "pass a function"}, {"apply", "is nil", "pass a function"},
				{"filter", "function is nil", "pass a function"}, {"map", "function is nil", "pass a function"}, {"flat-map", "function is nil", "pass a function"},
				{"update", "function is nil", "pass a function"}, {"dedup", "function is nil", "pass a function"},
				{"win", "assigner is nil", "window.Tumbling"}, {"win", "aggregate", ""},
			},
		},
		"a Dedup of short memory below a source that does not deliver again": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				flow.To(win(operators.Dedup(keyed(timed(t)), "dedup", reading.id, time.Second)), "out", sinkOf[minute]())
			},
		},
	} {
		t.Run(name, c.check)
	}
}

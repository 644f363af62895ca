package flow_test

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// reading is what the tests' programs read.
type reading struct {
	Device string
	ID     int64
	Temp   float64
	// At is in seconds.
	At int64
}

func (r reading) device() string  { return r.Device }
func (r reading) id() int64       { return r.ID }
func (r reading) temp() float64   { return r.Temp }
func (r reading) time() time.Time { return time.Unix(r.At, 0) }
func (r reading) warm() bool      { return r.Temp > 20 }

type minute = window.Result[string, float64]

func sinkOf[T any]() flow.Sink[T] { return flowtest.NewSink[T]() }

func redelivering[T any]() *flowtest.Source[T] {
	s := flowtest.NewSource[T]()
	s.Mode = flow.Redeliver
	return s
}

// perMinute is the program of the README: readings per device and minute, exactly once in effect.
func perMinute(opts ...flow.TopologyOption) *flow.Topology {
	t := flow.New("device-metrics", append([]flow.TopologyOption{flow.WithStore(flowtest.NewStore())}, opts...)...)
	raw := flow.From(t, "mqtt", redelivering[reading]())
	timed := flow.AssignTime(raw, "event-time", reading.time, watermark.BoundedOutOfOrderness(10*time.Second))
	valid := operators.Filter(timed, "in-range", func(r reading) bool { return r.Temp < 100 })
	byDevice := flow.KeyBy(valid, reading.device)
	fresh := operators.Dedup(byDevice, "dedup", reading.id, 10*time.Minute)
	perMinute := operators.Window(fresh, "per-minute", window.Tumbling(time.Minute), agg.Avg(reading.temp),
		window.AllowedLateness(10*time.Second))
	flow.To(perMinute, "clickhouse", sinkOf[minute]())
	flow.To(perMinute.Late(), "late", sinkOf[flow.Late[reading]]())
	flow.To(t.DeadLetters(), "dead-letter", sinkOf[flow.DeadLetter]())
	return t
}

// branching has all that a diagram can show: several sources and sinks, branches, a union, a split, side outputs, kept keys.
func branching() *flow.Topology {
	t := flow.New("plant/branches", flow.WithStore(state.InMemory()), flow.WithParallelism(4))
	at := func(name string, s flow.Stream[reading]) flow.TimedStream[reading] {
		return flow.AssignTime(s, name, reading.time, watermark.Monotonous())
	}
	north := at("north-time", flow.From(t, "north", flowtest.NewSource[reading](), flow.Description("the northern hall")))
	south := at("south-time", flow.From(t, "south", flowtest.NewSource[reading]("0", "1")))
	flow.To(south.BadClock(), "bad-clocks", sinkOf[flow.Late[reading]]())
	all := flow.Union[reading]("all", north, south)
	warm, cold := flow.Split(all, "is-warm", reading.warm, flow.Description("above 20 °C"))
	flow.To(cold, "cold", sinkOf[reading]())
	keyed := flow.KeyBy(warm, reading.device, flow.Parallelism(2))
	fresh := operators.Dedup(keyed, "fresh", reading.id, 25*time.Hour)
	flow.To(fresh.Unkeyed(), "fresh-copy", sinkOf[reading]())
	flow.To(operators.Window(fresh, "hourly", window.Tumbling(time.Hour), agg.Avg(reading.temp)), "hours", sinkOf[minute]())
	flow.To(operators.Window(fresh, "daily", window.Tumbling(24*time.Hour), agg.Avg(reading.temp), flow.Parallelism(3)), "days", sinkOf[minute]())
	return t
}

// wrongInEveryWay has one problem of almost every kind.
func wrongInEveryWay() *flow.Topology {
	t := flow.New("Wrong Name", flow.WithParallelism(2000), flow.WithMaxPending(5), flow.WithStopTimeout(0))
	other := flow.New("other")
	foreign := flow.From(other, "foreign", flowtest.NewSource[reading]())
	src := flow.From(t, "in", redelivering[reading]())
	twice := operators.Filter(src, "in", reading.warm)
	operators.Filter(twice, "Un_used", reading.warm)
	mixed := flow.Union("mixed", twice, foreign)
	late := flow.AssignTime(mixed, "late-time", nil, watermark.Strategy{})
	keyed := flow.KeyBy(src, func(r reading) struct{ A, B string } { return struct{ A, B string }{r.Device, r.Device} })
	operators.Window(keyed, "untimed", window.Tumbling(-time.Minute), agg.Avg(reading.temp), window.AllowedLateness(-time.Second))
	flow.KeyBy(late, reading.device)
	operators.Map(t.DeadLetters(), "letters", func(_ context.Context, d flow.DeadLetter) (string, error) { return d.Node, errors.New("no") })
	flow.SideOutput[int](t, "ghost", "ghosts")
	return t
}

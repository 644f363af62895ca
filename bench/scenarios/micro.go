// Package scenarios holds what flowbench measures.
package scenarios

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/iotbench"
	"github.com/millrace-stream/millrace/bench/jobs"
	"github.com/millrace-stream/millrace/bench/nexmark"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/cep"
	"github.com/millrace-stream/millrace/operators/window"
)

// All are the scenarios of this project.
func All() []harness.Scenario {
	return slices.Concat(jobScenarios(), floorScenarios(), micro(), parts(), nexmark.Scenarios(flow.WithStore(state.InMemory())), iotbench.Scenarios())
}

type event = jobs.Event

// chain is what stands between the source and the sink of a micro scenario: its results carry the number of the event they are of.
type chain func(events flow.Stream[event]) flow.Stream[int64]

// inProcess makes a scenario of a job's events and a chain. Each event comes out once where each is set.
func inProcess(name, about string, job workload.Job, each bool, c chain, opts ...flow.TopologyOption) harness.Scenario {
	return harness.Func("micro/"+name, about, func(ctx context.Context, l *harness.Load, m *harness.Meter) error {
		if each {
			m.EachOnce()
		}
		g := workload.New(job)
		t := topology(m, opts...)
		flow.To(c(flow.From(t, "events", harness.From(l, g.Fill))), "out", numbers(m))
		return t.Run(ctx)
	})
}

// topology is one in one task, with its state in memory.
func topology(m *harness.Meter, opts ...flow.TopologyOption) *flow.Topology {
	return flow.New("bench", append([]flow.TopologyOption{
		flow.WithLogger(silent()), flow.WithStore(state.InMemory()), flow.WithParallelism(1), flow.WithHooks(m), flow.WithEpochInterval(100 * time.Millisecond),
	}, opts...)...)
}

func numbers(m *harness.Meter) flow.Sink[int64] {
	return harness.To(m, func(i int64) int64 { return i })
}

func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func seq(e event) int64           { return e.Seq }
func device(e event) string       { return e.Device }
func temperature(e event) float64 { return e.Temperature }

func inTime(s flow.Stream[event]) flow.KeyedStream[string, event] {
	return flow.KeyBy(flow.AssignTime(s, "event-time", event.Time, watermark.Monotonous().Simulated()), device)
}

func numbered(s flow.Stream[event]) flow.Stream[int64] {
	return operators.Map(s, "number", func(_ context.Context, e event) (int64, error) { return e.Seq, nil })
}

// windowed aggregates by window; a result is of its window's last event.
func windowed(w window.Plain) chain {
	return func(s flow.Stream[event]) flow.Stream[int64] {
		type minute struct {
			avg  float64
			last int64
		}
		minutes := operators.Window(inTime(s), "window", w, agg.Into(
			agg.To(func(m *minute) *float64 { return &m.avg }, agg.Avg(temperature)),
			agg.To(func(m *minute) *int64 { return &m.last }, agg.Max(seq)),
		))
		return operators.Map(minutes, "number", func(_ context.Context, r window.Result[string, minute]) (int64, error) { return r.Value.last, nil })
	}
}

func pattern(p cep.Pattern[event]) chain {
	return func(s flow.Stream[event]) flow.Stream[int64] {
		return operators.CEP(inTime(s), "pattern", p, func(_ context.Context, m cep.Match[string, event]) (int64, error) {
			return m.Steps[len(m.Steps)-1].Values[0].Seq, nil
		})
	}
}

func hot(e event) bool { return e.Temperature > 90 }

func micro() []harness.Scenario {
	is := cep.Where(hot)
	return []harness.Scenario{
		inProcess("stateless", "two updates and a filter (job A)", workload.A(), false, func(s flow.Stream[event]) flow.Stream[int64] {
			s = operators.Update(s, "fahrenheit", func(_ context.Context, e *event) error { e.Temperature = e.Temperature*1.8 + 32; return nil })
			s = operators.Filter(s, "dry", func(e event) bool { return e.Humidity < 50 })
			return numbered(operators.Update(s, "mixed", func(_ context.Context, e *event) error {
				e.Humidity = e.Temperature*0.5 + e.Humidity*0.1
				return nil
			}))
		}),
		inProcess("map", "each event through one Map", workload.A(), true, numbered),
		inProcess("tumbling-10k", "average per minute of 10,000 devices", workload.B10k(), false, windowed(window.Tumbling(time.Minute))),
		inProcess("tumbling-1m", "average per minute of 1,000,000 devices", workload.B1m(), false, windowed(window.Tumbling(time.Minute))),
		inProcess("sliding", "average of 60 s every second of 100 devices (job C)", workload.C(), false, windowed(window.Sliding(time.Minute, time.Second))),
		inProcess("session", "average per session, gap 10 s, of 10,000 devices", workload.B10k(), false, windowed(window.Session(10*time.Second))),
		inProcess("dedup", "dedup by device and number, 5 % repeats, 10,000 devices (job D)", workload.D(), false, func(s flow.Stream[event]) flow.Stream[int64] {
			return numbered(operators.Dedup(inTime(s), "dedup", seq, 5*time.Second).Unkeyed())
		}),
		inProcess("cep-next", "three hot events one after the other within 10 s, 10,000 devices (job En)", workload.En(), false,
			pattern(cep.Begin("first", is).Next("second", is).Next("third", is).Within(10*time.Second))),
		inProcess("cep-followed-by", "three hot events within 10 s, 10,000 devices (job Ef)", workload.Ef(), false,
			pattern(cep.Begin("first", is).FollowedBy("second", is).FollowedBy("third", is).Within(10*time.Second))),
		inProcess("cep-absent", "a hot event and then no cool one for 5 s, 10,000 devices", workload.En(), false,
			pattern(cep.Begin("hot", is).Absent("cool", 5*time.Second, cep.Where(func(e event) bool { return e.Temperature < 50 })))),
	}
}

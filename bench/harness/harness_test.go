package harness_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/operators"
)

// through sends the load's numbers through a topology.
func through(each bool, do func(ctx context.Context, n int64) (int64, error), opts ...flow.TopologyOption) harness.Scenario {
	return harness.Func("test/map", "numbers through a map", func(ctx context.Context, l *harness.Load, m *harness.Meter) error {
		if each {
			m.EachOnce()
		}
		t := flow.New("bench", append([]flow.TopologyOption{flow.WithStore(state.InMemory()), flow.WithHooks(m), flow.WithEpochInterval(10 * time.Millisecond)}, opts...)...)
		numbers := flow.From(t, "numbers", harness.From(l, func(i int64, v *int64) { *v = i }))
		flow.To(operators.Map(numbers, "map", do, flow.OnError(flow.DropOnError)), "out", harness.To(m, func(n int64) int64 { return n }))
		return t.Run(ctx)
	})
}

func same(_ context.Context, n int64) (int64, error) { return n, nil }

func measured(t *testing.T, s harness.Scenario, set harness.Settings) harness.Run {
	r, err := harness.Measure(t.Context(), s, set, nil)
	require.NoError(t, err)
	require.Len(t, r.Runs, max(set.Runs, 1))
	return r.Runs[0]
}

func TestClosedLoadCountsEachEvent(t *testing.T) {
	r := measured(t, through(true, same), harness.Settings{Events: 50_000})
	require.EqualValues(t, 50_000, r.Events)
	require.EqualValues(t, 50_000, r.Out)
	require.Zero(t, r.Lost)
	require.Zero(t, r.Repeats)
	require.Nil(t, r.Latency)
	require.Positive(t, r.CPU)
	require.Positive(t, r.PerSecond)
	require.Positive(t, r.RSS)
	require.Positive(t, r.Epochs.N)
}

// outside is a scenario that lets another process work, which takes a second for each of two looks at it.
type outside struct{ looks time.Duration }

func (o *outside) Name() string  { return "outside" }
func (o *outside) About() string { return "" }
func (o *outside) Run(ctx context.Context, l *harness.Load, m *harness.Meter) error {
	m.Outside(func() time.Duration {
		o.looks++
		return o.looks * time.Second
	})
	for _, n := l.Take(ctx, 10); n > 0; _, n = l.Take(ctx, 10) {
		m.Count(int64(n))
	}
	return nil
}

func TestProcessorTimeOutside(t *testing.T) {
	r, err := harness.Measure(t.Context(), &outside{}, harness.Settings{Events: 1000, Runs: 1}, nil)
	require.NoError(t, err)
	require.InDelta(t, 1000, r.Runs[0].CPU, 500, "a second for 1,000 events, and what this process needs besides")
}

func TestLossAndRepeatsAreSeen(t *testing.T) {
	r := measured(t, through(true, func(_ context.Context, n int64) (int64, error) {
		if n%100 == 7 {
			return 0, errors.New("lost")
		}
		if n%100 == 9 {
			return n - 1, nil // its own number never comes out, the one before comes twice
		}
		return n, nil
	}), harness.Settings{Events: 10_000})
	require.EqualValues(t, 200, r.Lost)
	require.EqualValues(t, 100, r.Repeats)
}

func TestTimePerKindOfNode(t *testing.T) {
	r := measured(t, through(false, func(_ context.Context, n int64) (int64, error) {
		for i := range int64(300) {
			n ^= i * n
		}
		return n, nil
	}), harness.Settings{Duration: time.Second, Nodes: true})
	require.NotEmpty(t, r.Nodes)
	require.Equal(t, "map", r.Nodes[0].Node)
	require.Greater(t, r.Nodes[0].Share, 0.5)
	all := 0.0
	for _, n := range r.Nodes {
		all += n.Share
	}
	require.InDelta(t, 1, all, 1e-9)
}

// An open load offers its events when they are due. A system that stands still for a while does not take fewer: all those that were due
// meanwhile have waited, and their latency says so.
func TestLatencyCountsFromWhenEventsWereDue(t *testing.T) {
	const rate, pause = 10_000, 300 * time.Millisecond
	stood := false
	r := measured(t, through(true, func(_ context.Context, n int64) (int64, error) {
		if n == 2000 && !stood {
			stood = true
			time.Sleep(pause)
		}
		return n, nil
	}), harness.Settings{Rate: rate, Duration: time.Second})
	require.EqualValues(t, rate, r.Events)
	require.Zero(t, r.Lost)
	require.GreaterOrEqual(t, r.Latency.Max, pause.Microseconds())
	// 30 % of the events were due in the pause.
	require.Greater(t, r.Latency.P99, pause.Microseconds()/2)
	require.LessOrEqual(t, r.Latency.P50, r.Latency.P99)
	require.LessOrEqual(t, r.Latency.P99, r.Latency.P999)
}

func TestWarmUpIsNotMeasured(t *testing.T) {
	r := measured(t, through(false, same), harness.Settings{Rate: 10_000, WarmUp: 300 * time.Millisecond, Duration: 300 * time.Millisecond})
	require.InDelta(t, 3_000, r.Events, 2_000)
	require.InDelta(t, 6_000, r.Out, 0)
}

func TestScenarioThatFails(t *testing.T) {
	_, err := harness.Measure(t.Context(), harness.Func("test/bad", "", func(context.Context, *harness.Load, *harness.Meter) error {
		return errors.New("no broker")
	}), harness.Settings{}, nil)
	require.EqualError(t, err, "scenario test/bad, run 1: no broker")
	_, err = harness.Measure(t.Context(), harness.Func("test/none", "", func(context.Context, *harness.Load, *harness.Meter) error { return nil }), harness.Settings{}, nil)
	require.ErrorContains(t, err, "no event was taken")
}

func result(cpu ...float64) harness.Result {
	r := harness.Result{Scenario: "test/x", Settings: harness.Settings{Runs: len(cpu)}}
	for _, c := range cpu {
		r.Runs = append(r.Runs, harness.Run{Events: 1, CPU: c, PerSecond: 1000 / c})
	}
	return r
}

func compared(t *testing.T, before, after harness.Result) map[string]string {
	ds, err := harness.Compare([]harness.Result{before}, []harness.Result{after})
	require.NoError(t, err)
	said := map[string]string{}
	for _, d := range ds {
		said[d.Quantity] = d.String()
	}
	return said
}

func TestCompareSaysWhatDiffers(t *testing.T) {
	slow, fast := result(2.0, 2.1, 2.05, 1.95, 2.02), result(1.0, 1.05, 0.98, 1.02, 1.01)
	require.Contains(t, compared(t, slow, fast)["CPU us/event"], "better by 50.0 %")
	require.Contains(t, compared(t, fast, slow)["CPU us/event"], "worse by 100.0 %")
	require.Contains(t, compared(t, slow, fast)["events/s"], "better")
	require.Contains(t, compared(t, slow, result(2.01, 2.04, 1.99, 2.06, 1.97))["CPU us/event"], "no difference")
	require.Contains(t, compared(t, slow, slow)["allocs/event"], "no difference")
	require.Contains(t, compared(t, slow, result(1, 1))["CPU us/event"], "at least 4 of each")
	other := result(1)
	other.Scenario = "test/y"
	_, err := harness.Compare([]harness.Result{slow}, []harness.Result{other})
	require.ErrorContains(t, err, "no scenario in common")
}

// named is a result of a closed load.
func named(name string, cpu ...float64) harness.Result {
	r := result(cpu...)
	r.Scenario, r.About, r.Command = name, "about "+name, "flowbench run "+name
	return r
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	open := named("micro/open", 2, 2, 2)
	open.Settings.Rate = 1000
	for i := range open.Runs {
		open.Runs[i].Latency = &harness.Latency{P50: 1500, P99: 9000, P999: 12_000, Max: 20_000}
	}
	durable := named("jobs/durable/A", 5)
	durable.Runs[0].Epochs = harness.Epochs{N: 4, Bytes: 8 << 20, LongestPause: 3 * time.Millisecond, P50: 7000, Longest: 9000}
	profiled := named("micro/x", 1, 3, 2)
	profiled.Runs[0].Nodes = []harness.NodeTime{{Node: "map", Share: 0.75}, {Node: "out", Share: 0.25}}
	searched := named("micro/open")
	searched.Sustained = &harness.Sustained{Rate: 250_000, Bound: time.Second, Probes: 7}
	elsewhere := named("flink/p2/A", 0.5)
	elsewhere.Machine.CPU = "another"
	text, err := harness.Report([]harness.Result{
		open, durable, profiled, searched, elsewhere, named("jobs/A", 4), named("floor/A", 2), named("flink/p1/A", 3), named("peers/A/samber-ro", 40), named("jobs/F-json", 9),
		named("nexmark/q11", 2), named("nexmark/q2", 1), named("flink/p1/nexmark/q2", 8), named("peers/F-map/floor", 1), named("peers/F-map/benthos", 7),
	}, harness.Charts{Dir: dir, Link: "pictures"})
	require.NoError(t, err)
	for _, want := range []string{
		"## Reference jobs",
		"| A | flink, p2 | 1 | 2000 | 0.500 |  |  |", // on another machine: no ratios
		"|  | loop by hand | 1 | 500 | 2.00 | 1.00 | 0.500 |",
		"|  | flink, p1 | 1 | 333 | 3.00 | 1.50 | 0.750 |",
		"|  | Millrace | 1 | 250 | 4.00 | 2.00 | 1.00 |",
		"|  | Millrace, durable | 1 | 200 | 5.00 | 2.50 | 1.25 |",
		"|  | samber-ro | 1 | 25.0 | 40.0 | 20.0 | 10.0 |",
		"| F | Millrace, json |",
		"| F-map | loop by hand, peers | 1 | 1000 | 1.00 | 1.00 |  |",
		"|  | benthos | 1 | 143 | 7.00 | 7.00 |",
		"## Nexmark",
		"| q2 | Millrace | 1 | 1000 | 1.00 |  | 1.00 |",
		"|  | flink p1 | 1 | 125 | 8.00 |  | 8.00 |",
		"| micro/x | about micro/x | 3 | 500 (333 to 1000) | 2.00 (1.00 to 3.00) |",
		"| micro/open | 1000 | 3 | 500 | 2.00 | 1.50 ms | 9.00 ms | 12.0 ms | 20.0 ms |",
		"| micro/open | 1s | 250000 |  | 7 |",
		"| jobs/durable/A | 4 | 3.00 ms | 7.00 ms | 9.00 ms | 2.00 MiB |",
		"| micro/x | map 75 %, out 25 % |",
		"- A: flink, p1 has 3.00 us of processor time per event, Millrace 4.00.",
		"![Latency](pictures/latency.svg)",
		"flowbench run micro/x",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "samber-ro has")
	for _, f := range []string{"reference-jobs", "nexmark", "micro", "latency"} {
		for _, ext := range []string{".svg", ".png"} {
			info, err := os.Stat(filepath.Join(dir, f+ext))
			require.NoError(t, err)
			require.Greater(t, info.Size(), int64(1000))
		}
	}
}

func main(t *testing.T, args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = harness.Main(t.Context(), args, &o, &e, through(true, same))
	return code, o.String(), e.String()
}

func TestCommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	code, out, _ := main(t, "list")
	require.Zero(t, code)
	require.Equal(t, "test/map  numbers through a map\n", out)

	code, out, errOut := main(t, "run", "test", "-events", "1000", "-runs", "4", "-out", dir, "-quiet")
	require.Zero(t, code, errOut)
	require.Equal(t, 5, strings.Count(out, "\n"))
	read, err := harness.Read(dir)
	require.NoError(t, err)
	require.Len(t, read, 1)
	require.Len(t, read[0].Runs, 4)
	require.NotEmpty(t, read[0].Machine.Go)

	// A scenario that two words name runs once.
	code, out, errOut = main(t, "run", "test", "test/map", "-events", "1000", "-runs", "2", "-quiet")
	require.Zero(t, code, errOut)
	require.Equal(t, 3, strings.Count(out, "\n"))

	code, out, errOut = main(t, "compare", dir, filepath.Join(dir, "test-map.json"))
	require.Zero(t, code, errOut)
	require.Contains(t, out, "no difference")
	code, out, errOut = main(t, "report", dir)
	require.Zero(t, code, errOut)
	require.Contains(t, out, "| test/map |")
	page := filepath.Join(t.TempDir(), "benchmarks.md")
	code, out, errOut = main(t, "report", dir, "-o", page, "-charts", filepath.Join(filepath.Dir(page), "pictures"))
	require.Zero(t, code, errOut)
	require.Empty(t, out)
	written, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(written), "(pictures/test.svg)")
	code, out, errOut = main(t, "search", "test/map", "-duration", "100ms", "-warm-up", "0s")
	require.Zero(t, code, errOut)
	require.Contains(t, out, "test/map sustains ")

	for want, args := range map[string][]string{
		`there is no scenario "x"; there are: test/map`:            {"run", "x"},
		"flowbench run takes names of scenarios":                   {"run"},
		`there is no command "go"`:                                 {"go"},
		"has no results: make some with flowbench run":             {"report", t.TempDir()},
		"is no result of flowbench":                                {"report", "harness_test.go"},
		"no such file":                                             {"compare", dir, "none"},
		"flowbench compare takes two folders of results, or two f": {"compare", dir},
	} {
		code, _, errOut := main(t, args...)
		require.Equal(t, 1, code)
		require.Contains(t, errOut, want)
	}
	code, out, _ = main(t)
	require.Zero(t, code)
	require.Contains(t, out, "flowbench run SCENARIO")
}

func TestSeveralScenariosTakeTurns(t *testing.T) {
	var order []string
	one := through(true, same)
	as := func(name string) harness.Scenario {
		return harness.Func(name, "", func(ctx context.Context, l *harness.Load, m *harness.Meter) error {
			order = append(order, name)
			return one.Run(ctx, l, m)
		})
	}
	rs, err := harness.MeasureInTurns(t.Context(), []harness.Scenario{as("a"), as("b")}, harness.Settings{Events: 1000, Runs: 2}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "a", "b"}, order)
	require.Equal(t, []string{"a", "b"}, []string{rs[0].Scenario, rs[1].Scenario})
	require.Len(t, rs[0].Runs, 2)
	require.Len(t, rs[1].Runs, 2)
}

// Package iotbench holds benchmarks of the internet of things and of advertising as typed topologies, in process: the four of Theodolite, the
// Yahoo streaming benchmark, ETL and STATS of RIoTBench, and this project's own path of readings. They follow the published descriptions;
// docs/scenarios.md says where each does not. Events are made from their number and a seed.
package iotbench

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
)

// Row is a result of any of them.
type Row struct {
	// Of says what kind of result it is, where there are several.
	Of string
	// Key is who or what it is of, At its time or its window's end in ms.
	Key string
	At  int64
	// Count, Value, Least, Most and Variance are what the benchmark computes.
	Count                        int64
	Value, Least, Most, Variance float64
	Text                         string
	// N is the number of the event that it is of, the last one where there are several.
	N int64
}

// Size is how many devices there are, and how far their events are apart.
type Size struct {
	Devices int
	// Every is the event time between two events of all devices together.
	Every time.Duration
	Seed  uint64
}

// Benchmark is one of them.
type Benchmark struct {
	Name, About string
	// Size is what it is timed with.
	Size Size
	// Add puts it behind the events of a load, and returns what comes out of it.
	Add func(t *flow.Topology, l *harness.Load, s Size) []flow.Stream[Row]
}

// All are the benchmarks.
func All() []Benchmark {
	const ms = time.Millisecond
	return []Benchmark{
		{"theodolite-uc1", "Theodolite UC1: each power reading into a store", Size{10_000, ms / 10, 1}, one(uc1)},
		{"theodolite-uc2", "Theodolite UC2: statistics of a minute per sensor", Size{10_000, ms / 10, 1}, one(uc2)},
		{"theodolite-uc3", "Theodolite UC3: statistics of 30 days per sensor and hour of the day, every day", Size{1_000, 60 * ms, 1}, one(uc3)},
		{"theodolite-uc4", "Theodolite UC4: power of nested groups every 5 s, by a stream of who is in which", Size{10_000, ms / 10, 1}, one(uc4)},
		{"yahoo", "Yahoo streaming benchmark: views per campaign and 10 s, out of JSON", Size{1_000, ms / 10, 1}, one(yahoo)},
		{"riotbench-etl", "RIoTBench ETL: SenML of five sensors cleaned, completed, annotated, published", Size{1_000, ms, 1}, one(etl)},
		{"riotbench-stats", "RIoTBench STATS: averages, prediction, second moment, distinct count of SenML", Size{1_000, ms, 1}, one(stats)},
		{"path", "the IoT path of this project: JSON, heartbeats, repeats, late ones, a minute per device", Size{10_000, ms / 10, 1}, path},
	}
}

func one(add func(t *flow.Topology, l *harness.Load, s Size) flow.Stream[Row]) func(t *flow.Topology, l *harness.Load, s Size) []flow.Stream[Row] {
	return func(t *flow.Topology, l *harness.Load, s Size) []flow.Stream[Row] {
		return []flow.Stream[Row]{add(t, l, s)}
	}
}

// To sends all that comes out of a benchmark to sinks: out, out-1 and so on.
func To(streams []flow.Stream[Row], sink func() flow.Sink[Row]) {
	for i, s := range streams {
		name := "out"
		if i > 0 {
			name += "-" + strconv.Itoa(i)
		}
		flow.To(s, name, sink())
	}
}

// Scenarios are the benchmarks as scenarios, each in one task.
func Scenarios() (all []harness.Scenario) {
	for _, b := range All() {
		all = append(all, harness.Func("iot/"+b.Name, b.About, func(ctx context.Context, l *harness.Load, m *harness.Meter) error {
			t := flow.New("iotbench", quiet(), flow.WithStore(state.InMemory()), flow.WithParallelism(1), flow.WithHooks(m))
			To(b.Add(t, l, b.Size), func() flow.Sink[Row] { return harness.To(m, func(r Row) int64 { return r.N }) })
			return t.Run(ctx)
		}))
	}
	return all
}

func quiet() flow.TopologyOption {
	return flow.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
}

// begin is the event time of event 0 in ms: the beginning of a day.
const begin int64 = 1_767_225_600_000

// at is the time of an event in ms.
func (s Size) at(i int64) int64 { return begin + i*int64(s.Every)/int64(time.Millisecond) }

// hash is the finalizer of splitmix64 over event and seed.
func (s Size) hash(i int64) uint64 {
	z := (uint64(i) + s.Seed<<40 + 1) * 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// among draws one of n.
func among(h uint64, n int) int { return int(h >> 32 * uint64(n) >> 32) }

// share is h as a number from 0 to 1.
func share(h uint64) float64 { return float64(h&0xFFFFFF) / (1 << 24) }

func inOrder() watermark.Strategy { return watermark.Monotonous().Simulated() }

// end is a window's end in ms.
func end(t flow.Timestamp) int64 { return int64(t) / int64(time.Millisecond) }

package jobs_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/jobs"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/state/pebble"
)

type build func(t *flow.Topology, src flow.Source[jobs.Event], r *workload.Result)

func quiet() flow.TopologyOption {
	return flow.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
}

func run(tb testing.TB, b build, g *workload.Generator, n int64, opts ...flow.TopologyOption) workload.Result {
	var r workload.Result
	t := flow.New("job", append([]flow.TopologyOption{quiet(), flow.WithParallelism(1)}, opts...)...)
	b(t, jobs.Source(g, n), &r)
	require.NoError(tb, t.Run(context.Background()))
	return r
}

// TestJobs checks the counts and sums that Flink and the hand-written loops give.
func TestJobs(t *testing.T) {
	const n = 1_000_000
	for name, j := range map[string]struct {
		job   workload.Job
		build build
	}{"A": {workload.A(), jobs.A}, "B10k": {workload.B10k(), jobs.B}, "B1m": {workload.B1m(), jobs.B}, "C": {workload.C(), jobs.C}, "D": {workload.D(), jobs.D}} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, j.job.Verify(n, run(t, j.build, workload.New(j.job), n, flow.WithStore(state.InMemory()))))
		})
	}
	t.Run("B10k durable", func(t *testing.T) {
		j := workload.B10k()
		require.NoError(t, j.Verify(n, run(t, jobs.B, workload.New(j), n, flow.WithStore(pebble.Dir(t.TempDir())), flow.WithEpochInterval(50*time.Millisecond))))
	})
}

// The floors and the jobs stand side by side, so that one run gives their ratio.

func BenchmarkA(b *testing.B) {
	bench(b, workload.A(), jobs.A, workload.FloorA, flow.WithStore(state.InMemory()))
}

func BenchmarkB10k(b *testing.B) {
	bench(b, workload.B10k(), jobs.B, workload.FloorB, flow.WithStore(state.InMemory()))
}

func BenchmarkB1m(b *testing.B) {
	bench(b, workload.B1m(), jobs.B, workload.FloorB, flow.WithStore(state.InMemory()))
}

func BenchmarkC(b *testing.B) {
	bench(b, workload.C(), jobs.C, workload.FloorC, flow.WithStore(state.InMemory()))
}

func BenchmarkD(b *testing.B) {
	bench(b, workload.D(), jobs.D, workload.FloorD, flow.WithStore(state.InMemory()))
}

func bench(b *testing.B, j workload.Job, build build, floor func(*workload.Generator, int64) workload.Result, opts ...flow.TopologyOption) {
	g := workload.New(j)
	b.Run("floor", func(b *testing.B) {
		defer cpu(b)()
		floor(g, int64(b.N))
	})
	b.Run("job", func(b *testing.B) {
		b.ReportAllocs()
		defer cpu(b)()
		run(b, build, g, int64(b.N), opts...)
	})
}

// cpu reports the processor time of the whole process per operation, which a busy machine disturbs less than the wall clock.
func cpu(b *testing.B) func() {
	used := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

// epochs adds up what epochs cost.
type epochs struct {
	n, changes, bytes     int
	drain, collect, write time.Duration
}

func (e *epochs) OnEpoch(i flow.EpochInfo) {
	e.n++
	e.changes += i.Changes
	e.bytes += i.ChangeBytes
	e.drain += i.Drain
	e.collect += i.Collect
	e.write += i.Write
}

// BenchmarkB1mDurable is B1m on the durable store with epochs of 1 s.
func BenchmarkB1mDurable(b *testing.B) {
	g := workload.New(workload.B1m())
	var e epochs
	b.ReportAllocs()
	run(b, jobs.B, g, int64(b.N), flow.WithStore(pebble.Dir(b.TempDir())), flow.WithHooks(&e))
	if e.n > 0 {
		per := func(d time.Duration) float64 { return float64(d.Milliseconds()) / float64(e.n) }
		b.ReportMetric(float64(e.n), "epochs")
		b.ReportMetric(per(e.drain), "drain-ms/epoch")
		b.ReportMetric(per(e.collect), "collect-ms/epoch")
		b.ReportMetric(per(e.write), "write-ms/epoch")
		b.ReportMetric(float64(e.bytes)/float64(e.n)/(1<<20), "MiB/epoch")
		b.ReportMetric(float64(e.changes)/float64(e.n), "puts/epoch")
	}
}

// BenchmarkExchange measures what one KeyBy exchange costs per record: the smallest keyed job with the exchange, two workers, less the
// same without, by batches of the source.
func BenchmarkExchange(b *testing.B) {
	for _, size := range []int{256, flow.MaxBatch} {
		for _, par := range []int{1, 2} {
			name := fmt.Sprintf("batch=%d/%s", size, map[int]string{1: "fused", 2: "exchanged"}[par])
			b.Run(name, func(b *testing.B) {
				g := workload.New(workload.B10k())
				b.ReportAllocs()
				defer cpu(b)()
				t := flow.New("job", quiet(), flow.WithStore(state.InMemory()), flow.WithParallelism(par))
				jobs.Count(t, jobs.InBatches(g, int64(b.N), size))
				require.NoError(b, t.Run(context.Background()))
			})
		}
	}
}

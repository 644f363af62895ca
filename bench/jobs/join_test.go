package jobs_test

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/jobs"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/join"
)

// joinReach is how long before a left event the right ones lie that it is joined with: about one each, of 10,000 devices at 10,000 events/s.
const joinReach = 2 * time.Second

func isLeft(e jobs.Event) bool { return e.Seq%2 == 0 }

// joinJob joins the events of even numbers with those of odd ones, by device.
func joinJob(t *flow.Topology, src flow.Source[jobs.Event], r *workload.Result) {
	timed := flow.AssignTime(flow.From(t, "events", src), "event-time", jobs.Event.Time, watermark.Monotonous().Simulated())
	left, right := flow.Split(timed, "side", isLeft)
	device := func(e jobs.Event) string { return e.Device }
	pairs := operators.Join(flow.KeyBy(left, device), flow.KeyBy(right, device), "join", join.Between(-joinReach, 0),
		func(l, r jobs.Event) float64 { return l.Temperature - r.Temperature })
	flow.To(pairs, "sum", jobs.Sum(func(d float64) float64 { return d }, r))
}

// joinFloor is the same by hand: a map of devices to the events that may find partners yet. Events come in order of time.
func joinFloor(g *workload.Generator, n int64) (r workload.Result) {
	type waiting struct{ events []jobs.Event }
	byDevice := map[string]*waiting{}
	reach := joinReach.Milliseconds()
	var e jobs.Event
	for i := range n {
		g.Fill(i, &e)
		w := byDevice[e.Device]
		if w == nil {
			w = &waiting{}
			byDevice[e.Device] = w
		}
		old := 0
		for k := range w.events {
			o := &w.events[k]
			switch {
			case o.TS < e.TS-reach:
				old++
			case isLeft(e) && !isLeft(*o):
				r.Sum += e.Temperature - o.Temperature
				r.Out++
			case !isLeft(e) && isLeft(*o) && o.TS == e.TS:
				r.Sum += o.Temperature - e.Temperature
				r.Out++
			}
		}
		w.events = append(w.events[:copy(w.events, w.events[old:])], e)
	}
	return r
}

// BenchmarkJoin is an interval join of 10,000 devices, with the state in memory and on the durable store with epochs of 1 s.
func BenchmarkJoin(b *testing.B) {
	g := workload.New(workload.B10k())
	check := func(b *testing.B, got workload.Result) {
		b.StopTimer()
		want := joinFloor(g, int64(b.N))
		require.Equal(b, want.Out, got.Out, "pairs")
		require.InDelta(b, want.Sum, got.Sum, 1e-6*float64(b.N))
		b.ReportMetric(float64(got.Out)/float64(b.N), "pairs/op")
	}
	b.Run("floor", func(b *testing.B) {
		b.ReportAllocs()
		defer cpu(b)()
		joinFloor(g, int64(b.N))
	})
	b.Run("memory", func(b *testing.B) {
		b.ReportAllocs()
		done := cpu(b)
		got := run(b, joinJob, g, int64(b.N), flow.WithStore(state.InMemory()))
		done()
		check(b, got)
	})
	b.Run("durable", func(b *testing.B) {
		var e epochs
		b.ReportAllocs()
		done := cpu(b)
		got := run(b, joinJob, g, int64(b.N), flow.WithStore(pebble.Dir(b.TempDir())), flow.WithHooks(&e))
		done()
		check(b, got)
		b.ReportMetric(float64(e.bytes)/float64(b.N), "store-B/op")
		b.ReportMetric(float64(e.collect.Microseconds())/float64(max(e.n, 1)), "pause-us/epoch")
	})
}

// BenchmarkJoinCheckpoint measures the checkpoint of a join that has taken 1,000,000 records since the last one, all of which wait for
// partners, and the restore from it. One operation is one of each.
func BenchmarkJoinCheckpoint(b *testing.B) {
	j := workload.B1m()
	j.Rate = 10_000_000 // all events within one interval
	g := workload.New(j)
	const n = 1_000_000
	dir := b.TempDir()
	var e epochs
	var got workload.Result
	start := func() (*flow.Running, chan error) {
		t := flow.New("job", quiet(), flow.WithParallelism(1), flow.WithStore(pebble.Dir(dir)), flow.ManualEpochs(), flow.WithMaxPending(2*n), flow.WithHooks(&e))
		joinJob(t, jobs.Endless(g, n), &got)
		router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
		require.NoError(b, err)
		run, err := t.AddTo(context.Background(), router)
		require.NoError(b, err)
		done := make(chan error, 1)
		go func() { done <- router.Run(context.Background()) }()
		return run, done
	}
	var restore time.Duration
	for range b.N {
		run, done := start()
		require.Eventually(b, func() bool { return count(run, "join", "in") == n }, 5*time.Minute, 10*time.Millisecond)
		require.NoError(b, run.Epoch(context.Background()))
		require.NoError(b, run.Stop(context.Background()))
		require.NoError(b, <-done)
		at := time.Now()
		run, done = start()
		require.NoError(b, run.Ready(context.Background()))
		restore += time.Since(at)
		run.Abort()
		require.NoError(b, <-done)
		b.StopTimer()
		dir = b.TempDir()
		b.StartTimer()
	}
	require.Equal(b, joinFloor(g, n).Out*int64(b.N), got.Out, "pairs")
	per := func(d time.Duration) float64 { return float64(d.Milliseconds()) / float64(b.N) }
	b.ReportMetric(per(e.collect), "pause-ms/checkpoint")
	b.ReportMetric(per(e.write), "write-ms/checkpoint")
	b.ReportMetric(float64(e.bytes)/float64(b.N)/(1<<20), "MiB/checkpoint")
	b.ReportMetric(float64(e.changes)/float64(b.N), "puts/checkpoint")
	b.ReportMetric(per(restore), "restore-ms")
}

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
	"github.com/millrace-stream/millrace/flow/state/pebble"
)

// BenchmarkCheckpoint1m measures one checkpoint of a window that holds an accumulator for each of 1,000,000 keys, all of them changed
// since the last one, and the restore from it. One operation is one of each.
func BenchmarkCheckpoint1m(b *testing.B) {
	j := workload.B1m()
	j.Rate = 10_000_000 // all events within one minute: the window stays open
	g := workload.New(j)
	const n = 3_000_000 // about 95 % of the keys
	dir := b.TempDir()
	var e epochs
	start := func() (*flow.Running, chan error) {
		var r workload.Result
		t := flow.New("job", quiet(), flow.WithParallelism(1), flow.WithStore(pebble.Dir(dir)), flow.ManualEpochs(), flow.WithMaxPending(2*n), flow.WithHooks(&e))
		jobs.B(t, jobs.Endless(g, n), &r)
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
		require.Eventually(b, func() bool { return count(run, "events", "out") == n }, 5*time.Minute, 10*time.Millisecond)
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
	b.ReportMetric(float64(e.collect.Milliseconds())/float64(b.N), "pause-ms/checkpoint")
	b.ReportMetric(float64(e.write.Milliseconds())/float64(b.N), "write-ms/checkpoint")
	b.ReportMetric(float64(e.bytes)/float64(b.N)/(1<<20), "MiB/checkpoint")
	b.ReportMetric(float64(e.changes)/float64(b.N), "puts/checkpoint")
	b.ReportMetric(float64(restore.Milliseconds())/float64(b.N), "restore-ms")
}

func count(r *flow.Running, node, name string) int64 {
	for _, c := range r.Counters() {
		if c.Node == node && c.Name == name {
			return c.Value
		}
	}
	return 0
}

package jobs_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/jobs"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

type average = window.Result[string, float64]

// averages is the average temperature by device and window, out of order by so much that nothing fires before the end.
func averages(w window.Plain, bound time.Duration) build {
	return func(t *flow.Topology, src flow.Source[jobs.Event], r *workload.Result) {
		timed := flow.AssignTime(flow.From(t, "events", src), "event-time", jobs.Event.Time, watermark.BoundedOutOfOrderness(bound).Simulated())
		byDevice := flow.KeyBy(timed, func(e jobs.Event) string { return e.Device })
		flow.To(operators.Window(byDevice, "window", w, agg.Avg(func(e jobs.Event) float64 { return e.Temperature })), "sum",
			jobs.Sum(func(a average) float64 { return a.Value }, r))
	}
}

// BenchmarkWindowUpdate is what a record costs windows of each kind while none fires: 10,000 devices, 10,000 events per second, a minute of
// them again and again, so that what a slice or a session costs to begin is spread over many records.
func BenchmarkWindowUpdate(b *testing.B) {
	for name, w := range map[string]window.Plain{
		"tumbling 60 s": window.Tumbling(time.Minute), "sliding 60 s every 1 s": window.Sliding(time.Minute, time.Second), "session 10 s": window.Session(10 * time.Second),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			g := workload.New(workload.B10k())
			var r workload.Result
			running, done := started(b, averages(w, 24*time.Hour), &looped{jobs.Endless(g, int64(b.N))}, &r)
			report := cpu(b)
			b.ResetTimer()
			require.Eventually(b, func() bool { return count(running, "event-time", "out") == int64(b.N) }, 5*time.Minute, time.Millisecond)
			report()
			b.StopTimer()
			running.Abort()
			require.NoError(b, <-done)
			require.Zero(b, r.Out)
		})
	}
}

// looped lets a source's events come within one minute of event time.
type looped struct{ flow.Source[jobs.Event] }

func (l *looped) Partitions() int { return 1 }

func (l *looped) Read(ctx context.Context, p flow.Partition, from flow.Position, in *flow.Intake[jobs.Event]) error {
	return l.Source.Read(ctx, p, from, flow.NewIntake[jobs.Event](minuteIntake{in}))
}

type minuteIntake struct{ *flow.Intake[jobs.Event] }

func (m minuteIntake) Emit(ctx context.Context, batch []flow.Record[jobs.Event], upTo flow.Position) error {
	for i := range batch {
		batch[i].Value.TS %= 60_000
	}
	return m.Intake.Emit(ctx, batch, upTo)
}

func (m minuteIntake) Reference(t time.Time) { m.Intake.Reference(t) }

func started(b *testing.B, build build, src flow.Source[jobs.Event], r *workload.Result) (*flow.Running, chan error) {
	t := flow.New("job", quiet(), flow.WithParallelism(1), flow.WithStore(state.InMemory()), flow.WithMaxPending(1<<40))
	build(t, src, r)
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(b, err)
	running, err := t.AddTo(context.Background(), router)
	require.NoError(b, err)
	done := make(chan error, 1)
	go func() { done <- router.Run(context.Background()) }()
	return running, done
}

// BenchmarkFiring1m is a firing of 1,000,000 keys while single records go on coming in: how long the longest of them had to wait for the task.
// One operation is one firing.
func BenchmarkFiring1m(b *testing.B) {
	const keys = 1_000_000
	var longest, all time.Duration
	for range b.N {
		src := &firing{keys: keys}
		var r workload.Result
		running, done := started(b, averages(window.Tumbling(time.Minute), 0), src, &r)
		require.Eventually(b, src.over.Load, 5*time.Minute, 10*time.Millisecond)
		require.NoError(b, running.Idle(context.Background()))
		running.Abort()
		require.NoError(b, <-done)
		require.EqualValues(b, keys, r.Out)
		longest, all = max(longest, src.longest), all+src.all
	}
	b.ReportMetric(float64(longest.Microseconds())/1000, "longest-wait-ms")
	b.ReportMetric(float64(all.Milliseconds())/float64(b.N), "firing-ms")
}

// firing is a source that fills a window with one record per key, lets it fire, and goes on record by record until the watermark is out.
type firing struct {
	keys         int
	longest, all time.Duration
	over         atomic.Bool
}

func (s *firing) Partitions() int                                             { return 1 }
func (s *firing) Open(context.Context, flow.SourceRuntime) error              { return nil }
func (s *firing) Commit(context.Context, flow.Partition, flow.Position) error { return nil }
func (s *firing) Replay() flow.Replay                                         { return flow.Seek }
func (s *firing) Close(context.Context) error                                 { return nil }

func (s *firing) Run(_ context.Context, a flow.Assign) error {
	return a.Add(flow.Partition{ID: "0"})
}

func (s *firing) Read(ctx context.Context, _ flow.Partition, _ flow.Position, in *flow.Intake[jobs.Event]) error {
	at := int64(0)
	emit := func(batch []flow.Record[jobs.Event]) error {
		at += int64(len(batch))
		return in.Emit(ctx, batch, flow.Position{Offset: at})
	}
	for i := 0; i < s.keys; {
		batch := in.Buffer()
		for ; i < s.keys && len(batch) < flow.MaxBatch; i++ {
			batch = append(batch, flow.Record[jobs.Event]{Value: jobs.Event{Device: fmt.Sprint("device-", i), TS: 1}, Time: flow.None})
		}
		if err := emit(batch); err != nil {
			return err
		}
	}
	one := func() error { // Emit returns when the batch before is processed
		return emit(append(in.Buffer(), flow.Record[jobs.Event]{Value: jobs.Event{Device: "late", TS: 61_000}, Time: flow.None}))
	}
	for range 2 { // behind the second one the filling is done
		if err := one(); err != nil {
			return err
		}
	}
	began := time.Now()
	for quick := 0; quick < 200; { // a firing under way makes each wait for a step
		before := time.Now()
		if err := one(); err != nil {
			return err
		}
		waited := time.Since(before)
		s.longest = max(s.longest, waited)
		if quick++; waited > 300*time.Microsecond {
			quick, s.all = 0, time.Since(began)
		}
	}
	s.over.Store(true)
	<-ctx.Done()
	return nil
}

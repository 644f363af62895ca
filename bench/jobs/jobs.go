// Package jobs holds the reference jobs of bench/workload as topologies: in process, with the router, watermarks and epochs in the path.
package jobs

import (
	"context"
	"time"

	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// Event is the workload's record.
type Event = workload.Event

// Minute is a result of the B jobs.
type Minute = window.Result[string, Stats]

// Stats is what a device's minute comes to.
type Stats struct {
	Avg, Max, Min float64
	Count         int64
}

func device(e Event) string       { return e.Device }
func seq(e Event) int64           { return e.Seq }
func temperature(e Event) float64 { return e.Temperature }
func humidity(e Event) float64    { return e.Humidity }

// A is two updates and a filter, summed.
func A(t *flow.Topology, src flow.Source[Event], r *workload.Result) {
	flow.To(Stateless(flow.From(t, "events", src)), "sum", Sum(humidity, r))
}

// Stateless is job A without source and sink.
func Stateless(in flow.Stream[Event]) flow.Stream[Event] {
	fahrenheit := operators.Update(in, "fahrenheit", func(_ context.Context, e *Event) error {
		e.Temperature = e.Temperature*1.8 + 32
		return nil
	})
	dry := operators.Filter(fahrenheit, "dry", func(e Event) bool { return e.Humidity < 50 })
	return operators.Update(dry, "mixed", func(_ context.Context, e *Event) error {
		e.Humidity = e.Temperature*0.5 + e.Humidity*0.1
		return nil
	})
}

// B is, per device and minute, the average, maximum, minimum and count.
func B(t *flow.Topology, src flow.Source[Event], r *workload.Result) {
	flow.To(PerMinute(flow.From(t, "events", src)), "sum", Sum(Total, r))
}

// PerMinute is the B jobs without source and sink.
func PerMinute(in flow.Stream[Event]) flow.Stream[Minute] {
	return operators.Window(inTime(in), "per-minute", window.Tumbling(time.Minute), stats(temperature))
}

// Total is what the sum of a job adds for a window.
func Total(m Minute) float64 {
	return m.Value.Avg + m.Value.Max + m.Value.Min + float64(m.Value.Count)
}

func stats[T any](temperature func(T) float64) agg.Aggregate[T, Stats] {
	return agg.Into(
		agg.To(func(s *Stats) *float64 { return &s.Avg }, agg.Avg(temperature)),
		agg.To(func(s *Stats) *float64 { return &s.Max }, agg.Max(temperature)),
		agg.To(func(s *Stats) *float64 { return &s.Min }, agg.Min(temperature)),
		agg.To(func(s *Stats) *int64 { return &s.Count }, agg.Count(temperature)),
	)
}

// D is the stream without repeats of (device, seq).
func D(t *flow.Topology, src flow.Source[Event], r *workload.Result) {
	flow.To(Distinct(flow.From(t, "events", src)), "sum", Sum(humidity, r))
}

// Distinct is job D without source and sink.
func Distinct(in flow.Stream[Event]) flow.Stream[Event] {
	return operators.Dedup(inTime(in), "dedup", seq, 5*time.Second).Unkeyed()
}

func timed(t *flow.Topology, src flow.Source[Event]) flow.Stream[Event] {
	return flow.AssignTime(flow.From(t, "events", src), "event-time", Event.Time, watermark.Monotonous().Simulated())
}

func inTime(in flow.Stream[Event]) flow.KeyedStream[string, Event] {
	return flow.KeyBy(flow.AssignTime(in, "event-time", Event.Time, watermark.Monotonous().Simulated()), device)
}

// Source makes events of a job, n of them, in one partition.
func Source(g *workload.Generator, n int64) flow.Source[Event] { return InBatches(g, n, flow.MaxBatch) }

// InBatches is Source with batches of at most size events.
func InBatches(g *workload.Generator, n int64, size int) flow.Source[Event] {
	return &source{g: g, n: n, size: int64(size)}
}

// Endless makes n events and then waits: the stream does not end.
func Endless(g *workload.Generator, n int64) flow.Source[Event] {
	return &source{g: g, n: n, size: flow.MaxBatch, waits: true}
}

type source struct {
	g     *workload.Generator
	n     int64
	size  int64
	waits bool
}

func (s *source) Partitions() int                                             { return 1 }
func (s *source) Open(context.Context, flow.SourceRuntime) error              { return nil }
func (s *source) Commit(context.Context, flow.Partition, flow.Position) error { return nil }
func (s *source) Replay() flow.Replay                                         { return flow.Seek }
func (s *source) Close(context.Context) error                                 { return nil }

func (s *source) Run(_ context.Context, a flow.Assign) error {
	return a.Add(flow.Partition{ID: "0"})
}

func (s *source) Read(ctx context.Context, _ flow.Partition, from flow.Position, in *flow.Intake[Event]) error {
	for i := from.Offset; i < s.n; {
		b := in.Buffer()
		b = b[:min(s.size, s.n-i)]
		for j := range b {
			s.g.Fill(i, &b[j].Value)
			b[j].Time = flow.None
			i++
		}
		if err := in.Emit(ctx, b, flow.Position{Offset: i}); err != nil {
			return err
		}
	}
	if s.waits {
		<-ctx.Done()
	}
	return nil
}

// Sum is a sink that counts records and sums f of them into r. It is for one task.
func Sum[T any](f func(T) float64, r *workload.Result) flow.Sink[T] { return &sum[T]{f, r} }

type sum[T any] struct {
	f func(T) float64
	r *workload.Result
}

func (s *sum[T]) Open(context.Context, flow.SinkRuntime) error                      { return nil }
func (s *sum[T]) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[T], error) { return s, nil }
func (s *sum[T]) Deliver(context.Context, []flow.Block) ([]flow.Reject, error)      { return nil, nil }
func (s *sum[T]) DecodeBlock([]byte) (flow.Block, error)                            { return nil, nil }
func (s *sum[T]) Close(context.Context) error                                       { return nil }
func (s *sum[T]) Seal(context.Context) ([]flow.Block, error)                        { return nil, nil }

func (s *sum[T]) Write(_ context.Context, batch []flow.Record[T]) error {
	sum := s.r.Sum
	for i := range batch {
		sum += s.f(batch[i].Value)
	}
	s.r.Sum = sum
	s.r.Out += int64(len(batch))
	return nil
}

// Count is the smallest keyed job: what it costs beyond its source is what KeyBy costs.
func Count(t *flow.Topology, src flow.Source[Event]) {
	counted := flow.ApplyKeyed[string, Event, Event](flow.KeyBy(flow.From(t, "events", src), device), "count",
		func() *counter { return &counter{} })
	flow.To(counted, "none", flow.SinkFunc(func(context.Context, []flow.Record[Event]) error { return nil }))
}

type counter struct{ n int64 }

func (c *counter) Process(context.Context, string, *flow.Record[Event], *flow.Output[Event]) error {
	c.n++
	return nil
}

func (c *counter) ProcessBatch(_ context.Context, _ []flow.Slot, in []flow.Record[Event], _ *flow.Output[Event]) (int, error) {
	c.n += int64(len(in))
	return len(in), nil
}

// C is B with windows of 60 s that begin every second.
func C(t *flow.Topology, src flow.Source[Event], r *workload.Result) {
	flow.To(LastMinute(flow.From(t, "events", src)), "sum", Sum(Total, r))
}

// LastMinute is job C without source and sink.
func LastMinute(in flow.Stream[Event]) flow.Stream[Minute] {
	return operators.Window(inTime(in), "last-minute", window.Sliding(time.Minute, time.Second), stats(temperature))
}

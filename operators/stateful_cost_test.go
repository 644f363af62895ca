package operators_test

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
)

// tick is a reading of one of 10,000 keys.
type tick struct {
	Key  int64
	At   int64 // milliseconds
	X, Y float64
}

func (t tick) key() int64      { return t.Key }
func (t tick) time() time.Time { return time.UnixMilli(t.At) }
func (t tick) x() float64      { return t.X }

// tickSource is a source of n ticks, in no order of keys.
type tickSource struct{ n int64 }

func (tickSource) Open(context.Context, flow.SourceRuntime) error { return nil }
func (tickSource) Partitions() int                                { return 1 }
func (tickSource) Run(_ context.Context, a flow.Assign) error     { return a.Add(flow.Partition{ID: "0"}) }
func (tickSource) Replay() flow.Replay                            { return flow.Seek }
func (tickSource) Close(context.Context) error                    { return nil }
func (tickSource) Commit(context.Context, flow.Partition, flow.Position) error {
	return nil
}

func (s tickSource) Read(ctx context.Context, _ flow.Partition, from flow.Position, in *flow.Intake[tick]) error {
	for i := from.Offset; i < s.n; {
		b := in.Buffer()
		for ; i < s.n && len(b) < flow.MaxBatch; i++ {
			b = append(b, flow.Record[tick]{Value: tick{i * 7919 % 10_000, i / 10, float64(i % 7), 1}, Time: flow.None})
		}
		if err := in.Emit(ctx, b, flow.Position{Offset: i}); err != nil {
			return err
		}
	}
	return nil
}

type tickSum struct {
	N      int64
	X, Max float64
}

// costly are the operators whose cost per record is looked at.
var costly = []struct {
	name  string
	build func(flow.KeyedStream[int64, tick]) flow.Stream[tick]
}{
	{"reduce", func(s flow.KeyedStream[int64, tick]) flow.Stream[tick] {
		return operators.Reduce(s, "op", func(acc, v tick) tick { acc.X += v.X; return acc })
	}},
	{"reduce with a ttl", func(s flow.KeyedStream[int64, tick]) flow.Stream[tick] {
		return operators.Reduce(s, "op", func(acc, v tick) tick { acc.X += v.X; return acc }, operators.IdleTTL(time.Minute))
	}},
	{"stateful", func(s flow.KeyedStream[int64, tick]) flow.Stream[tick] {
		return operators.Stateful(s, "op", 0, func(_ context.Context, c *operators.Cell[int64, tickSum, tick], v tick) error {
			c.State.N++
			c.State.X += v.X
			if c.State.N%2 == 0 {
				c.Emit(v)
			}
			return nil
		})
	}},
	{"stateful with a timer", func(s flow.KeyedStream[int64, tick]) flow.Stream[tick] {
		return operators.Stateful(s, "op", time.Hour, func(_ context.Context, c *operators.Cell[int64, tickSum, tick], v tick) error {
			c.State.N++
			c.SetTimer(c.Time().Add(10 * time.Second)) // moved by most records
			return nil
		}, operators.OnTimer(func(_ context.Context, c *operators.Cell[int64, tickSum, tick], _ flow.Timestamp) error {
			c.Emit(tick{c.Key(), 0, float64(c.State.N), 0})
			return nil
		}))
	}},
	{"rate of change", func(s flow.KeyedStream[int64, tick]) flow.Stream[tick] {
		return operators.RateOfChange(s, "op", tick.x, 100)
	}},
	{"z-score of 20", func(s flow.KeyedStream[int64, tick]) flow.Stream[tick] {
		return operators.ZScore(s, "op", tick.x, 20, 4)
	}},
	{"hampel of 20", func(s flow.KeyedStream[int64, tick]) flow.Stream[tick] {
		return operators.Hampel(s, "op", tick.x, 20, 4)
	}},
}

func runTicks(t testing.TB, n int64, build func(flow.KeyedStream[int64, tick]) flow.Stream[tick]) {
	top := flow.New("cost", flow.WithStore(state.InMemory()), flow.WithParallelism(1), flow.WithLogger(slog.New(slog.DiscardHandler)))
	times := flow.AssignTime(flow.From(top, "in", tickSource{n}), "time", tick.time, watermark.Monotonous().Simulated())
	flow.To(build(flow.KeyBy(times, tick.key)), "out", flow.SinkFunc(func(context.Context, []flow.Record[tick]) error { return nil }))
	require.NoError(t, top.Run(context.Background()))
}

// State that lies in flat memory costs no allocation per record: what a longer run allocates more is by batch, epoch and timer's heap.
func TestFlatStateAllocatesNothingPerRecord(t *testing.T) {
	if race {
		return // it allocates for its own
	}
	for _, c := range costly {
		if c.name == "z-score of 20" || c.name == "hampel of 20" {
			continue // an entry for each key
		}
		allocated := func(n int64) uint64 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			runTicks(t, n, c.build)
			runtime.ReadMemStats(&after)
			return after.Mallocs - before.Mallocs
		}
		few, many := allocated(60_000), allocated(160_000)
		require.Less(t, float64(many)-float64(few), 0.05*100_000, c.name)
	}
}

func BenchmarkKeyed(b *testing.B) {
	for _, c := range costly {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			runTicks(b, int64(b.N), c.build)
		})
	}
}

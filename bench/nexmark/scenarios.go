package nexmark

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
)

// rate is that of the events' time.
const rate = 10_000

// Scenarios are the queries as scenarios, each in one task.
func Scenarios(opts ...flow.TopologyOption) []harness.Scenario {
	var all []harness.Scenario
	for _, q := range Queries() {
		all = append(all, harness.Func("nexmark/"+q.Name, q.About, func(ctx context.Context, l *harness.Load, m *harness.Meter) error {
			g := New(1, rate)
			t := flow.New("nexmark", append([]flow.TopologyOption{
				flow.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))), flow.WithParallelism(1), flow.WithHooks(m), flow.WithEpochInterval(100 * time.Millisecond),
			}, opts...)...)
			flow.To(q.Build(flow.From(t, "events", harness.From(l, g.Fill))), "out", harness.To(m, func(r Row) int64 { return r.N }))
			return t.Run(ctx)
		}))
	}
	return all
}

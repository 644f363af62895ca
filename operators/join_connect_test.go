package operators_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	joins "github.com/millrace-stream/millrace/operators/join"
)

// slowSource connects (adds its partition) only when told to.
type slowSource struct {
	flow.Source[one]
	gate chan struct{}
}

func (s slowSource) Run(ctx context.Context, a flow.Assign) error {
	select {
	case <-s.gate:
	case <-ctx.Done():
		return nil
	}
	return s.Source.Run(ctx, a)
}

func TestASourceThatConnectsLaterHoldsTheWatermark(t *testing.T) {
	l, r := flowtest.NewSource[one](), flowtest.NewSource[one]()
	out := flowtest.NewSink[two]()
	gate := make(chan struct{})
	run := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("slow", append(opts, flow.WithParallelism(2))...)
		wm := watermark.Monotonous().Every(0)
		ls := flow.KeyBy(flow.AssignTime(flow.From(top, "left", l), "lt", one.time, wm), one.key)
		rs := flow.KeyBy(flow.AssignTime(flow.From(top, "right", slowSource{r, gate}), "rt", one.time, wm), one.key)
		flow.To(operators.OuterJoin(ls, rs, "join", joins.Between(-5*time.Second, 5*time.Second), joins.Left, pair), "out", out)
		return top
	}, l)
	l.Feed(left(1, 50), left(2, 100))
	run.Epoch()
	require.Empty(t, out.Next(), "the right source has not even connected: nothing is known of its time")
	require.Contains(t, run.Running().Watermarks(), flow.WatermarkInfo{Node: "join", Watermark: flow.None, HeldBy: "right"})
	close(gate)
	r.Feed(right(1, 50))
	require.Eventually(t, func() bool { run.Epoch(); return len(out.Values()) > 0 }, 5*time.Second, time.Millisecond)
	require.Equal(t, []two{{"a", 1, 1}}, out.Next())
}

package flow_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// One source partition, many tasks, then one task: the second KeyBy must gather them.
func TestOneTaskBehindMany(t *testing.T) {
	src, out := flowtest.NewSource[said]("0"), flowtest.NewSink[window.Result[struct{}, int64]]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("narrow", opts...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", said.time, watermark.Monotonous().Every(0))
		each := operators.Window(flow.KeyBy(timed, said.who, flow.Parallelism(4)), "each", window.Tumbling(10*time.Second), agg.Count(said.who))
		whole := operators.Window(flow.KeyBy(each, flow.Whole, flow.Parallelism(1)), "whole", window.Tumbling(10*time.Second), agg.Count(func(r window.Result[string, int64]) string { return r.Key }))
		flow.To(whole, "out", out)
		return top
	}, src)
	for i := range 100 {
		src.Feed(said{fmt.Sprint("k", i%20), "", int64(i / 10)})
	}
	src.End()
	require.NoError(t, r.Wait())
	require.Len(t, out.Values(), 1)
	require.EqualValues(t, 20, out.Values()[0].Value)
}

package flow_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
)

// Records of one key keep their order over any number of exchanges, with several partitions and tasks, whatever the batches.
func TestOrderPerKeyOverExchanges(t *testing.T) {
	const devices, each = 50, 200
	for _, batch := range []int{1, 13, 0} {
		t.Run(fmt.Sprint("batches of ", batch), func(t *testing.T) {
			src, out := flowtest.NewSource[reading]("0", "1", "2"), flowtest.NewSink[reading]()
			src.BatchSize = batch
			r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
				top := flow.New("order", append(opts, flow.WithParallelism(4))...)
				timed := flow.AssignTime(flow.From(top, "in", src), "time", reading.time, watermark.Monotonous())
				once := operators.Dedup(flow.KeyBy(timed, reading.device), "dedup", reading.id, time.Hour)
				back := operators.Filter(once.Unkeyed(), "all", keep)
				again := operators.Dedup(flow.KeyBy(back, func(r reading) int { return len(r.Device) + int(r.Device[len(r.Device)-1]) }, flow.Parallelism(3)),
					"again", func(r reading) string { return fmt.Sprintf("%s/%d", r.Device, r.ID) }, time.Hour)
				flow.To(again.Unkeyed(), "out", out)
				return top
			}, src)
			for n := range each {
				for d := range devices {
					src.FeedTo(fmt.Sprint(d%3), reading{Device: fmt.Sprint("device-", d), ID: int64(n + 1)})
				}
				if n%40 == 39 {
					r.Epoch()
				}
			}
			r.Epoch()
			next := map[string]int64{}
			for _, v := range out.Values() {
				next[v.Device]++
				require.Equal(t, next[v.Device], v.ID, v.Device)
			}
			require.Len(t, next, devices)
			for d, n := range next {
				require.EqualValues(t, each, n, d)
			}
			r.Stop()
		})
	}
}

// Each branch of a stream gets every record, in order.
func TestBranches(t *testing.T) {
	src := flowtest.NewSource[int]()
	outs := []*flowtest.Sink[int]{flowtest.NewSink[int](), flowtest.NewSink[int](), flowtest.NewSink[int]()}
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("branches", opts...)
		s := flow.From(top, "in", src)
		for i, out := range outs {
			flow.To(operators.Update(s, fmt.Sprint("add-", i), add(i)), fmt.Sprint("out-", i), out)
		}
		return top
	}, src)
	src.Feed(1, 2, 3)
	r.Epoch()
	for i, out := range outs {
		require.Equal(t, []int{1 + i, 2 + i, 3 + i}, out.Values(), "a branch does not see what another one changes")
	}
	r.Stop()
}

func add(n int) func(context.Context, *int) error {
	return func(_ context.Context, v *int) error { *v += n; return nil }
}

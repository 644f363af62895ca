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
)

func TestPanicOfAKeyFunction(t *testing.T) {
	for _, par := range []int{1, 4} {
		for _, letters := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d tasks, dead letters %v", par, letters), func(t *testing.T) {
				src, out, dead := flowtest.NewSource[reading](), flowtest.NewSink[reading](), flowtest.NewSink[flow.DeadLetter]()
				r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
					top := flow.New("keys", append(opts, flow.WithParallelism(par))...)
					timed := flow.AssignTime(flow.From(top, "in", src), "time", reading.time, watermark.Monotonous())
					keyed := flow.KeyBy(timed, func(r reading) string {
						if r.ID == 2 {
							panic("no key")
						}
						return r.Device
					})
					flow.To(operators.Dedup(keyed, "dedup", reading.id, time.Hour).Unkeyed(), "out", out)
					if letters {
						flow.To(top.DeadLetters(), "dead", dead)
					}
					return top
				}, src)
				src.Feed(readings("a", 1, 3)...)
				if !letters {
					require.ErrorIs(t, r.Wait(), flow.ErrPanic)
					require.Zero(t, src.Committed("0"))
					return
				}
				r.Epoch()
				require.Len(t, out.Values(), 2)
				require.Len(t, dead.Values(), 1)
				require.Contains(t, dead.Values()[0].Cause, "no key")
				r.Stop()
			})
		}
	}
}

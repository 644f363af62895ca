package operators_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/window"
)

// Many keys come and go, pages of 64 fill and empty, the topology crashes at or between epochs and comes back with other numbers of
// tasks: each window has what a plain map says.
func TestManyKeysOverCrashes(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			src := flowtest.NewSource[event]()
			out := flowtest.NewSink[window.Result[string, stats]]()
			tasks := 1
			r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
				top := flow.New("many", append(opts, flow.WithParallelism(tasks))...)
				timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.BoundedOutOfOrderness(3*time.Second))
				fresh := operators.Dedup(flow.KeyBy(timed, event.key), "dedup", event.n, time.Minute)
				flow.To(operators.Window(fresh, "win", window.Tumbling(5*time.Second), countAndSum()), "out", out)
				return top
			}, src)
			want := map[string]stats{}
			n := int64(0)
			for step := range int64(25) {
				batch := make([]event, 0, 1500)
				for range 1 + rnd.IntN(1200) {
					n++
					// Keys drift: old ones are freed and their slots taken by new ones.
					e := event{fmt.Sprint("key-", step*200+rnd.Int64N(2000)), n, 2*step + rnd.Int64N(3)}
					batch = append(batch, e)
					id := fmt.Sprint(e.Key, " ", e.At-e.At%5)
					s := want[id]
					want[id] = stats{s.Count + 1, s.Sum + e.N}
					if rnd.IntN(4) == 0 { // a repeat
						batch = append(batch, e)
					}
				}
				src.Feed(batch...)
				switch rnd.IntN(4) {
				case 0:
					r.Epoch()
				case 1:
					r.Settle()
				case 2:
					r.Epoch()
					tasks = 1 + rnd.IntN(5)
					r.Crash()
				case 3:
					r.Settle()
					tasks = 1 + rnd.IntN(5)
					r.Crash()
				}
			}
			r.Flush()
			got := map[string]stats{}
			for _, v := range out.Values() {
				id := fmt.Sprint(v.Key, " ", v.Start.Time().Unix())
				_, twice := got[id]
				require.False(t, twice, id)
				got[id] = v.Value
			}
			require.Equal(t, want, got)
		})
	}
}

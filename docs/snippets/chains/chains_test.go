package chains

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	chains "github.com/millrace-stream/millrace/topologies/cep"
)

var start = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// The chains stand beside each other in one topology over one stream.
func TestChains(t *testing.T) {
	src := flowtest.NewSource[Reading]()
	alarms, almost, outages := flowtest.NewSink[chains.Overheating](), flowtest.NewSink[chains.AlmostOverheating](), flowtest.NewSink[chains.Outage]()
	finished, skipped, unfinished := flowtest.NewSink[chains.Finished](), flowtest.NewSink[chains.Faulty](), flowtest.NewSink[chains.Faulty]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("docs", opts...)
		times := flow.AssignTime(flow.From(top, "in", src), "time", func(r Reading) time.Time { return r.At }, watermark.BoundedOutOfOrderness(0))
		byMachine := flow.KeyBy(times, func(r Reading) string { return r.Machine })
		overheating(byMachine, alarms, almost)
		offline(byMachine, outages)
		line(byMachine, finished, skipped, unfinished)
		return top
	}, src)
	for i, step := range []string{"mix", "heat", "", "", "fill"} {
		src.Feed(Reading{"kettle", start.Add(time.Duration(i) * 10 * time.Second), 75 + 5*float64(i), step})
	}
	src.Feed(Reading{"other", start.Add(3 * time.Minute), 20, ""})
	r.Epoch()
	require.Len(t, alarms.Values(), 1)
	require.InDelta(t, 95, alarms.Values()[0].Highest, 0)
	require.Len(t, outages.Values(), 1)
	require.Equal(t, "kettle", outages.Values()[0].Device)
	require.Equal(t, []chains.Finished{{Item: "kettle", Began: start, Ended: start.Add(40 * time.Second)}}, finished.Values())
	require.Empty(t, skipped.Values())
	require.Empty(t, unfinished.Values())
	r.Flush()
}

package aggregates

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

func TestAMinute(t *testing.T) {
	src := flowtest.NewSource[Reading]()
	at := func(sec int) time.Time { return time.Unix(1_700_000_040+int64(sec), 0).UTC() }
	src.Feed(
		Reading{"a", at(0), 20, 100, ""}, Reading{"a", at(50), 30, 140, "low"}, Reading{"a", at(10), math.NaN(), 110, ""},
		Reading{"a", at(40), 60, 130, "low"}, Reading{"a", at(59), 30, 10, "none"},
	)
	src.End()
	top := flow.New("minutes", flow.WithStore(state.InMemory()))
	timed := flow.AssignTime(flow.From(top, "readings", src), "time", Reading.at, watermark.BoundedOutOfOrderness(time.Minute))
	var got []window.Result[string, Minute]
	flow.To(perMinute(flow.KeyBy(operators.Filter(timed, "known", known), Reading.device)), "out",
		flow.SinkFunc(func(_ context.Context, in []flow.Record[window.Result[string, Minute]]) error {
			for _, r := range in {
				got = append(got, r.Value)
			}
			return nil
		}))
	require.NoError(t, top.Run(context.Background()))
	require.Len(t, got, 1)
	m := got[0].Value
	require.Equal(t, int64(4), m.Count)
	require.InDelta(t, (20*40+60*10+30*9)/59.0, m.Avg, 1e-9)
	require.Equal(t, at(40), m.HottestAt)
	require.InDelta(t, 50, m.Pulses, 0)
	require.InEpsilonSlice(t, []float64{30, 30}, m.Quantiles, 0.01)
	require.Equal(t, []agg.Counted[string]{{Value: "low", Count: 2}, {Value: "", Count: 1}, {Value: "none", Count: 1}}, m.Faults.Values)
}

func TestAggregatesAreValid(t *testing.T) {
	require.NoError(t, agg.Check(average(new(atomic.Int64))))
	s := energy().NewStore()
	slot := s.AllocBlock()
	s.Add(slot, &flow.Record[Reading]{Value: Reading{Pulses: 500}})
	require.InDelta(t, 0.5, s.Result(slot), 1e-12)
}

package clickhouse_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
)

// A sink that goes nowhere does what Sink does up to the server: rows that columns cannot hold are errors, options are checked.
func TestDiscard(t *testing.T) {
	type row struct {
		Name string    `ch:"name"`
		At   time.Time `ch:"at"`
	}
	at := func(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }
	src, dead := flowtest.NewSource[int](), flowtest.NewSink[flow.DeadLetter]()
	r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("discard", o...)
		flow.To(flow.From(top, "in", src), "out", clickhouse.Discard(clickhouse.Config{}, func(year int) row { return row{"a", at(year)} }, clickhouse.MaxRows(2)))
		flow.To(top.DeadLetters(), "dead", dead)
		return top
	}, src)
	src.Feed(2024, 2025, 1800, 2026)
	r.Epoch()
	require.Len(t, dead.Values(), 1)
	require.EqualValues(t, 4, src.Committed("0"))
	r.Stop()

	top := flow.New("wrong")
	flow.To(flow.From(top, "in", flowtest.NewSource[int]()), "out", clickhouse.Discard(clickhouse.Config{}, func(int) row { return row{} }, clickhouse.MaxRows(0)))
	require.ErrorContains(t, top.Run(t.Context()), "MaxRows 0")
}

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

func TestTheTopologyIsValid(t *testing.T) {
	top := perMinute(mqtt.Config{Brokers: []string{"tcp://127.0.0.1:1883"}, Topics: []string{"devices/#"}}, clickhouse.New(clickhouse.Config{}))
	require.NoError(t, top.Validate())
}

// [test]
func TestMinutesSurviveACrash(t *testing.T) {
	src, out := flowtest.NewSource[Reading](), flowtest.NewSink[window.Result[string, Stats]]()
	run := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("minutes", opts...)
		timed := flow.AssignTime(flow.From(top, "in", src), "event-time", at, watermark.BoundedOutOfOrderness(10*time.Second))
		flow.To(operators.Window(flow.KeyBy(timed, device), "per-minute", window.Tumbling(time.Minute), agg.Into(
			agg.To(count, agg.Count(celsius)),
			agg.To(highest, agg.Max(celsius)),
		)), "out", out)
		return top
	}, src)

	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	src.Feed(Reading{"d1", 1, noon, 20}, Reading{"d1", 2, noon.Add(30 * time.Second), 22})
	run.Epoch()
	src.Feed(Reading{"d1", 3, noon.Add(40 * time.Second), 30}) // not committed
	run.Crash()
	src.Feed(Reading{"d1", 4, noon.Add(71 * time.Second), 25}) // the watermark passes 12:01
	run.Epoch()

	rows := out.Values()
	require.Len(t, rows, 1)
	require.Equal(t, Stats{Count: 3, Max: 30}, rows[0].Value)
}

// [end]

package cep

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

var start = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func reading(second int, temp float64, kind string) Reading {
	return Reading{"dev-7", start.Add(time.Duration(second) * time.Second), temp, kind}
}

// run puts readings through an operator and returns the texts of the alarms.
func run(t *testing.T, build func(flow.KeyedStream[string, Reading]) operators.Matched[string, Reading, Alarm], in ...Reading) (texts []string) {
	src, out := flowtest.NewSource[Reading]("0"), flowtest.NewSink[Alarm]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("docs", opts...)
		times := flow.AssignTime(flow.From(top, "in", src), "time", Reading.at, watermark.BoundedOutOfOrderness(time.Second))
		flow.To(build(flow.KeyBy(times, Reading.device)), "out", out)
		return top
	}, src)
	src.Feed(in...)
	r.Flush()
	for _, a := range out.Values() {
		texts = append(texts, a.Text)
	}
	return texts
}

func alarms(p cep.Pattern[Reading]) func(flow.KeyedStream[string, Reading]) operators.Matched[string, Reading, Alarm] {
	return func(s flow.KeyedStream[string, Reading]) operators.Matched[string, Reading, Alarm] {
		return operators.CEP(s, "cep", p, toText)
	}
}

func TestPatternsOfThePage(t *testing.T) {
	hot := []Reading{reading(0, 85, ""), reading(1, 91, ""), reading(2, 95, ""), reading(3, 99, "")}
	require.Equal(t, []string{"99 °C"}, run(t, overheating, hot...))
	require.Empty(t, run(t, traced, append(hot, reading(60, 50, ""))...))
	require.Equal(t, []string{"step×4 top×1"}, run(t, alarms(climbing()), reading(0, 1, ""), reading(1, 2, ""), reading(2, 3, ""), reading(3, 5, ""), reading(4, 30, "")))
	again := []Reading{reading(0, 0, "stop"), reading(5, 0, "start"), reading(10, 0, "stop"), reading(15, 0, "start"), reading(20, 0, "stop"), reading(25, 0, "start")}
	require.Equal(t, []string{"stop×3 start×3"}, run(t, alarms(restarts()), again...))
	require.Equal(t, []string{"question×1"}, run(t, alarms(unanswered()), reading(0, 0, "question"), reading(11, 0, "answer"), reading(20, 0, "question"), reading(25, 0, "answer")))
	require.Equal(t, []string{"", ""}, run(t, alarms(offline()), reading(0, 0, ""), reading(400, 0, "")), "at 300 s, and 300 s behind the last one")
	require.Equal(t, []string{"back×1"}, run(t, alarms(andBack()), reading(0, 0, ""), reading(400, 0, "")))
	require.Equal(t, []string{"loaded×1 closed×1 cooled×1 started×1"}, run(t, alarms(ready()), reading(0, 0, "loaded"), reading(5, 0, "closed"), reading(6, 0, "cooled"), reading(9, 0, "started")))
	set := func(s flow.KeyedStream[string, Reading]) operators.Matched[string, Reading, Alarm] {
		changes := flowtest.NewSource[cep.Change]()
		changes.End()
		return watched(s, flow.From(s.Topology(), "changes", changes))
	}
	require.Equal(t, []string{"overheat 2"}, run(t, set, hot...))
}

func toText(_ context.Context, m cep.Match[string, Reading]) (Alarm, error) {
	_, steps, _ := strings.Cut(m.String(), ":")
	return Alarm{m.Key, strings.TrimSpace(steps)}, nil
}

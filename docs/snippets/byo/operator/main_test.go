package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/sources/gen"
)

// [test]
func TestSilentInAllModes(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	var inputs []Reading
	for i := range 60 {
		inputs = append(inputs, Reading{Device: fmt.Sprintf("d%d", i%3), At: noon.Add(time.Duration(i) * time.Duration(i%3+1) * time.Second)})
	}
	flowtest.CheckOperator(t, flowtest.OperatorCheck[Reading, Silence]{
		Inputs: inputs,
		Build: func(in flow.Stream[Reading]) flow.Stream[Silence] {
			timed := flow.AssignTime(in, "event-time", at, watermark.BoundedOutOfOrderness(0))
			return Silent(flow.KeyBy(timed, device), "silent", 10*time.Second)
		},
		Key: func(s Silence) string { return s.Device },
	})
}

// [end]

func TestCalibrateInAllModes(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[Reading, Reading]{
		Inputs: []Reading{{Device: "d1", Celsius: 20}, {Device: "d2", Celsius: 20}, {Device: "d1", Celsius: 21}},
		Build: func(in flow.Stream[Reading]) flow.Stream[Reading] {
			return Calibrate(in, "calibrate", map[string]float64{"d1": 0.5, "d2": -0.25})
		},
		Want: []Reading{{Device: "d1", Celsius: 20.5}, {Device: "d2", Celsius: 19.75}, {Device: "d1", Celsius: 21.5}},
	})
}

func TestUnknownDevicesAreDeadLetters(t *testing.T) {
	src, out, dead := flowtest.NewSource[Reading](), flowtest.NewSink[Reading](), flowtest.NewSink[flow.DeadLetter]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("calibrate", opts...)
		flow.To(Calibrate(flow.From(top, "in", src), "calibrate", map[string]float64{"d1": 1}), "out", out)
		flow.To(top.DeadLetters(), "dead", dead)
		return top
	}, src)
	src.Feed(Reading{Device: "d1"}, Reading{Device: "d9"}, Reading{Device: "d1"})
	r.Epoch()
	require.Len(t, out.Values(), 2)
	require.Len(t, dead.Values(), 1)
	require.Contains(t, dead.Values()[0].Cause, `"d9"`)
}

func TestTopologyIsValid(t *testing.T) {
	require.NoError(t, topology(gen.Source(reading, gen.Count(10)), nil).Validate())
}

func Example() {
	main()
	// Unordered output:
	// d2 is silent since 12:00:09, after 10 readings
	// d1 is silent since 12:01:39, after 190 readings
}

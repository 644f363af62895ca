package timepage

import (
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// Reading is what a device measured.
type Reading struct {
	Device  string
	Celsius float64
	At      time.Time
}

// Minute is a window's result.
type Minute = window.Result[string, float64]

// [assign]

func withTime(raw flow.Stream[Reading]) flow.TimedStream[Reading] {
	return flow.AssignTime(raw, "event-time", func(r Reading) time.Time { return r.At },
		watermark.BoundedOutOfOrderness(10*time.Second))
}

// [window]

func perMinute(timed flow.TimedStream[Reading]) operators.Windowed[string, Reading, float64] {
	byDevice := flow.KeyBy(timed, func(r Reading) string { return r.Device })
	return operators.Window(byDevice, "per-minute", window.Tumbling(time.Minute),
		agg.Avg(func(r Reading) float64 { return r.Celsius }), window.AllowedLateness(time.Minute))
}

// [sides]

func connect(timed flow.TimedStream[Reading], minutes operators.Windowed[string, Reading, float64],
	results flow.Sink[Minute], late, badClock flow.Sink[flow.Late[Reading]]) {
	flow.To(minutes, "results", results)
	flow.To(minutes.Late(), "late", late)
	flow.To(timed.BadClock(), "bad-clock", badClock)
}

// [simulated]

func simulated() flow.WatermarkStrategy {
	return watermark.BoundedOutOfOrderness(10 * time.Second).Simulated()
}

// [end]

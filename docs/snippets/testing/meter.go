// Package testingpage holds what the page on testing quotes: a topology, and its tests.
package testingpage

import (
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// [topology]

// Reading is what a meter says.
type Reading struct {
	Meter string    `json:"meter"`
	Watts int64     `json:"watts"`
	At    time.Time `json:"at"`
}

// Minute is the sum of a meter's minute.
type Minute = window.Result[string, int64]

// PerMinute is the piece of topology under test.
func PerMinute(readings flow.Stream[Reading]) operators.Windowed[string, Reading, int64] {
	byMeter := flow.KeyBy(readings, func(r Reading) string { return r.Meter })
	return operators.Window(byMeter, "per-minute", window.Tumbling(time.Minute),
		agg.Sum(func(r Reading) int64 { return r.Watts }), window.AllowedLateness(10*time.Second))
}

// [timed]

func timed(readings flow.Stream[Reading]) flow.Stream[Reading] {
	return flow.AssignTime(readings, "time", func(r Reading) time.Time { return r.At },
		watermark.BoundedOutOfOrderness(5*time.Second))
}

// [end]

// Package gapfill has the code of docs/operators/gap-fill.md and docs/operators/outliers.md.
package gapfill

import (
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// Reading is what devices send.
type Reading struct {
	Device  string
	At      time.Time
	Celsius float64
}

func (r Reading) device() string   { return r.Device }
func (r Reading) at() time.Time    { return r.At }
func (r Reading) celsius() float64 { return r.Celsius }

// [linear]

func everyMinute(byDevice flow.KeyedStream[string, Reading]) operators.Gapless[string, Reading] {
	return operators.GapFill(byDevice, "every-minute", time.Minute, 10,
		operators.Linear(Reading.celsius, func(before Reading, celsius float64) Reading {
			before.Celsius = celsius
			return before
		}))
}

// [last]

func lastKnown(byDevice flow.KeyedStream[string, Reading]) operators.Gapless[string, Reading] {
	return operators.GapFill(byDevice, "last-known", time.Minute, 60, operators.LastValue())
}

// [windows]

// Minute is the mean of a device's minute.
type Minute = window.Result[string, float64]

func device(m Minute) string { return m.Key }

func noMinuteMissing(byDevice flow.KeyedStream[string, Reading]) operators.Gapless[string, Minute] {
	means := operators.Window(byDevice, "means", window.Tumbling(time.Minute), agg.Avg(Reading.celsius))
	return operators.GapFill(flow.KeyBy(means, device), "no-minute-missing", time.Minute, 60, operators.NoValue())
}

// [nearest]

func nearest(byDevice flow.KeyedStream[string, Reading]) operators.Gapless[string, Reading] {
	return operators.GapFill(byDevice, "nearest", time.Minute, 10, operators.FillBy(func(g operators.Gap[Reading]) (Reading, bool) {
		if g.Part() < 0.5 {
			return g.Before, true
		}
		return g.After, true
	}))
}

// [filters]

func plausible(byDevice flow.KeyedStream[string, Reading]) (good flow.KeyedStream[string, Reading], outliers flow.Stream[operators.Outlier[Reading]]) {
	possible := operators.OutOfRange(byDevice, "possible", Reading.celsius, -50, 80)
	steady := operators.RateOfChange(possible.Keyed(), "steady", Reading.celsius, 0.5, operators.IdleTTL(time.Hour))
	usual := operators.Hampel(steady.Keyed(), "usual", Reading.celsius, 25, 4, operators.MinDeviation(0.2), operators.IdleTTL(time.Hour))
	return usual.Keyed(), flow.Union("outliers", possible.Outliers(), steady.Outliers(), usual.Outliers())
}

// [end]

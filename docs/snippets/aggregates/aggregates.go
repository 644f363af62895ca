// Package aggregates has the code of docs/operators/aggregates.md.
package aggregates

import (
	"math"
	"sync/atomic"
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
	Pulses  int64
	Fault   string
}

func (r Reading) device() string   { return r.Device }
func (r Reading) at() time.Time    { return r.At }
func (r Reading) celsius() float64 { return r.Celsius }
func (r Reading) pulses() int64    { return r.Pulses }
func (r Reading) fault() string    { return r.Fault }

// [minute]

// Minute is what a minute of a device comes to.
type Minute struct {
	Count     int64
	Avg       float64 // by time, not by reading
	HottestAt time.Time
	Pulses    float64
	Quantiles []float64 // the median and the 99th percentile
	Faults    agg.Frequent[string]
}

func perMinute(byDevice flow.KeyedStream[string, Reading]) flow.Stream[window.Result[string, Minute]] {
	return operators.Window(byDevice, "per-minute", window.Tumbling(time.Minute), agg.Into(
		agg.To(func(m *Minute) *int64 { return &m.Count }, agg.Count(Reading.celsius)),
		agg.To(func(m *Minute) *float64 { return &m.Avg }, agg.TimeWeightedAvg(Reading.celsius)),
		agg.To(func(m *Minute) *time.Time { return &m.HottestAt }, agg.ArgMax(Reading.celsius, Reading.at)),
		agg.To(func(m *Minute) *float64 { return &m.Pulses }, agg.Increase(Reading.pulses)),
		agg.To(func(m *Minute) *[]float64 { return &m.Quantiles }, agg.Quantiles(Reading.celsius, 0.01, 0.5, 0.99)),
		agg.To(func(m *Minute) *agg.Frequent[string] { return &m.Faults }, agg.TopK(Reading.fault, 3, 100)),
	))
}

// [reorder]
func average(missed *atomic.Int64) agg.Aggregate[Reading, float64] {
	return agg.TimeWeightedAvg(Reading.celsius, agg.Linear(), agg.Reorder(2000), agg.CountMissed(missed))
}

// [nan]
func known(r Reading) bool { return !math.IsNaN(r.Celsius) }

// [own]

// Energy adds up pulses of 1 Wh.
type Energy struct {
	Joules float64
}

func (e *Energy) add(r Reading)          { e.Joules += float64(r.Pulses) * 3600 }
func (e *Energy) merge(from *Energy)     { e.Joules += from.Joules }
func (e *Energy) kilowattHours() float64 { return e.Joules / 3.6e6 }

func energy() agg.Aggregate[Reading, float64] {
	return agg.Func((*Energy).add, (*Energy).merge, (*Energy).kilowattHours)
}

// [end]

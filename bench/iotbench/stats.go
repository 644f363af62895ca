package iotbench

import (
	"context"
	"math"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// block is how many values an average is of, and fit how many a prediction.
const block, fit = 10, 10

// estimate is a Kalman filter of one variable.
type estimate struct {
	Value, Error float64
	Name         string
	At, N        int64
}

// Noise of the process and of the sensor, and the error at first.
const (
	processNoise, sensorNoise = 0.125, 0.32
	firstError                = 30.0
)

// next takes a measurement in.
func (e estimate) next(o observation) estimate {
	if e.Name == "" {
		e.Error = firstError
	}
	prior := e.Error + processNoise
	gain := prior / (prior + sensorNoise)
	return estimate{Value: e.Value + gain*(o.Value-e.Value), Error: (1 - gain) * prior, Name: o.Name, At: o.At, N: o.N}
}

// line is the last estimates of a sensor and kind.
type line struct {
	Values [fit]float64
	N      int64
}

// predict adds a value and says what the next will be, by linear regression.
func (l *line) predict(v float64) float64 {
	l.Values[l.N%fit] = v
	l.N++
	n := min(l.N, fit)
	var sx, sy, sxx, sxy float64
	for i := range n {
		x, y := float64(i), l.Values[(l.N-n+i)%fit]
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	c := float64(n)
	det := c*sxx - sx*sx
	if det == 0 {
		return v
	}
	slope := (c*sxy - sx*sy) / det
	return (sy-slope*sx)/c + slope*c
}

// sketches is how many counters the second moment is estimated by: its standard error is about the root of 2/64, 18 %.
const sketches = 64

// moment is the sketch of Alon, Matias and Szegedy of how often values occur, and the last event's number.
type moment struct {
	Counters [sketches]int64
	Last     int64
}

func (m *moment) add(o observation) {
	h := mixed(math.Float64bits(o.Value))
	for j := range m.Counters {
		m.Counters[j] += 1 - 2*int64(h>>j&1)
	}
	m.Last = max(m.Last, o.N)
}

func (m *moment) merge(o *moment) {
	for j := range m.Counters {
		m.Counters[j] += o.Counters[j]
	}
	m.Last = max(m.Last, o.Last)
}

// second is what the second moment comes to.
type second struct {
	Value float64
	Last  int64
}

func (m *moment) result() second {
	var sum float64
	for _, c := range m.Counters {
		sum += float64(c) * float64(c)
	}
	return second{sum / sketches, m.Last}
}

func mixed(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// distinct is how many sensors spoke.
type distinct struct{ Sensors, Last int64 }

// stats are four computations beside each other.
func stats(t *flow.Topology, l *harness.Load, s Size) flow.Stream[Row] {
	os := observations(t, l, s)
	value := func(o observation) float64 { return o.Value }
	number := func(o observation) int64 { return o.N }

	type average struct {
		Value    float64
		At, Last int64
	}
	averages := operators.Window(flow.KeyBy(os, nameOf), "average", window.Count(block), agg.Into(
		agg.To(func(a *average) *float64 { return &a.Value }, agg.Avg(value)),
		agg.To(func(a *average) *int64 { return &a.At }, agg.Max(func(o observation) int64 { return o.At })),
		agg.To(func(a *average) *int64 { return &a.Last }, agg.Max(number)),
	))
	averaged := operators.Map(averages, "average-row", func(_ context.Context, r window.Result[string, average]) (Row, error) {
		return Row{Of: "average", Key: r.Key, At: r.Value.At, Value: r.Value.Value, N: r.Value.Last}, nil
	})

	estimates := operators.Scan(flow.KeyBy(os, nameOf), "kalman", estimate.next)
	predicted := operators.Stateful(flow.KeyBy(estimates, func(e estimate) string { return e.Name }), "regression", 0,
		func(_ context.Context, c *operators.Cell[string, line, Row], e estimate) error {
			c.Emit(Row{Of: "prediction", Key: e.Name, At: e.At, Value: c.State.predict(e.Value), N: e.N})
			return nil
		})

	moments := operators.Window(flow.KeyBy(os, kindOf), "second-moment", window.Tumbling(time.Minute), agg.Func((*moment).add, (*moment).merge, (*moment).result))
	momentRows := operators.Map(moments, "second-moment-row", func(_ context.Context, r window.Result[int64, second]) (Row, error) {
		return Row{Of: "second-moment", Key: observed[r.Key].name, At: end(r.End), Value: r.Value.Value, N: r.Value.Last}, nil
	})

	counts := operators.Window(flow.KeyBy(os, kindOf), "distinct", window.Tumbling(time.Minute), agg.Into(
		agg.To(func(d *distinct) *int64 { return &d.Sensors }, agg.Distinct(func(o observation) string { return o.Sensor }, 0.02)),
		agg.To(func(d *distinct) *int64 { return &d.Last }, agg.Max(number)),
	))
	countRows := operators.Map(counts, "distinct-row", func(_ context.Context, r window.Result[int64, distinct]) (Row, error) {
		return Row{Of: "distinct", Key: observed[r.Key].name, At: end(r.End), Count: r.Value.Sensors, N: r.Value.Last}, nil
	})
	return flow.Union("rows", averaged, predicted, momentRows, countRows)
}

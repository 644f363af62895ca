package iotbench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// Power is what a sensor says.
type Power struct {
	Sensor int64
	// At is in ms.
	At    int64
	Watts float64
	N     int64
}

// Time is At as a time.Time.
func (p Power) Time() time.Time { return time.UnixMilli(p.At) }

func sensorOf(p Power) int64  { return p.Sensor }
func wattsOf(p Power) float64 { return p.Watts }
func numberOf(p Power) int64  { return p.N }

// Power makes event i: sensors speak in turns, as in Theodolite, where each has a fixed period. Watts are whole numbers from 0 to 999, so
// that sums do not depend on the order of additions.
func (s Size) Power(i int64, p *Power) {
	*p = Power{Sensor: i % int64(s.Devices), At: s.at(i), Watts: float64(among(s.hash(i), 1000)), N: i}
}

func sensorName(n int64) string { return "sensor-" + strconv.FormatInt(n, 10) }

func powers(t *flow.Topology, l *harness.Load, s Size) flow.Stream[Power] {
	return flow.From(t, "power", harness.From(l, s.Power))
}

func timedPowers(t *flow.Topology, l *harness.Load, s Size) flow.Stream[Power] {
	return flow.AssignTime(powers(t, l, s), "time", Power.Time, inOrder())
}

// uc1 makes of each reading the row of a database.
func uc1(t *flow.Topology, l *harness.Load, s Size) flow.Stream[Row] {
	names := make([]string, s.Devices)
	for i := range names {
		names[i] = sensorName(int64(i))
	}
	return operators.Map(powers(t, l, s), "row", func(_ context.Context, p Power) (Row, error) {
		return Row{Key: names[p.Sensor], At: p.At, Value: p.Watts, N: p.N}, nil
	})
}

// summary is what UC2 and UC3 say of a window.
type summary struct {
	Count                       int64
	Mean, Variance, Least, Most float64
	Last                        int64
}

func summaries() agg.Aggregate[Power, summary] {
	return agg.Into(
		agg.To(func(s *summary) *int64 { return &s.Count }, agg.Count(wattsOf)),
		agg.To(func(s *summary) *float64 { return &s.Mean }, agg.Avg(wattsOf)),
		agg.To(func(s *summary) *float64 { return &s.Variance }, agg.VariancePop(wattsOf)),
		agg.To(func(s *summary) *float64 { return &s.Least }, agg.Min(wattsOf)),
		agg.To(func(s *summary) *float64 { return &s.Most }, agg.Max(wattsOf)),
		agg.To(func(s *summary) *int64 { return &s.Last }, agg.Max(numberOf)),
	)
}

// summarized makes rows of windows.
func summarized(s flow.Stream[window.Result[int64, summary]], key func(int64) string) flow.Stream[Row] {
	return operators.Map(s, "row", func(_ context.Context, r window.Result[int64, summary]) (Row, error) {
		v := &r.Value
		return Row{Key: key(r.Key), At: end(r.End), Count: v.Count, Value: v.Mean, Least: v.Least, Most: v.Most, Variance: v.Variance, N: v.Last}, nil
	})
}

// uc2 is downsampling: a minute per sensor.
func uc2(t *flow.Topology, l *harness.Load, s Size) flow.Stream[Row] {
	bySensor := flow.KeyBy(timedPowers(t, l, s), sensorOf)
	return summarized(operators.Window(bySensor, "minutes", window.Tumbling(time.Minute), summaries()), sensorName)
}

const day = 24 * time.Hour

// hourOf is the key of UC3: sensor and hour of the day.
func hourOf(p Power) int64 { return p.Sensor*24 + p.At/time.Hour.Milliseconds()%24 }

func hourName(key int64) string { return fmt.Sprintf("%s at %d", sensorName(key/24), key%24) }

// uc3 aggregates by attributes of time: the same hour of the last 30 days, every day.
func uc3(t *flow.Topology, l *harness.Load, s Size) flow.Stream[Row] {
	byHour := flow.KeyBy(timedPowers(t, l, s), hourOf)
	return summarized(operators.Window(byHour, "month", window.Sliding(30*day, day), summaries()), hourName)
}

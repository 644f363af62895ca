package agg_test

import (
	"fmt"
	"sync/atomic"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
)

// Meter is a reading of a meter at a second.
type Meter struct {
	Second  float64
	Value   float64
	Station string
}

func Value(m Meter) float64  { return m.Value }
func Second(m Meter) float64 { return m.Second }
func Station(m Meter) string { return m.Station }

// runAt folds readings into one slot, at their times.
func runAt[R any](a agg.Aggregate[Meter, R], readings ...Meter) R {
	s := a.NewStore()
	slot := s.AllocBlock()
	for _, m := range readings {
		s.Add(slot, &flow.Record[Meter]{Value: m, Time: flow.Timestamp(m.Second * 1e9)})
	}
	return s.Result(slot)
}

func ExampleArgMax() {
	meters := []Meter{{1, 40, "north"}, {2, 70, "south"}, {3, 10, "west"}}
	fmt.Println(runAt(agg.ArgMax(Value, Second), meters...), runAt(agg.ArgMin(Value, Station), meters...))
	fmt.Println(runAt(agg.ArgMax(Value, agg.Itself), meters...))
	// Output:
	// 2 west
	// {2 70 south}
}

func ExampleFirst() {
	// The record of second 1 arrives last.
	fmt.Println(runAt(agg.First(Station), Meter{2, 0, "b"}, Meter{3, 0, "c"}, Meter{1, 0, "a"}))
	// Output: a
}

func ExampleLargest() {
	meters := []Meter{{1, 40, "north"}, {2, 70, "south"}, {3, 10, "west"}, {4, 70, "east"}}
	fmt.Println(runAt(agg.Largest(Value, Station, 3), meters...), runAt(agg.Smallest(Value, Station, 1), meters...))
	// Output: [south east north] [west]
}

func ExampleVariance() {
	fmt.Println(run(agg.Variance(Celsius), day...), run(agg.VariancePop(Celsius), day...))
	// Output: 9 6
}

func ExampleTimeWeightedAvg() {
	// 20 degrees for 58 seconds, then a burst of readings.
	meters := []Meter{{Second: 0, Value: 20}, {Second: 58, Value: 80}, {Second: 59, Value: 80}, {Second: 60, Value: 80}}
	fmt.Println(runAt(agg.Avg(Value), meters...), runAt(agg.TimeWeightedAvg(Value), meters...))
	// Output: 65 22
}

func ExampleLinear() {
	meters := []Meter{{Second: 0, Value: 0}, {Second: 10, Value: 10}, {Second: 30, Value: 10}}
	fmt.Printf("%.2f %.2f\n", runAt(agg.TimeWeightedAvg(Value), meters...), runAt(agg.TimeWeightedAvg(Value, agg.Linear()), meters...))
	// Output: 6.67 8.33
}

func ExampleReorder() {
	var missed atomic.Int64
	a := agg.TimeWeightedAvg(Value, agg.Reorder(2), agg.CountMissed(&missed))
	var meters []Meter
	for second := range 10 {
		meters = append(meters, Meter{Second: float64(second), Value: 5})
	}
	meters = append(meters, Meter{Second: 0.5, Value: 1000}) // behind 9 later ones
	fmt.Println(runAt(a, meters...), missed.Load())
	// Output: 5 1
}

func ExampleIncrease() {
	// The counter begins again at 0 between the seconds 10 and 20.
	meters := []Meter{{Second: 0, Value: 100}, {Second: 10, Value: 140}, {Second: 20, Value: 20}, {Second: 30, Value: 50}}
	fmt.Println(runAt(agg.Increase(Value), meters...), runAt(agg.Rate(Value), meters...))
	// Output: 90 3
}

func ExampleRate() {
	// Records out of order, of a counter of type int.
	bytes := func(m Meter) int { return int(m.Value) }
	fmt.Println(runAt(agg.Rate(bytes), Meter{Second: 20, Value: 3000}, Meter{Second: 0, Value: 1000}, Meter{Second: 10, Value: 1500}))
	// Output: 100
}

func ExampleHistogram() {
	b := run(agg.Histogram(Celsius, 0, 20, 30), day...)
	fmt.Println(b.Counts, "of", b.Count, "sum", b.Sum)
	// Output: [0 1 2 0] of 3 sum 63
}

func ExampleQuantiles() {
	var meters []Meter
	for i := range 1000 {
		meters = append(meters, Meter{Second: float64(i), Value: float64(i + 1)})
	}
	for _, v := range runAt(agg.Quantiles(Value, 0.01, 0.5, 0.99), meters...) {
		fmt.Printf("%.0f ", v)
	}
	fmt.Printf("%.0f\n", runAt(agg.Quantile(Value, 0.001, 0.5), meters...))
	// Output: 498 983 500
}

func ExampleDistinct() {
	var meters []Meter
	for i := range 1000 {
		meters = append(meters, Meter{Second: float64(i), Value: float64(i % 700)})
	}
	few, many := runAt(agg.Distinct(Value, 0.01), meters[:300]...), runAt(agg.Distinct(Value, 0.01), meters...)
	fmt.Println(few, many > 680 && many < 720)
	// Output: 300 true
}

func ExampleTopK() {
	f := runAt(agg.TopK(Station, 2, 100), Meter{Station: "a"}, Meter{Station: "b"}, Meter{Station: "a"}, Meter{Station: "c"})
	for _, c := range f.Values {
		fmt.Println(c.Value, c.Count)
	}
	fmt.Println("error at most", f.Error)
	// Output:
	// a 2
	// b 1
	// error at most 0
}

func ExampleArgMin() {
	// The record of second 1 comes first among those of equal value.
	fmt.Println(runAt(agg.ArgMin(Value, Second), Meter{Second: 3, Value: 7}, Meter{Second: 1, Value: 7}, Meter{Second: 2, Value: 9}))
	// Output: 1
}

func ExampleSmallest() {
	fmt.Println(run(agg.Smallest(Celsius, agg.Itself, 2), day...))
	// Output: [{a 18} {a 21}]
}

func ExampleItself() {
	fmt.Println(run(agg.Last(agg.Itself[Reading]), day...))
	// Output: {a 21}
}

func ExampleVariancePop() {
	fmt.Println(run(agg.VariancePop(Celsius), day...))
	// Output: 6
}

func ExampleQuantile() {
	fmt.Printf("%.1f\n", run(agg.Quantile(Celsius, 0.001, 0.5), day...))
	// Output: 21.0
}

func ExampleCountMissed() {
	var missed atomic.Int64
	s := agg.Rate(Value, agg.CountMissed(&missed)).NewStore()
	slot := s.AllocBlock()
	s.Add(slot, &flow.Record[Meter]{Value: Meter{Value: 3}, Time: flow.None})
	fmt.Println(missed.Load())
	// Output: 1
}

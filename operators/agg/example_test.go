package agg_test

import (
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
)

type Reading struct {
	Device      string
	Temperature float64
}

func Celsius(r Reading) float64 { return r.Temperature }

// run folds values into one slot, as a window does.
func run[T, R any](a agg.Aggregate[T, R], values ...T) R {
	s := a.NewStore()
	slot := s.AllocBlock()
	for i, v := range values {
		s.Add(slot, &flow.Record[T]{Value: v, Time: flow.Timestamp(i)})
	}
	return s.Result(slot)
}

var day = []Reading{{"a", 18}, {"b", 24}, {"a", 21}}

func ExampleInto() {
	type Stats struct {
		Avg, Max float64
		Count    int64
	}
	stats := agg.Into(
		agg.To(func(s *Stats) *float64 { return &s.Avg }, agg.Avg(Celsius)),
		agg.To(func(s *Stats) *float64 { return &s.Max }, agg.Max(Celsius)),
		agg.To(func(s *Stats) *int64 { return &s.Count }, agg.Count(Celsius)),
	)
	fmt.Printf("%+v\n", run(stats, day...))
	// Output: {Avg:21 Max:24 Count:3}
}

// spread is a user's own accumulator. Its zero value is empty.
type spread struct {
	low, high float64
	n         int
}

func (s *spread) add(r Reading) {
	if s.n == 0 || r.Temperature < s.low {
		s.low = r.Temperature
	}
	if s.n == 0 || r.Temperature > s.high {
		s.high = r.Temperature
	}
	s.n++
}

func (s *spread) merge(from *spread) {
	if from.n == 0 {
		return
	}
	if s.n == 0 {
		*s = *from
		return
	}
	s.low, s.high, s.n = min(s.low, from.low), max(s.high, from.high), s.n+from.n
}

func (s *spread) result() float64 { return s.high - s.low }

func ExampleFunc() {
	fmt.Println(run(agg.Func((*spread).add, (*spread).merge, (*spread).result), day...))
	// Output: 6
}

func ExampleLast() {
	fmt.Println(run(agg.First(Celsius), day...), run(agg.Last(Celsius), day...))
	// Output: 18 21
}

func ExampleSum() {
	fmt.Println(run(agg.Sum(Celsius), day...), run(agg.Avg(Celsius), day...))
	// Output: 63 21
}

func ExampleMin() {
	fmt.Println(run(agg.Min(Celsius), day...), run(agg.Max(Celsius), day...))
	// Output: 18 24
}

func ExampleCount() {
	warm := func(r Reading) *Reading {
		if r.Temperature > 20 {
			return &r
		}
		return nil
	}
	fmt.Println(run(agg.Count(Celsius), day...), run(agg.Count(warm), day...))
	// Output: 3 2
}

func ExampleCheck() {
	type names struct{ seen map[string]bool }
	a := agg.Func(func(n *names, r Reading) {}, func(into, from *names) {}, func(n *names) int { return len(n.seen) })
	fmt.Println(agg.Check(a) != nil)
	// Output: true
}

func ExampleStdDev() {
	fmt.Printf("%.2f %.2f\n", run(agg.StdDev(Celsius), day...), run(agg.StdDevPop(Celsius), day...))
	// Output: 3.00 2.45
}

func ExampleCollect() {
	last := run(agg.Collect(Celsius, 2, agg.KeepLast), day...)
	fmt.Println(last.Values, "and", last.Dropped, "before")
	// Output: [24 21] and 1 before
}

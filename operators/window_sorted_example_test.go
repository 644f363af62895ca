package operators_test

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// printing runs the topology and prints its results.
func printing(t *flow.Topology, results flow.Stream[window.Result[string, float64]]) {
	flow.To(results, "out", flow.SinkFunc(func(_ context.Context, rs []flow.Record[window.Result[string, float64]]) error {
		for _, r := range rs {
			printResult(r.Value)
		}
		return nil
	}))
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
}

// [while]
func hotSpells(byDevice flow.KeyedStream[string, sample]) flow.Stream[window.Result[string, float64]] {
	hot := func(s sample) bool { return s.Celsius > 80 }
	return operators.Window(byDevice, "hot-spells", window.While(hot), agg.Max(celsius))
}

// [end]

// How long, and how hot: from the first reading above 80 degrees to the first that is not.
func ExampleWindow_while() {
	t, byDevice := samples(sample{"a", 0, 75}, sample{"a", 10, 85}, sample{"a", 20, 95}, sample{"a", 40, 70}, sample{"a", 50, 82})
	printing(t, hotSpells(byDevice))
	// Output:
	// a [10,40) 95
	// a [50,50) 82
}

// [between]
func alarms(byDevice flow.KeyedStream[string, sample]) flow.Stream[window.Result[string, float64]] {
	begins := func(s sample) bool { return s.Celsius >= 90 }
	ends := func(s sample) bool { return s.Celsius <= 70 }
	return operators.Window(byDevice, "alarms", window.Between(begins, ends), agg.Max(celsius))
}

// [end]

// An alarm with hysteresis: 85 degrees neither begin nor end one.
func ExampleWindow_between() {
	t, byDevice := samples(sample{"a", 0, 85}, sample{"a", 10, 91}, sample{"a", 20, 85}, sample{"a", 30, 93}, sample{"a", 40, 69}, sample{"a", 50, 85})
	printing(t, alarms(byDevice))
	// Output:
	// a [10,40) 93
}

// [trailing]
func smoothed(byDevice flow.KeyedStream[string, sample]) flow.Stream[window.Result[string, float64]] {
	return operators.Window(byDevice, "smoothed", window.Trailing(10*time.Second), agg.Avg(celsius))
}

// [end]

// At each reading the average of the last ten seconds.
func ExampleWindow_trailing() {
	t, byDevice := samples(sample{"a", 1, 20}, sample{"a", 5, 30}, sample{"a", 10, 40}, sample{"a", 11, 50}, sample{"a", 40, 20})
	flow.To(smoothed(byDevice), "out", flow.SinkFunc(func(_ context.Context, rs []flow.Record[window.Result[string, float64]]) error {
		for _, r := range rs {
			fmt.Println(r.Time.Time().Unix(), r.Value.Value)
		}
		return nil
	}))
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 1 20
	// 5 25
	// 10 30
	// 11 40
	// 40 20
}

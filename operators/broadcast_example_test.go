package operators_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
)

type threshold struct {
	Name string
	Over float64
	Off  bool
}

func name(t threshold) string { return t.Name }
func off(t threshold) bool    { return t.Off }

func overThreshold(_ context.Context, c *operators.Control[string, string, threshold, string], s sample) error {
	for name, t := range c.All() {
		if s.Celsius > t.Over {
			c.Emit(fmt.Sprintf("%s is %s at %v", c.Key(), name, s.Celsius))
		}
	}
	return nil
}

func ExampleBroadcast() {
	readings, thresholds := flowtest.NewSource[sample](), flowtest.NewSource[threshold]()
	out := flowtest.NewSink[string]()
	r := flowtest.Start(exampleTB{}, func(opts ...flow.TopologyOption) *flow.Topology {
		t := flow.New("example", opts...)
		alarms := operators.Broadcast(flow.KeyBy(flow.From(t, "readings", readings), device), flow.From(t, "thresholds", thresholds),
			"over", name, overThreshold, operators.Deletes(off))
		flow.To(alarms, "out", out)
		return t
	}, readings, thresholds)
	show := func() {
		r.Epoch() // what the thresholds say now is seen by all readings behind it
		for _, s := range out.Next() {
			fmt.Println(s)
		}
	}
	thresholds.Feed(threshold{Name: "warm", Over: 25}, threshold{Name: "hot", Over: 40})
	show()
	readings.Feed(sample{"a", 1, 20}, sample{"a", 2, 45})
	show()
	thresholds.Feed(threshold{Name: "warm", Off: true}, threshold{Name: "hot", Over: 50})
	show()
	readings.Feed(sample{"a", 3, 45}, sample{"a", 4, 51})
	show()
	r.Stop()
	// Output:
	// a is hot at 45
	// a is warm at 45
	// a is hot at 51
}

// exampleTB is the little of a testing.TB that flowtest needs where all goes well.
type exampleTB struct{ testing.TB }

func (exampleTB) Helper()        {}
func (exampleTB) Cleanup(func()) {}

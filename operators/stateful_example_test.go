package operators_test

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
)

// printAll runs a topology whose results are printed.
func printAll[T any](t *flow.Topology, s flow.Stream[T]) {
	flow.To(s, "out", flow.SinkFunc(func(_ context.Context, rs []flow.Record[T]) error {
		for _, r := range rs {
			fmt.Println(r.Value)
		}
		return nil
	}))
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
}

func ExampleReduce() {
	t, byDevice := samples(sample{"a", 0, 20}, sample{"a", 5, 30}, sample{"b", 6, 10}, sample{"a", 8, 25})
	warmest := operators.Reduce(byDevice, "warmest", func(acc, s sample) sample {
		if s.Celsius > acc.Celsius {
			return s
		}
		return acc
	})
	printAll(t, warmest)
	// Output:
	// {a 0 20}
	// {a 5 30}
	// {b 6 10}
	// {a 5 30}
}

func ExampleScan() {
	t, byDevice := samples(sample{"a", 0, 20}, sample{"a", 5, 30}, sample{"b", 6, 10}, sample{"a", 8, 25})
	counts := operators.Scan(byDevice, "count", func(n int, _ sample) int { return n + 1 })
	printAll(t, counts)
	// Output:
	// 1
	// 2
	// 1
	// 3
}

// A device that has sent nothing for a minute is reported, once, and again when it is back.
func ExampleStateful() {
	type device struct{ Samples int }
	type cell = operators.Cell[string, device, string]

	t, byDevice := samples(sample{"a", 0, 20}, sample{"b", 10, 20}, sample{"a", 30, 21}, sample{"c", 120, 19}, sample{"b", 200, 22})
	reports := operators.Stateful(byDevice, "offline", 0,
		func(_ context.Context, c *cell, s sample) error {
			if !c.New() && c.Timer() == flow.None {
				c.Emit(fmt.Sprint(c.Key(), " is back at ", s.Seconds))
			}
			c.State.Samples++
			c.SetTimer(c.Time().Add(time.Minute))
			return nil
		},
		operators.OnTimer(func(_ context.Context, c *cell, at flow.Timestamp) error {
			if c.Watermark() != flow.EndOfTime {
				c.Emit(fmt.Sprint(c.Key(), " is silent at ", at.Time().Unix(), " after ", c.State.Samples))
			}
			return nil
		}))
	printAll(t, reports)
	// Output:
	// b is silent at 70 after 1
	// a is silent at 90 after 2
	// b is back at 200
	// c is silent at 180 after 1
}

// A side output of a Stateful.
func ExampleEmitTo() {
	type cell = operators.Cell[string, int64, sample]

	t, byDevice := samples(sample{"a", 0, 20}, sample{"a", 5, 30}, sample{"a", 4, 25}, sample{"a", 8, 28})
	side, disordered := flow.SideOutput[sample](t, "in-order", "disordered")
	ordered := operators.Stateful(byDevice, "in-order", time.Hour, func(_ context.Context, c *cell, s sample) error {
		if !c.New() && s.Seconds < *c.State {
			operators.EmitTo(c, side, s)
			return nil
		}
		*c.State = s.Seconds
		c.Emit(s)
		return nil
	}, operators.EmitsTo(side))
	flow.To(disordered, "disordered", flow.SinkFunc(func(_ context.Context, rs []flow.Record[sample]) error {
		fmt.Println("disordered:", rs[0].Value)
		return nil
	}))
	flow.To(ordered, "out", flow.SinkFunc(func(_ context.Context, rs []flow.Record[sample]) error {
		for _, r := range rs {
			fmt.Println("ordered:", r.Value)
		}
		return nil
	}))
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Unordered output:
	// disordered: {a 4 25}
	// ordered: {a 0 20}
	// ordered: {a 5 30}
	// ordered: {a 8 28}
}

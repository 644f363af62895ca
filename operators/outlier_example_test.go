package operators_test

import (
	"context"
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
)

// printSifted prints what passes and what does not.
func printSifted(t *flow.Topology, s operators.Sifted[string, sample]) {
	flow.To(s.Outliers(), "outliers", flow.SinkFunc(func(_ context.Context, rs []flow.Record[operators.Outlier[sample]]) error {
		for _, r := range rs {
			fmt.Printf("outlier %v: %s, %.1f\n", r.Value.Number, r.Value.Reason, r.Value.Score)
		}
		return nil
	}))
	flow.To(s, "out", flow.SinkFunc(func(_ context.Context, rs []flow.Record[sample]) error {
		for _, r := range rs {
			fmt.Println("good", r.Value.Celsius)
		}
		return nil
	}))
	if err := t.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
}

func ExampleOutOfRange() {
	t, byDevice := samples(sample{"a", 0, 20}, sample{"a", 1, -300}, sample{"a", 2, 21})
	printSifted(t, operators.OutOfRange(byDevice, "possible", celsius, -50, 80))
	// Unordered output:
	// good 20
	// outlier -300: below the range, -300.0
	// good 21
}

func ExampleRateOfChange() {
	t, byDevice := samples(sample{"a", 0, 20}, sample{"a", 10, 21}, sample{"a", 20, 60}, sample{"a", 30, 22})
	printSifted(t, operators.RateOfChange(byDevice, "steady", celsius, 0.5))
	// Unordered output:
	// good 20
	// good 21
	// outlier 60: changes too fast, 3.9
	// good 22
}

func ExampleZScore() {
	t, byDevice := samples(sample{"a", 0, 20}, sample{"a", 1, 21}, sample{"a", 2, 19}, sample{"a", 3, 20}, sample{"a", 4, 35}, sample{"a", 5, 21})
	printSifted(t, operators.ZScore(byDevice, "usual", celsius, 4, 3))
	// Unordered output:
	// good 20
	// good 21
	// good 19
	// good 20
	// outlier 35: too far from the mean of the last ones, 18.4
	// good 21
}

func ExampleHampel() {
	t, byDevice := samples(sample{"a", 0, 20}, sample{"a", 1, 21}, sample{"a", 2, 19}, sample{"a", 3, 22}, sample{"a", 4, 20}, sample{"a", 5, 35}, sample{"a", 6, 21})
	printSifted(t, operators.Hampel(byDevice, "usual", celsius, 5, 3))
	// Unordered output:
	// good 20
	// good 21
	// good 19
	// good 22
	// good 20
	// outlier 35: too far from the median of the last ones, 10.1
	// good 21
}

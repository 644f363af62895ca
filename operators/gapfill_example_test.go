package operators_test

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
)

func stepText(_ context.Context, s operators.Step[string, sample]) (string, error) {
	return fmt.Sprintf("%s %3d s %v °C %v", s.Key, s.Time.Time().Unix(), s.Value.Celsius, s.Kind), nil
}

func ExampleGapFill() {
	t, byDevice := samples(sample{"a", 10, 20}, sample{"a", 70, 22}, sample{"a", 250, 25})
	filled := operators.GapFill(byDevice, "filled", time.Minute, 5, operators.LastValue())
	printAll(t, operators.Map(filled, "text", stepText))
	// Output:
	// a  10 s 20 °C observed
	// a  70 s 22 °C observed
	// a 120 s 22 °C filled
	// a 180 s 22 °C filled
	// a 250 s 25 °C observed
}

func ExampleGapFill_linear() {
	t, byDevice := samples(sample{"a", 0, 20}, sample{"a", 180, 26})
	warmer := func(s sample, celsius float64) sample {
		s.Celsius = celsius
		return s
	}
	filled := operators.GapFill(byDevice, "filled", time.Minute, 5, operators.Linear(celsius, warmer))
	printAll(t, operators.Map(filled, "text", stepText))
	// Output:
	// a   0 s 20 °C observed
	// a  60 s 22 °C filled
	// a 120 s 24 °C filled
	// a 180 s 26 °C observed
}

// Steps without a reading are marked.
func ExampleGapFill_noValue() {
	t, byDevice := samples(sample{"a", 10, 20}, sample{"a", 130, 22})
	filled := operators.GapFill(byDevice, "filled", time.Minute, 5, operators.NoValue())
	printAll(t, operators.Map(filled, "text", stepText))
	// Output:
	// a  10 s 20 °C observed
	// a  60 s 0 °C missing
	// a 130 s 22 °C observed
}

// Between two readings the step takes the nearer one.
func ExampleFillBy() {
	t, byDevice := samples(sample{"a", 0, 20}, sample{"a", 180, 26})
	nearest := func(g operators.Gap[sample]) (sample, bool) {
		if g.Part() < 0.5 {
			return g.Before, true
		}
		return g.After, true
	}
	filled := operators.GapFill(byDevice, "filled", time.Minute, 5, operators.FillBy(nearest))
	flow.To(filled.Late(), "late", flow.SinkFunc(func(context.Context, []flow.Record[flow.Late[sample]]) error { return nil }))
	printAll(t, operators.Map(filled, "text", stepText))
	// Output:
	// a   0 s 20 °C observed
	// a  60 s 20 °C filled
	// a 120 s 26 °C filled
	// a 180 s 26 °C observed
}

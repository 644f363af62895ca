package operators_test

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

func hotterThan(c float64) cep.StepOption[sample] {
	return cep.Where(func(s sample) bool { return s.Celsius > c })
}

func ExampleCEP() {
	t, byDevice := samples(sample{"a", 10, 85}, sample{"a", 20, 91}, sample{"b", 25, 82}, sample{"a", 30, 95}, sample{"b", 40, 70}, sample{"b", 50, 93})
	overheat := cep.Begin("warm", hotterThan(80)).
		Next("hot", hotterThan(90), cep.Times(2), cep.Consecutive()).
		Within(time.Minute)
	alarms := operators.CEP(byDevice, "overheat", overheat, func(_ context.Context, m cep.Match[string, sample]) (string, error) {
		return fmt.Sprintf("%s: %v °C, %d s after %v °C", m.Key, m.Last("hot").Celsius, m.Last("hot").Seconds-m.First("warm").Seconds, m.First("warm").Celsius), nil
	})
	printAll(t, alarms)
	// Output:
	// a: 95 °C, 20 s after 85 °C
}

// A match that time completes comes without any further sample of its device.
func ExampleCEP_absent() {
	t, byDevice := samples(sample{"a", 0, 20}, sample{"b", 10, 20}, sample{"a", 40, 21}, sample{"b", 200, 22})
	offline := cep.BeginAbsent[sample]("sample", time.Minute).FollowedBy("back")
	seen := operators.CEP(byDevice, "offline", offline, func(_ context.Context, m cep.Match[string, sample]) (string, error) {
		return fmt.Sprintf("%s: silent for a minute at %d s, back at %d s", m.Key, m.Start.Time().Unix(), m.End.Time().Unix()), nil
	})
	printAll(t, seen)
	// Output:
	// b: silent for a minute at 70 s, back at 200 s
}

// Partial matches whose time is up say how far they came.
func ExampleMatched_TimedOut() {
	t, byDevice := samples(sample{"a", 0, 85}, sample{"a", 10, 70}, sample{"a", 90, 70})
	p := cep.Begin("warm", hotterThan(80)).FollowedBy("hot", hotterThan(90)).Within(time.Minute)
	m := operators.CEP(byDevice, "overheat", p, func(_ context.Context, m cep.Match[string, sample]) (string, error) { return m.String(), nil })
	flow.To(m, "alarms", flow.SinkFunc(func(context.Context, []flow.Record[string]) error { return nil }))
	printAll(t, operators.Map(m.TimedOut(), "almost", func(_ context.Context, m cep.Match[string, sample]) (string, error) {
		return fmt.Sprintf("%v until %d s", m, m.Time.Time().Unix()), nil
	}))
	// Output:
	// a: warm×1 until 60 s
}

// Which patterns are in force is said by a stream of changes; they take force when an epoch ends.
func ExampleCEPSet() {
	t, byDevice := samples(sample{"a", 10, 85}, sample{"a", 20, 91}, sample{"a", 30, 95})
	changes := flowtest.NewSource[cep.Change]() // a topic or a file, in a program
	changes.End()
	set := cep.Set[sample]{}.
		Add("warm", "1", cep.Begin("warm", hotterThan(80))).
		Add("hot", "1", cep.Begin("hot", hotterThan(90)).Next("hotter", hotterThan(90))).
		AddOff("hot", "2", cep.Begin("hot", hotterThan(99)))
	found := operators.CEPSet(byDevice, "watched", set, flow.From(t, "changes", changes), func(_ context.Context, m cep.Match[string, sample]) (string, error) {
		return fmt.Sprintf("%s %s at %d s", m.Pattern, m.Version, m.End.Time().Unix()), nil
	})
	printAll(t, found)
	// Output:
	// warm 1 at 10 s
	// warm 1 at 20 s
	// warm 1 at 30 s
	// hot 1 at 30 s
}

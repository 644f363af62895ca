package operators_test

import (
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/rule"
)

func ExampleRules() {
	readings, changes := flowtest.NewSource[sample](), flowtest.NewSource[rule.Change]()
	out := flowtest.NewSink[rule.Alarm[string, sample]]()
	r := flowtest.Start(exampleTB{}, func(opts ...flow.TopologyOption) *flow.Topology {
		t := flow.New("example", opts...)
		timed := flow.AssignTime(flow.From(t, "readings", readings), "time", at, watermark.BoundedOutOfOrderness(0))
		alarms := operators.Rules(flow.KeyBy(timed, device), "alarms", rule.Broadcast(flow.From(t, "changes", changes)))
		flow.To(alarms, "out", out)
		return t
	}, readings, changes)
	show := func() {
		r.Epoch() // what the changes say now is in force for all readings behind it
		for _, a := range out.Next() {
			fmt.Printf("%v at %d s: %s: %s\n", a.State, a.At.Time().Unix(), a.Severity, a.Message)
		}
	}
	changes.Feed(rule.Change{Put: []rule.Rule{{
		ID: "hot", When: "Celsius > 90", Clear: "Celsius < 80", For: 30e9, Severity: "major",
		Message: "{{.Key}} is at {{.Record.Celsius}} °C since {{.Since.Unix}} s",
	}}})
	show()
	readings.Feed(sample{"a", 0, 95}, sample{"a", 10, 97}, sample{"b", 40, 20})
	show()
	readings.Feed(sample{"a", 41, 85}, sample{"a", 42, 96})
	show() // neither is it over nor does it begin again
	changes.Feed(rule.Change{Remove: []string{"hot"}})
	show()
	readings.Feed(sample{"b", 50, 20})
	show()
	r.Stop()
	// Output:
	// raised at 30 s: major: a is at 97 °C since 0 s
	// cleared at 42 s: major: a is at 97 °C since 0 s
}

// Package broadcast has the code of docs/operators/broadcast.md.
package broadcast

import (
	"context"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
)

// Reading is what devices send.
type Reading struct {
	Device  string
	Kind    string
	At      time.Time
	Celsius float64
}

// [rule]

// Rule says above what a reading of a kind is an alarm.
type Rule struct {
	ID    string
	Kind  string
	Above float64
	Off   bool
}

func ruleID(r Rule) string { return r.ID }
func isOff(r Rule) bool    { return r.Off }

// Alarm is a reading with the rule that it broke.
type Alarm struct {
	Device, Rule string
	Celsius      float64
}

// [alarms]
func alarms(byDevice flow.KeyedStream[string, Reading], rules flow.Stream[Rule]) flow.Stream[Alarm] {
	return operators.Broadcast(byDevice, rules, "alarms", ruleID, judge, operators.Deletes(isOff))
}

func judge(_ context.Context, c *operators.Control[string, string, Rule, Alarm], r Reading) error {
	for id, rule := range c.All() {
		if rule.Kind == r.Kind && r.Celsius > rule.Above {
			c.Emit(Alarm{c.Key(), id, r.Celsius})
		}
	}
	return nil
}

// [third]

// thirdTime lets every third alarm of a device and rule pass: what Broadcast does not remember per key, a Scan behind it does.
func thirdTime(alarms flow.Stream[Alarm]) flow.Stream[counted] {
	byRule := flow.KeyBy(alarms, func(a Alarm) string { return a.Device + "/" + a.Rule })
	numbered := operators.Scan(byRule, "numbered", func(n counted, a Alarm) counted { return counted{a, n.N + 1} })
	return operators.Filter(numbered, "third", func(n counted) bool { return n.N%3 == 0 })
}

type counted struct {
	Alarm
	N int
}

// [end]

// Package cep has the code of docs/operators/cep.md.
package cep

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

// Reading is what devices send.
type Reading struct {
	Device string
	At     time.Time
	Temp   float64
	Kind   string
}

func (r Reading) device() string { return r.Device }
func (r Reading) at() time.Time  { return r.At }

// Alarm is what comes of a match.
type Alarm struct {
	Device, Text string
}

func kind(k string) cep.StepOption[Reading] {
	return cep.Where(func(r Reading) bool { return r.Kind == k })
}

// [first]

// overheat is a device that is warm, then three times hot without a break, and not cool within two minutes of the first.
func overheat() cep.Pattern[Reading] {
	return cep.Begin("warm", cep.Where(func(r Reading) bool { return r.Temp > 80 })).
		Next("hot", cep.Where(func(r Reading) bool { return r.Temp > 90 }), cep.Times(3), cep.Consecutive()).
		NotFollowedBy("cooled", cep.Where(func(r Reading) bool { return r.Temp < 60 })).
		Within(2 * time.Minute)
}

func overheating(byDevice flow.KeyedStream[string, Reading]) operators.Matched[string, Reading, Alarm] {
	return operators.CEP(byDevice, "overheat", overheat(), toAlarm)
}

func toAlarm(_ context.Context, m cep.Match[string, Reading]) (Alarm, error) {
	return Alarm{m.Key, fmt.Sprintf("%.0f °C", m.Last("hot").Temp)}, nil
}

// [given]

// climbing is five readings or more, each warmer than the one before, that come to 20 degrees together.
func climbing() cep.Pattern[Reading] {
	warmer := func(r Reading, sofar *cep.Taken[Reading]) bool {
		last, ok := sofar.Last("step")
		return !ok || r.Temp > last.Temp
	}
	far := func(r Reading, sofar *cep.Taken[Reading]) bool {
		for first := range sofar.Of("step") {
			return r.Temp-first.Temp >= 20
		}
		return false
	}
	return cep.Begin("step", cep.WhereGiven(warmer), cep.TimesOrMore(4), cep.Consecutive()).
		Next("top", cep.WhereGiven(far)).
		AfterMatch(cep.SkipPastLast())
}

// [group]

// restarts is three times a stop and the start behind it, within an hour.
func restarts() cep.Pattern[Reading] {
	restart := cep.Begin("stop", kind("stop")).FollowedBy("start", kind("start"))
	return cep.BeginGroup(restart, cep.Times(3)).Within(time.Hour)
}

// [absent]

// unanswered is a question without an answer within ten seconds.
func unanswered() cep.Pattern[Reading] {
	return cep.Begin("question", kind("question")).Absent("answer", 10*time.Second, kind("answer"))
}

// offline is a device that has sent nothing for five minutes; andBack the first reading after that.
func offline() cep.Pattern[Reading] {
	return cep.BeginAbsent[Reading]("reading", 5*time.Minute)
}

func andBack() cep.Pattern[Reading] {
	return cep.BeginAbsent[Reading]("reading", 5*time.Minute).FollowedBy("back")
}

// [any-order]

// ready is a machine that has reported three things within a minute, in whatever order, and is started then.
func ready() cep.Pattern[Reading] {
	return cep.AllOf(
		cep.Begin("closed", kind("closed")),
		cep.Begin("cooled", kind("cooled")),
		cep.Begin("loaded", kind("loaded")),
	).FollowedBy("started", kind("started")).Within(time.Minute)
}

// [set]

// watched are the patterns that may be in force: of "overheat" version 2, until a change says otherwise.
func watched(byDevice flow.KeyedStream[string, Reading], changes flow.Stream[cep.Change]) operators.Matched[string, Reading, Alarm] {
	set := cep.Set[Reading]{}.
		Add("overheat", "1", overheat()).
		Add("overheat", "2", overheat().AfterMatch(cep.SkipPastLast())).
		AddOff("restarts", "1", restarts())
	return operators.CEPSet(byDevice, "watched", set, changes, func(_ context.Context, m cep.Match[string, Reading]) (Alarm, error) {
		return Alarm{m.Key, m.Pattern + " " + m.Version}, nil
	})
}

// [trace]

// traced tells on standard output what becomes of the readings of one device.
func traced(byDevice flow.KeyedStream[string, Reading]) operators.Matched[string, Reading, Alarm] {
	return operators.CEP(byDevice, "overheat", overheat(), toAlarm,
		cep.Trace("dev-7", func(l cep.Line[Reading]) { fmt.Println(l) }))
}

// [end]

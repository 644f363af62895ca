// Package rules has the code of docs/operators/rules.md.
package rules

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/rule"
)

// [reading]

// Reading is what sensors behind gateways send.
type Reading struct {
	Gateway     string    `json:"gateway"`
	Device      string    `json:"device"`
	Type        string    `json:"type"`
	Metric      string    `json:"metric"`
	Value       float64   `json:"value"`
	Maintenance bool      `json:"maintenance"`
	Site        Site      `json:"site"`
	At          time.Time `json:"at"`
}

// Site is where a gateway stands.
type Site struct {
	Name string `json:"name"`
}

func gateway(r Reading) string { return r.Gateway }
func sensor(r Reading) string  { return r.Device }
func at(r Reading) time.Time   { return r.At }

// Alarm is an alarm of these rules.
type Alarm = rule.Alarm[string, Reading]

// [alarms]
func alarms(readings flow.Stream[Reading]) flow.Stream[Alarm] {
	timed := flow.AssignTime(readings, "event-time", at, watermark.BoundedOutOfOrderness(10*time.Second))
	return operators.Rules(flow.KeyBy(timed, gateway), "alarms", rule.File("rules.yaml"), rule.Device(sensor))
}

// [rows]

// Row is a row of the table that operators of the plant edit, as change data capture brings it.
type Row struct {
	ID      string
	When    string
	For     time.Duration
	Deleted bool
}

func fromRows(readings flow.KeyedStream[string, Reading], rows flow.Stream[Row]) flow.Stream[Alarm] {
	changes := operators.Map(rows, "rule-changes", func(_ context.Context, r Row) (rule.Change, error) {
		if r.Deleted {
			return rule.Change{Remove: []string{r.ID}}, nil
		}
		return rule.Change{Put: []rule.Rule{{ID: r.ID, When: r.When, For: r.For}}}, nil
	})
	return operators.Rules(readings, "alarms", rule.Broadcast(changes))
}

// [api]
func overHTTP(readings flow.KeyedStream[string, Reading], mux *http.ServeMux) flow.Stream[Alarm] {
	api := rule.NewAPI(rule.File("rules.yaml", rule.Every(0))) // the file is where it begins
	mux.Handle("/rules", api)
	return operators.Rules(readings, "alarms", api)
}

// [check]
func check(name string, rules []byte, samples io.Reader) error {
	v, err := rule.Check(rule.Trial[string, Reading]{Name: name, Rules: rules, Samples: samples, Key: gateway, Time: at, Device: sensor})
	if err != nil {
		return err // one line per mistake: file, line, column, cure
	}
	fmt.Print(v)
	return nil
}

// [commands]

// Command closes or opens a valve.
type Command struct {
	Valve string
	Open  bool
}

// commands makes one command of an alarm's raising, and one of its clearing: updates make none, and what a crash repeats has the same id.
func commands(alarms flow.Stream[Alarm]) flow.Stream[Command] {
	begun := operators.Filter(alarms, "not-updates", func(a Alarm) bool { return a.Rule == "overheat" && a.State != rule.Updated })
	byAlarm := flow.KeyBy(begun, func(a Alarm) string { return a.ID })
	once := operators.Dedup(byAlarm, "once", func(a Alarm) uint8 { return uint8(a.State) }, time.Hour)
	return operators.Map(once.Unkeyed(), "command", func(_ context.Context, a Alarm) (Command, error) {
		return Command{a.Device, a.State == rule.Cleared}, nil
	})
}

// Package joins has the code of docs/operators/joins.md.
package joins

import (
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/join"
	"github.com/millrace-stream/millrace/operators/window"
)

// Command is what was sent to a device.
type Command struct {
	Device string
	At     time.Time
	Name   string
}

// Answer is what a device said to a command.
type Answer struct {
	Device string
	At     time.Time
	OK     bool
}

// Tariff is what a kilowatt hour costs at a site from a moment on.
type Tariff struct {
	Site  string
	From  time.Time
	Price float64
}

// Usage is what a site used up.
type Usage struct {
	Site string
	At   time.Time
	KWh  float64
}

// Delay is how long a device took to answer.
type Delay struct {
	Device, Command string
	Took            time.Duration
}

// [interval]
func answered(commands flow.KeyedStream[string, Command], answers flow.KeyedStream[string, Answer]) flow.Stream[Delay] {
	return operators.Join(commands, answers, "answered", join.Between(0, 30*time.Second),
		func(c Command, a Answer) Delay { return Delay{c.Device, c.Name, a.At.Sub(c.At)} })
}

// [outer]
func unanswered(commands flow.KeyedStream[string, Command], answers flow.KeyedStream[string, Answer]) operators.Joined[Command, Answer, *Command] {
	return operators.OuterJoin(commands, answers, "unanswered", join.Between(0, 30*time.Second), join.Left,
		func(c *Command, a *Answer) *Command {
			if a != nil {
				return nil // filtered behind it
			}
			missing := *c
			return &missing
		})
}

// [window]
func pairs(commands flow.KeyedStream[string, Command], answers flow.KeyedStream[string, Answer]) flow.Stream[Delay] {
	return operators.WindowJoin(commands, answers, "pairs", window.Tumbling(time.Minute), join.Inner,
		func(c *Command, a *Answer) Delay { return Delay{c.Device, c.Name, a.At.Sub(c.At)} },
		join.AllowedLateness(10*time.Second))
}

// [group]

// Balance is how many commands and answers a device's minute had.
type Balance struct {
	Device            string
	Minute            time.Time
	Commands, Answers int
}

func balance(commands flow.KeyedStream[string, Command], answers flow.KeyedStream[string, Answer]) flow.Stream[Balance] {
	return operators.CoGroup(commands, answers, "balance", window.Tumbling(time.Minute),
		func(g join.Group[string, Command, Answer], emit func(Balance)) {
			emit(Balance{g.Key, g.Start.Time(), len(g.Left), len(g.Right)})
		})
}

// [as-of]

// Cost is what a usage cost.
type Cost struct {
	Usage
	Euro  float64
	Known bool
}

func costs(usage flow.KeyedStream[string, Usage], tariffs flow.KeyedStream[string, Tariff]) flow.Stream[Cost] {
	return operators.AsOf(usage, tariffs, "cost",
		func(u Usage, t Tariff, found bool) Cost { return Cost{u, u.KWh * t.Price, found} },
		join.Within(400*24*time.Hour))
}

// [end]

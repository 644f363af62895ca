package operators_test

import (
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	joins "github.com/millrace-stream/millrace/operators/join"
	"github.com/millrace-stream/millrace/operators/window"
)

type command struct {
	Device string
	Second int64
	Name   string
}

type answer struct {
	Device string
	Second int64
	OK     bool
}

// talk prints what comes of two streams in memory, both by device.
func talk(cs []command, as []answer, build func(flow.KeyedStream[string, command], flow.KeyedStream[string, answer]) flow.Stream[string]) {
	commands, answers, out := flowtest.NewSource[command](), flowtest.NewSource[answer](), flowtest.NewSink[string]()
	r := flowtest.Start(exampleTB{}, func(opts ...flow.TopologyOption) *flow.Topology {
		t := flow.New("talk", opts...)
		wm := watermark.BoundedOutOfOrderness(5 * time.Second)
		sent := flow.AssignTime(flow.From(t, "commands", commands), "sent", func(c command) time.Time { return time.Unix(c.Second, 0) }, wm)
		came := flow.AssignTime(flow.From(t, "answers", answers), "came", func(a answer) time.Time { return time.Unix(a.Second, 0) }, wm)
		flow.To(build(flow.KeyBy(sent, command.device), flow.KeyBy(came, answer.device)), "out", out)
		return t
	}, commands, answers)
	r.Settle()
	commands.Feed(cs...)
	answers.Feed(as...)
	r.Flush()
	for _, s := range out.Values() {
		fmt.Println(s)
	}
}

func (c command) device() string { return c.Device }
func (a answer) device() string  { return a.Device }

// Which commands were answered within ten seconds.
func ExampleJoin() {
	cs := []command{{"a", 0, "open"}, {"b", 2, "close"}}
	as := []answer{{"a", 3, true}, {"b", 30, true}}
	talk(cs, as, func(commands flow.KeyedStream[string, command], answers flow.KeyedStream[string, answer]) flow.Stream[string] {
		return operators.Join(commands, answers, "answered", joins.Between(0, 10*time.Second), func(c command, a answer) string {
			return fmt.Sprintf("%s: %s, %t after %d s", c.Device, c.Name, a.OK, a.Second-c.Second)
		})
	})
	// Output:
	// a: open, true after 3 s
}

// Which commands were not.
func ExampleOuterJoin() {
	cs := []command{{"a", 0, "open"}, {"b", 2, "close"}}
	as := []answer{{"a", 3, true}, {"b", 30, true}}
	talk(cs, as, func(commands flow.KeyedStream[string, command], answers flow.KeyedStream[string, answer]) flow.Stream[string] {
		all := operators.OuterJoin(commands, answers, "answered", joins.Between(0, 10*time.Second), joins.Left, func(c *command, a *answer) string {
			if a == nil {
				return fmt.Sprintf("%s: no answer to %s", c.Device, c.Name)
			}
			return ""
		})
		return operators.Filter(all, "unanswered", func(s string) bool { return s != "" })
	})
	// Output:
	// b: no answer to close
}

func ExampleWindowJoin() {
	cs := []command{{"a", 1, "open"}, {"a", 65, "close"}}
	as := []answer{{"a", 59, true}, {"a", 2, false}, {"a", 200, true}}
	talk(cs, as, func(commands flow.KeyedStream[string, command], answers flow.KeyedStream[string, answer]) flow.Stream[string] {
		return operators.WindowJoin(commands, answers, "per-minute", window.Tumbling(time.Minute), joins.Full, func(c *command, a *answer) string {
			switch {
			case c == nil:
				return fmt.Sprintf("an answer at %d without a command", a.Second)
			case a == nil:
				return fmt.Sprintf("%s without an answer", c.Name)
			}
			return fmt.Sprintf("%s and the answer at %d", c.Name, a.Second)
		})
	})
	// Output:
	// open and the answer at 2
	// open and the answer at 59
	// close without an answer
	// an answer at 200 without a command
}

func ExampleCoGroup() {
	cs := []command{{"a", 1, "open"}, {"a", 5, "close"}, {"b", 6, "open"}}
	as := []answer{{"a", 9, true}, {"b", 11, true}}
	talk(cs, as, func(commands flow.KeyedStream[string, command], answers flow.KeyedStream[string, answer]) flow.Stream[string] {
		return operators.CoGroup(commands, answers, "per-minute", window.Tumbling(time.Minute), func(g joins.Group[string, command, answer], emit func(string)) {
			if n := len(g.Left) - len(g.Right); n > 0 {
				emit(fmt.Sprintf("%s: %d of %d without an answer", g.Key, n, len(g.Left)))
			}
		})
	})
	// Output:
	// a: 1 of 2 without an answer
}

// Sessions are made of what both sides say: a talk of a device, from its first word to 10 s of silence.
func ExampleCoGroup_sessions() {
	cs := []command{{"a", 1, "open"}, {"a", 12, "close"}, {"a", 60, "open"}}
	as := []answer{{"a", 9, true}, {"a", 18, true}}
	talk(cs, as, func(commands flow.KeyedStream[string, command], answers flow.KeyedStream[string, answer]) flow.Stream[string] {
		return operators.CoGroup(commands, answers, "talks", window.Session(10*time.Second), func(g joins.Group[string, command, answer], emit func(string)) {
			emit(fmt.Sprintf("%s from %d to %d s: %d commands, %d answers", g.Key, g.Start.Time().Unix(), g.End.Time().Unix(), len(g.Left), len(g.Right)))
		})
	})
	// Output:
	// a from 1 to 28 s: 2 commands, 2 answers
	// a from 60 to 70 s: 1 commands, 0 answers
}

package joins

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
)

func TestJoins(t *testing.T) {
	commands, answers := flowtest.NewSource[Command](), flowtest.NewSource[Answer]()
	usage, tariffs := flowtest.NewSource[Usage](), flowtest.NewSource[Tariff]()
	delays, paired, missing := flowtest.NewSink[Delay](), flowtest.NewSink[Delay](), flowtest.NewSink[*Command]()
	balances, paid := flowtest.NewSink[Balance](), flowtest.NewSink[Cost]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("joins", opts...)
		wm := watermark.BoundedOutOfOrderness(5 * time.Second)
		cs := flow.KeyBy(flow.AssignTime(flow.From(top, "commands", commands), "sent", func(c Command) time.Time { return c.At }, wm), func(c Command) string { return c.Device })
		as := flow.KeyBy(flow.AssignTime(flow.From(top, "answers", answers), "came", func(a Answer) time.Time { return a.At }, wm), func(a Answer) string { return a.Device })
		us := flow.KeyBy(flow.AssignTime(flow.From(top, "usage", usage), "used", func(u Usage) time.Time { return u.At }, wm), func(u Usage) string { return u.Site })
		ts := flow.KeyBy(flow.AssignTime(flow.From(top, "tariffs", tariffs), "from", func(t Tariff) time.Time { return t.From }, wm), func(t Tariff) string { return t.Site })
		flow.To(answered(cs, as), "delays", delays)
		flow.To(unanswered(cs, as), "missing", missing)
		flow.To(pairs(cs, as), "paired", paired)
		flow.To(balance(cs, as), "balances", balances)
		flow.To(costs(us, ts), "paid", paid)
		return top
	}, commands, answers, usage, tariffs)
	r.Settle()
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	commands.Feed(Command{"a", at(0), "open"}, Command{"a", at(50), "close"})
	answers.Feed(Answer{"a", at(9), true})
	usage.Feed(Usage{"s", at(10), 2}, Usage{"s", at(30), 2})
	tariffs.Feed(Tariff{"s", at(20), 0.5}, Tariff{"s", at(40), 0.7})
	r.Flush()
	require.Equal(t, []Delay{{"a", "open", 9 * time.Second}}, delays.Values())
	require.ElementsMatch(t, []Delay{{"a", "open", 9 * time.Second}, {"a", "close", -41 * time.Second}}, paired.Values())
	var names []string
	for _, c := range missing.Values() {
		if c != nil {
			names = append(names, c.Name)
		}
	}
	require.Equal(t, []string{"close"}, names)
	require.Equal(t, []Balance{{"a", at(0), 2, 1}}, balances.Values())
	require.Equal(t, []Cost{{Usage{"s", at(10), 2}, 0, false}, {Usage{"s", at(30), 2}, 1, true}}, paid.Values())
}

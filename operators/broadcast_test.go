package operators_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
)

// limit is a rule: numbers above Max are told, under the rule's name.
type limit struct {
	Name string
	Max  int64
	Gone bool
}

func (l limit) name() string { return l.Name }
func (l limit) gone() bool   { return l.Gone }

func told(_ context.Context, c *operators.Control[string, string, limit, string], e event) error {
	if e.N < 0 {
		c.Emit("taken back")
		return errors.New("negative")
	}
	for name, l := range c.All() {
		if l.Name != name {
			return errors.New("another rule")
		}
		if e.N > l.Max {
			c.Emit(fmt.Sprintf("%s: %d above %s of %d at %d", c.Key(), e.N, name, l.Max, c.Time().Time().Unix()))
		}
	}
	if one, ok := c.Get("high"); ok && c.Len() == 1 {
		c.Emit(fmt.Sprint("one of ", one.Max))
	}
	return nil
}

func TestBroadcast(t *testing.T) {
	for _, p := range []int{1, 4} {
		t.Run(fmt.Sprint(p, " tasks"), func(t *testing.T) {
			src, rules := flowtest.NewSource[event]("0"), flowtest.NewSource[limit]()
			out, dead := flowtest.NewSink[string](), flowtest.NewSink[flow.DeadLetter]()
			tasks := p
			r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
				top := flow.New("limits", append(opts, flow.WithParallelism(tasks))...)
				timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.Monotonous().Every(0))
				above := operators.Broadcast(flow.KeyBy(timed, event.key), flow.From(top, "rules", rules), "above", limit.name, told, operators.Deletes(limit.gone))
				flow.To(above, "out", out)
				flow.To(top.DeadLetters(), "dead", dead)
				return top
			}, src, rules)
			src.Feed(event{"x", 100, 1})
			r.Epoch()
			require.Empty(t, out.Next(), "no rules yet")
			rules.Feed(limit{"low", 5, false}, limit{"high", 7, false})
			r.Epoch()
			src.Feed(event{"a", 6, 2}, event{"b", 8, 3}, event{"a", -1, 4})
			r.Epoch()
			require.ElementsMatch(t, []string{"a: 6 above low of 5 at 2", "b: 8 above high of 7 at 3", "b: 8 above low of 5 at 3"}, out.Next())
			require.Len(t, dead.Next(), 1)
			rules.Feed(limit{"high", 20, false}, limit{"low", 0, true}, limit{"none", 0, true})
			r.Settle()
			r.Crash()
			r.Epoch()
			tasks = 5 - p
			r.Crash()
			src.Feed(event{"a", 6, 5}, event{"c", 30, 6})
			r.Epoch()
			require.ElementsMatch(t, []string{"one of 20", "c: 30 above high of 20 at 6", "one of 20"}, out.Next())
			r.Stop()
		})
	}
}

// The keyed side of a Broadcast in all modes: the rules come of a source of their own, which has ended.
func TestBroadcastInAllModes(t *testing.T) {
	in := events(9, 40, 5)
	var want []string
	for _, e := range in {
		want = append(want, fmt.Sprint(e.Key, e.N, e.At))
	}
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, string]{
		Inputs: in, Want: want, Key: func(s string) string { return s[:2] },
		Build: func(s flow.Stream[event]) flow.Stream[string] {
			timed := flow.AssignTime(s, "time", event.time, watermark.BoundedOutOfOrderness(5*time.Second))
			none := operators.Filter(operators.Map(s, "rule", func(context.Context, event) (limit, error) { return limit{}, nil }), "none", func(limit) bool { return false })
			return operators.Broadcast(flow.KeyBy(timed, event.key), none, "op", limit.name,
				func(_ context.Context, c *operators.Control[string, string, limit, string], e event) error {
					c.Emit(fmt.Sprint(c.Key(), e.N, c.Time().Time().Unix()))
					return nil
				}, operators.ControlCodec(codec.JSON[limit]()))
		},
	})
}

type hidden struct{ n int }

func TestBroadcastValidate(t *testing.T) {
	top := flow.New("limits")
	k := flow.KeyBy(flow.From(top, "in", flowtest.NewSource[event]()), event.key)
	flow.To(operators.Broadcast[string, string, event, limit, string](k, flow.From(top, "rules", flowtest.NewSource[limit]()), "a", nil, told, operators.Deletes[limit](nil)), "out-a", flowtest.NewSink[string]())
	flow.To(operators.Broadcast(k, flow.From(top, "numbers", flowtest.NewSource[hidden]()), "b", func(h hidden) int { return h.n },
		func(context.Context, *operators.Control[string, int, hidden, string], event) error { return nil }), "out-b", flowtest.NewSink[string]())
	err := top.Validate()
	require.ErrorContains(t, err, "its id function is nil")
	require.ErrorContains(t, err, "the function of Deletes is nil")
	require.ErrorContains(t, err, "its control values cannot be stored")
}

package flow_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
)

// greets says each word with the greetings that are in force.
type greets struct {
	words flow.Shared[string, string]
}

func (g *greets) Open(_ context.Context, rt flow.Runtime) error {
	return flow.OpenShared(rt, "words", &g.words)
}

func (g *greets) Process(_ context.Context, key string, r *flow.Record[said], out *flow.Output[string]) error {
	w, ok := g.words.Get(r.Value.Word)
	*out.Next(r.Time, r.Meta) = fmt.Sprintf("%s: %s %t of %d", key, w, ok, g.words.Len())
	return nil
}

func (g *greets) OnWatermark(_ context.Context, wm flow.Timestamp, out *flow.Output[string]) error {
	if wm == flow.EndOfTime {
		for id, w := range g.words.All() {
			*out.Next(wm, nil) = id + "=" + w
		}
	}
	return nil
}

func (g *greets) ProcessBroadcast(_ context.Context, r *flow.Record[[2]string], out *flow.Output[string]) error {
	switch r.Value[0] {
	case "":
		*out.Next(r.Time, nil) = "taken back"
		return errors.New("no name")
	case "panic":
		panic("at the disco")
	}
	if r.Value[1] == "" {
		g.words.Delete(r.Value[0])
	} else {
		g.words.Put(r.Value[0], r.Value[1])
	}
	return nil
}

func TestBroadcast(t *testing.T) {
	for _, p := range []int{1, 3} {
		t.Run(fmt.Sprint(p), func(t *testing.T) {
			src, rules := flowtest.NewSource[said]("0"), flowtest.NewSource[[2]string]("r")
			out, dead := flowtest.NewSink[string](), flowtest.NewSink[flow.DeadLetter]()
			tasks := p
			r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
				top := flow.New("greets", append(opts, flow.WithParallelism(tasks))...)
				timed := flow.AssignTime(flow.From(top, "in", src), "time", said.time, watermark.Monotonous().Every(0))
				flow.To(flow.ApplyBroadcast[string, said, [2]string, string](flow.KeyBy(timed, said.who), flow.From(top, "rules", rules), "greet", func() *greets { return &greets{} }), "out", out)
				flow.To(top.DeadLetters(), "dead", dead)
				return top
			}, src, rules)
			rules.Feed([2]string{"a", "hello"}, [2]string{"b", "bye"}, [2]string{"", "x"}, [2]string{"panic", "x"})
			r.Epoch()
			letters := dead.Next()
			require.Len(t, letters, 2, "once, not once per task")
			require.Equal(t, "no name", letters[0].Cause)
			require.Contains(t, letters[1].Cause, "at the disco")
			require.Empty(t, out.Next())
			src.Feed(said{"ann", "a", 1}, said{"bob", "b", 1}, said{"cat", "c", 1})
			r.Epoch()
			require.ElementsMatch(t, []string{"ann: hello true of 2", "bob: bye true of 2", "cat:  false of 2"}, out.Next())

			rules.Feed([2]string{"a", ""}, [2]string{"c", "see"})
			r.Settle()
			r.Crash() // read again
			tasks = 4 - p
			r.Epoch()
			r.Crash() // with another number of tasks
			src.Feed(said{"ann", "a", 2}, said{"bob", "b", 2}, said{"cat", "c", 2}, said{"dan", "c", 2})
			r.Epoch()
			require.ElementsMatch(t, []string{"ann:  false of 2", "bob: bye true of 2", "cat: see true of 2", "dan: see true of 2"}, out.Next())
			src.End()
			rules.End()
			require.NoError(t, r.Wait())
			require.Len(t, out.Next(), 2*tasks, "event time is the keyed stream's")
		})
	}
}

func TestBroadcastValidate(t *testing.T) {
	top := flow.New("greets")
	in := flow.From(top, "in", flowtest.NewSource[said]("0"))
	rules := flow.From(top, "rules", flowtest.NewSource[[2]string]())
	s := flow.ApplyBroadcast[string, said, [2]string, string](flow.KeyBy(in, said.who, flow.CoPartitioned()), rules, "greet", func() *greets { return &greets{} })
	flow.To(s, "out", flowtest.NewSink[string]())
	require.ErrorContains(t, top.Validate(), "a broadcast reaches every task")
}

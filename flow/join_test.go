package flow_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
)

// said is a word said by somebody at a second.
type said struct {
	Who, Word string
	At        int64
}

func (s said) who() string     { return s.Who }
func (s said) time() time.Time { return time.Unix(s.At, 0) }

// answers joins each word of the right with the last word of the left, and says where event time stands.
type answers struct {
	last   flow.State[string, string]
	timers flow.Timers[string]
}

func (a *answers) Open(_ context.Context, rt flow.Runtime) error {
	if err := flow.OpenState(rt, "last", &a.last); err != nil {
		return err
	}
	return flow.OpenTimers(rt, &a.timers)
}

func (a *answers) ProcessLeft(_ context.Context, key string, r *flow.Record[said], _ *flow.Output[string]) error {
	if r.Value.Word == "" {
		return fmt.Errorf("nothing said")
	}
	*a.last.Get(key) = r.Value.Word
	a.timers.Set(key, r.Time)
	return nil
}

func (a *answers) ProcessRight(_ context.Context, key string, r *flow.Record[said], out *flow.Output[string]) error {
	*out.Next(r.Time, r.Meta) = fmt.Sprintf("%s: %s %s", key, *a.last.Get(key), r.Value.Word)
	return nil
}

func (a *answers) OnTimer(_ context.Context, key string, at flow.Timestamp, out *flow.Output[string]) error {
	*out.Next(at, nil) = fmt.Sprintf("%s at %d", key, at.Time().Unix())
	return nil
}

type talk struct {
	ask, answer *flowtest.Source[said]
	out         *flowtest.Sink[string]
	dead        *flowtest.Sink[flow.DeadLetter]
	tasks       int
}

func newTalk() *talk {
	return &talk{
		ask: flowtest.NewSource[said]("0", "1"), answer: flowtest.NewSource[said]("0"),
		out: flowtest.NewSink[string](), dead: flowtest.NewSink[flow.DeadLetter](), tasks: 2,
	}
}

func (k *talk) build(opts ...flow.TopologyOption) *flow.Topology {
	top := flow.New("talk", append(opts, flow.WithParallelism(k.tasks))...)
	wm := watermark.Monotonous().Every(0)
	asks := flow.KeyBy(flow.AssignTime(flow.From(top, "asks", k.ask), "asked", said.time, wm), said.who)
	replies := flow.KeyBy(flow.AssignTime(flow.From(top, "replies", k.answer), "replied", said.time, wm), said.who)
	flow.To(flow.ApplyJoin[string, said, said, string](asks, replies, "talk", func() *answers { return &answers{} }), "out", k.out)
	flow.To(top.DeadLetters(), "dead", k.dead)
	return top
}

func TestJoin(t *testing.T) {
	k := newTalk()
	r := flowtest.Start(t, k.build, k.ask, k.answer)
	k.ask.FeedTo("0", said{"ann", "hello", 1}, said{"ann", "", 2}, said{"bob", "so", 3})
	r.Settle()
	k.answer.Feed(said{"ann", "world", 5}, said{"bob", "what", 5}, said{"cat", "alone", 5})
	r.Epoch()
	require.ElementsMatch(t, []string{"ann: hello world", "bob: so what", "cat:  alone"}, k.out.Next(), "one partition has not spoken: no time has passed")
	require.Len(t, k.dead.Next(), 1)

	r.Crash()
	k.tasks = 3
	r.Crash()
	k.ask.FeedTo("1", said{"dan", "hm", 4})
	r.Epoch()
	require.Equal(t, []string{"ann at 1"}, k.out.Next(), "event time is the least of all partitions of both inputs: that of asks/0")
	k.ask.FeedTo("0", said{"eve", "x", 9})
	r.Epoch()
	require.Equal(t, []string{"bob at 3"}, k.out.Next())
	k.ask.FeedTo("1", said{"dan", "y", 9})
	r.Epoch()
	require.Equal(t, []string{"dan at 4"}, k.out.Next(), "now the right one holds it")
	r.Crash()
	k.answer.Feed(said{"ann", "again", 20})
	r.Epoch()
	require.Equal(t, []string{"ann: hello again"}, k.out.Next())
	k.ask.End()
	k.answer.End()
	require.NoError(t, r.Wait())
	require.ElementsMatch(t, []string{"eve at 9", "dan at 9"}, k.out.Next())
}

func TestJoinOfOneStreamWithItself(t *testing.T) {
	parts := func(tasks int, opts ...flow.KeyOption) []string {
		src, out := flowtest.NewSource[said]("0"), flowtest.NewSink[string]()
		if len(opts) > 0 {
			src = flowtest.NewSource[said]("0", "1")
		}
		r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
			top := flow.New("talk", append(o, flow.WithParallelism(tasks))...)
			timed := flow.AssignTime(flow.From(top, "in", src), "time", said.time, watermark.Monotonous().Every(0))
			asks, replies := flow.Split(timed, "kind", func(s said) bool { return strings.HasSuffix(s.Word, "?") })
			joined := flow.ApplyJoin[string, said, said, string](flow.KeyBy(asks, said.who, opts...), flow.KeyBy(replies, said.who, opts...), "talk", func() *answers { return &answers{} })
			flow.To(joined, "out", out)
			return top
		}, src)
		for i := range 40 {
			who := fmt.Sprint("w", i%4)
			part := "0"
			if len(opts) > 0 {
				part = fmt.Sprint(i % 2)
			}
			src.FeedTo(part, said{who, fmt.Sprint(i, "?"), int64(i)})
			r.Settle()
			src.FeedTo(part, said{who, fmt.Sprint(i), int64(i)})
			r.Settle()
			if i%5 == 4 { // what is replayed comes in no order between the two inputs: commit before
				r.Epoch()
				r.Crash()
			}
		}
		src.End()
		require.NoError(t, r.Wait())
		return out.Values()
	}
	want := parts(1)
	require.Len(t, want, 80)
	require.ElementsMatch(t, want, parts(3))
	require.ElementsMatch(t, want, parts(1, flow.CoPartitioned()))
}

// What an operator has kept by its key can be joined, and broadcast to, as what KeyBy made.
func TestJoinBehindAKeptStream(t *testing.T) {
	k := newTalk()
	greeted := flowtest.NewSink[string]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("talk", append(opts, flow.WithParallelism(2))...)
		wm := watermark.Monotonous().Every(0)
		fresh := func(s flow.Stream[said], name string) flow.KeyedStream[string, said] {
			return operators.Dedup(flow.KeyBy(s, said.who), name, func(s said) string { return s.Word }, time.Hour)
		}
		asks := fresh(flow.AssignTime(flow.From(top, "asks", k.ask), "asked", said.time, wm), "fresh-asks")
		replies := fresh(flow.AssignTime(flow.From(top, "replies", k.answer), "replied", said.time, wm), "fresh-replies")
		flow.To(flow.ApplyJoin[string, said, said, string](asks, replies, "talk", func() *answers { return &answers{} }), "out", k.out)
		words := operators.Map(replies.Unkeyed(), "words", func(_ context.Context, s said) ([2]string, error) { return [2]string{s.Word, s.Who}, nil })
		flow.To(flow.ApplyBroadcast[string, said, [2]string, string](asks, words, "greet", func() *greets { return &greets{} }), "greeted", greeted)
		return top
	}, k.ask, k.answer)
	k.ask.FeedTo("0", said{"ann", "hello", 1}, said{"ann", "hello", 1})
	r.Settle()
	k.answer.Feed(said{"ann", "world", 5}, said{"ann", "world", 5})
	r.Epoch()
	require.Equal(t, []string{"ann: hello world"}, k.out.Next())
	require.Equal(t, []string{"ann:  false of 0"}, greeted.Next())
}

func TestJoinValidate(t *testing.T) {
	top, other := flow.New("a"), flow.New("b")
	join := func(name string, l, r flow.KeyedStream[string, said]) {
		flow.To(flow.ApplyJoin[string, said, said, string](l, r, name, func() *answers { return &answers{} }), name+"-out", flowtest.NewSink[string]())
	}
	raw := func(top *flow.Topology, name string) flow.Stream[said] {
		return flow.From(top, name, flowtest.NewSource[said]())
	}
	timed := func(s flow.Stream[said], name string) flow.Stream[said] {
		return flow.AssignTime(s, name, said.time, watermark.Monotonous())
	}
	join("half-timed", flow.KeyBy(timed(raw(top, "in1"), "t1"), said.who), flow.KeyBy(raw(top, "in2"), said.who))
	join("two-topologies", flow.KeyBy(raw(top, "in3"), said.who), flow.KeyBy(raw(other, "in4"), said.who))
	odd := flow.KeyCodec("odd", func(b []byte, k string) []byte { return append(b, k...) }, func(b []byte) (string, bool) { return string(b), true })
	join("codecs", flow.KeyBy(raw(top, "in5"), said.who), flow.KeyBy(raw(top, "in6"), said.who, odd))
	err := top.Validate()
	require.ErrorContains(t, err, "one input has event time and the other has not")
	require.ErrorContains(t, err, `its inputs belong to the topologies "a" and "b"`)
	require.ErrorContains(t, err, "the two KeyBys encode their keys differently")
	require.NotContains(t, err.Error(), "is not used")
}

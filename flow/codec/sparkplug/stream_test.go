package sparkplug_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec/sparkplug"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/sources/gen"
)

// edge is an edge node that sends messages.
type edge struct {
	node  string
	seq   uint64
	clock time.Time
}

func (e *edge) send(typ sparkplug.Type, device string, metrics ...sparkplug.Metric) sparkplug.Message {
	e.clock = e.clock.Add(time.Second)
	m := sparkplug.Message{Topic: sparkplug.Topic{Group: "g", Type: typ, Node: e.node, Device: device}, Payload: sparkplug.Payload{Timestamp: e.clock.UnixMilli(), Metrics: metrics}}
	if typ != sparkplug.NDeath && typ != sparkplug.NCmd {
		m.Payload.Seq, m.Payload.HasSeq = e.seq%256, true
		e.seq++
	}
	return m
}

func born(name string, alias uint64, v sparkplug.Value) sparkplug.Metric {
	m, err := sparkplug.NewMetric(name, v)
	if err != nil {
		panic(err)
	}
	m.Alias, m.HasAlias = alias, true
	return m
}

// data is a metric as data messages have them: no name, no type.
func data(alias uint64, v sparkplug.Value) sparkplug.Metric {
	m := born("", alias, v)
	m.Type = sparkplug.Unknown
	return m
}

func bdSeq(n uint64) sparkplug.Metric {
	m := born("bdSeq", 0, sparkplug.UintOf(sparkplug.UInt64, n))
	m.HasAlias = false
	return m
}

// line is a reading or an issue in words.
func lines(in flow.Stream[sparkplug.Message]) []flow.Stream[string] {
	timed := flow.AssignTime(in, "event-time", sparkplug.Message.At, watermark.BoundedOutOfOrderness(time.Minute))
	r := sparkplug.Metrics(timed, "metrics", sparkplug.MaxMetricsPerNode(4))
	readings := flow.Apply[sparkplug.Reading, string](r, "readings", func() flow.OperatorFunc[sparkplug.Reading, string] {
		return func(_ context.Context, r *flow.Record[sparkplug.Reading], out *flow.Output[string]) error {
			v := r.Value
			x, _ := v.Value.Number()
			*out.Next(r.Time, nil) = fmt.Sprintf("%s %s %s %s=%v %d %v", v.EdgeNode(), v.Topic.Type, v.Topic.Device, v.Name, x, v.Seq, r.Time.Time().Sub(at).Seconds())
			return nil
		}
	})
	issues := flow.Apply[sparkplug.Issue, string](r.Issues(), "issues", func() flow.OperatorFunc[sparkplug.Issue, string] {
		return func(_ context.Context, r *flow.Record[sparkplug.Issue], out *flow.Output[string]) error {
			v := r.Value
			*out.Next(r.Time, nil) = fmt.Sprintf("! %s %s %s %s %d %d %d", v.Topic.EdgeNode(), v.Topic.Type, v.Topic.Device, v.Kind, v.Expected, v.Got, len(v.Metrics))
			return nil
		}
	})
	return []flow.Stream[string]{readings, issues}
}

func script() ([]sparkplug.Message, []string) {
	a, b := &edge{node: "a", clock: at}, &edge{node: "b", seq: 7, clock: at}
	old := data(1, sparkplug.DoubleOf(3))
	old.Timestamp, old.Historical = at.Add(-time.Hour).UnixMilli(), true
	ahead := data(1, sparkplug.DoubleOf(4))
	ahead.Timestamp = at.Add(time.Hour).UnixMilli()

	in := []sparkplug.Message{
		b.send(sparkplug.NData, "", data(1, sparkplug.DoubleOf(1))),
		a.send(sparkplug.NBirth, "", bdSeq(3), born("t", 1, sparkplug.DoubleOf(20))),
		a.send(sparkplug.DBirth, "d", born("p", 2, sparkplug.IntOf(sparkplug.Int8, -1)), born("q", 3, sparkplug.BoolOf(true))),
		a.send(sparkplug.NData, "", data(1, sparkplug.DoubleOf(21)), data(2, sparkplug.IntOf(sparkplug.Int8, 5))),
		a.send(sparkplug.DData, "d", data(2, sparkplug.IntOf(sparkplug.Int8, -5)), data(3, sparkplug.StringOf("no boolean"))),
		a.send(sparkplug.NCmd, "", born("x", 9, sparkplug.BoolOf(true))),
		a.send(sparkplug.NData, "", old, ahead),
	}
	repeated := in[len(in)-1]
	a.seq++ // lost
	in = append(in, repeated,
		a.send(sparkplug.DData, "d", data(3, sparkplug.BoolOf(false)), data(7, sparkplug.BoolOf(false))),
		a.send(sparkplug.DDeath, "d"),
		a.send(sparkplug.DData, "d", data(3, sparkplug.BoolOf(false))),
		a.send(sparkplug.DBirth, "e", born("r", 5, sparkplug.BoolOf(true)), born("s", 6, sparkplug.BoolOf(true)), born("u", 7, sparkplug.BoolOf(true))),
		a.send(sparkplug.NDeath, "", bdSeq(2)),
		a.send(sparkplug.NData, "", data(1, sparkplug.DoubleOf(22))),
		a.send(sparkplug.NDeath, "", bdSeq(3)),
		a.send(sparkplug.NData, "", data(1, sparkplug.DoubleOf(23))),
		b.send(sparkplug.NBirth, "", born("t", 1, sparkplug.DoubleOf(30))),
	)
	for range 300 { // around 255
		in = append(in, b.send(sparkplug.NData, "", data(1, sparkplug.DoubleOf(31))))
	}
	want := []string{
		"! g/b NDATA  not-born 0 0 1",
		"g/a NBIRTH  bdSeq=3 0 1", "g/a NBIRTH  t=20 0 1", "g/a DBIRTH d p=-1 1 2", "g/a DBIRTH d q=1 1 2",
		"g/a NDATA  t=21 2 3", "! g/a NDATA  unknown-alias 0 0 1",
		"g/a DDATA d p=-5 3 4", "! g/a DDATA d misfit 0 0 1",
		"g/a NDATA  t=3 4 -3600", "g/a NDATA  t=4 4 6", "! g/a NDATA  repeat 5 4 0", "g/a NDATA  t=3 4 -3600", "g/a NDATA  t=4 4 6",
		"! g/a DDATA d gap 5 6 0", "g/a DDATA d q=0 6 7", "! g/a DDATA d unknown-alias 0 0 1",
		"! g/a DDATA d not-born 0 0 1",
		"g/a DBIRTH e r=1 9 10", "g/a DBIRTH e s=1 9 10", "g/a DBIRTH e u=1 9 10", "! g/a DBIRTH e full 0 0 1",
		"g/a NDATA  t=22 10 12", "! g/a NDATA  not-born 0 0 1",
		"g/b NBIRTH  t=30 8 2",
	}
	for i := range 300 {
		want = append(want, fmt.Sprintf("g/b NDATA  t=31 %d %d", (9+i)%256, 3+i))
	}
	return in, want
}

func TestResolvesInAllModes(t *testing.T) {
	in, want := script()
	flowtest.CheckOperator(t, flowtest.OperatorCheck[sparkplug.Message, string]{Inputs: in, Want: want, BuildMany: lines, Key: func(s string) string { return s[:4] }})
}

func TestMessagesNeedATopic(t *testing.T) {
	t.Parallel()
	src, out := flowtest.NewSource[sparkplug.Payload](), flowtest.NewSink[sparkplug.Message]()
	letters := flowtest.NewSink[flow.DeadLetter]()
	run := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("sparkplug", opts...)
		flow.To(sparkplug.Messages(flow.From(top, "in", src), "messages"), "out", out)
		flow.To(top.DeadLetters(), "dead", letters)
		return top
	}, src)
	src.Feed(sparkplug.Payload{})
	run.Epoch()
	require.Empty(t, out.Values())
	require.Len(t, letters.Values(), 1)
	require.Contains(t, letters.Values()[0].Cause, "set Meta")
}

func ExampleCodec() {
	temperature, err := sparkplug.NewMetric("temperature", sparkplug.DoubleOf(21.5))
	fmt.Println(err)
	c := sparkplug.Codec()
	b, err := c.Append(nil, &sparkplug.Payload{Timestamp: 1700000000000, Seq: 4, HasSeq: true, Metrics: []sparkplug.Metric{temperature}})
	fmt.Println(len(b), err)
	var p sparkplug.Payload
	fmt.Println(c.Decode(b, &p))
	v, err := p.Metrics[0].Value(sparkplug.Unknown)
	fmt.Println(p.Metrics[0].Name, v.Float, err)
	// Output:
	// <nil>
	// 35 <nil>
	// <nil>
	// temperature 21.5 <nil>
}

func ExampleMetrics() {
	node := sparkplug.Topic{Group: "plant", Type: sparkplug.NBirth, Node: "line1"}
	birth, err := sparkplug.NewMetric("temperature", sparkplug.DoubleOf(20))
	fmt.Println(err)
	birth.Alias, birth.HasAlias = 1, true
	change := birth // data messages have neither name nor type
	change.Name, change.Type = "", sparkplug.Unknown
	data := node
	data.Type = sparkplug.NData

	t := flow.New("plant", flow.WithStore(state.InMemory()), flow.WithLogger(slog.New(slog.DiscardHandler)), flow.WithParallelism(1))
	messages := flow.From(t, "messages", gen.Slice(
		sparkplug.Message{Topic: node, Payload: sparkplug.Payload{Timestamp: 1, HasSeq: true, Metrics: []sparkplug.Metric{birth}}},
		sparkplug.Message{Topic: data, Payload: sparkplug.Payload{Timestamp: 2, HasSeq: true, Seq: 1, Metrics: []sparkplug.Metric{change}}},
		sparkplug.Message{Topic: data, Payload: sparkplug.Payload{Timestamp: 3, HasSeq: true, Seq: 3, Metrics: []sparkplug.Metric{change}}},
	))
	readings := sparkplug.Metrics(messages, "metrics")
	flow.To(readings, "print", flow.SinkFunc(func(_ context.Context, batch []flow.Record[sparkplug.Reading]) error {
		for _, r := range batch {
			fmt.Println(r.Value.EdgeNode(), r.Value.Name, r.Value.Value.Float, r.Value.Seq)
		}
		return nil
	}))
	flow.To(readings.Issues(), "issues", flow.SinkFunc(func(_ context.Context, batch []flow.Record[sparkplug.Issue]) error {
		for _, r := range batch {
			topic, _ := sparkplug.Rebirth(r.Value.Topic, r.Value.Time)
			fmt.Println(r.Value.Kind, r.Value.Expected, r.Value.Got, "ask on", topic)
		}
		return nil
	}))
	fmt.Println(t.Run(context.Background()))
	// Unordered output:
	// <nil>
	// plant/line1 temperature 20 0
	// plant/line1 temperature 20 1
	// plant/line1 temperature 20 3
	// gap 2 3 ask on spBv1.0/plant/NCMD/line1
	// <nil>
}

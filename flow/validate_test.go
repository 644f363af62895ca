package flow_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// problems takes the error of Validate apart.
func problems(t *testing.T, err error) (ps []flow.Problem) {
	t.Helper()
	var ne *flow.NodeError
	require.ErrorAs(t, err, &ne)
	joined, ok := ne.Err.(interface{ Unwrap() []error })
	require.True(t, ok)
	for _, e := range joined.Unwrap() {
		var p flow.Problem
		require.ErrorAs(t, e, &p)
		require.ErrorIs(t, e, flow.ErrInvalid)
		ps = append(ps, p)
	}
	return ps
}

// problem is what a flow.Problem must hold.
type problem struct{ node, what, cure string }

type pair struct{ A, B string }

func keep(reading) bool { return true }

func TestValidate(t *testing.T) {
	source := func(t *flow.Topology) flow.Stream[reading] {
		return flow.From(t, "in", flowtest.NewSource[reading]())
	}
	timed := func(t *flow.Topology) flow.Stream[reading] {
		return flow.AssignTime(source(t), "time", reading.time, watermark.Monotonous())
	}
	keyed := func(s flow.Stream[reading]) flow.KeyedStream[string, reading] { return flow.KeyBy(s, reading.device) }
	win := func(s flow.KeyedStream[string, reading], opts ...window.Option) flow.Stream[minute] {
		return operators.Window(s, "win", window.Tumbling(time.Minute), agg.Avg(reading.temp), opts...)
	}
	store := flow.WithStore(flowtest.NewStore())

	for name, c := range map[string]validateCase{
		"nothing at all": {
			build: func(*flow.Topology) {},
			want:  []problem{{"", "no source", "flow.From"}, {"", "no sink", "flow.To"}},
		},
		"no sink but that of the dead letters": {
			build: func(t *flow.Topology) { source(t); flow.To(t.DeadLetters(), "dead", sinkOf[flow.DeadLetter]()) },
			want:  []problem{{"", "no sink", "flow.To"}, {"in", "stream is not used", "flow.To"}},
		},
		"a name given twice": {
			build: func(t *flow.Topology) {
				flow.To(operators.Filter(operators.Filter(source(t), "a", keep), "a", keep), "out", sinkOf[reading]())
			},
			want: []problem{{"a", "used twice", "name of its own"}},
		},
		"bad names": {
			build: func(t *flow.Topology) {
				s := source(t)
				for _, n := range []string{"", "Upper", "under_score", "-a", "a-", "a--b", "a/", "über", strings.Repeat("a", 101)} {
					flow.To(s, n, sinkOf[reading]())
				}
				for _, n := range []string{"a", "a-1", "part/a-b", strings.Repeat("a", 100)} {
					flow.To(s, n, sinkOf[reading]())
				}
			},
			want: []problem{
				{"", "empty", "lower-case"}, {"Upper", "kebab-case", "lower-case"}, {"under_score", "kebab-case", "lower-case"},
				{"-a", "kebab-case", "lower-case"}, {"a-", "kebab-case", "lower-case"}, {"a--b", "kebab-case", "lower-case"},
				{"a/", "kebab-case", "lower-case"}, {"über", "kebab-case", "lower-case"}, {strings.Repeat("a", 101), "longer than 100", "lower-case"},
			},
		},
		"unused streams": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				s := timed(t)
				flow.To(s, "out", sinkOf[reading]())
				operators.Filter(s, "idle", keep)
				yes, _ := flow.Split(s, "split", keep)
				flow.To(yes, "yes", sinkOf[reading]())
				keyed(s)
				operators.Dedup(keyed(s), "dedup", reading.id, time.Hour)
				win(keyed(s)) // with its late records
			},
			want: []problem{
				{"idle", "stream is not used", "remove"}, {"split", `output "no" is not used`, "flow.To"},
				{"", `KeyBy behind "time" is not used`, "keyed operator"}, {"dedup", "stream is not used", "flow.To"}, {"win", "stream is not used", "flow.To"},
			},
		},
		"side outputs need not be used": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				flow.To(win(keyed(flow.AssignTime(source(t), "time", reading.time, watermark.Monotonous()))), "out", sinkOf[minute]())
			},
		},
		"a side output without its operator": {
			build: func(t *flow.Topology) {
				flow.To(source(t), "out", sinkOf[reading]())
				flow.SideOutput[int](t, "ghost", "extra")
			},
			want: []problem{{"", `side output "extra"`, "add the operator"}},
		},
		"state without a store": {
			build: func(t *flow.Topology) {
				flow.To(win(operators.Dedup(keyed(timed(t)), "dedup", reading.id, time.Hour)), "out", sinkOf[minute]())
			},
			want: []problem{{"dedup", "no store", "state.InMemory()"}, {"win", "no store", "state.InMemory()"}},
		},
		"state kept in memory knowingly": {
			opts:  []flow.TopologyOption{flow.WithStore(state.InMemory())},
			build: func(t *flow.Topology) { flow.To(win(keyed(timed(t))), "out", sinkOf[minute]()) },
		},
		"a window without event time": {
			opts:  []flow.TopologyOption{store},
			build: func(t *flow.Topology) { flow.To(win(keyed(source(t))), "out", sinkOf[minute]()) },
			want:  []problem{{"win", "needs event time", "flow.AssignTime"}},
		},
		"time assigned below a KeyBy": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				fresh := operators.Dedup(keyed(timed(t)), "dedup", reading.id, time.Hour)
				flow.To(flow.AssignTime(fresh.Unkeyed(), "again", reading.time, watermark.Monotonous()), "out", sinkOf[reading]())
			},
			want: []problem{{"again", "below an exchange, KeyBy or Union", "right behind each source"}},
		},
		"time assigned below a Union": {
			build: func(t *flow.Topology) {
				u := flow.Union("union", source(t), flow.From(t, "in-2", flowtest.NewSource[reading]()))
				flow.To(flow.AssignTime(operators.Filter(u, "f", keep), "time", reading.time, watermark.Monotonous()), "out", sinkOf[reading]())
			},
			want: []problem{{"time", "below an exchange, KeyBy or Union", "right behind each source"}},
		},
		"time on one input of a Union": {
			build: func(t *flow.Topology) {
				flow.To(flow.Union("union", timed(t), flow.From(t, "in-2", flowtest.NewSource[reading]())), "out", sinkOf[reading]())
			},
			want: []problem{{"union", "some have not", "on every input, or on none"}},
		},
		"an empty strategy": {
			build: func(t *flow.Topology) {
				flow.To(flow.AssignTime(source(t), "time", reading.time, watermark.Strategy{}), "out", sinkOf[reading]())
			},
			want: []problem{{"time", "strategy is empty", "watermark"}},
		},
		"a strategy of negative figures": {
			build: func(t *flow.Topology) {
				flow.To(flow.AssignTime(source(t), "time", reading.time, watermark.BoundedOutOfOrderness(-1)), "out", sinkOf[reading]())
			},
			want: []problem{{"time", "bound is negative", "watermark"}},
		},
		"counting what may be delivered again": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				s := flow.AssignTime(flow.From(t, "in", redelivering[reading]()), "time", reading.time, watermark.Monotonous())
				flow.To(win(keyed(operators.Filter(s, "f", keep))), "out", sinkOf[minute]())
			},
			want: []problem{{"win", `source "in" may deliver again`, "operators.Dedup"}},
		},
		"counting repeats of one of two sources": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				again := flow.AssignTime(flow.From(t, "again", redelivering[reading]()), "again-time", reading.time, watermark.Monotonous())
				flow.To(win(keyed(flow.Union("union", timed(t), again))), "out", sinkOf[minute]())
			},
			want: []problem{{"win", `source "again" may deliver again`, "operators.Dedup"}},
		},
		"a Dedup that forgets too early": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				s := flow.AssignTime(flow.From(t, "in", redelivering[reading]()), "time", reading.time, watermark.Monotonous())
				fresh := operators.Dedup(keyed(s), "dedup", reading.id, time.Minute+29*time.Second)
				flow.To(win(fresh, window.AllowedLateness(30*time.Second)), "out", sinkOf[minute]())
			},
			want: []problem{{"win", `Dedup "dedup" above it remembers for 1m29s, shorter than its horizon of 1m30s`, "raise the Dedup's ttl"}},
		},
		"a Dedup that remembers long enough": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				s := flow.AssignTime(flow.From(t, "in", redelivering[reading]()), "time", reading.time, watermark.Monotonous())
				fresh := operators.Dedup(keyed(s), "dedup", reading.id, 90*time.Second)
				flow.To(win(fresh, window.AllowedLateness(30*time.Second)), "out", sinkOf[minute]())
			},
		},
		"repeats that are accepted": {
			opts: []flow.TopologyOption{store, flow.AcceptRepeats()},
			build: func(t *flow.Topology) {
				s := flow.AssignTime(flow.From(t, "in", redelivering[reading]()), "time", reading.time, watermark.Monotonous())
				flow.To(win(keyed(s)), "out", sinkOf[minute]())
			},
		},
		"an option of another operator": {
			build: func(t *flow.Topology) {
				o := flow.SetOption(func(*window.Config) {})
				flow.To(operators.Filter(source(t), "f", keep, o), "out", sinkOf[reading]())
			},
			want: []problem{{"f", "an option for *window.Config does not fit", ""}},
		},
		"parallelism out of range": {
			opts: []flow.TopologyOption{store, flow.WithParallelism(0)},
			build: func(t *flow.Topology) {
				s := operators.Filter(timed(t), "f", keep, flow.Parallelism(0))
				flow.To(win(flow.KeyBy(s, reading.device, flow.Parallelism(1025))), "out", sinkOf[minute]())
			},
			want: []problem{
				{"", `KeyBy behind "f": Parallelism(1025)`, "between 1 and 1024"}, {"f", "Parallelism(0)", "between 1 and 1024"},
				{"", "parallelism 0", "flow.WithParallelism"},
			},
		},
		"settings of the topology": {
			opts: []flow.TopologyOption{flow.WithMaxPending(100), flow.WithStopTimeout(0), flow.WithEpochInterval(-1)},
			build: func(t *flow.Topology) {
				flow.To(source(t), "out", sinkOf[reading]())
			},
			want: []problem{{"", "MaxPending 100", "flow.WithMaxPending"}, {"", "epoch interval is negative", "flow.WithEpochInterval"}},
		},
		"a window of no size": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				flow.To(operators.Window(keyed(timed(t)), "win", window.Tumbling(0), agg.Avg(reading.temp), window.AllowedLateness(-1)), "out", sinkOf[minute]())
			},
			want: []problem{{"win", "size 0s is not positive", "time.Minute"}, {"win", "lateness -1ns is negative", "0 or more"}},
		},
		"a Dedup of no time and no room": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				d := operators.Dedup(keyed(timed(t)), "dedup", func(r reading) pair { return pair{} }, 0, operators.MaxEntries(0))
				flow.To(d.Unkeyed(), "out", sinkOf[reading]())
			},
			want: []problem{{"dedup", "MaxEntries", "default"}, {"dedup", "ttl is not positive", "window size"}, {"dedup", "ids of this type", "use a string"}},
		},
		"dead letters through an operator": {
			build: func(t *flow.Topology) {
				flow.To(source(t), "out", sinkOf[reading]())
				m := operators.Map(t.DeadLetters(), "m", func(_ context.Context, d flow.DeadLetter) (string, error) { return d.Cause, nil })
				flow.To(m, "dead", sinkOf[string]())
			},
			want: []problem{{"", "dead letters go through an operator", "only flow.To"}},
		},
		"a stream of another topology": {
			build: func(t *flow.Topology) {
				other := flow.From(flow.New("other"), "in-2", flowtest.NewSource[reading]())
				flow.To(flow.Union("union", source(t), other), "out", sinkOf[reading]())
			},
			want: []problem{{"union", `belongs to topology "other"`, "from one New"}},
		},
		"struct keys without a codec": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				k := flow.KeyBy(timed(t), func(r reading) pair { return pair{r.Device, ""} })
				flow.To(operators.Dedup(k, "dedup", reading.id, time.Hour).Unkeyed(), "out", sinkOf[reading]())
			},
			want: []problem{{"", `KeyBy behind "time": keys of type flow_test.pair`, "flow.KeyCodec"}},
		},
		"struct keys with another type's codec": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				other := flow.KeyCodec("int", func(b []byte, k int) []byte { return b }, func([]byte) (int, bool) { return 0, true })
				k := flow.KeyBy(timed(t), func(r reading) pair { return pair{r.Device, ""} }, other)
				flow.To(operators.Dedup(k, "dedup", reading.id, time.Hour).Unkeyed(), "out", sinkOf[reading]())
			},
			want: []problem{{"", "KeyCodec is for another type than flow_test.pair", "codec of the key's type"}},
		},
		"nil source, sink, key and time": {
			opts: []flow.TopologyOption{store},
			build: func(t *flow.Topology) {
				s := flow.AssignTime(flow.From[reading](t, "in", nil), "time", nil, watermark.Monotonous())
				flow.To(operators.Dedup(flow.KeyBy[string](s, nil), "dedup", reading.id, time.Hour).Unkeyed(), "out", nil)
			},
			want: []problem{
				{"in", "source is nil", "pass a source"}, {"time", "time function is nil", "pass a function"},
				{"", `KeyBy behind "time": the key function is nil`, "pass a function"}, {"out", "sink is nil", "pass a sink"},
				{"", "no source", "flow.From"}, {"", "no sink", "flow.To"}, {"dedup", "stream is not used", "flow.To"},
			},
		},
		"async figures": {
			build: func(t *flow.Topology) {
				s := flow.ApplyAsync[reading, reading](source(t), "ask", func() flow.AsyncOperator[reading, reading] { return nil },
					flow.AsyncConfig{Capacity: -1, Codec: codec.CBOR[string]()})
				flow.To(s, "out", sinkOf[reading]())
			},
			want: []problem{{"ask", "not one of flow_test.reading", "codec of the input's type"}, {"ask", "capacity", "leave them 0"}},
		},
	} {
		t.Run(name, c.check)
	}
}

type validateCase struct {
	opts  []flow.TopologyOption
	build func(t *flow.Topology)
	want  []problem
}

// check compares what Validate reports with what it should.
func (c validateCase) check(t *testing.T) {
	top := flow.New("valid", c.opts...)
	c.build(top)
	err := top.Validate()
	if len(c.want) == 0 {
		require.NoError(t, err)
		return
	}
	require.ErrorIs(t, err, flow.ErrInvalid)
	got := problems(t, err)
	var missing []problem
	for _, w := range c.want {
		i := slices.IndexFunc(got, func(p flow.Problem) bool {
			return p.Node == w.node && strings.Contains(p.What, w.what) && strings.Contains(p.Error(), w.cure)
		})
		if i < 0 {
			missing = append(missing, w)
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	require.Empty(t, missing, "reported was: %v", err)
	require.Empty(t, got, "more was reported than is wrong")
}

func TestValidateReportsAllAtOnce(t *testing.T) {
	err := wrongInEveryWay().Validate()
	require.ErrorIs(t, err, flow.ErrInvalid)
	require.GreaterOrEqual(t, len(problems(t, err)), 20)
	golden(t, "wrong.txt", []byte(err.Error()+"\n"))

	_, err = wrongInEveryWay().AddTo(t.Context(), nil)
	require.ErrorIs(t, err, flow.ErrInvalid, "AddTo asks first")
	require.ErrorIs(t, wrongInEveryWay().Run(t.Context()), flow.ErrInvalid)
}

func TestTheProgramsOfTheDocsAreValid(t *testing.T) {
	require.NoError(t, perMinute().Validate())
	require.NoError(t, branching().Validate())
}

func TestLosses(t *testing.T) {
	require.Empty(t, perMinute().Losses(), "a durable store loses nothing")
	var lines []string
	for _, p := range branching().Losses() {
		lines = append(lines, p.Error())
	}
	require.Equal(t, []string{
		`node "daily": a crash loses the contents of open windows: use pebble.Dir for a durable store`,
		`node "fresh": a crash loses the ids seen: repeats pass once more: use pebble.Dir for a durable store`,
		`node "hourly": a crash loses the contents of open windows: use pebble.Dir for a durable store`,
	}, lines)
}

package operators_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// windowCase is a run of Apache Flink's window operator: what went in, what came out, one tick per ms. testdata/tumbling.jsonl holds
// those with tumbling windows and the event-time trigger.
type windowCase struct {
	ID       string
	Assigner struct {
		SizeMs, OffsetMs int64
	}
	AllowedLatenessMs int64
	Input             []element
	Results           []struct {
		After          int
		K              string
		Start, End, TS int64
		Value          int64
	}
	Late    []json.RawMessage
	Invalid string
}

// element is a record, or a watermark where WM is set.
type element struct {
	K  string
	V  int64
	TS int64
	WM *int64
}

func (e element) key() string  { return e.K }
func (e element) value() int64 { return e.V }
func (e element) mark() bool   { return e.WM != nil }

// time is that of the record, or the one that raises a monotonous watermark to WM.
func (e element) time() time.Time {
	if e.mark() {
		return time.Unix(0, *e.WM+1)
	}
	return time.Unix(0, e.TS)
}

// record gives the element the reference time that scripts the watermark: MaxAhead keeps a record from raising it, and a mark has
// no reference.
func (e element) record() flow.Record[element] {
	if e.mark() {
		return flow.Record[element]{Value: e, Time: flow.None}
	}
	return flow.Record[element]{Value: e, Time: flow.None + 2}
}

func windowCases(t *testing.T) (cases []windowCase) {
	f, err := os.Open("testdata/tumbling.jsonl")
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c windowCase
		require.NoError(t, json.Unmarshal(lines.Bytes(), &c))
		cases = append(cases, c)
	}
	require.NoError(t, lines.Err())
	require.Len(t, cases, 116)
	return cases
}

type ticks = window.Result[string, int64]

// tumbling has the offset, which window.Tumbling does not.
func (c *windowCase) tumbling() window.Plain {
	return func(cfg *window.Config) {
		window.Tumbling(time.Duration(c.Assigner.SizeMs))(cfg)
		cfg.Offset = flow.Timestamp(c.Assigner.OffsetMs)
	}
}

func (c *windowCase) build(src flow.Source[element], out flow.Sink[ticks], late flow.Sink[flow.Late[element]], opts ...flow.TopologyOption) *flow.Topology {
	top := flow.New("conformance", opts...)
	wm := watermark.Monotonous().Every(0).MaxFutureSkew(watermark.Off)
	timed := flow.AssignTime(flow.From(top, "in", src), "time", element.time, wm)
	records := operators.Filter(timed, "records", func(e element) bool { return !e.mark() })
	w := operators.Window(flow.KeyBy(records, element.key), "win", c.tumbling(), agg.Sum(element.value),
		window.AllowedLateness(time.Duration(c.AllowedLatenessMs)))
	flow.To(w, "out", out)
	flow.To(w.Late(), "late", late)
	return top
}

// after are the results of one input, as text: they are compared as a multiset.
func (c *windowCase) after(i int) (want []string) {
	for _, r := range c.Results {
		if r.After == i {
			want = append(want, fmt.Sprintf("%s [%d,%d) = %d at %d", r.K, r.Start, r.End, r.Value, r.TS))
		}
	}
	slices.Sort(want)
	return want
}

func results(rs []flow.Record[ticks]) (got []string) {
	for _, r := range rs {
		got = append(got, fmt.Sprintf("%s [%d,%d) = %d at %d", r.Value.Key, r.Value.Start, r.Value.End, r.Value.Value, r.Time))
	}
	slices.Sort(got)
	return got
}

// representable tells whether the case's times can pass AssignTime, which refuses those outside the years 1678 to 2261: one case
// (W19) tries saturation at the end of int64.
func (c *windowCase) representable() bool {
	for _, e := range c.Input {
		if e.TS > math.MaxInt64/2 || e.mark() && *e.WM != math.MaxInt64 && *e.WM > math.MaxInt64/2 {
			return false
		}
	}
	return true
}

func TestWindowConformance(t *testing.T) {
	skipped := 0
	for _, c := range windowCases(t) {
		if c.Invalid != "" {
			t.Run(c.ID, c.checkInvalid)
			continue
		}
		if !c.representable() {
			skipped++
			continue
		}
		for _, mode := range []struct {
			name        string
			parallelism int
			crash       bool
		}{{"fused", 1, false}, {"exchanged", 4, false}, {"fused, crash after every input", 1, true}, {"exchanged, crash after every input", 4, true}} {
			t.Run(c.ID+"/"+mode.name, func(t *testing.T) { c.check(t, mode.parallelism, mode.crash) })
		}
	}
	require.Equal(t, 1, skipped)
}

func (c *windowCase) check(t *testing.T, parallelism int, crash bool) {
	src, out, late := flowtest.NewSource[element](), flowtest.NewSink[ticks](), flowtest.NewSink[flow.Late[element]]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		return c.build(src, out, late, append(opts, flow.WithParallelism(parallelism))...)
	}, src)
	read, ended := 0, false
	for i, e := range c.Input {
		if e.mark() && *e.WM == math.MaxInt64 {
			r.Flush()
			ended = true
		} else {
			src.FeedRecords("0", e.record())
			r.Epoch()
		}
		all := out.Records()
		require.Equal(t, c.after(i), results(all[read:]), "after input %d: %+v", i, e)
		read = len(all)
		if crash && !ended {
			r.Crash()
			require.Len(t, out.Records(), read, "a crash behind a committed epoch repeats nothing")
		}
	}
	if !ended {
		r.Stop()
	}
	var got []element
	for _, l := range late.Values() {
		got = append(got, l.Value)
	}
	require.Equal(t, c.late(t), got, "late")
}

// late are the elements that were refused.
func (c *windowCase) late(t *testing.T) (late []element) {
	for _, raw := range c.Late {
		var e element
		if raw[0] == '{' {
			require.NoError(t, json.Unmarshal(raw, &e))
		} else {
			var i int
			require.NoError(t, json.Unmarshal(raw, &i))
			e = c.Input[i]
		}
		late = append(late, e)
	}
	return late
}

// checkInvalid: sizes that are not positive are refused, and so, in Flink, are offsets of a size or more, which do no harm here.
func (c *windowCase) checkInvalid(t *testing.T) {
	top := c.build(flowtest.NewSource[element](), flowtest.NewSink[ticks](), flowtest.NewSink[flow.Late[element]](), flow.WithStore(flowtest.NewStore()))
	if c.Assigner.SizeMs > 0 {
		require.NoError(t, top.Validate())
		return
	}
	require.ErrorIs(t, top.Validate(), flow.ErrInvalid)
}

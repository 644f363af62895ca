package window_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

// windowCase is a run of Apache Flink's window operator: what went in, what came out, one tick per ms. ../testdata/windows.jsonl holds them;
// MILLRACE_CONFORMANCE_DIR names a folder with another file of that name, to run instead.
type windowCase struct {
	ID       string
	Assigner struct {
		Kind                             string
		SizeMs, SlideMs, OffsetMs, GapMs int64
		Count, Every                     int
	}
	AllowedLatenessMs int64
	Trigger           string
	Input             []element
	Results           []struct {
		After      int
		K          string
		Start, End *int64
		TS         int64
		Value      int64
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
	const ours = "../testdata"
	dir := cmp.Or(os.Getenv("MILLRACE_CONFORMANCE_DIR"), ours)
	f, err := os.Open(filepath.Join(dir, "windows.jsonl"))
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
	if dir == ours {
		require.Len(t, cases, 844)
	}
	return cases
}

type ticks = window.Result[string, int64]

// assigner and options are the case's windows in this project's words.
func (c *windowCase) assigner() window.Plain {
	d := func(ms int64) time.Duration { return time.Duration(ms) }
	switch a := c.Assigner; a.Kind {
	case "tumbling":
		return window.Tumbling(d(a.SizeMs), window.Offset(d(a.OffsetMs)))
	case "sliding":
		return window.Sliding(d(a.SizeMs), d(a.SlideMs), window.Offset(d(a.OffsetMs)))
	case "session":
		return window.Session(d(a.GapMs))
	case "count":
		return window.Count(a.Count)
	case "slidingCount":
		return window.Last(a.Count, a.Every)
	default:
		return window.Global()
	}
}

func (c *windowCase) options() []window.Option {
	opts := []window.Option{}
	if c.AllowedLatenessMs > 0 {
		opts = append(opts, window.AllowedLateness(time.Duration(c.AllowedLatenessMs)))
	}
	name, arg, _ := strings.Cut(c.Trigger, ":")
	n, _ := strconv.Atoi(arg)
	if strings.HasPrefix(name, "purging") && c.Assigner.Kind != "count" {
		opts = append(opts, window.Discarding())
	}
	switch {
	case c.Assigner.Kind == "count" || c.Assigner.Kind == "slidingCount":
	case name == "count" || name == "purgingCount":
		opts = append(opts, window.OnCount(n))
	case name == "continuous":
		opts = append(opts, window.Early(time.Duration(n)))
	}
	return opts
}

// build adds the case to a topology.
func (c *windowCase) build(top *flow.Topology, name string, src flow.Source[element], out flow.Sink[ticks], late flow.Sink[flow.Late[element]]) {
	wm := watermark.Monotonous().Every(0).MaxFutureSkew(watermark.Off)
	timed := flow.AssignTime(flow.From(top, "in"+name, src), "time"+name, element.time, wm)
	records := operators.Filter(timed, "records"+name, func(e element) bool { return !e.mark() })
	w := operators.Window(flow.KeyBy(records, element.key), "win"+name, c.assigner(), agg.Sum(element.value), c.options()...)
	flow.To(w, "out"+name, out)
	flow.To(w.Late(), "late"+name, late)
}

// after are the results of one input, as text: they are compared as a multiset. Results of windows that are not bounded in time carry
// the end of time in Flink and the time of what made them fire here: it is not compared.
func (c *windowCase) after(i int) (want []string) {
	for _, r := range c.Results {
		switch {
		case r.After != i:
		case r.Start == nil:
			want = append(want, fmt.Sprintf("%s = %d", r.K, r.Value))
		default:
			want = append(want, fmt.Sprintf("%s [%d,%d) = %d at %d", r.K, *r.Start, *r.End, r.Value, r.TS))
		}
	}
	slices.Sort(want)
	return want
}

func results(rs []flow.Record[ticks]) (got []string) {
	for _, r := range rs {
		v := r.Value
		if v.Start == flow.None {
			got = append(got, fmt.Sprintf("%s = %d", v.Key, v.Value))
			continue
		}
		got = append(got, fmt.Sprintf("%s [%d,%d) = %d at %d", v.Key, v.Start, v.End, v.Value, r.Time))
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

// ends tells whether the case's last input is the end of the stream.
func (c *windowCase) ends() bool {
	n := len(c.Input)
	return n > 0 && c.Input[n-1].mark() && *c.Input[n-1].WM == math.MaxInt64
}

type mode struct {
	name        string
	parallelism int
	crash       bool
}

// together is how many cases run side by side in one topology, each with a source of its own: they begin and crash at one cost.
const together = 24

func TestWindowConformance(t *testing.T) {
	fused, crashed := mode{"fused", 1, false}, mode{"fused, crash after every input", 1, true}
	exchanged, both := mode{"exchanged", 4, false}, mode{"exchanged, crash after every input", 4, true}
	type kind struct {
		mode
		ends bool // the end of the stream is that of the topology
	}
	runs := map[kind][]*caseRun{}
	skipped := 0
	cases := windowCases(t)
	for i := range cases {
		c := &cases[i]
		if race && i%8 != 0 { // what it looks for does not depend on the case
			continue
		}
		if c.Invalid != "" {
			t.Run(c.ID, c.checkInvalid)
			continue
		}
		if !c.representable() {
			skipped++
			continue
		}
		modes := []mode{fused, crashed}
		if i%5 == 0 { // the exchange is another component's matter: a fifth of the cases go through it
			modes = append(modes, exchanged, both)
		}
		for _, m := range modes {
			k := kind{m, c.ends()}
			runs[k] = append(runs[k], &caseRun{windowCase: c})
		}
	}
	require.LessOrEqual(t, skipped, 1)
	for k, all := range runs {
		slices.SortStableFunc(all, func(a, b *caseRun) int { return cmp.Compare(len(a.Input), len(b.Input)) })
		for of := range slices.Chunk(all, together) {
			runCases(t, of, k.mode)
			for _, r := range of {
				t.Run(r.ID+"/"+k.name, r.check)
			}
		}
	}
}

// caseRun is a run of a case, and what came of it.
type caseRun struct {
	*windowCase
	src  *flowtest.Source[element]
	out  *flowtest.Sink[ticks]
	late *flowtest.Sink[flow.Late[element]]
	// got are the results of each input, and again what came once more behind a crash.
	got   [][]flow.Record[ticks]
	again int
	read  int
}

// runCases feeds all cases, an input of each at a time.
func runCases(t *testing.T, of []*caseRun, m mode) {
	var sources []flowtest.Waiter
	inputs := 0
	for _, c := range of {
		c.src, c.out, c.late = flowtest.NewSource[element](), flowtest.NewSink[ticks](), flowtest.NewSink[flow.Late[element]]()
		sources = append(sources, c.src)
		inputs = max(inputs, len(c.Input))
	}
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("conformance", append(opts, flow.WithParallelism(m.parallelism))...)
		for i, c := range of {
			c.build(top, fmt.Sprint("-", i), c.src, c.out, c.late)
		}
		return top
	}, sources...)
	for i := range inputs {
		fed := false
		for _, c := range of {
			if i < len(c.Input) && !(c.ends() && i == len(c.Input)-1) {
				c.src.FeedRecords("0", c.Input[i].record())
				fed = true
			}
		}
		if !fed {
			break
		}
		r.Epoch()
		for _, c := range of {
			if i < len(c.Input) && !(c.ends() && i == len(c.Input)-1) {
				c.take()
			}
		}
		if m.crash {
			r.Crash()
			for _, c := range of {
				c.again += len(c.out.Records()) - c.read
			}
		}
	}
	if !of[0].ends() {
		r.Stop()
		return
	}
	r.Flush()
	for _, c := range of {
		c.take()
	}
}

// take notes what came out of an input.
func (c *caseRun) take() {
	all := c.out.Records()
	c.got = append(c.got, all[c.read:])
	c.read = len(all)
}

func (c *caseRun) check(t *testing.T) {
	require.Len(t, c.got, len(c.Input))
	for i, e := range c.Input {
		require.Equal(t, c.after(i), results(c.got[i]), "after input %d: %+v", i, e)
	}
	require.Zero(t, c.again, "a crash behind a committed epoch repeats nothing")
	var late []element
	for _, l := range c.late.Values() {
		late = append(late, l.Value)
	}
	require.Equal(t, c.tooLate(t), late, "late")
}

// tooLate are the elements that were refused.
func (c *windowCase) tooLate(t *testing.T) (late []element) {
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
	top := flow.New("conformance", flow.WithStore(flowtest.NewStore()))
	c.build(top, "", flowtest.NewSource[element](), flowtest.NewSink[ticks](), flowtest.NewSink[flow.Late[element]]())
	a := c.Assigner
	if a.Kind == "session" && a.GapMs > 0 || a.Kind == "tumbling" && a.SizeMs > 0 || a.Kind == "sliding" && a.SizeMs > 0 && a.SlideMs > 0 {
		require.NoError(t, top.Validate())
		return
	}
	require.ErrorIs(t, top.Validate(), flow.ErrInvalid)
}

package cep_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

// time is that of the event, or the one that raises a monotonous watermark to WM.
func (e event) time() time.Time {
	if e.WM != nil {
		return time.Unix(0, *e.WM+1)
	}
	return time.Unix(0, e.TS)
}

// record gives the event the reference time that scripts the watermark: MaxAhead keeps an event from raising it, and a mark has no
// reference.
func (e event) record() flow.Record[event] {
	if e.WM != nil {
		return flow.Record[event]{Value: e, Time: flow.None}
	}
	return flow.Record[event]{Value: e, Time: flow.None + 2}
}

type (
	match = cep.Match[string, event]
	found = flow.Record[match]
)

func (c *testCase) topology(src flow.Source[event], out, timedOut flow.Sink[match], late flow.Sink[flow.Late[event]], opts ...flow.TopologyOption) *flow.Topology {
	top := flow.New("conformance", opts...)
	wm := watermark.Monotonous().Every(0).MaxFutureSkew(watermark.Off)
	timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, wm)
	events := operators.Filter(timed, "events", func(e event) bool { return e.WM == nil })
	byKey := flow.KeyBy(events, func(event) string { return "k" })
	m := operators.CEP(byKey, "cep", c.build(), func(_ context.Context, m match) (match, error) { return m, nil })
	flow.To(m, "out", out)
	flow.To(m.TimedOut(), "timed-out", timedOut)
	flow.To(m.Late(), "late", late)
	return top
}

// TestConformance runs every case of Apache Flink's through the operator, and a fifth of them again with a crash and a restore after every
// input; TestMachineConformance writes and reads back the partial matches after every input of all of them.
func TestConformance(t *testing.T) {
	all := os.Getenv("MILLRACE_CONFORMANCE_DIR") != ""
	for i, c := range cases(t) {
		if race && i%8 != 0 { // what it looks for does not depend on the case
			continue
		}
		if c.Invalid == "builder" {
			t.Run(c.ID, c.checkInvalid)
			continue
		}
		t.Run(c.ID, func(t *testing.T) {
			c.check(t, false)
			if all || i%5 == 0 {
				c.check(t, true)
			}
		})
	}
}

func (c *testCase) checkInvalid(t *testing.T) {
	top := c.topology(flowtest.NewSource[event](), flowtest.NewSink[match](), flowtest.NewSink[match](), flowtest.NewSink[flow.Late[event]](), flow.WithStore(flowtest.NewStore()))
	err := top.Validate()
	require.ErrorIs(t, err, flow.ErrInvalid)
	require.ErrorContains(t, err, "cep")
}

// run is what one run has given so far.
type run struct {
	c             *testCase
	out, timedOut *flowtest.Sink[match]
	read, almost  int
}

func (c *testCase) check(t *testing.T, crash bool) {
	src, out, timedOut, late := flowtest.NewSource[event](), flowtest.NewSink[match](), flowtest.NewSink[match](), flowtest.NewSink[flow.Late[event]]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		return c.topology(src, out, timedOut, late, opts...)
	}, src)
	have := &run{c: c, out: out, timedOut: timedOut}
	ended := false
	for i, e := range c.Input {
		last := c.Invalid == "runtime" && i == c.After
		switch {
		case e.WM != nil && *e.WM == math.MaxInt64:
			if last {
				r.Settle()
				require.ErrorContains(t, r.Running().Stop(t.Context(), flow.Flush()), "cannot skip to step")
				return
			}
			r.Flush()
			ended = true
		default:
			src.FeedRecords("0", e.record())
			if last {
				require.ErrorContains(t, r.TrySettle(), "cannot skip to step")
				return
			}
			r.Epoch()
		}
		if c.Invalid == "" {
			have.compare(t, i)
		}
		if crash && !ended {
			r.Crash()
			require.Len(t, out.Records(), have.seen(), "a crash behind a committed epoch repeats nothing")
		}
	}
	if !ended {
		r.Stop()
	}
	have.compareGaps(t)
	got := []string{}
	for _, l := range late.Values() {
		got = append(got, l.Value.E)
	}
	require.Equal(t, c.Late, got, "late")
}

// gaps tells whether the case has bounds that Flink notices only at the key's next timer: of those, only what came in the end is compared.
func (c *testCase) gaps() bool {
	return c.tagged("gap") || c.tagged("withinGapLast") || c.tagged("withinGapAll")
}

// deviates: the cases that show an artefact of Flink and follow a rule of their own here. docs/operators/cep.md says which and why.
func (c *testCase) deviates() bool {
	return c.tagged("artefact:gap") || c.tagged("artefact:tie") && (c.Skip.Strategy == "toFirst" || c.Skip.Strategy == "toLast")
}

// seen is how many matches there should be.
func (h *run) seen() int {
	if h.c.gaps() || h.c.Invalid != "" {
		return len(h.out.Records())
	}
	return h.read
}

func (h *run) compare(t *testing.T, i int) {
	got, almost := h.out.Records()[h.read:], h.timedOut.Records()[h.almost:]
	if h.c.gaps() {
		return
	}
	h.read, h.almost = h.read+len(got), h.almost+len(almost)
	if h.c.deviates() {
		return
	}
	require.Equal(t, h.c.want(h.c.Matches, i), h.c.texts(got), "matches after input %d", i)
	require.Equal(t, h.c.want(h.c.Timeouts, i), h.c.texts(almost), "timed out after input %d", i)
	require.True(t, slices.IsSortedFunc(got, func(a, b found) int { return cmp.Compare(a.Value.Time, b.Value.Time) }), "in order of time")
}

// compareGaps compares all there is: matches without their time, which may depend on when a bound was noticed.
func (h *run) compareGaps(t *testing.T) {
	if !h.c.gaps() || h.c.deviates() || h.c.Invalid != "" {
		return
	}
	cut := func(texts []string) []string {
		for i := range texts {
			texts[i], _, _ = strings.Cut(texts[i], "at ")
		}
		slices.Sort(texts)
		return texts
	}
	require.Equal(t, cut(h.c.want(h.c.Matches, -1)), cut(h.c.texts(h.out.Records())), "matches")
	require.Equal(t, h.c.want(h.c.Timeouts, -1), h.c.texts(h.timedOut.Records()), "timed out")
}

// want are the results after an input, all of them for -1, as text: they are compared as a multiset.
func (c *testCase) want(rs []result, after int) []string {
	texts := []string{}
	for _, r := range rs {
		if after < 0 || r.After == after {
			texts = append(texts, c.text(r.Events, r.TS))
		}
	}
	slices.Sort(texts)
	return texts
}

func (c *testCase) texts(rs []found) []string {
	texts := []string{}
	for _, r := range rs {
		var es []events
		for _, s := range r.Value.Steps {
			e := events{step: s.Step}
			for _, v := range s.Values {
				e.ids = append(e.ids, v.E)
			}
			es = append(es, e)
		}
		texts = append(texts, c.text(es, int64(r.Value.Time)))
	}
	slices.Sort(texts)
	return texts
}

// text prints a result. Where a strategy chose among matches with one first event, Flink's choice follows no rule: only the first event counts.
func (c *testCase) text(es []events, ts int64) string {
	var b strings.Builder
	for _, e := range es {
		fmt.Fprintf(&b, "%s=%s ", e.step, strings.Join(e.ids, ","))
		if c.tagged("artefact:tie") {
			b.Reset()
			fmt.Fprintf(&b, "%s ", e.ids[0])
			break
		}
	}
	return fmt.Sprintf("%sat %d", b.String(), ts)
}

package operators_test

import (
	"context"
	"fmt"
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

// clocked runs sums of events through windows on a virtual clock.
type clocked struct {
	*flowtest.Run
	src   *flowtest.Source[event]
	sink  *flowtest.Sink[string]
	tasks int
}

func newClocked(t *testing.T, assign window.Plain, opts ...window.Option) *clocked {
	c := &clocked{src: flowtest.NewSource[event]("0"), sink: flowtest.NewSink[string](), tasks: 2}
	c.Run = flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("clocked", append(o, flow.WithParallelism(c.tasks))...)
		timed := flow.AssignTime(flow.From(top, "in", c.src), "time", event.time, watermark.Monotonous().Every(0).Simulated())
		win := operators.Window(flow.KeyBy(timed, event.key), "win", assign, agg.Sum(event.n), opts...)
		flow.To(operators.Map(win, "print", func(_ context.Context, r window.Result[string, int64]) (string, error) {
			return fmt.Sprintf("%s %d %v", r.Key, r.Value, r.Pane.Kind), nil
		}), "out", c.sink)
		return top
	}, c.src)
	return c
}

// after is what has come out once the clock has gone on by d.
func (c *clocked) after(d time.Duration, in ...event) []string {
	c.src.Feed(in...)
	c.Settle()
	c.Clock.Advance(d)
	c.Epoch()
	return c.sink.Next()
}

func TestEarlyClock(t *testing.T) {
	c := newClocked(t, window.Tumbling(10*time.Second), window.EarlyClock(30*time.Second), window.AllowedLateness(time.Minute))
	require.Empty(t, c.after(29*time.Second, event{"a", 1, 1}, event{"a", 2, 2}, event{"b", 5, 3}))
	require.ElementsMatch(t, []string{"a 3 early", "b 5 early"}, c.after(time.Second))
	require.Empty(t, c.after(time.Hour), "nothing has come since")
	c.Crash()
	require.Empty(t, c.after(time.Second, event{"a", 4, 4}))
	c.tasks = 3
	c.Crash()
	require.Equal(t, []string{"a 7 early"}, c.after(30*time.Second))
	require.ElementsMatch(t, []string{"a 7 on time", "b 5 on time"}, c.after(0, event{"c", 1, 10}))
	require.Equal(t, []string{"b 6 late"}, c.after(0, event{"b", 1, 9}))
	require.Equal(t, []string{"c 1 early"}, c.after(time.Hour), "those that are done have nothing to say early")
}

func TestEarlyClockOfTheGlobalWindow(t *testing.T) {
	c := newClocked(t, window.Global(), window.EarlyClock(time.Minute), window.Discarding())
	require.Equal(t, []string{"a 3 early"}, c.after(time.Minute, event{"a", 1, 1}, event{"a", 2, 2}))
	require.Equal(t, []string{"a 4 early"}, c.after(time.Minute, event{"a", 4, 3}))
	c.src.Feed(event{"a", 8, 4})
	c.src.End()
	require.NoError(t, c.Wait())
	require.Equal(t, []string{"a 8 on time"}, c.sink.Next())
}

func TestMaxWaitOfCountWindows(t *testing.T) {
	c := newClocked(t, window.Count(3), window.MaxWait(10*time.Second))
	require.Equal(t, []string{"a 7 early"}, c.after(5*time.Second, event{"a", 1, 1}, event{"a", 2, 1}, event{"a", 4, 1}, event{"b", 1, 1}))
	require.Equal(t, []string{"b 1 early"}, c.after(5*time.Second, event{"a", 8, 1}), "a has begun anew 5 s ago")
	require.Empty(t, c.after(4*time.Second, event{"a", 16, 1}))
	c.tasks = 1
	c.Crash()
	require.Equal(t, []string{"a 24 early"}, c.after(time.Second), "its first record has waited for 10 s")
	require.Empty(t, c.after(9*time.Second, event{"a", 32, 1}))
	require.Equal(t, []string{"a 32 early"}, c.after(time.Second))
	c.src.Feed(event{"a", 64, 1})
	c.src.End()
	require.NoError(t, c.Wait())
	require.Equal(t, []string{"a 64 on time"}, c.sink.Next(), "what is left at the end is not stuck")
}

func TestMaxWaitOfTheLastRecords(t *testing.T) {
	c := newClocked(t, window.Last(3, 2), window.MaxWait(10*time.Second))
	require.Equal(t, []string{"a 3 early"}, c.after(9*time.Second, event{"a", 1, 1}, event{"a", 2, 1}))
	require.Empty(t, c.after(9*time.Second, event{"a", 4, 1}))
	require.Equal(t, []string{"a 7 early"}, c.after(time.Second))
	require.Empty(t, c.after(time.Hour), "only what is new fires")
	require.Equal(t, []string{"a 28 early"}, c.after(0, event{"a", 8, 1}, event{"a", 16, 1}))
}

// A firing of 600 keys is spread over a minute; crashes and other numbers of tasks neither lose nor repeat any of it.
func TestStagger(t *testing.T) {
	c := newClocked(t, window.Tumbling(10*time.Second), window.Stagger(time.Minute), window.AllowedLateness(time.Hour))
	var in []event
	for k := range 600 {
		in = append(in, event{fmt.Sprintf("key-%03d", k), int64(k), 1})
	}
	seen := map[string]int{}
	count := func(out []string) int {
		for _, s := range out {
			seen[s]++
		}
		return len(out)
	}
	require.Empty(t, c.after(0, in...))
	n := count(c.after(0, event{"key-000", 1, 10}))
	require.Less(t, n, 20, "the first moment")
	for i := range 6 {
		if i%2 == 1 {
			c.tasks = 1 + i/2
			c.Crash()
		}
		got := count(c.after(10*time.Second, event{"late", 7, 2})) // its window is in the middle of firing
		if i == 0 {
			require.InDelta(t, 100, got, 60, "a sixth of the keys in a sixth of the time")
		}
		n += got
	}
	c.Clock.Advance(time.Minute) // a crash begins the minute anew
	n += count(c.after(time.Minute))
	require.Equal(t, 600+6, n)
	require.Len(t, seen, 600+6)
	for s, times := range seen {
		require.Equal(t, 1, times, s)
	}
	c.src.Feed(event{"key-000", 1, 21})
	c.src.End() // the end does not wait
	require.NoError(t, c.Wait())
	require.ElementsMatch(t, []string{"key-000 1 on time", "key-000 1 on time"}, c.sink.Next())
}

func TestClockOptionsWhereTheyDoNotFit(t *testing.T) {
	for want, c := range map[string]struct {
		assign window.Plain
		opt    window.Option
	}{
		"early firings every 0s":                     {window.Tumbling(time.Second), window.EarlyClock(0)},
		"MaxWait on windows that do not fire by":     {window.Tumbling(time.Second), window.MaxWait(time.Second)},
		"records that wait for -1s":                  {window.Count(2), window.MaxWait(-time.Second)},
		"Stagger on windows of this kind or trigger": {window.Session(time.Second), window.Stagger(time.Second)},
		"a firing that is spread over 0s":            {window.Tumbling(time.Second), window.Stagger(0)},
		"firings in steps of 0 accumulators":         {window.Tumbling(time.Second), window.FireStep(0)},
		"a count window with another trigger":        {window.Count(2), window.EarlyClock(time.Second)},
	} {
		top := flow.New("wrong", flow.WithStore(flowtest.NewStore()))
		timed := flow.AssignTime(flow.From(top, "in", flowtest.NewSource[event]()), "time", event.time, watermark.Monotonous())
		flow.To(operators.Window(flow.KeyBy(timed, event.key), "win", c.assign, agg.Sum(event.n), c.opt), "out", flowtest.NewSink[window.Result[string, int64]]())
		require.ErrorContains(t, top.Validate(), want)
	}
}

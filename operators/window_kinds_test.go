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

// kindRun runs events, in one partition and with a watermark 5 s behind, through a window; what came out is text.
func kindRun(t *testing.T, w window.Assigner[event], opts ...window.Option) (*flowtest.Run, *flowtest.Source[event], func() []string) {
	src, out := flowtest.NewSource[event](), flowtest.NewSink[window.Result[string, int64]]()
	r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("kinds", append(o, flow.WithParallelism(1))...)
		in := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.BoundedOutOfOrderness(5*time.Second).Every(0))
		flow.To(operators.Window(flow.KeyBy(in, event.key), "win", w, agg.Sum(event.n), opts...), "out", out)
		return top
	}, src)
	return r, src, func() (got []string) {
		for _, v := range out.Next() {
			bounds := "whole"
			if v.Start != flow.None {
				bounds = fmt.Sprintf("[%d,%d)", v.Start.Time().Unix(), v.End.Time().Unix())
			}
			got = append(got, fmt.Sprintf("%s %s %d (%s, %d)", v.Key, bounds, v.Value, v.Pane.Kind, v.Pane.Index))
		}
		return got
	}
}

func TestFinalOnlyGivesOneResultWithAllLateRecords(t *testing.T) {
	for name, c := range map[string]struct {
		w    window.Plain
		want string
	}{"tumbling": {window.Tumbling(10 * time.Second), "a [0,10) 3 (on time, 0)"}, "session": {window.Session(9 * time.Second), "a [1,10) 3 (on time, 0)"}} {
		t.Run(name, func(t *testing.T) {
			r, src, next := kindRun(t, c.w, window.FinalOnly(), window.AllowedLateness(20*time.Second))
			src.Feed(event{"a", 1, 1}, event{"b", 1, 20}, event{"a", 2, 1}) // the third is late for its window, and in time for the lateness
			r.Epoch()
			require.Empty(t, next())
			r.Crash()
			src.Feed(event{"b", 1, 35}) // the watermark passes the end and the lateness
			r.Epoch()
			require.Equal(t, []string{c.want}, next())
			src.Feed(event{"a", 4, 0})
			r.Flush()
			for _, line := range next() {
				require.NotContains(t, line, "a ", "too late by now")
			}
		})
	}
}

func TestEarlyFiringsSayWhatTheyAre(t *testing.T) {
	r, src, next := kindRun(t, window.Tumbling(time.Minute), window.Early(20*time.Second), window.AllowedLateness(time.Minute))
	src.Feed(event{"a", 1, 1}, event{"a", 2, 30}) // watermark 25 s: the firing at 20 s
	r.Epoch()
	require.Equal(t, []string{"a [0,60) 3 (early, 0)"}, next())
	r.Crash()
	src.Feed(event{"b", 5, 66}) // past 40 s and the end
	r.Epoch()
	require.Equal(t, []string{"a [0,60) 3 (early, 1)", "a [0,60) 3 (on time, 2)"}, next())
	src.Feed(event{"a", 4, 59})
	r.Epoch()
	require.Equal(t, []string{"a [0,60) 7 (late, 3)"}, next())
}

func TestDiscardingHoldsOnlyWhatCameSince(t *testing.T) {
	r, src, next := kindRun(t, window.Tumbling(time.Minute), window.OnCount(2), window.Discarding())
	src.Feed(event{"a", 1, 1}, event{"a", 2, 2}, event{"a", 4, 3})
	r.Epoch()
	require.Equal(t, []string{"a [0,60) 3 (early, 0)"}, next())
	r.Crash()
	src.Feed(event{"a", 8, 4})
	r.Epoch()
	require.Equal(t, []string{"a [0,60) 12 (early, 1)"}, next())
}

func TestSessionGapOfEachRecord(t *testing.T) {
	gap := func(e event) time.Duration { return time.Duration(e.N) * time.Second }
	r, src, next := kindRun(t, window.SessionBy(gap))
	src.Feed(event{"a", 10, 0}, event{"a", 2, 5}, event{"a", 3, 10}, event{"b", 1, 40})
	r.Flush()
	require.ElementsMatch(t, []string{"a [0,13) 15 (on time, 0)", "b [40,41) 1 (on time, 0)"}, next())

	dead := flowtest.NewSink[flow.DeadLetter]()
	src = flowtest.NewSource[event]()
	out := flowtest.NewSink[window.Result[string, int64]]()
	r = flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("kinds", o...)
		in := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.BoundedOutOfOrderness(0))
		flow.To(operators.Window(flow.KeyBy(in, event.key), "win", window.SessionBy(gap), agg.Sum(event.n)), "out", out)
		flow.To(top.DeadLetters(), "dead", dead)
		return top
	}, src)
	src.Feed(event{"a", 1, 1}, event{"a", 0, 1}, event{"a", 2, 1})
	r.Flush()
	require.Len(t, dead.Values(), 1)
	require.Contains(t, dead.Values()[0].Cause, "session gap 0s of the record is not positive")
	require.Len(t, out.Values(), 1)
	require.EqualValues(t, 3, out.Values()[0].Value, "the records beside it count")
}

func TestCountWindowsAndTheLastRecords(t *testing.T) {
	r, src, next := kindRun(t, window.Count(3))
	for i := range int64(7) {
		src.Feed(event{"a", 1 << i, 100 - i}) // whatever their time
	}
	r.Epoch()
	require.Equal(t, []string{"a whole 7 (early, 0)", "a whole 56 (early, 0)"}, next())
	r.Crash()
	src.Feed(event{"a", 100, 1}, event{"a", 100, 1})
	r.Epoch()
	require.Equal(t, []string{"a whole 264 (early, 0)"}, next())

	r, src, next = kindRun(t, window.Last(4, 2))
	for i := range int64(5) {
		src.Feed(event{"a", 1 << i, i})
	}
	r.Epoch()
	require.Equal(t, []string{"a whole 3 (early, 0)", "a whole 15 (early, 1)"}, next())
	r.Crash()
	src.Feed(event{"a", 32, 6})
	r.Epoch()
	require.Equal(t, []string{"a whole 60 (early, 2)"}, next())
}

func TestDaysOfAPlace(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	at := func(s string) int64 {
		m, err := time.ParseInLocation("2006-01-02 15:04", s, berlin)
		require.NoError(t, err)
		return m.Unix()
	}
	r, src, next := kindRun(t, window.Days(berlin))
	src.Feed(event{"a", 1, at("2024-03-31 00:00")}, event{"a", 2, at("2024-03-31 23:59")}, event{"a", 4, at("2024-10-27 12:00")}, event{"a", 8, at("2024-10-28 00:00")})
	r.Flush()
	got := next()
	require.Equal(t, fmt.Sprintf("a [%d,%d) 3 (on time, 0)", at("2024-03-31 00:00"), at("2024-04-01 00:00")), got[0])
	require.EqualValues(t, 23*3600, at("2024-04-01 00:00")-at("2024-03-31 00:00"))
	require.Equal(t, fmt.Sprintf("a [%d,%d) 4 (on time, 0)", at("2024-10-27 00:00"), at("2024-10-28 00:00")), got[1])
	require.EqualValues(t, 25*3600, at("2024-10-28 00:00")-at("2024-10-27 00:00"))
	require.Len(t, got, 3)
}

func TestRecordsInAGapBetweenWindows(t *testing.T) {
	r, src, next := kindRun(t, window.Sliding(2*time.Second, 10*time.Second))
	src.Feed(event{"a", 1, 1}, event{"a", 2, 5}, event{"a", 4, 11}, event{"a", 8, -9}) // the last one is late: [-10,-8) is gone
	r.Epoch()
	require.Equal(t, int64(1), counter(r, "no_window"), "the one at 5 s lies in no window")
	r.Flush()
	require.Equal(t, []string{"a [0,2) 1 (on time, 0)", "a [10,12) 4 (on time, 0)"}, next())
}

func counter(r *flowtest.Run, name string) (n int64) {
	for _, c := range r.Running().Counters() {
		if c.Name == name {
			n += c.Value
		}
	}
	return n
}

func TestWindowsThatCannotBe(t *testing.T) {
	for want, build := range map[string]func() (window.Plain, []window.Option){
		"the window slide 0s is not positive": func() (window.Plain, []window.Option) { return window.Sliding(time.Second, 0), nil },
		"the session gap -1s is not positive": func() (window.Plain, []window.Option) { return window.Session(-time.Second), nil },
		"a window of 0 records":               func() (window.Plain, []window.Option) { return window.Count(0), nil },
		"the last 3 records at every 0":       func() (window.Plain, []window.Option) { return window.Last(3, 0), nil },
		"a count window with another trigger": func() (window.Plain, []window.Option) {
			return window.Count(2), []window.Option{window.Early(time.Second)}
		},
		"FinalOnly on windows that never end": func() (window.Plain, []window.Option) {
			return window.Global(), []window.Option{window.FinalOnly()}
		},
		"AllowedLateness on windows that are not bounded in time": func() (window.Plain, []window.Option) {
			return window.Global(), []window.Option{window.AllowedLateness(time.Second)}
		},
		"window.Last with Discarding":         func() (window.Plain, []window.Option) { return window.Last(3, 1), []window.Option{window.Discarding()} },
		"the location of window.Days is nil":  func() (window.Plain, []window.Option) { return window.Days(nil), nil },
		"early firings every 0s":              func() (window.Plain, []window.Option) { return window.Global(), []window.Option{window.Early(0)} },
		"firings at every -1 records":         func() (window.Plain, []window.Option) { return window.Global(), []window.Option{window.OnCount(-1)} },
		"the window size -1s is not positive": func() (window.Plain, []window.Option) { return window.Tumbling(-time.Second), nil },
		"the allowed lateness -1s is negative": func() (window.Plain, []window.Option) {
			return window.Tumbling(time.Second), []window.Option{window.AllowedLateness(-time.Second)}
		},
	} {
		w, opts := build()
		top := flow.New("wrong", flow.WithStore(flowtest.NewStore()))
		in := flow.AssignTime(flow.From(top, "in", flowtest.NewSource[event]()), "time", event.time, watermark.BoundedOutOfOrderness(0))
		flow.To(operators.Window(flow.KeyBy(in, event.key), "win", w, agg.Sum(event.n), opts...), "out", flowtest.NewSink[window.Result[string, int64]]())
		require.ErrorContains(t, top.Validate(), want)
	}
}

// Windows of every kind are the same record by record, in batches, restored at any pause, and at any parallelism.
func TestWindowKindsInAllModes(t *testing.T) {
	for name, c := range map[string]struct {
		w    window.Plain
		opts []window.Option
	}{
		"sliding":          {window.Sliding(20*time.Second, 5*time.Second), []window.Option{window.AllowedLateness(10 * time.Second)}},
		"sliding uneven":   {window.Sliding(14*time.Second, 6*time.Second, window.Offset(time.Second)), nil},
		"session":          {window.Session(4 * time.Second), []window.Option{window.AllowedLateness(10 * time.Second)}},
		"session early":    {window.Session(4 * time.Second), []window.Option{window.Early(2 * time.Second), window.Discarding()}},
		"tumbling counted": {window.Tumbling(10 * time.Second), []window.Option{window.OnCount(3)}},
		"count":            {window.Count(4), nil},
		"last":             {window.Last(6, 4), nil},
		"global":           {window.Global(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			flowtest.CheckOperator(t, flowtest.OperatorCheck[event, string]{
				Inputs: events(9, 60, 4),
				Key:    func(s string) string { return s[:2] },
				Build: func(in flow.Stream[event]) flow.Stream[string] {
					w := operators.Window(flow.KeyBy(timed(in), event.key), "win", c.w, agg.Sum(event.n), c.opts...)
					return operators.Map(w, "text", func(_ context.Context, r window.Result[string, int64]) (string, error) {
						return fmt.Sprint(r.Key, r.Start, r.End, r.Value, r.Pane), nil
					})
				},
			})
		})
	}
}

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

// Each test here is a failure that users of other engines have reported.

// field is a topology with one window over one source: what came out is text.
type field struct {
	*flowtest.Run
	src  *flowtest.Source[event]
	out  *flowtest.Sink[window.Result[string, int64]]
	late *flowtest.Sink[flow.Late[event]]
}

// before puts something between source and AssignTime; nil puts nothing.
func newField(t *testing.T, wm flow.WatermarkStrategy, w window.Plain, before func(flow.Stream[event]) flow.Stream[event], partitions []string, opts ...window.Option) *field {
	f := &field{src: flowtest.NewSource[event](partitions...), out: flowtest.NewSink[window.Result[string, int64]](), late: flowtest.NewSink[flow.Late[event]]()}
	f.Run = flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("field", o...)
		in := flow.From(top, "in", f.src)
		if before != nil {
			in = before(in)
		}
		timed := flow.AssignTime(in, "time", event.time, wm)
		sums := operators.Window(flow.KeyBy(timed, event.key), "win", w, agg.Sum(event.n), opts...)
		flow.To(sums, "out", f.out)
		flow.To(sums.Late(), "late", f.late)
		return top
	}, f.src)
	return f
}

// next is what came out since the last call, an epoch ended first.
func (f *field) next() []string {
	f.T.Helper()
	f.Epoch()
	return texts(f.out.Next())
}

// flushed is what comes out when the stream ends.
func (f *field) flushed() []string {
	f.T.Helper()
	f.Flush()
	return texts(f.out.Next())
}

func texts(rs []window.Result[string, int64]) (lines []string) {
	for _, r := range rs {
		lines = append(lines, fmt.Sprintf("%s [%s,%s) %d %s", r.Key, flowtest.ScriptTime(r.Start), flowtest.ScriptTime(r.End), r.Value, r.Pane.Kind))
	}
	return lines
}

// at feeds events whose reference time is ref, with a nanosecond more, as 0 is none.
func (f *field) at(ref time.Time, es ...event) {
	for _, e := range es {
		f.src.FeedRecords("0", flow.Record[event]{Value: e, Time: flow.TimestampOf(ref) + 1})
	}
}

// elapses lets the clock go on, second by second, as the engine sees it.
func (f *field) elapses(d time.Duration) {
	f.T.Helper()
	for range d / time.Second {
		f.Clock.Advance(time.Second)
		f.Settle()
	}
}

// closes waits, on the virtual clock, until something comes out.
func (f *field) closes() []string {
	f.T.Helper()
	var got []string
	require.Eventually(f.T, func() bool {
		f.Clock.Advance(time.Second)
		got = f.next()
		return len(got) > 0
	}, 10*time.Second, time.Millisecond, "no window closes")
	return got
}

var tenSeconds = window.Tumbling(10 * time.Second)

// A source that is idle from its very start: its partition never had a record from which it could become idle, and windows never closed.
func TestSourceIdleFromItsStartLetsWindowsClose(t *testing.T) {
	t.Run("one partition of a source", func(t *testing.T) {
		f := newField(t, watermark.Monotonous().Every(0), tenSeconds, nil, []string{"busy", "silent"})
		f.src.Idle("silent")
		f.src.FeedTo("busy", event{"a", 1, 1}, event{"a", 2, 25})
		require.Empty(t, f.next(), "it may still have something")
		require.Equal(t, []string{"a [0s,10s) 1 on time"}, f.closes())
		f.Stop()
	})
	t.Run("a whole source of a union", func(t *testing.T) {
		busy, silent, out := flowtest.NewSource[event](), flowtest.NewSource[event](), flowtest.NewSink[window.Result[string, int64]]()
		r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
			top := flow.New("field", o...)
			wm := watermark.Monotonous().Every(0)
			a := flow.AssignTime(flow.From(top, "busy", busy), "busy-time", event.time, wm)
			b := flow.AssignTime(flow.From(top, "silent", silent), "silent-time", event.time, wm)
			both := flow.Union[event]("both", a, b)
			flow.To(operators.Window(flow.KeyBy(both, event.key), "win", tenSeconds, agg.Sum(event.n)), "out", out)
			return top
		}, busy, silent)
		f := &field{Run: r, out: out}
		silent.Idle("0")
		busy.Feed(event{"a", 1, 1}, event{"a", 2, 25})
		require.Empty(t, f.next())
		require.Equal(t, []string{"a [0s,10s) 1 on time"}, f.closes())
		f.Stop()
	})
}

// A partition was taken for idle while its records were still on their way through slow operators: windows closed, and they were late.
func TestPartitionWithDataInFlightIsNotIdle(t *testing.T) {
	gate, waiting := make(chan struct{}), make(chan struct{}, 1)
	slow := func(in flow.Stream[event]) flow.Stream[event] {
		return operators.Map(in, "slow", func(ctx context.Context, e event) (event, error) {
			if e.Key == "slow" {
				waiting <- struct{}{}
				select {
				case <-gate:
				case <-ctx.Done():
				}
			}
			return e, nil
		})
	}
	f := newField(t, watermark.Monotonous().Every(0), tenSeconds, slow, []string{"busy", "slow"})
	f.src.FeedTo("busy", event{"a", 1, 1}, event{"a", 2, 45})
	f.src.FeedTo("slow", event{"slow", 4, 3}) // in flight for minutes
	f.src.Idle("slow")
	<-waiting
	for range 300 {
		f.Clock.Advance(time.Second)
		f.Running().Counters()
	}
	close(gate)
	require.Empty(t, f.next(), "it is not idle: it has 3 s")
	f.src.FeedTo("slow", event{"a", 8, 44})
	require.ElementsMatch(t, []string{"a [0s,10s) 1 on time", "slow [0s,10s) 4 on time"}, f.next())
	require.Empty(t, f.late.Values())
	f.Stop()
}

// Clocks that step back by microseconds, of devices or of the machine, stalled watermarks.
func TestClockThatStepsBackByMicrosecondsStallsNothing(t *testing.T) {
	t.Run("of the broker", func(t *testing.T) {
		f := newField(t, watermark.Monotonous(), tenSeconds, nil, nil)
		for s := range int64(25) { // each reference is 3 us behind the one before, but for whole seconds
			f.at(time.Unix(s, 0).Add(-time.Duration(s%2)*3*time.Microsecond), event{"a", 1, s})
		}
		require.Equal(t, []string{"a [0s,10s) 10 on time", "a [10s,20s) 10 on time"}, f.next())
		require.Empty(t, f.late.Values())
		f.Stop()
	})
	t.Run("of devices", func(t *testing.T) { // At is in microseconds
		src, out := flowtest.NewSource[event](), flowtest.NewSink[window.Result[struct{}, int64]]()
		r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
			top := flow.New("field", o...)
			timed := flow.AssignTime(flow.From(top, "in", src), "time", func(v event) time.Time { return time.UnixMicro(v.At) }, watermark.Monotonous())
			flow.To(operators.Window(flow.KeyBy(timed, flow.Whole), "win", tenSeconds, agg.Count(event.n)), "out", out)
			return top
		}, src)
		for i := range int64(3000) { // 10 ms on, 5 us back
			src.Feed(event{At: i * 10_000}, event{At: i*10_000 - 5})
		}
		r.Epoch()
		require.Len(t, out.Values(), 2)
		require.EqualValues(t, 2000, out.Values()[0].Value)
		require.EqualValues(t, 2000, out.Values()[1].Value)
		require.EqualValues(t, 1, counter(r, "late"), "the one 5 us before the first window")
		r.Stop()
	})
	t.Run("of the machine", func(t *testing.T) {
		f := newField(t, watermark.Monotonous().Every(0), tenSeconds, nil, []string{"busy", "silent"})
		f.src.Idle("silent")
		f.src.FeedTo("busy", event{"a", 1, 1}, event{"a", 2, 25})
		f.Settle()
		var got []string
		require.Eventually(t, func() bool {
			f.Clock.Advance(time.Second)
			f.Clock.Advance(-7 * time.Microsecond)
			got = f.next()
			return len(got) > 0
		}, 10*time.Second, time.Millisecond, "the idle clock stands")
		require.Equal(t, []string{"a [0s,10s) 1 on time"}, got)
		f.Stop()
	})
}

// One device whose clock is far ahead drove the watermark there, and every other device was late from then on.
func TestDeviceInTheFarFutureMakesNobodyLate(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"a minute": time.Minute, "hours": 20 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, watermark.BoundedOutOfOrderness(time.Second), tenSeconds, nil, nil)
			for s := range int64(31) {
				f.at(time.Unix(s, 0), event{"a", 1, s}, event{"ahead", 1, s + int64(ahead/time.Second)}, event{"b", 1, s})
			}
			require.ElementsMatch(t, []string{"a [0s,10s) 10 on time", "b [0s,10s) 10 on time", "a [10s,20s) 10 on time", "b [10s,20s) 10 on time"}, f.next())
			require.Empty(t, f.late.Values())
			f.Crash()
			f.at(time.Unix(31, 0), event{"a", 1, 31}, event{"b", 1, 31})
			require.ElementsMatch(t, []string{"a [20s,30s) 10 on time", "b [20s,30s) 10 on time"}, f.next(), "nor behind a crash")
			require.Empty(t, f.late.Values())
			f.Stop()
		})
	}
}

// Input stopped, event time stood, and the last windows never came.
func TestLastWindowComesWhenInputStops(t *testing.T) {
	wm := watermark.BoundedOutOfOrderness(5 * time.Second).Every(0).CloseIdleAfter(time.Minute)
	silent := func(f *field, d time.Duration) {
		for _, p := range []string{"0", "1"} {
			f.src.Idle(p)
		}
		f.Settle()
		f.elapses(d)
	}
	t.Run("by the clock", func(t *testing.T) {
		f := newField(t, wm, tenSeconds, nil, []string{"0", "1"})
		f.src.FeedTo("0", event{"a", 1, 1}, event{"a", 2, 12})
		require.Empty(t, f.next())
		silent(f, 59*time.Second)
		require.Empty(t, f.next(), "something may come yet")
		silent(f, 2*time.Second)
		require.Equal(t, []string{"a [0s,10s) 1 on time", "a [10s,20s) 2 on time"}, f.next(), "also with a partition that never spoke")
		f.src.FeedTo("0", event{"b", 4, 75})
		f.src.FeedTo("1", event{"b", 8, 74}, event{"b", 16, 13})
		require.Empty(t, f.next())
		require.Len(t, f.late.Values(), 1, "it goes on with what comes; only what lies before the silence is late")
		f.Crash()
		silent(f, 62*time.Second)
		require.Equal(t, []string{"b [1m10s,1m20s) 12 on time"}, f.next(), "behind a crash too")
		f.Stop()
	})
	t.Run("not while one partition speaks", func(t *testing.T) {
		f := newField(t, wm, tenSeconds, nil, []string{"0", "1"})
		f.src.FeedTo("0", event{"a", 1, 1})
		for s := range int64(20) {
			f.src.FeedTo("1", event{"b", 1, s / 4}) // 5 s of event time in 200 s
			f.src.Idle("0")
			f.src.Idle("1")
			f.Settle()
			f.elapses(10 * time.Second)
		}
		require.Empty(t, f.next(), "the one that speaks holds the watermark")
		require.Empty(t, f.late.Values())
		f.Stop()
	})
	t.Run("by the end of the stream", func(t *testing.T) {
		f := newField(t, watermark.BoundedOutOfOrderness(time.Hour), tenSeconds, nil, nil)
		f.src.Feed(event{"a", 1, 1}, event{"a", 2, 12})
		f.Settle()
		f.src.End()
		require.NoError(t, f.Wait())
		require.Equal(t, []string{"a [0s,10s) 1 on time", "a [10s,20s) 2 on time"}, texts(f.out.Values()))
	})
}

// An event that came hours late behind a newer one vanished.
func TestEventHoursLateIsNotDroppedInSilence(t *testing.T) {
	for name, w := range map[string]window.Plain{
		"tumbling": tenSeconds, "sliding": window.Sliding(10*time.Second, 5*time.Second), "session": window.Session(10 * time.Second), "days": window.Days(time.UTC),
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, watermark.Monotonous(), w, nil, nil)
			f.src.Feed(event{"a", 1, 500_000}, event{"a", 2, 500_000 - 200_000})
			f.Epoch()
			late := f.late.Values()
			require.Len(t, late, 1)
			require.EqualValues(t, 2, late[0].Value.N)
			require.Equal(t, flow.TimestampOf(late[0].Value.time()), late[0].Time)
			require.Equal(t, "its window is gone", late[0].Reason)
			require.EqualValues(t, 1, counter(f.Run, "late"), "it is counted too")
			f.Stop()
		})
	}
	t.Run("not connected", func(t *testing.T) {
		r, src, next := kindRun(t, tenSeconds)
		src.Feed(event{"a", 1, 50_000}, event{"a", 2, 1})
		r.Epoch()
		require.EqualValues(t, 1, counter(r, "late"))
		r.Flush()
		require.Len(t, next(), 1)
	})
}

// Final results came at the window's end, and what the allowed lateness let in was missing.
func TestFinalResultsWaitForTheLateness(t *testing.T) {
	for name, c := range map[string]struct {
		w    window.Plain
		want string
	}{
		"tumbling": {tenSeconds, "a [0s,10s) 7 on time"},
		"sliding":  {window.Sliding(10*time.Second, 10*time.Second), "a [0s,10s) 7 on time"},
		"session":  {window.Session(9 * time.Second), "a [1s,12s) 7 on time"},
		"days":     {window.Days(time.UTC), "a [0s,24h) 7 on time"},
	} {
		t.Run(name, func(t *testing.T) {
			day := int64(0)
			if name == "days" {
				day = 86400
			}
			f := newField(t, watermark.Monotonous().Every(0), c.w, nil, nil, window.FinalOnly(), window.AllowedLateness(20*time.Second))
			f.src.Feed(event{"a", 1, 1}, event{"b", 1, day + 15})
			require.Empty(t, f.next(), "it has ended, and may still change")
			f.src.Feed(event{"a", 2, 2})
			f.Epoch()
			f.Crash()
			f.src.Feed(event{"a", 4, 3})
			require.Empty(t, f.next())
			f.src.Feed(event{"b", 1, day + 40})
			require.Contains(t, f.next(), c.want)
			f.src.Feed(event{"a", 8, 4})
			f.Epoch()
			require.Len(t, f.late.Values(), 1)
			f.Stop()
		})
	}
}

// Last year's data, replayed as fast as it can be read, met windows that were closed by the wall clock.
func TestReplayOfOldDataKnowsNoWallClock(t *testing.T) {
	lastYear := int64(365 * 86400)
	for name, reference := range map[string]func(*field, int64) time.Time{
		"received now":        func(f *field, _ int64) time.Time { return f.Clock.Now() },
		"stored by a broker":  func(_ *field, s int64) time.Time { return time.Unix(s, 0) },
		"no reference at all": nil,
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, watermark.BoundedOutOfOrderness(3*time.Second), tenSeconds, nil, nil)
			start := f.Clock.Now().Unix()/10*10 - lastYear
			var want []string
			for i := range int64(60) {
				at := start + i - i%3 // out of order within the bound
				if reference == nil {
					f.src.Feed(event{"a", 1, at})
				} else {
					f.at(reference(f, at), event{"a", 1, at})
				}
				if i%20 == 19 { // days of wall time pass in between
					f.Settle()
					f.Clock.Advance(48 * time.Hour)
					f.Settle()
				}
			}
			for i := range int64(6) {
				at := flow.Timestamp((start + 10*i) * int64(time.Second))
				want = append(want, fmt.Sprintf("a [%s,%s) ", flowtest.ScriptTime(at), flowtest.ScriptTime(at.Add(10*time.Second))))
			}
			got := f.flushed()
			require.Len(t, got, 6)
			for i := range got {
				require.Contains(t, got[i], want[i])
				require.Contains(t, got[i], "on time")
			}
			require.Empty(t, f.late.Values())
		})
	}
}

// A late event joined sessions, and the merged session fired for each of those it was made of.
func TestSessionMergedByALateEventFiresOnce(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprint("crash ", crash), func(t *testing.T) {
			f := newField(t, watermark.Monotonous().Every(0), window.Session(10*time.Second), nil, nil, window.AllowedLateness(time.Hour))
			next := func() []string {
				got := f.next()
				if crash {
					f.Crash()
				}
				return got
			}
			f.src.Feed(event{"a", 1, 0}, event{"a", 2, 15}, event{"a", 4, 30}, event{"clock", 0, 60})
			require.Equal(t, []string{"a [0s,10s) 1 on time", "a [15s,25s) 2 on time", "a [30s,40s) 4 on time"}, next())
			f.src.Feed(event{"a", 8, 8})
			require.Equal(t, []string{"a [0s,25s) 11 late"}, next(), "two of them are one now")
			f.src.Feed(event{"a", 16, 22})
			require.Equal(t, []string{"a [0s,40s) 31 late"}, next(), "and the third")
			f.src.Feed(event{"clock", 0, 75})
			require.Equal(t, []string{"clock [1m,1m10s) 0 on time"}, next(), "no timer of theirs is left")
			f.src.Feed(event{"b", 1, 100}, event{"b", 2, 115})
			require.Equal(t, []string{"clock [1m15s,1m25s) 0 on time", "b [1m40s,1m50s) 1 on time"}, next())
			f.src.Feed(event{"b", 4, 108}, event{"clock", 0, 150})
			require.Equal(t, []string{"b [1m40s,2m5s) 7 on time"}, next(), "one had not fired: the merged one fires at its own end, once")
			require.Equal(t, []string{"clock [2m30s,2m40s) 0 on time"}, f.flushed())
		})
	}
}

// A partition whose last batch waits for room has records in flight: it is not idle, however long that takes.
func TestPartitionThatWaitsAtTheBoundIsNotIdle(t *testing.T) {
	for range 10 { // the order in which those that wait go on is free
		src := flowtest.NewSource[event]("busy", "other")
		out, late := flowtest.NewSink[window.Result[string, int64]](), flowtest.NewSink[flow.Late[event]]()
		r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
			top := flow.New("field", append(o, flow.WithMaxPending(flow.MaxBatch))...)
			timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.Monotonous().Every(0).IdleAfter(30*time.Second))
			sums := operators.Window(flow.KeyBy(timed, event.key), "win", tenSeconds, agg.Sum(event.n))
			flow.To(sums, "out", out)
			flow.To(sums.Late(), "late", late)
			return top
		}, src)
		for range flow.MaxBatch / 2 {
			src.FeedTo("other", event{"a", 1, 3})
			src.FeedTo("busy", event{"a", 1, 5})
		}
		require.Eventually(t, func() bool { return r.Running().Unacked() == flow.MaxBatch }, 5*time.Second, time.Millisecond)
		src.FeedTo("other", event{"a", 1, 4}) // both wait until something is committed
		src.FeedTo("busy", event{"a", 1, 45})
		src.Idle("other")
		for range 120 {
			r.Clock.Advance(time.Second)
			r.Running().Watermarks() // the engine has a turn
		}
		require.NoError(t, r.Running().Epoch(t.Context()))
		r.Epoch()
		require.Empty(t, late.Values())
		r.Stop()
	}
}

package operators_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
)

// secs is a moment of the tests' time line.
func secs(s int64) flow.Timestamp { return flow.TimestampOf(time.Unix(s, 0)) }

var errNo = errors.New("no")

// cellOf is the cell of a Stateful over events that emits lines.
type cellOf[A any] = operators.Cell[string, A, string]

// quiet sums each key's events until none comes for 10 s.
type quiet struct{ N, Count int64 }

func quietEvent(_ context.Context, c *cellOf[quiet], e event) error {
	c.State.N += e.N
	c.State.Count++
	c.SetTimer(max(c.Timer(), c.Time().Add(10*time.Second)))
	return nil
}

func quietTimer(_ context.Context, c *cellOf[quiet], at flow.Timestamp) error {
	c.Emit(fmt.Sprintf("%s: %d of %d until %d", c.Key(), c.State.N, c.State.Count, at.Time().Unix()))
	c.Clear()
	return nil
}

func firstWord(s string) string {
	var w string
	_, _ = fmt.Sscanf(s, "%s", &w)
	return w
}

func TestStatefulTimersInAllModes(t *testing.T) {
	build := func(s flow.Stream[event]) flow.Stream[string] {
		return operators.Stateful(flow.KeyBy(timed(s), event.key), "quiet", 0, quietEvent, operators.OnTimer(quietTimer))
	}
	t.Run("few", func(t *testing.T) {
		flowtest.CheckOperator(t, flowtest.OperatorCheck[event, string]{
			Inputs: []event{{"a", 1, 0}, {"b", 2, 4}, {"a", 4, 8}, {"a", 8, 5}, {"b", 16, 15}, {"c", 1, 24}, {"a", 32, 22}, {"c", 1, 60}},
			Key:    firstWord, Build: build,
			Want: []string{"a: 13 of 3 until 18", "b: 18 of 2 until 25", "a: 32 of 1 until 32", "c: 2 of 2 until 70"},
		})
	})
	t.Run("many", func(t *testing.T) {
		flowtest.CheckOperator(t, flowtest.OperatorCheck[event, string]{Inputs: events(21, 60, 6), Key: firstWord, Build: build})
	})
}

// history is state behind a pointer of its own, with what a key has seen; some records fail half-way.
type history struct {
	Seen map[int64]int
	Last []int64
}

func historyEvent(side *flow.Side[event]) func(context.Context, *cellOf[history], event) error {
	return func(_ context.Context, c *cellOf[history], e event) error {
		if c.State.Seen == nil {
			c.State.Seen = map[int64]int{}
		}
		c.State.Seen[e.N%5]++
		c.State.Last = append(c.State.Last, e.N)
		c.Emit(fmt.Sprint(c.Key(), " ", c.New(), c.State.Seen, c.State.Last))
		operators.EmitTo(c, side, e)
		c.SetTimer(c.Time().Add(7 * time.Second))
		switch e.N % 7 {
		case 2:
			return errNo
		case 3:
			panic("no")
		case 4:
			c.Clear()
		}
		return nil
	}
}

func TestStatefulWithErrorsAndSidesInAllModes(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, string]{
		Inputs: events(22, 60, 6), Key: firstWord,
		BuildMany: func(s flow.Stream[event]) []flow.Stream[string] {
			side, stream := flow.SideOutput[event](s.Topology(), "history", "side")
			main := operators.Stateful(flow.KeyBy(timed(s), event.key), "history", 20*time.Second, historyEvent(side),
				operators.OnTimer(func(_ context.Context, c *cellOf[history], at flow.Timestamp) error {
					c.Emit(fmt.Sprint(c.Key(), " timer ", at.Time().Unix(), c.State.Last))
					operators.EmitTo(c, side, event{c.Key(), -1, at.Time().Unix()})
					if len(c.State.Last)%2 == 0 {
						c.SetTimer(at + 1)
						c.State.Last = append(c.State.Last, 0)
					}
					return nil
				}), operators.EmitsTo(side), flow.OnError(flow.DropOnError))
			sides := operators.Map(stream, "sides", func(_ context.Context, e event) (string, error) { return fmt.Sprint("side-", e.Key, " ", e), nil })
			return []flow.Stream[string]{main, sides}
		},
	})
}

// statefulRun runs events through a Stateful of one task whose watermark is 5 s behind, with dead letters.
type statefulRun struct {
	*flowtest.Run
	src   *flowtest.Source[event]
	out   *flowtest.Sink[string]
	dead  *flowtest.Sink[flow.DeadLetter]
	build func(s flow.KeyedStream[string, event]) flow.Stream[string]
}

func startStateful(t *testing.T, build func(s flow.KeyedStream[string, event]) flow.Stream[string]) *statefulRun {
	t.Helper()
	s := &statefulRun{src: flowtest.NewSource[event](), out: flowtest.NewSink[string](), dead: flowtest.NewSink[flow.DeadLetter](), build: build}
	s.Run = flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("stateful", append(opts, flow.WithParallelism(1))...)
		in := flow.AssignTime(flow.From(top, "in", s.src), "time", event.time, watermark.BoundedOutOfOrderness(5*time.Second).Every(0))
		flow.To(s.build(flow.KeyBy(in, event.key)), "out", s.out)
		flow.To(top.DeadLetters(), "dead", s.dead)
		return top
	}, s.src)
	return s
}

// after feeds events, ends an epoch, and returns what has come out since.
func (s *statefulRun) after(es ...event) []string {
	s.T.Helper()
	s.src.Feed(es...)
	s.Epoch()
	return s.out.Next()
}

type flatState struct {
	N    int64
	Text string
	list [3]int64
}

type clonedState struct{ Seen []int64 }

func (s *clonedState) Clone() clonedState { return clonedState{slices.Clone(s.Seen)} }

type encodedState struct {
	Seen map[string]int64
	At   *int64
}

// What a failed call did is taken back, however the state is kept; the record goes to the dead letters.
func TestStatefulFailureLeavesNothing(t *testing.T) {
	t.Run("flat", func(t *testing.T) {
		failureLeavesNothing(t, func(s *flatState, n int64) string {
			s.N += n
			s.Text += fmt.Sprint(n)
			s.list[n%3]++
			return fmt.Sprint(s.N, s.Text, s.list)
		})
	})
	t.Run("cloned", func(t *testing.T) {
		failureLeavesNothing(t, func(s *clonedState, n int64) string {
			if len(s.Seen) > 0 {
				s.Seen[0] += n
			}
			s.Seen = append(s.Seen, n)
			return fmt.Sprint(s.Seen)
		})
	})
	t.Run("encoded", func(t *testing.T) {
		failureLeavesNothing(t, func(s *encodedState, n int64) string {
			if s.Seen == nil {
				s.Seen, s.At = map[string]int64{}, new(int64)
			}
			s.Seen[fmt.Sprint("x", n%2)] += n
			*s.At += n
			return fmt.Sprint(s.Seen, *s.At)
		})
	})
}

func failureLeavesNothing[A any](t *testing.T, change func(*A, int64) string) {
	// Events of 100 and above fail; the others must give what they give without those.
	run := func(t *testing.T, es ...event) []string {
		r := startStateful(t, func(s flow.KeyedStream[string, event]) flow.Stream[string] {
			return operators.Stateful(s, "op", 0, func(_ context.Context, c *cellOf[A], e event) error {
				c.Emit(fmt.Sprint(c.Key(), c.New(), change(c.State, e.N)))
				switch {
				case e.N < 100:
					c.SetTimer(c.Time().Add(20 * time.Second))
				case e.N < 200:
					c.SetTimer(c.Time())
					return errNo
				case e.N < 300:
					c.ClearTimer()
					panic("no")
				default:
					c.Clear()
					return errNo
				}
				return nil
			}, operators.OnTimer(func(_ context.Context, c *cellOf[A], at flow.Timestamp) error {
				c.Emit(fmt.Sprint(c.Key(), " at ", at.Time().Unix(), " ", change(c.State, 1)))
				return nil
			}))
		})
		got := r.after(es...)
		failed := 0
		for _, e := range es {
			if e.N >= 100 {
				failed++
			}
		}
		require.Len(t, r.dead.Values(), failed)
		r.Crash()
		got = append(got, r.after(event{"z", 1, 100})...)
		r.Flush()
		return append(got, r.out.Next()...)
	}
	good := []event{{"a", 1, 0}, {"a", 2, 1}, {"b", 3, 2}, {"c", 5, 3}}
	want := run(t, good...)
	require.Len(t, want, 5+4)
	got := run(t, event{"a", 100, 0}, good[0], event{"a", 101, 0}, event{"a", 201, 0}, good[1], event{"d", 300, 0}, event{"d", 100, 2},
		event{"b", 200, 2}, good[2], event{"b", 300, 2}, good[3], event{"c", 301, 3}, event{"a", 302, 3})
	require.Equal(t, want, got)
}

func TestStatefulTTL(t *testing.T) {
	r := startStateful(t, func(s flow.KeyedStream[string, event]) flow.Stream[string] {
		return operators.Stateful(s, "count", 10*time.Second, func(_ context.Context, c *cellOf[quiet], e event) error {
			c.State.N++
			if e.N > 0 {
				c.SetTimer(secs(e.N))
			}
			c.Emit(fmt.Sprint(c.Key(), " ", c.State.N, " ", c.New()))
			return nil
		}, operators.OnTimer(func(_ context.Context, c *cellOf[quiet], _ flow.Timestamp) error {
			c.Emit(fmt.Sprint(c.Key(), " timer ", c.State.N))
			return nil
		}))
	})
	require.Equal(t, []string{"a 1 true", "t 1 true"}, r.after(event{"a", 0, 0}, event{"t", 40, 0}))
	require.Equal(t, []string{"z 1 true", "a 2 false"}, r.after(event{"z", 0, 14}, event{"a", 0, 1}), "the watermark is at 9 s")
	require.Equal(t, []string{"z 2 false", "a 3 false"}, r.after(event{"z", 0, 23}, event{"a", 0, 1}), "used at the watermark 9 s: kept until 19 s")
	r.Crash()
	require.Equal(t, []string{"z 3 false"}, r.after(event{"z", 0, 33}))
	require.Equal(t, []string{"a 1 true"}, r.after(event{"a", 0, 32}), "used at the watermark 18 s: forgotten at 28 s")
	require.Equal(t, []string{"z 4 false", "t timer 1"}, append(r.after(event{"z", 0, 41}), r.after(event{"y", 0, 46})[1:]...)[:2:2])
	r.Crash()
	require.Equal(t, []string{"t 2 false"}, r.after(event{"t", 0, 0}), "a timer that is set keeps its key, and prolongs it when it fires")
	r.Stop()
}

func TestStatefulTimersFireInOrder(t *testing.T) {
	r := startStateful(t, func(s flow.KeyedStream[string, event]) flow.Stream[string] {
		return operators.Stateful(s, "op", 0, func(_ context.Context, c *cellOf[quiet], e event) error {
			switch {
			case e.N < 0:
				c.ClearTimer()
			case e.N > 0:
				c.SetTimer(secs(e.N))
			}
			return nil
		}, operators.OnTimer(func(_ context.Context, c *cellOf[quiet], at flow.Timestamp) error {
			end := ""
			if c.Watermark() == flow.EndOfTime {
				end = " at the end"
			}
			c.Emit(fmt.Sprint(c.Key(), " ", at.Time().Sub(time.Unix(0, 0)), end))
			if c.State.N++; c.State.N < 3 && c.Key() == "again" {
				c.SetTimer(at.Add(2 * time.Second))
			}
			if c.Key() == "past" {
				c.SetTimer(at - 1)
			}
			return nil
		}))
	})
	require.Empty(t, r.after(event{"a", 30, 0}, event{"b", 10, 0}, event{"again", 12, 0}, event{"c", 20, 0}, event{"off", 13, 0}, event{"off", -1, 0}))
	r.Crash()
	require.Empty(t, r.after(event{"a", 11, 0}, event{"c", 15, 1}, event{"c", 40, 1}), "a timer that is set again has moved")
	require.Equal(t, []string{"b 10s", "a 11s", "again 12s", "again 14s", "again 16s"}, r.after(event{"z", 0, 25}))
	require.Empty(t, r.after(event{"late", 3, 25}), "a time that has passed waits for the next move of the watermark")
	r.Crash()
	require.Empty(t, r.after())
	require.Equal(t, []string{"late 20s"}, r.after(event{"z", 0, 26}), "and is the moment behind the watermark")
	require.Empty(t, r.after(event{"past", 31, 26}))
	require.Equal(t, []string{"past 31s"}, r.after(event{"z", 0, 37}))
	require.Equal(t, []string{"past 32s"}, r.after(event{"z", 0, 38}))
	r.Flush()
	require.Equal(t, []string{"past 33s at the end", "c 40s at the end"}, r.out.Next(), "what is set while the stream ends does not fire")
}

func TestStatefulTimerThatFailsForAWhile(t *testing.T) {
	succeeded := make(chan struct{})
	n := 0
	r := startStateful(t, func(s flow.KeyedStream[string, event]) flow.Stream[string] {
		return operators.Stateful(s, "op", 0, quietEvent, operators.OnTimer(func(ctx context.Context, c *cellOf[quiet], at flow.Timestamp) error {
			c.State.N *= 10
			c.Emit("and this")
			if n++; c.Key() == "b" {
				if n < 4 {
					return flow.Transient(errNo)
				}
				close(succeeded)
			}
			return quietTimer(ctx, c, at)
		}))
	})
	r.src.Feed(event{"a", 1, 0}, event{"b", 2, 1}, event{"c", 3, 2}, event{"z", 1, 30})
	advanceUntil(r, succeeded)
	r.Epoch()
	require.Equal(t, []string{"and this", "a: 10 of 1 until 10", "and this", "b: 20 of 1 until 11", "and this", "c: 30 of 1 until 12"}, r.out.Next())
	r.Stop()
}

// advanceUntil moves the clock on until something has happened.
func advanceUntil(r *statefulRun, happened <-chan struct{}) {
	require.Eventually(r.T, func() bool {
		r.Clock.Advance(time.Second)
		select {
		case <-happened:
			return true
		default:
			return false
		}
	}, 20*time.Second, time.Millisecond)
}

func TestStatefulTimerThatFailsStops(t *testing.T) {
	r := startStateful(t, func(s flow.KeyedStream[string, event]) flow.Stream[string] {
		return operators.Stateful(s, "op", 0, quietEvent, operators.OnTimer(func(context.Context, *cellOf[quiet], flow.Timestamp) error { return errNo }))
	})
	r.src.Feed(event{"a", 1, 0}, event{"z", 1, 30})
	require.ErrorIs(t, r.Wait(), errNo)
}

func TestStatefulMisuse(t *testing.T) {
	for name, c := range map[string]struct {
		do  func(c *cellOf[quiet])
		say string
	}{
		"timer":       {func(c *cellOf[quiet]) { c.SetTimer(c.Time()) }, "operators.OnTimer"},
		"clock timer": {func(c *cellOf[quiet]) { c.SetClockTimer(c.Now()) }, "operators.OnClockTimer"},
		"side": {func(c *cellOf[quiet]) {
			operators.EmitTo(c, new(flow.Side[int]), 1)
		}, "operators.EmitsTo"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startStateful(t, func(s flow.KeyedStream[string, event]) flow.Stream[string] {
				return operators.Stateful(s, "op", 0, func(_ context.Context, cell *cellOf[quiet], _ event) error {
					c.do(cell)
					return nil
				})
			})
			require.Empty(t, r.after(event{"a", 1, 0}))
			require.Len(t, r.dead.Values(), 1)
			require.Contains(t, r.dead.Values()[0].Cause, c.say)
			r.Stop()
		})
	}
	top := flow.New("wrong", flow.WithStore(state.InMemory()))
	in := flow.KeyBy(flow.From(top, "in", flowtest.NewSource[event]()), event.key)
	to := func(name string, s flow.Stream[string]) { flow.To(s, name, flowtest.NewSink[string]()) }
	to("a", operators.Stateful[string, event, quiet, string](in, "nil", 0, nil))
	to("b", operators.Stateful(in, "negative", -1, quietEvent))
	to("c", operators.Stateful(in, "untimed", 0, quietEvent, operators.OnTimer(quietTimer)))
	to("d", operators.Stateful(in, "ttl", time.Second, quietEvent))
	to("e", operators.Stateful(in, "channel", 0, func(context.Context, *cellOf[chan int], event) error { return nil }))
	to("f", operators.Stateful(in, "no-timer", 0, quietEvent, operators.OnTimer[string, quiet, string](nil), operators.OnClockTimer[string, quiet, string](nil)))
	err := top.Validate()
	for _, say := range []string{
		`"nil": its function is nil`, `"negative": the ttl -1ns is negative`, `"untimed": the operator needs event time`,
		`"ttl": the operator needs event time`, `"channel": its state cannot be stored`, `"no-timer": the function of OnTimer is nil`,
		`"no-timer": the function of OnClockTimer is nil`,
	} {
		require.ErrorContains(t, err, say)
	}
}

// Options that come later fit the state that is there.
func TestStatefulMayGetTimersAndTTL(t *testing.T) {
	count := func(_ context.Context, c *cellOf[quiet], e event) error {
		c.State.N++
		c.Emit(fmt.Sprint(c.Key(), " ", c.State.N))
		if e.N == 7 {
			c.SetTimer(c.Time().Add(2 * time.Second))
		}
		return nil
	}
	r := startStateful(t, func(s flow.KeyedStream[string, event]) flow.Stream[string] {
		return operators.Stateful(s, "op", 0, count)
	})
	require.Equal(t, []string{"a 1", "b 1"}, r.after(event{"a", 0, 0}, event{"b", 0, 10}))
	r.build = func(s flow.KeyedStream[string, event]) flow.Stream[string] {
		return operators.Stateful(s, "op", 10*time.Second, count, operators.OnTimer(func(_ context.Context, c *cellOf[quiet], _ flow.Timestamp) error {
			c.Emit("timer " + c.Key())
			return nil
		}))
	}
	r.Crash()
	require.Equal(t, []string{"a 2", "b 2", "b 3", "timer b"}, r.after(event{"a", 0, 11}, event{"b", 7, 12}, event{"b", 0, 20}))
	require.Equal(t, []string{"b 4", "a 1"}, r.after(event{"b", 7, 27}, event{"a", 0, 27}))
	r.build = func(s flow.KeyedStream[string, event]) flow.Stream[string] {
		return operators.Stateful(s, "op", 0, count)
	}
	r.Crash()
	require.Equal(t, []string{"b 5"}, r.after(event{"b", 0, 40}), "a timer without a function is forgotten")
	r.Stop()
}

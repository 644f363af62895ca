package operators_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
)

// silent says which keys have sent nothing for a minute of the clock.
func silent(ttl time.Duration) func(s flow.KeyedStream[string, event]) flow.Stream[string] {
	return func(s flow.KeyedStream[string, event]) flow.Stream[string] {
		return operators.Stateful(s, "silent", ttl, func(_ context.Context, c *cellOf[quiet], e event) error {
			if c.State.N++; e.N < 0 {
				c.ClearClockTimer()
				return nil
			}
			c.SetClockTimer(c.Now().Add(time.Duration(e.N) * time.Second))
			if e.N == 99 {
				return errNo
			}
			return nil
		}, operators.OnClockTimer(func(_ context.Context, c *cellOf[quiet], at flow.Timestamp) error {
			behind := "no watermark"
			if c.Watermark() != flow.None {
				behind = fmt.Sprint(int64(c.Time() - c.Watermark()))
			}
			c.Emit(fmt.Sprint(c.Key(), " ", c.State.N, " late by ", c.Now().Time().Sub(at.Time()), " ", behind))
			c.Clear()
			return nil
		}))
	}
}

func TestStatefulClockTimers(t *testing.T) {
	r := startStateful(t, silent(0))
	advance := func(d time.Duration) []string {
		t.Helper()
		r.Clock.Advance(d)
		r.Epoch()
		return r.out.Next()
	}
	require.Empty(t, r.after(event{"a", 60, 0}, event{"b", 30, 0}, event{"c", 50, 0}, event{"c", -1, 0}, event{"b", 99, 0}))
	require.Empty(t, advance(29*time.Second))
	require.Equal(t, []string{"b 1 late by 0s 1"}, advance(time.Second), "the failed call has not moved it")
	require.Empty(t, r.after(event{"a", 60, 1}))
	require.Empty(t, advance(59*time.Second), "moved")
	r.Crash()
	require.Equal(t, []string{"a 2 late by 0s 1"}, advance(time.Second))
	require.Empty(t, r.after(event{"a", 60, 2}, event{"b", 60, 3}))
	r.Kill()
	r.Clock.Advance(time.Hour)
	r.Restart()
	r.Settle()
	r.Epoch()
	require.ElementsMatch(t, []string{"a 1 late by 59m0s 1", "b 1 late by 59m0s 1"}, r.out.Next(), "due while it was down")
	require.Empty(t, r.after(event{"a", 0, 3}))
	require.Equal(t, []string{"a 1 late by 0s 1"}, advance(1), "a time that has passed is the moment behind the clock")
	require.Empty(t, r.after(event{"a", 60, 2}))
	r.Flush()
	require.Empty(t, r.out.Next(), "the end of a stream is none of the clock's")
}

// A key whose clock timer is set is not forgotten by the ttl of event time.
func TestStatefulClockTimerKeepsItsKey(t *testing.T) {
	r := startStateful(t, silent(10*time.Second))
	require.Empty(t, r.after(event{"a", 60, 0}, event{"z", -1, 1000}))
	r.Crash()
	require.Empty(t, r.after(event{"z", -1, 2000}))
	r.Clock.Advance(time.Minute)
	r.Epoch()
	require.Equal(t, []string{"a 1 late by 0s 1"}, r.out.Next())
	r.Stop()
}

func TestStatefulClockTimerThatFailsForAWhile(t *testing.T) {
	succeeded := make(chan struct{})
	n := 0
	r := startStateful(t, func(s flow.KeyedStream[string, event]) flow.Stream[string] {
		return operators.Stateful(s, "op", 0, func(_ context.Context, c *cellOf[quiet], _ event) error {
			c.State.N++
			c.SetClockTimer(c.Now().Add(time.Second))
			return nil
		}, operators.OnClockTimer(func(_ context.Context, c *cellOf[quiet], _ flow.Timestamp) error {
			c.State.N *= 10
			c.Emit(fmt.Sprint(c.Key(), " ", c.State.N))
			if n++; n < 3 {
				return flow.Transient(errNo)
			}
			close(succeeded)
			return nil
		}))
	})
	require.Empty(t, r.after(event{"a", 1, 0}))
	advanceUntil(r, succeeded)
	r.Epoch()
	require.Equal(t, []string{"a 10"}, r.out.Next())
	r.Stop()
}

// Without event time a clock timer's results carry the timer's time.
func TestStatefulClockTimerWithoutEventTime(t *testing.T) {
	src, out := flowtest.NewSource[event](), flowtest.NewSink[string]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("untimed", opts...)
		flow.To(silent(0)(flow.KeyBy(flow.From(top, "in", src), event.key)), "out", out)
		return top
	}, src)
	at := flow.TimestampOf(r.Clock.Now()).Add(time.Minute)
	src.Feed(event{"a", 60, 0})
	r.Epoch()
	r.Clock.Advance(2 * time.Minute)
	r.Epoch()
	require.Equal(t, []flow.Record[string]{{Value: "a 1 late by 1m0s no watermark", Time: at}}, out.Records())
	r.Stop()
}

// A clock timer whose function is gone does not keep its key.
func TestStatefulClockTimerWithoutFunction(t *testing.T) {
	r := startStateful(t, silent(10*time.Second))
	require.Empty(t, r.after(event{"a", 60, 0}))
	r.build = func(s flow.KeyedStream[string, event]) flow.Stream[string] {
		return operators.Stateful(s, "silent", 10*time.Second, func(_ context.Context, c *cellOf[quiet], _ event) error {
			c.State.N++
			c.Emit(fmt.Sprint(c.Key(), " ", c.State.N))
			return nil
		})
	}
	r.Kill()
	r.Clock.Advance(time.Hour)
	r.Restart()
	r.Epoch()
	require.Equal(t, []string{"a 2", "z 1"}, r.after(event{"a", 1, 1}, event{"z", 1, 100}))
	require.Equal(t, []string{"a 1"}, r.after(event{"a", 1, 100}))
	r.Stop()
}

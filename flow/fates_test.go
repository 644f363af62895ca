package flow_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
)

// chain runs numbers through one operator into a sink.
func chain(t *testing.T, build func(s flow.Stream[int]) flow.Stream[int], dead flow.Sink[flow.DeadLetter]) (*flowtest.Source[int], *flowtest.Sink[int], *flowtest.Run) {
	src, out := flowtest.NewSource[int](), flowtest.NewSink[int]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("chain", opts...)
		flow.To(build(flow.From(top, "in", src)), "out", out)
		if dead != nil {
			flow.To(top.DeadLetters(), "dead", dead)
		}
		return top
	}, src)
	return src, out, r
}

func TestTransientErrorsAreRetriedInPlace(t *testing.T) {
	var calls atomic.Int64
	dead := flowtest.NewSink[flow.DeadLetter]()
	src, out, r := chain(t, func(s flow.Stream[int]) flow.Stream[int] {
		return operators.Map(s, "ask", func(_ context.Context, n int) (int, error) {
			if n == 3 && calls.Add(1) <= 5 {
				return 0, flow.Transient(errors.New("not now"))
			}
			return n, nil
		})
	}, dead)
	r.Settle()
	timers := r.Clock.Sleepers()
	src.Feed(1, 2, 3, 4, 5)
	eventually(t, func() bool { return calls.Load() == 1 && r.Clock.Sleepers() > timers }, "the first try fails and waits")
	require.Zero(t, src.Committed("0"))
	advancing(r.Clock, time.Second, r.Epoch)
	require.EqualValues(t, 6, calls.Load())
	require.Equal(t, []int{1, 2, 3, 4, 5}, out.Values(), "in order, each once")
	require.Empty(t, dead.Values())
	require.EqualValues(t, 5, counter(r, "ask", "retries"))
	r.Stop()
}

func TestBackoffGrows(t *testing.T) {
	var calls atomic.Int64
	src, _, r := chain(t, func(s flow.Stream[int]) flow.Stream[int] {
		return operators.Map(s, "ask", func(_ context.Context, n int) (int, error) {
			calls.Add(1)
			return 0, flow.Transient(errors.New("never"))
		})
	}, nil)
	r.Settle()
	timers := r.Clock.Sleepers()
	src.Feed(1)
	for try, least := range []time.Duration{15, 30, 60, 120, 240, 480} { // 20 ms doubling, less a quarter of jitter
		eventually(t, func() bool { return calls.Load() == int64(try+1) && r.Clock.Sleepers() > timers }, "it waits")
		r.Clock.Advance(least*time.Millisecond - 1)
		require.EqualValues(t, try+1, calls.Load())
		r.Clock.Advance(least * time.Millisecond / 3 * 2)
	}
	// However long it takes, an abort and a crash are not held up by it.
	r.Kill()
}

func TestTransientThenPermanent(t *testing.T) {
	var calls atomic.Int64
	dead := flowtest.NewSink[flow.DeadLetter]()
	src, out, r := chain(t, func(s flow.Stream[int]) flow.Stream[int] {
		return operators.Map(s, "ask", func(_ context.Context, n int) (int, error) {
			if n != 2 {
				return n, nil
			}
			if calls.Add(1) < 4 {
				return 0, flow.Transient(errors.New("not now"))
			}
			return 0, errors.New("never")
		})
	}, dead)
	src.Feed(1, 2, 3)
	advancing(r.Clock, time.Second, r.Epoch)
	require.Equal(t, []int{1, 3}, out.Values())
	letters := dead.Values()
	require.Len(t, letters, 1)
	require.Equal(t, 4, letters[0].Attempts)
	require.Equal(t, "never", letters[0].Cause)
	require.Equal(t, "ask", letters[0].Node)
	require.Equal(t, "chain", letters[0].Topology)
	require.Equal(t, []byte{2}, letters[0].Record, "the record in CBOR")
	r.Stop()
}

func TestErrorPolicies(t *testing.T) {
	fail := func(o flow.NodeOption) func(s flow.Stream[int]) flow.Stream[int] {
		return func(s flow.Stream[int]) flow.Stream[int] {
			return operators.Map(s, "check", func(_ context.Context, n int) (int, error) {
				if n == 2 {
					return 0, errors.New("two")
				}
				return n, nil
			}, o)
		}
	}
	t.Run("drop", func(t *testing.T) {
		dead := flowtest.NewSink[flow.DeadLetter]()
		src, out, r := chain(t, fail(flow.NodeOption(flow.OnError(flow.DropOnError))), dead)
		src.Feed(1, 2, 3)
		r.Epoch()
		require.Equal(t, []int{1, 3}, out.Values())
		require.Empty(t, dead.Values())
		require.EqualValues(t, 1, counter(r, "check", "dropped"))
		r.Stop()
	})
	t.Run("stop", func(t *testing.T) {
		src, out, r := chain(t, fail(flow.NodeOption(flow.OnError(flow.StopOnError))), flowtest.NewSink[flow.DeadLetter]())
		src.Feed(1, 2, 3)
		err := r.Wait()
		var ne *flow.NodeError
		require.ErrorAs(t, err, &ne)
		require.Equal(t, "check", ne.Node)
		require.ErrorContains(t, err, "two")
		require.Empty(t, out.Values(), "no last epoch")
		require.Zero(t, src.Committed("0"))
	})
}

func TestPanicsBecomeErrors(t *testing.T) {
	boom := func(n int) int {
		if n == 2 {
			panic("boom")
		}
		return n
	}
	for name, build := range map[string]func(s flow.Stream[int]) flow.Stream[int]{
		"map": func(s flow.Stream[int]) flow.Stream[int] {
			return operators.Map(s, "op", func(_ context.Context, n int) (int, error) { return boom(n), nil })
		},
		"filter": func(s flow.Stream[int]) flow.Stream[int] {
			return operators.Filter(s, "op", func(n int) bool { return boom(n) > 0 })
		},
		"split": func(s flow.Stream[int]) flow.Stream[int] {
			yes, no := flow.Split(s, "op", func(n int) bool { return boom(n) > 0 })
			flow.To(no, "no", sinkOf[int]())
			return yes
		},
		"time": func(s flow.Stream[int]) flow.Stream[int] {
			return flow.AssignTime(s, "op", func(n int) time.Time { return time.Unix(int64(boom(n)), 0) }, watermark.Monotonous())
		},
		"keyed": func(s flow.Stream[int]) flow.Stream[int] {
			return flow.ApplyKeyed[int, int, int](flow.KeyBy(s, func(n int) int { return n }), "op", func() *keyedFunc {
				return &keyedFunc{func(n int) int { return boom(n) }}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dead := flowtest.NewSink[flow.DeadLetter]()
			src, out, r := chain(t, build, dead)
			src.Feed(1, 2, 3)
			r.Epoch()
			require.ElementsMatch(t, []int{1, 3}, out.Values(), "the others pass")
			letters := dead.Values()
			require.Len(t, letters, 1)
			require.Equal(t, "op", letters[0].Node)
			require.Contains(t, letters[0].Cause, "boom")
			require.Contains(t, letters[0].Cause, "fates_test.go", "with the stack")
			r.Stop()
		})
		t.Run(name+", no dead letters", func(t *testing.T) {
			src, _, r := chain(t, build, nil)
			src.Feed(1, 2, 3)
			err := r.Wait()
			require.ErrorIs(t, err, flow.ErrPanic)
			require.ErrorContains(t, err, `node "op"`)
			require.Zero(t, src.Committed("0"))
		})
	}
}

type keyedFunc struct{ f func(int) int }

func (k *keyedFunc) Process(_ context.Context, _ int, r *flow.Record[int], out *flow.Output[int]) error {
	out.Emit(flow.Record[int]{Value: -1}) // taken back when the rest panics
	v := k.f(r.Value)
	out.Undo(1)
	*out.Next(r.Time, r.Meta) = v
	return nil
}

// A panic where no record is to blame stops the topology: state may be half changed, the last epoch is sound.
func TestPanicAtAWatermarkStops(t *testing.T) {
	src, _, r := chain(t, func(s flow.Stream[int]) flow.Stream[int] {
		timed := flow.AssignTime(s, "time", func(n int) time.Time { return time.Unix(int64(n), 0) }, watermark.Monotonous())
		return flow.Apply[int, int](timed, "op", func() *panicsAtMark { return &panicsAtMark{} })
	}, flowtest.NewSink[flow.DeadLetter]())
	src.Feed(1)
	err := r.Wait()
	require.ErrorIs(t, err, flow.ErrPanic)
	require.ErrorContains(t, err, `node "op"`)
	require.Zero(t, src.Committed("0"))
}

type panicsAtMark struct{}

func (*panicsAtMark) Process(_ context.Context, r *flow.Record[int], out *flow.Output[int]) error {
	out.Emit(*r)
	return nil
}
func (*panicsAtMark) OnWatermark(context.Context, flow.Timestamp, *flow.Output[int]) error {
	panic("mark")
}

func TestAnErrorAtOpenStops(t *testing.T) {
	src, _, r := chain(t, func(s flow.Stream[int]) flow.Stream[int] {
		return flow.Apply[int, int](s, "op", func() *failsToOpen { return &failsToOpen{} })
	}, nil)
	src.Feed(1)
	err := r.Wait()
	require.ErrorContains(t, err, `topology "chain": node "op": no file`)
}

type failsToOpen struct{ panicsAtMark }

func (*failsToOpen) Open(context.Context, flow.Runtime) error { return errors.New("no file") }

// Dead letters are delivered with their epoch: before its records are acked, and again when the epoch did not get that far.
func TestDeadLettersAreDurableBeforeTheAck(t *testing.T) {
	dead := flowtest.NewSink[flow.DeadLetter]()
	var down atomic.Bool
	down.Store(true)
	dead.Fail = func() error {
		if down.Load() {
			return flow.Transient(errors.New("down"))
		}
		return nil
	}
	src, out, r := chain(t, func(s flow.Stream[int]) flow.Stream[int] {
		return operators.Map(s, "check", func(_ context.Context, n int) (int, error) { return 0, fmt.Errorf("no %d", n) })
	}, dead)
	src.Feed(1, 2)
	r.Settle()
	done := make(chan error, 1)
	go func() { done <- r.Running().Epoch(t.Context()) }()
	eventually(t, func() bool { return counter(r, "dead", "retries") > 0 }, "the sink of the dead letters is down")
	require.Zero(t, src.Committed("0"))
	down.Store(false)
	advancing(r.Clock, time.Second, func() { require.NoError(t, <-done) })
	require.Len(t, dead.Values(), 2)
	require.EqualValues(t, 2, src.Committed("0"))
	require.Empty(t, out.Values())
	r.Stop()
}

package operators_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// events are n events of several keys, up to 8 s out of order, every fifth a repeat of an earlier one, the same for each seed.
func events(seed uint64, n, keys int) []event {
	rnd := rand.New(rand.NewPCG(seed, 1))
	es := make([]event, n)
	for i := range es {
		es[i] = event{fmt.Sprint("k", rnd.IntN(keys)), int64(i), int64(3*i) - rnd.Int64N(9)}
		if i > 0 && i%5 == 0 {
			es[i] = es[rnd.IntN(i)]
		}
	}
	return es
}

func timed(s flow.Stream[event]) flow.TimedStream[event] {
	return flow.AssignTime(s, "time", event.time, watermark.BoundedOutOfOrderness(5*time.Second).Every(0))
}

func numbers(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func oneKey[T any](T) string { return "" }

func TestStatelessOperatorsInAllModes(t *testing.T) {
	in := numbers(30)
	t.Run("map", func(t *testing.T) {
		flowtest.CheckOperator(t, flowtest.OperatorCheck[int, string]{
			Inputs: in, Key: oneKey[string],
			Build: func(s flow.Stream[int]) flow.Stream[string] {
				return operators.Map(s, "op", func(_ context.Context, n int) (string, error) { return fmt.Sprint(n), nil })
			},
		})
	})
	t.Run("update", func(t *testing.T) {
		flowtest.CheckOperator(t, flowtest.OperatorCheck[int, int]{
			Inputs: in, Key: oneKey[int],
			Build: func(s flow.Stream[int]) flow.Stream[int] {
				return operators.Update(s, "op", func(_ context.Context, n *int) error { *n *= 2; return nil })
			},
		})
	})
	t.Run("flat-map", func(t *testing.T) {
		flowtest.CheckOperator(t, flowtest.OperatorCheck[int, int]{
			Inputs: in, Key: oneKey[int],
			Build: func(s flow.Stream[int]) flow.Stream[int] {
				return operators.FlatMap(s, "op", func(_ context.Context, n int, emit func(int)) error {
					for range n % 4 {
						emit(n)
					}
					return nil
				})
			},
		})
	})
	t.Run("filter", func(t *testing.T) {
		flowtest.CheckOperator(t, flowtest.OperatorCheck[int, int]{
			Inputs: in, Key: oneKey[int], Want: []int{0, 7, 14, 21, 28},
			Build: func(s flow.Stream[int]) flow.Stream[int] {
				return operators.Filter(s, "op", func(n int) bool { return n%7 == 0 })
			},
		})
	})
	t.Run("split and union", func(t *testing.T) {
		flowtest.CheckOperator(t, flowtest.OperatorCheck[int, int]{
			Inputs: in,
			// Within one branch the order stays.
			Key: func(n int) string { return fmt.Sprint(n < 0) },
			Build: func(s flow.Stream[int]) flow.Stream[int] {
				odd, even := flow.Split(s, "odd", func(n int) bool { return n%2 == 1 })
				return flow.Union("union", operators.Map(odd, "minus", func(_ context.Context, n int) (int, error) { return -n, nil }), even)
			},
		})
	})
	t.Run("records that fail", func(t *testing.T) {
		// What fails leaves nothing behind, wherever in a batch it stands.
		flowtest.CheckOperator(t, flowtest.OperatorCheck[int, int]{
			Inputs: in, Key: oneKey[int],
			Build: func(s flow.Stream[int]) flow.Stream[int] {
				drop := flow.OnError(flow.DropOnError)
				fail := func(n, by int) error {
					switch {
					case n%by == 0:
						return errors.New("no")
					case n%by == 1:
						panic("no")
					}
					return nil
				}
				s = operators.Map(s, "map", func(_ context.Context, n int) (int, error) { return n, fail(n, 11) }, drop)
				s = operators.Update(s, "update", func(_ context.Context, n *int) error { v := *n; *n = -1; err := fail(v, 13); *n = v; return err }, drop)
				s = operators.FlatMap(s, "flat-map", func(_ context.Context, n int, emit func(int)) error {
					emit(n)
					return fail(n, 7)
				}, drop)
				return operators.Filter(s, "filter", func(n int) bool { return fail(n, 100) == nil }, drop)
			},
			Want: []int{2, 3, 4, 5, 6, 9, 10, 16, 17, 18, 19, 20, 24, 25},
		})
	})
}

func TestDedupInAllModes(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, event]{
		Inputs: events(1, 60, 7), Key: event.key,
		Build: func(s flow.Stream[event]) flow.Stream[event] {
			return operators.Dedup(flow.KeyBy(timed(s), event.key), "dedup", event.n, time.Minute).Unkeyed()
		},
	})
}

// Ids are forgotten in time: a repeat behind the ttl passes.
func TestDedupForgetsInAllModes(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, event]{
		Inputs: []event{{"a", 1, 0}, {"a", 1, 5}, {"b", 1, 5}, {"a", 2, 16}, {"a", 1, 17}, {"b", 1, 14}, {"a", 3, 100}, {"a", 1, 101}, {"b", 2, 102}, {"a", 1, 103}},
		Want:   []event{{"a", 1, 0}, {"b", 1, 5}, {"a", 2, 16}, {"a", 1, 17}, {"a", 3, 100}, {"a", 1, 101}, {"b", 2, 102}},
		Key:    event.key,
		Build: func(s flow.Stream[event]) flow.Stream[event] {
			return operators.Dedup(flow.KeyBy(timed(s), event.key), "dedup", event.n, 10*time.Second).Unkeyed()
		},
	})
}

// outcome is a window's result or a late record, so that both are compared.
type outcome struct {
	Key   string
	Start flow.Timestamp
	Pane  window.Pane
	Stats stats
	Late  event
}

func outcomes(w operators.Windowed[string, event, stats]) []flow.Stream[outcome] {
	fired := operators.Map(w, "fired", func(_ context.Context, r window.Result[string, stats]) (outcome, error) {
		return outcome{Key: r.Key, Start: r.Start, Pane: r.Pane, Stats: r.Value}, nil
	})
	late := operators.Map(w.Late(), "too-late", func(_ context.Context, l flow.Late[event]) (outcome, error) {
		return outcome{Key: "late " + l.Value.Key, Late: l.Value}, nil
	})
	return []flow.Stream[outcome]{fired, late}
}

func countAndSum() agg.Aggregate[event, stats] {
	return agg.Into(
		agg.To(func(s *stats) *int64 { return &s.Count }, agg.Count(event.n)),
		agg.To(func(s *stats) *int64 { return &s.Sum }, agg.Sum(event.n)),
	)
}

func TestWindowInAllModes(t *testing.T) {
	for _, lateness := range []time.Duration{0, 4 * time.Second} {
		t.Run(fmt.Sprint("lateness ", lateness), func(t *testing.T) {
			flowtest.CheckOperator(t, flowtest.OperatorCheck[event, outcome]{
				Inputs: events(2, 60, 9), Key: func(o outcome) string { return o.Key },
				BuildMany: func(s flow.Stream[event]) []flow.Stream[outcome] {
					w := operators.Window(flow.KeyBy(timed(s), event.key), "win", window.Tumbling(10*time.Second), countAndSum(), window.AllowedLateness(lateness))
					return outcomes(w)
				},
			})
		})
	}
}

func TestDedupAndWindowInAllModes(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, outcome]{
		Inputs: events(3, 60, 4), Key: func(o outcome) string { return o.Key },
		BuildMany: func(s flow.Stream[event]) []flow.Stream[outcome] {
			fresh := operators.Dedup(flow.KeyBy(timed(s), event.key), "dedup", event.n, time.Minute)
			return outcomes(operators.Window(fresh, "win", window.Tumbling(20*time.Second), countAndSum(), window.AllowedLateness(10*time.Second)))
		},
	})
}

// A whole stream has one key; and a window of windows stands behind a second exchange.
func TestWindowOfWindowsInAllModes(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, window.Result[struct{}, int64]]{
		Inputs: events(4, 60, 5), Key: oneKey[window.Result[struct{}, int64]],
		Build: func(s flow.Stream[event]) flow.Stream[window.Result[struct{}, int64]] {
			fine := operators.Window(flow.KeyBy(timed(s), event.key), "fine", window.Tumbling(5*time.Second), agg.Sum(event.n))
			return operators.Window(flow.KeyBy(fine, flow.Whole), "coarse", window.Tumbling(30*time.Second),
				agg.Sum(func(r window.Result[string, int64]) int64 { return r.Value }))
		},
	})
}

package operators_test

import (
	"context"
	"errors"
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

type event struct {
	Key string
	N   int64
	At  int64 // seconds
}

func (e event) key() string     { return e.Key }
func (e event) n() int64        { return e.N }
func (e event) time() time.Time { return time.Unix(e.At, 0) }

func TestStatelessChain(t *testing.T) {
	src, out := flowtest.NewSource[int](), flowtest.NewSink[string]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("chain", opts...)
		s := flow.From(top, "in", src)
		even := operators.Filter(s, "even", func(n int) bool { return n%2 == 0 })
		twice := operators.FlatMap(even, "twice", func(_ context.Context, n int, emit func(int)) error {
			emit(n)
			emit(n)
			return nil
		})
		inc := operators.Update(twice, "inc", func(_ context.Context, n *int) error { *n++; return nil })
		flow.To(operators.Map(inc, "print", func(_ context.Context, n int) (string, error) { return fmt.Sprint(n), nil }), "out", out)
		return top
	}, src)
	src.Feed(1, 2, 3, 4)
	r.Epoch()
	require.Equal(t, []string{"3", "3", "5", "5"}, out.Values())
	require.EqualValues(t, 4, src.Committed("0"))
	r.Stop()
}

// Filter has a way for small records and one for large ones.
func TestFilterKeepsLargeRecords(t *testing.T) {
	type large struct {
		n   int
		pad [20]int64
	}
	src, out := flowtest.NewSource[large](), flowtest.NewSink[large]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("large", opts...)
		flow.To(operators.Filter(flow.From(top, "in", src), "odd", func(v large) bool { return v.n%2 == 1 }), "out", out)
		return top
	}, src)
	of := func(n int) large { return large{n: n, pad: [20]int64{0: int64(n), 19: -int64(n)}} }
	src.Feed(of(1), of(2), of(3), of(4), of(5))
	r.Epoch()
	require.Equal(t, []large{of(1), of(3), of(5)}, out.Values())
	r.Stop()
}

func TestPermanentErrorsGoToTheDeadLetters(t *testing.T) {
	src, out, dead := flowtest.NewSource[int](), flowtest.NewSink[int](), flowtest.NewSink[flow.DeadLetter]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("errors", opts...)
		s := flow.From(top, "in", src)
		flow.To(operators.Map(s, "check", func(_ context.Context, n int) (int, error) {
			switch n {
			case 3:
				return 0, errors.New("three")
			case 5:
				panic("five")
			}
			return n, nil
		}), "out", out)
		flow.To(top.DeadLetters(), "dead", dead)
		return top
	}, src)
	src.Feed(1, 2, 3, 4, 5, 6)
	src.FeedReject("rubbish", errors.New("not a number"))
	r.Epoch()
	require.Equal(t, []int{1, 2, 4, 6}, out.Values())
	letters := dead.Values()
	require.Len(t, letters, 3)
	require.Equal(t, "three", letters[0].Cause)
	require.Contains(t, letters[1].Cause, "five")
	require.Equal(t, "rubbish", string(letters[2].Raw))
	r.Stop()
}

func TestErrorWithoutDeadLettersStops(t *testing.T) {
	src, out := flowtest.NewSource[int](), flowtest.NewSink[int]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("errors", opts...)
		flow.To(operators.Map(flow.From(top, "in", src), "check", func(_ context.Context, n int) (int, error) {
			return 0, errors.New("no")
		}), "out", out)
		return top
	}, src)
	src.Feed(1)
	err := r.Wait()
	var ne *flow.NodeError
	require.ErrorAs(t, err, &ne)
	require.Equal(t, "check", ne.Node)
	require.Zero(t, src.Committed("0"))
}

type stats struct {
	Count int64
	Sum   int64
}

func windowed(t testing.TB, par int, late time.Duration, parts ...string) (*flowtest.Source[event], *flowtest.Sink[window.Result[string, stats]], *flowtest.Sink[flow.Late[event]], *flowtest.Run) {
	src := flowtest.NewSource[event](parts...)
	out, lates := flowtest.NewSink[window.Result[string, stats]](), flowtest.NewSink[flow.Late[event]]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("win", append(opts, flow.WithParallelism(par))...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.BoundedOutOfOrderness(5*time.Second).Every(0))
		fresh := operators.Dedup(flow.KeyBy(timed, event.key), "dedup", event.n, time.Hour)
		w := operators.Window(fresh, "minute", window.Tumbling(time.Minute), agg.Into(
			agg.To(func(s *stats) *int64 { return &s.Count }, agg.Count(event.n)),
			agg.To(func(s *stats) *int64 { return &s.Sum }, agg.Sum(event.n)),
		), window.AllowedLateness(late))
		flow.To(w, "out", out)
		flow.To(w.Late(), "late", lates)
		return top
	}, src)
	return src, out, lates, r
}

func TestTumblingWindow(t *testing.T) {
	for _, par := range []int{1, 2} {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprintf("parallelism %d crash %v", par, crash), func(t *testing.T) {
				src, out, lates, r := windowed(t, par, 0)
				step := func(es ...event) {
					for _, e := range es {
						src.Feed(e)
						r.Epoch()
						if crash {
							r.Crash()
						}
					}
				}
				step(event{"a", 1, 0}, event{"a", 2, 30}, event{"b", 3, 59}, event{"a", 1, 31})
				require.Empty(t, out.Values())
				step(event{"a", 4, 61}, event{"b", 5, 65})
				require.Len(t, out.Values(), 2)
				step(event{"b", 6, 10})
				require.Len(t, lates.Values(), 1)
				r.Flush()
				got := map[string]stats{}
				for _, v := range out.Values() {
					got[fmt.Sprint(v.Key, v.Start.Time().Minute())] = v.Value
				}
				require.Equal(t, map[string]stats{"a0": {2, 3}, "b0": {1, 3}, "a1": {1, 4}, "b1": {1, 5}}, got)
			})
		}
	}
}

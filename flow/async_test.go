package flow_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
)

// doors answers each input when its door is opened, or at once when it is in the hall.
type doors struct {
	mu      sync.Mutex
	open    map[int]chan struct{}
	calls   map[int]int
	hall    map[int]bool
	batches int
}

func newDoors() *doors {
	return &doors{open: map[int]chan struct{}{}, calls: map[int]int{}, hall: map[int]bool{}}
}

func (d *doors) door(n int) chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open[n] == nil {
		d.open[n] = make(chan struct{})
	}
	return d.open[n]
}

func (d *doors) Try(_ context.Context, r *flow.Record[int], out *flow.Output[int]) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hall[r.Value] {
		out.Emit(*r)
	}
	return d.hall[r.Value], nil
}

func (d *doors) EndBatch() {
	d.mu.Lock()
	d.batches++
	d.mu.Unlock()
}

func (d *doors) Call(ctx context.Context, in []flow.Record[int], answers []flow.Answer[int]) error {
	for i := range in {
		n := in[i].Value
		door := d.door(n)
		d.mu.Lock()
		d.calls[n]++
		hall := d.hall[n]
		d.mu.Unlock()
		select {
		case <-door:
		case <-ctx.Done():
			return ctx.Err()
		}
		switch {
		case hall:
			answers[i].Value = n
		case n%10 == 7:
			answers[i].Drop = true
		case n%10 == 8:
			answers[i].Err = errors.New("eight")
		default:
			answers[i].Value = n
		}
	}
	return nil
}

func (d *doors) called() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.calls)
}

// marks writes records and watermarks down as they come.
type marks struct{}

func (marks) Process(_ context.Context, r *flow.Record[int], out *flow.Output[string]) error {
	*out.Next(r.Time, r.Meta) = fmt.Sprint(r.Value)
	return nil
}

func (marks) OnWatermark(_ context.Context, wm flow.Timestamp, out *flow.Output[string]) error {
	*out.Next(wm, nil) = fmt.Sprint("w", int64(wm+1)/int64(time.Second))
	return nil
}

// doorsRun runs numbers, whose event time is the number in seconds, through doors.
func doorsRun(t *testing.T, d *doors, cfg flow.AsyncConfig) (*flowtest.Run, *flowtest.Source[int], *flowtest.Sink[string]) {
	t.Helper()
	src, out, dead := flowtest.NewSource[int](), flowtest.NewSink[string](), flowtest.NewSink[flow.DeadLetter]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("async", opts...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", func(n int) time.Time { return time.Unix(int64(n), 0) },
			watermark.Monotonous().Simulated())
		flow.To(flow.Apply[int, string](flow.ApplyAsync[int, int](timed, "ask", func() *doors { return d }, cfg), "marks",
			func() marks { return marks{} }), "out", out)
		flow.To(top.DeadLetters(), "dead", dead)
		return top
	}, src)
	return r, src, out
}

func settled(r *flowtest.Run) bool { r.Settle(); return r.Running().Pending() == 0 }

func TestUnorderedResultsOvertakeButWatermarksDoNot(t *testing.T) {
	t.Parallel()
	d := newDoors()
	r, src, out := doorsRun(t, d, flow.AsyncConfig{Unordered: true, BatchSize: 1, Concurrency: 8})
	src.Feed(1, 2, 3)
	eventually(t, func() bool { r.Settle(); return d.called() == 3 }, "asked")
	close(d.door(3))
	close(d.door(2))
	eventually(t, func() bool { r.Epoch(); return len(out.Values()) == 2 }, "results of 2 and 3")
	require.ElementsMatch(t, []string{"2", "3"}, out.Values())
	d.mu.Lock()
	d.hall[4] = true
	d.mu.Unlock()
	src.Feed(4)
	r.Epoch()
	require.Equal(t, "4", out.Values()[2], "what needs no waiting does not wait")

	// Only what waits is asked again after a crash, and the watermarks still stand behind it.
	r.Crash()
	close(d.door(1))
	eventually(t, func() bool { return settled(r) }, "all answered")
	r.Epoch()
	all := out.Values()
	require.Equal(t, "1", all[3])
	require.Equal(t, "w4", all[len(all)-1], "the watermarks behind 1, 2, 3 and 4 follow")
	require.Equal(t, 2, d.calls[1])
	require.Equal(t, 1, d.calls[2])
	r.Stop()
}

func TestUnorderedBehindOneSlowInput(t *testing.T) {
	t.Parallel()
	d := newDoors()
	r, src, out := doorsRun(t, d, flow.AsyncConfig{Unordered: true, BatchSize: 16, Concurrency: 4, Capacity: 64})
	src.Feed(-5)
	eventually(t, func() bool { r.Settle(); return d.called() == 1 }, "asked for the slow one")
	const n = 5000
	for i := range n {
		close(d.door(i))
		src.Feed(i)
	}
	eventually(t, func() bool { r.Epoch(); return len(out.Values()) == n*8/10 }, "all but the slow one are through")
	require.Less(t, r.Running().Pending(), 70, "behind it are the last watermarks only")
	for _, v := range out.Values() {
		require.NotContains(t, v, "w")
	}
	close(d.door(-5))
	eventually(t, func() bool { return settled(r) }, "the slow one")
	r.Epoch()
	all := out.Values()
	require.Equal(t, "-5", all[n*8/10])
	require.Equal(t, fmt.Sprint("w", n-1), all[len(all)-1])
	require.Less(t, len(all), n*8/10+70, "few watermarks stand for all that waited")
	require.Positive(t, d.batches)
	r.Stop()
}

// TestAsyncInAnyOrderOfAnswers opens the doors in random order, with crashes, and holds ordered and unordered results to what they
// promise.
func TestAsyncInAnyOrderOfAnswers(t *testing.T) {
	t.Parallel()
	for _, unordered := range []bool{false, true} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("unordered=%v/%d", unordered, seed), func(t *testing.T) {
				t.Parallel()
				rnd := rand.New(rand.NewPCG(seed, 1))
				d := newDoors()
				r, src, out := doorsRun(t, d, flow.AsyncConfig{
					Unordered: unordered, BatchSize: 1 + rnd.IntN(3), Concurrency: 100, Capacity: 1 + rnd.IntN(40),
				})
				const n = 150
				for i := range n {
					d.hall[i] = rnd.IntN(4) == 0
				}
				fed := 0
				for _, open := range rnd.Perm(n) {
					for fed < n && rnd.IntN(3) > 0 {
						src.Feed(fed)
						fed++
					}
					close(d.door(open))
					if rnd.IntN(20) == 0 {
						r.Running().Pending()
						r.Crash()
					}
				}
				for ; fed < n; fed++ {
					src.Feed(fed)
				}
				eventually(t, func() bool { return settled(r) }, "all answered")
				r.Epoch()
				// Nothing was committed before the crashes, so the last run said everything.
				seen := map[string]bool{}
				last := -1
				for _, v := range out.Values() {
					if wm, ok := strings.CutPrefix(v, "w"); ok {
						var w int
						_, err := fmt.Sscan(wm, &w)
						require.NoError(t, err)
						for i := 0; i <= w; i++ {
							require.True(t, seen[fmt.Sprint(i)] || !d.hall[i] && (i%10 == 7 || i%10 == 8), "watermark %d overtook %d", w, i)
						}
						continue
					}
					require.False(t, seen[v], "%s came twice", v)
					seen[v] = true
					var now int
					_, err := fmt.Sscan(v, &now)
					require.NoError(t, err)
					if !unordered {
						require.Greater(t, now, last)
					}
					last = now
				}
				for i := range n {
					require.Equal(t, d.hall[i] || i%10 != 7 && i%10 != 8, seen[fmt.Sprint(i)], i)
				}
				require.Equal(t, fmt.Sprint("w", n-1), func() string {
					all := out.Values()
					for i := len(all) - 1; i >= 0; i-- {
						if all[i][0] == 'w' {
							return all[i]
						}
					}
					return ""
				}())
				r.Stop()
			})
		}
	}
}

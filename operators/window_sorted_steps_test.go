package operators_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/window"
)

// A firing over many keys that epochs and crashes cut between any two pages gives what one in one go gives, while records and watermarks
// come in between, also those of keys that were not there when it began.
func TestSortedWindowsFireInSteps(t *testing.T) {
	for name, w := range map[string]window.Assigner[event]{
		"while": window.While(isOn), "between": window.Between(opens, shuts), "trailing": window.Trailing(15 * time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := sortedSteps(t, w, nil)
			require.NotEmpty(t, want)
			for seed := range uint64(12) {
				got := sortedSteps(t, w, rand.New(rand.NewPCG(seed, 1)), window.FireStep(1))
				missing, more := difference(want, got)
				require.Empty(t, missing, "missing, seed %d", seed)
				require.Empty(t, more, "too many, seed %d", seed)
			}
		})
	}
}

// The same for the windows that are not sorted.
func TestOtherWindowsFireInSteps(t *testing.T) {
	for name, w := range map[string]window.Plain{
		"tumbling": window.Tumbling(10 * time.Second), "sliding": window.Sliding(20*time.Second, 5*time.Second), "session": window.Session(4 * time.Second),
		"shared": window.Sliding(20*time.Second, 2*time.Second), "shared, uneven": window.Sliding(20*time.Second, 6*time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := sortedSteps(t, window.Assigner[event](w), nil)
			require.NotEmpty(t, want)
			for seed := range uint64(30) {
				got := sortedSteps(t, window.Assigner[event](w), rand.New(rand.NewPCG(seed, 1)), window.FireStep(1))
				missing, more := difference(want, got)
				require.Empty(t, missing, "missing, seed %d", seed)
				require.Empty(t, more, "too many, seed %d", seed)
			}
		})
	}
}

// sortedSteps runs 400 keys through a window; with random, epochs and crashes come at any moment.
func sortedSteps(t *testing.T, w window.Assigner[event], random *rand.Rand, opts ...window.Option) (out []string) {
	src, sink, late := flowtest.NewSource[event]("0"), flowtest.NewSink[string](), flowtest.NewSink[flow.Late[event]]()
	tasks := 2
	r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("steps", append(o, flow.WithParallelism(tasks))...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.BoundedOutOfOrderness(10*time.Second).Every(0))
		win := operators.Window(flow.KeyBy(timed, event.key), "win", w, inOrder(), opts...)
		flow.To(operators.Map(win, "print", func(_ context.Context, r window.Result[string, string]) (string, error) {
			return fmt.Sprint(r.Key, " ", inSeconds(r.Start), " ", inSeconds(r.End), " ", r.Value, " ", r.Pane.Index), nil
		}), "out", sink)
		flow.To(win.Late(), "late", late)
		return top
	}, src)
	shake := func() {
		if random == nil {
			return
		}
		for range random.IntN(5) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			require.NoError(t, r.Running().Epoch(ctx))
			cancel()
			if random.IntN(3) == 0 {
				tasks = 1 + random.IntN(3)
				r.Crash()
			}
		}
	}
	n := int64(0)
	feed := func(second int64, from, to int) {
		for k := from; k < to; k++ {
			n++
			src.Feed(event{Key: fmt.Sprintf("key-%03d", k), At: second + int64(k%3), N: (n*n + int64(k)) % 10})
		}
	}
	for _, second := range []int64{1, 9, 4, 14, 12, 8, 17, 21, 26, 22} {
		feed(second, 0, 200)
	}
	shake()
	feed(41, 0, 1) // all of that is due
	if random == nil || random.IntN(2) == 0 {
		shake()
	}
	feed(38, 100, 300) // while it fires, some of keys that are new
	if random == nil || random.IntN(2) == 0 {
		shake()
	}
	feed(62, 0, 2) // and these are due, too
	shake()
	feed(57, 250, 400)
	feed(54, 250, 400)
	feed(30, 0, 10) // too late
	shake()
	feed(90, 7, 8)
	shake()
	feed(95, 0, 400)
	shake()
	src.End()
	require.NoError(t, r.Wait())
	for _, l := range late.Values() {
		out = append(out, fmt.Sprintf("late %s %d %d", l.Value.Key, l.Value.At, l.Value.N))
	}
	require.Len(t, late.Values(), 10)
	return append(out, sink.Values()...)
}

package operators_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
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

// A firing that epochs and crashes cut between any two steps gives what one in one go gives, while late records come in between.
func TestFiringInSteps(t *testing.T) {
	for name, c := range map[string]struct {
		assign window.Plain
		opts   []window.Option
	}{
		"tumbling":        {window.Tumbling(10 * time.Second), []window.Option{window.AllowedLateness(20 * time.Second)}},
		"sliding":         {window.Sliding(20*time.Second, 5*time.Second), []window.Option{window.AllowedLateness(20 * time.Second)}},
		"sliding, shared": {window.Sliding(20*time.Second, 2*time.Second), []window.Option{window.AllowedLateness(20 * time.Second)}},
		"early":           {window.Tumbling(20 * time.Second), []window.Option{window.Early(3 * time.Second), window.AllowedLateness(20 * time.Second)}},
		"session, early":  {window.Session(6 * time.Second), []window.Option{window.Early(3 * time.Second), window.AllowedLateness(20 * time.Second)}},
		"final":           {window.Sliding(20*time.Second, 5*time.Second), []window.Option{window.AllowedLateness(10 * time.Second), window.FinalOnly()}},
	} {
		t.Run(name, func(t *testing.T) {
			want := steps(t, c.assign, c.opts, nil)
			require.NotEmpty(t, want)
			for seed := range uint64(10) {
				got := steps(t, c.assign, append(c.opts, window.FireStep(1)), rand.New(rand.NewPCG(seed, 1)))
				missing, more := difference(want, got)
				require.Empty(t, missing, "missing, seed %d", seed)
				require.Empty(t, more, "too many, seed %d", seed)
			}
		})
	}
}

// steps runs 300 keys through windows; with random, epochs and crashes come at any moment.
func steps(t *testing.T, assign window.Plain, opts []window.Option, random *rand.Rand) (out []string) {
	src, sink, late := flowtest.NewSource[event]("0"), flowtest.NewSink[string](), flowtest.NewSink[flow.Late[event]]()
	tasks := 2
	r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("steps", append(o, flow.WithParallelism(tasks))...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", event.time, watermark.Monotonous().Every(0))
		win := operators.Window(flow.KeyBy(timed, event.key), "win", assign, agg.Sum(event.n), opts...)
		flow.To(operators.Map(win, "print", func(_ context.Context, r window.Result[string, int64]) (string, error) {
			return fmt.Sprintf("%s %d-%d %d %v %d", r.Key, r.Start.Time().Unix(), r.End.Time().Unix(), r.Value, r.Pane.Kind, r.Pane.Index), nil
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
	const keys = 300
	n := int64(0)
	feed := func(second int64, from, to int) {
		for k := from; k < to; k++ {
			n++
			src.Feed(event{Key: fmt.Sprintf("key-%03d", k), At: second, N: n})
		}
	}
	for _, second := range []int64{1, 4, 9, 12, 17} {
		feed(second, 0, keys)
		r.Settle()
		shake()
	}
	// From here on firings are under way while records for their windows come in, in time for the lateness.
	feed(41, 0, 1)
	shake()
	feed(22, 50, 120) // late for what fires
	shake()
	feed(44, 0, keys)
	feed(36, 100, 200)
	shake()
	feed(80, 7, 8) // two windows at once
	shake()
	feed(15, 0, 10) // too late for all
	feed(75, 90, 99)
	shake()
	src.End()
	require.NoError(t, r.Wait())
	for _, l := range late.Values() {
		out = append(out, fmt.Sprintf("late %s %d %d", l.Value.Key, l.Value.At, l.Value.N))
	}
	return append(out, sink.Values()...)
}

// difference is what is in a and not in b, and the other way round, by count.
func difference(a, b []string) (missing, more []string) {
	n := map[string]int{}
	for _, s := range a {
		n[s]++
	}
	for _, s := range b {
		if n[s]--; n[s] < 0 {
			more = append(more, s)
		}
	}
	for s, c := range n {
		if c > 0 {
			missing = append(missing, s)
		}
	}
	slices.Sort(missing)
	return missing, more
}

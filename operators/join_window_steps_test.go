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
	"github.com/millrace-stream/millrace/operators"
	joins "github.com/millrace-stream/millrace/operators/join"
	"github.com/millrace-stream/millrace/operators/window"
)

// Windows of joins that epochs and crashes cut between any two steps give what they give in one go, while records of keys that have not fired
// yet come in between: late ones where both inputs come in one task, so that it is certain which are late, and in time ones while the number of
// tasks changes.
func TestWindowJoinFiresInSteps(t *testing.T) {
	for name, w := range map[string]window.Plain{
		"tumbling": window.Tumbling(10 * time.Second), "sliding": window.Sliding(20*time.Second, 5*time.Second), "session": window.Session(4 * time.Second),
	} {
		for _, late := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", late ", late), func(t *testing.T) {
				t.Parallel()
				want := joinSteps(t, w, late, nil)
				require.NotEmpty(t, want)
				for seed := range uint64(12) {
					missing, more := difference(want, joinSteps(t, w, late, rand.New(rand.NewPCG(seed, 1)), joins.FireStep(1)))
					require.Empty(t, missing, "missing, seed %d", seed)
					require.Empty(t, more, "too many, seed %d", seed)
				}
			})
		}
	}
}

// joinSteps runs 300 keys through a join; with random, epochs and crashes come at any moment.
func joinSteps(t *testing.T, w window.Plain, isLate bool, random *rand.Rand, opts ...joins.Option) (out []string) {
	src, sink, late := flowtest.NewSource[one]("0"), flowtest.NewSink[meeting](), flowtest.NewSink[flow.Late[one]]()
	tasks := 1
	r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
		top := flow.New("steps", append(o, flow.WithParallelism(tasks))...)
		l, r := sides(flow.From(top, "in", src), 0)
		j := operators.CoGroup(l, r, "join", w, meet, append(opts, joins.AllowedLateness(20*time.Second))...)
		flow.To(j, "out", sink)
		flow.To(j.LateLeft(), "late-left", late)
		flow.To(j.LateRight(), "late-right", late)
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
				if !isLate {
					tasks = 1 + random.IntN(3)
				}
				r.Crash()
			}
		}
	}
	n := 0
	feed := func(second int64, from, to int) {
		for k := from; k < to; k++ {
			n++
			src.Feed(one{(n+k)%3 == 0, fmt.Sprintf("key-%03d", k), n, second})
		}
	}
	for _, second := range []int64{1, 4, 9, 12, 17} {
		feed(second, 0, 200)
	}
	shake()
	feed(41, 0, 1) // all of that is due
	shake()
	if isLate {
		feed(22, 50, 120) // for what fires
		feed(36, 150, 300)
	} else {
		feed(41, 150, 300)
	}
	shake()
	feed(80, 7, 8)
	shake()
	if isLate {
		feed(15, 0, 10) // too late
		feed(75, 250, 299)
		feed(62, 250, 260)
	}
	feed(81, 100, 300)
	shake()
	src.End()
	require.NoError(t, r.Wait())
	require.Equal(t, isLate, len(late.Values()) > 0)
	for _, l := range late.Values() {
		out = append(out, fmt.Sprintf("late %s %d %d", l.Value.Key, l.Value.At, l.Value.N))
	}
	for _, m := range sink.Values() {
		out = append(out, fmt.Sprintf("%+v", m))
	}
	return out
}

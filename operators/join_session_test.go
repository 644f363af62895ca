package operators_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	joins "github.com/millrace-stream/millrace/operators/join"
	"github.com/millrace-stream/millrace/operators/window"
)

// inSessions are the sessions of each key by sorting: both sides' records, cut where more than the gap lies between two.
func inSessions(in []one, gap int64) (out [][]one) {
	sorted := slices.Clone(in)
	slices.SortStableFunc(sorted, func(a, b one) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.At, b.At)) })
	for i, o := range sorted {
		if i == 0 || sorted[i-1].Key != o.Key || o.At-sorted[i-1].At > gap {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], o)
	}
	return out
}

// bySide parts the records of a session.
func bySide(of []one) (left, right []one) {
	for _, o := range of {
		if o.Right {
			right = append(right, o)
		} else {
			left = append(left, o)
		}
	}
	return left, right
}

func TestSessionCoGroupProperties(t *testing.T) {
	t.Parallel()
	const gap = 3 // and a half, so that no two sessions just touch: whether they meet depends on the order of arrival, in Flink as here
	flowtest.CheckProperty(t, flowtest.Property[one, meeting]{
		Inputs: drawOnes, Time: one.time, Disorder: bound, Build: meetings(window.Session(gap*time.Second+time.Second/2), bound),
		Oracle: func(in []one) (out []meeting) {
			for _, of := range inSessions(in, gap) {
				l, r := bySide(of)
				out = append(out, meeting{of[0].Key, of[0].At, list(l), list(r), "on time"})
			}
			return out
		},
	})
}

func TestSessionJoinInAllModes(t *testing.T) {
	const gap = 4
	for _, kind := range []joins.Kind{joins.Inner, joins.Full} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			in := script(12, 60, 4)
			var want []two
			for _, of := range inSessions(in, gap) {
				want = append(want, nested(of, -1000, 1000, kind)...)
			}
			flowtest.CheckOperator(t, flowtest.OperatorCheck[one, two]{
				Inputs: in, Want: want,
				Build: func(s flow.Stream[one]) flow.Stream[two] {
					l, r := sides(s, 5*time.Second)
					return operators.WindowJoin(l, r, "join", window.Session(gap*time.Second), kind, pair)
				},
			})
		})
	}
}

// Sessions of a join are those of Window over both inputs in one stream, which is compared with Apache Flink's: also where late records make them
// grow together, fire again, or are refused, in whatever steps they fire and crash.
func TestSessionsOfJoinsAreThoseOfWindows(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 3))
		src, joined, windowed := flowtest.NewSource[one]("0"), flowtest.NewSink[string](), flowtest.NewSink[string]()
		src.BatchSize = 1 // in a larger one a side's records stay together
		late := 4 * time.Second * time.Duration(seed%3)
		r := flowtest.Start(t, func(o ...flow.TopologyOption) *flow.Topology {
			top := flow.New("sessions", append(o, flow.WithParallelism(1))...)
			timed := flow.AssignTime(flow.From(top, "in", src), "time", one.time, watermark.BoundedOutOfOrderness(2*time.Second).Every(0))
			l, r := flow.Split(timed, "side", one.isLeft)
			j := operators.CoGroup(flow.KeyBy(l, one.key), flow.KeyBy(r, one.key), "join", window.Session(3*time.Second), func(g joins.Group[string, one, one], emit func(string)) {
				require.True(t, slices.IsSortedFunc(g.Left, func(a, b one) int { return cmp.Compare(a.At, b.At) }))
				require.True(t, slices.IsSortedFunc(g.Right, func(a, b one) int { return cmp.Compare(a.At, b.At) }))
				emit(fmt.Sprint(g.Key, " ", inSeconds(g.Start), "-", inSeconds(g.End), " ", list(slices.Concat(g.Left, g.Right)), " ", g.Kind))
			}, joins.AllowedLateness(late), joins.FireStep(1))
			lost := func(_ context.Context, l flow.Late[one]) (string, error) { return fmt.Sprint("late ", l.Value.N), nil }
			flow.To(j, "joined", joined)
			flow.To(operators.Map(j.LateLeft(), "late-left", lost), "joined-left", joined)
			flow.To(operators.Map(j.LateRight(), "late-right", lost), "joined-right", joined)
			all := agg.Func((*onesHeld).add, (*onesHeld).merge, (*onesHeld).result)
			w := operators.Window(flow.KeyBy(timed, one.key), "win", window.Session(3*time.Second), all, window.AllowedLateness(late))
			flow.To(operators.Map(w, "print", func(_ context.Context, r window.Result[string, string]) (string, error) {
				return fmt.Sprint(r.Key, " ", inSeconds(r.Start), "-", inSeconds(r.End), " ", r.Value, " ", r.Pane.Kind), nil
			}), "windowed", windowed)
			flow.To(operators.Map(w.Late(), "late", lost), "windowed-late", windowed)
			return top
		}, src)
		for i := range 150 {
			src.Feed(one{random.IntN(2) == 1, fmt.Sprint("k", random.IntN(4)), i, int64(i) - max(random.Int64N(40)-25, 0)})
			if i%9 == 0 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				require.NoError(t, r.Running().Epoch(ctx))
				cancel()
				if random.IntN(2) == 0 {
					r.Crash()
				}
			}
		}
		src.End()
		require.NoError(t, r.Wait())
		require.ElementsMatch(t, windowed.Values(), joined.Values(), "seed %d", seed)
		require.NotEmpty(t, joined.Values())
	}
}

// onesHeld is an accumulator of numbers.
type onesHeld struct{ Of []one }

func (o *onesHeld) add(r one)          { o.Of = append(o.Of, r) }
func (o *onesHeld) merge(of *onesHeld) { o.Of = append(o.Of, of.Of...) }
func (o *onesHeld) result() string     { return list(o.Of) }

// A record that cannot be stored goes to the dead letters, and not with others' sessions.
func TestSessionJoinRefusesWhatItCannotStore(t *testing.T) {
	p := newPairing(1, 1)
	r := p.start(t, func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
		return operators.WindowJoin(l, r, "join", window.Session(3*time.Second), joins.Full, pair, joins.LeftCodec[one](picky{codec.CBOR[one]()}))
	})
	p.left.Feed(left(1, 1), left(13, 2), left(2, 3))
	p.right.Feed(right(1, 3))
	r.Epoch()
	require.Len(t, p.dead.Values(), 1)
	restart(r)
	p.left.End()
	p.right.End()
	require.NoError(t, r.Wait())
	require.Equal(t, []two{{"a", 1, 1}, {"a", 2, 1}}, p.out.Values())
}

// picky cannot store the number 13.
type picky struct{ codec.Codec[one] }

func (p picky) Append(b []byte, v *one) ([]byte, error) {
	if v.N == 13 {
		return b, errors.New("13")
	}
	return p.Codec.Append(b, v)
}

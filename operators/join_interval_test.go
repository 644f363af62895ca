package operators_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	joins "github.com/millrace-stream/millrace/operators/join"
)

// one is a record of either input of a join.
type one struct {
	Right bool
	Key   string
	N     int
	At    int64 // seconds
}

func (o one) isLeft() bool    { return !o.Right }
func (o one) key() string     { return o.Key }
func (o one) time() time.Time { return time.Unix(o.At, 0) }

// two is a pair, -1 where one is missing.
type two struct {
	Key         string
	Left, Right int
}

func pair(l, r *one) two {
	switch {
	case l == nil:
		return two{r.Key, -1, r.N}
	case r == nil:
		return two{l.Key, l.N, -1}
	}
	return two{l.Key, l.N, r.N}
}

// sides splits a stream of records of both inputs.
func sides(s flow.Stream[one], bound time.Duration) (left, right flow.KeyedStream[string, one]) {
	timed := flow.AssignTime(s, "time", one.time, watermark.BoundedOutOfOrderness(bound).Every(0))
	l, r := flow.Split(timed, "side", one.isLeft)
	return flow.KeyBy(l, one.key), flow.KeyBy(r, one.key)
}

func outer(when joins.Interval, kind joins.Kind, bound time.Duration) func(flow.Stream[one]) flow.Stream[two] {
	return func(s flow.Stream[one]) flow.Stream[two] {
		l, r := sides(s, bound)
		return operators.OuterJoin(l, r, "join", when, kind, pair)
	}
}

// nested is the join by trying all pairs.
func nested(in []one, lower, upper int64, kind joins.Kind) (out []two) {
	paired := map[one]bool{}
	for _, l := range in {
		for _, r := range in {
			if !l.Right && r.Right && l.Key == r.Key && r.At-l.At >= lower && r.At-l.At <= upper {
				out = append(out, two{l.Key, l.N, r.N})
				paired[l], paired[r] = true, true
			}
		}
	}
	for _, o := range in {
		if !paired[o] && (o.Right && kind.KeepsRight() || !o.Right && kind.KeepsLeft()) {
			if o.Right {
				out = append(out, two{o.Key, -1, o.N})
			} else {
				out = append(out, two{o.Key, o.N, -1})
			}
		}
	}
	return out
}

// drawOnes draws records with distinct numbers.
func drawOnes(rt *rapid.T) []one {
	in := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) one {
		return one{
			Right: rapid.Bool().Draw(rt, "right"),
			Key:   rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "key"),
			At:    rapid.Int64Range(-12, 20).Draw(rt, "at"),
		}
	}), 0, 25).Draw(rt, "records")
	for i := range in {
		in[i].N = i
	}
	return in
}

func TestIntervalJoinProperties(t *testing.T) {
	s := time.Second
	for name, c := range map[string]struct {
		when         joins.Interval
		lower, upper int64
		kind         joins.Kind
	}{
		"inner":                  {joins.Between(-3*s, 2*s), -3, 2, joins.Inner},
		"inner, the same time":   {joins.Interval{}, 0, 0, joins.Inner},
		"inner, open ends":       {joins.Between(-3*s, 2*s).ExclusiveLower().ExclusiveUpper(), -2, 1, joins.Inner},
		"left":                   {joins.Between(-3*s, 2*s), -3, 2, joins.Left},
		"full":                   {joins.Between(-1*s, 3*s), -1, 3, joins.Full},
		"full, before":           {joins.Between(-4*s, -1*s), -4, -1, joins.Full},
		"full, wider than times": {joins.Between(-1<<63+1, 1<<63-1), -1000, 1000, joins.Full},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flowtest.CheckProperty(t, flowtest.Property[one, two]{
				Inputs: drawOnes, Time: one.time, Disorder: bound,
				Build:  outer(c.when, c.kind, bound),
				Oracle: func(in []one) []two { return nested(in, c.lower, c.upper, c.kind) },
			})
		})
	}
}

// script are records of both inputs, none of them late within 5 s.
func script(seed uint64, n, keys int) []one {
	in := make([]one, n)
	for i, e := range events(seed, n, keys) {
		in[i] = one{e.N%3 == 1, e.Key, i, e.At}
	}
	slices.SortStableFunc(in, func(a, b one) int { return cmp.Compare(a.At+int64(a.N%5), b.At+int64(b.N%5)) })
	return in
}

func TestIntervalJoinInAllModes(t *testing.T) {
	for _, kind := range []joins.Kind{joins.Inner, joins.Left, joins.Right, joins.Full} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			in := script(7, 60, 3)
			flowtest.CheckOperator(t, flowtest.OperatorCheck[one, two]{
				Inputs: in, Want: nested(in, -10, 4, kind),
				Build: outer(joins.Between(-10*time.Second, 4*time.Second), kind, 5*time.Second),
			})
		})
	}
}

// pairing is a join of two sources.
type pairing struct {
	left, right         *flowtest.Source[one]
	out                 *flowtest.Sink[two]
	lateLeft, lateRight *flowtest.Sink[flow.Late[one]]
	dead                *flowtest.Sink[flow.DeadLetter]
	wm                  flow.WatermarkStrategy
	tasks               int
	unit                time.Duration // of times
}

func newPairing(leftParts, rightParts int) *pairing {
	parts := func(n int) (ps []string) {
		for i := range n {
			ps = append(ps, fmt.Sprint(i))
		}
		return ps
	}
	return &pairing{
		left: flowtest.NewSource[one](parts(leftParts)...), right: flowtest.NewSource[one](parts(rightParts)...),
		out: flowtest.NewSink[two](), lateLeft: flowtest.NewSink[flow.Late[one]](), lateRight: flowtest.NewSink[flow.Late[one]](),
		dead: flowtest.NewSink[flow.DeadLetter](), wm: watermark.Monotonous().Every(0), tasks: 2, unit: time.Second,
	}
}

func (p *pairing) start(t *testing.T, build func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two]) *flowtest.Run {
	at := func(o one) time.Time { return time.Unix(0, o.At*int64(p.unit)) }
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("pairs", append(opts, flow.WithParallelism(p.tasks))...)
		l := flow.KeyBy(flow.AssignTime(flow.From(top, "left", p.left), "left-time", at, p.wm), one.key)
		r := flow.KeyBy(flow.AssignTime(flow.From(top, "right", p.right), "right-time", at, p.wm), one.key)
		j := build(l, r)
		flow.To(j, "out", p.out)
		flow.To(j.LateLeft(), "late-left", p.lateLeft)
		flow.To(j.LateRight(), "late-right", p.lateRight)
		flow.To(top.DeadLetters(), "dead", p.dead)
		return top
	}, p.left, p.right)
	r.Settle() // both sources are there
	return r
}

func restart(r *flowtest.Run) {
	r.Crash()
	r.Settle()
}

func left(n int, at int64) one  { return one{false, "a", n, at} }
func right(n int, at int64) one { return one{true, "a", n, at} }

// What stands just where the watermark stands is not late, and finds only what that watermark has not freed, as in Flink.
func TestIntervalJoinAtTheWatermark(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprint("crash ", crash), func(t *testing.T) {
			p := newPairing(1, 1)
			p.unit = 1
			r := p.start(t, func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
				return operators.OuterJoin(l, r, "join", joins.Between(-2, 0), joins.Full, pair)
			})
			step := func() []two {
				r.Epoch()
				if crash {
					restart(r)
				}
				return p.out.Next()
			}
			p.left.Feed(left(1, 10))
			p.right.Feed(right(1, 8))
			require.Equal(t, []two{{"a", 1, 1}}, step())
			p.left.Feed(left(2, 11))
			p.right.Feed(right(2, 11))
			require.Equal(t, []two{{"a", 2, 2}}, step())
			// The watermark is 10.
			p.left.Feed(left(3, 10))
			require.Empty(t, step(), "right 1 has been freed at 8+2")
			p.right.Feed(right(3, 10))
			require.ElementsMatch(t, []two{{"a", 2, 3}, {"a", 3, 3}}, step(), "left 1 has been freed at 10, left 3 came later")
			p.left.Feed(left(4, 9), left(5, 10))
			p.right.Feed(right(4, 9))
			require.Equal(t, []two{{"a", 5, 3}}, step())
			late := p.lateLeft.Next()
			require.Len(t, late, 1)
			require.Equal(t, flow.Late[one]{Value: left(4, 9), Time: 9, Reason: "its time is behind the watermark"}, late[0])
			require.Len(t, p.lateRight.Next(), 1)
			p.left.Feed(left(6, 20))
			require.Empty(t, step())
			p.right.Feed(right(5, 30))
			require.Empty(t, step(), "all others have had partners")
			p.left.End()
			p.right.End()
			require.NoError(t, r.Wait())
			require.Equal(t, []two{{"a", 6, -1}, {"a", -1, 5}}, p.out.Next())
			times := p.out.Records()
			require.EqualValues(t, 20, times[len(times)-2].Time)
			require.EqualValues(t, 32, times[len(times)-1].Time)
		})
	}
}

// Two sources with unequal partitions, one of them idle: the join goes on with what is active.
func TestIntervalJoinOfUnequalSources(t *testing.T) {
	p := newPairing(3, 1)
	p.wm = watermark.Monotonous().Every(0).IdleAfter(time.Minute)
	r := p.start(t, func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
		return operators.OuterJoin(l, r, "join", joins.Between(0, 5*time.Second), joins.Left, pair)
	})
	p.left.FeedTo("0", left(1, 10), left(0, 20))
	p.left.FeedTo("1", left(2, 11))
	p.right.Feed(right(1, 12), right(2, 40))
	r.Epoch()
	require.ElementsMatch(t, []two{{"a", 1, 1}, {"a", 2, 1}}, p.out.Next())
	p.left.FeedTo("0", left(3, 50))
	p.left.FeedTo("1", left(4, 30))
	p.right.Feed(right(3, 60))
	r.Epoch()
	require.Empty(t, p.out.Next(), "partition 2 has not spoken")
	p.left.Idle("2")
	r.Settle()
	require.Eventually(t, func() bool {
		r.Clock.Advance(time.Minute)
		r.Epoch()
		return len(p.out.Values()) > 2
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, []two{{"a", 0, -1}}, p.out.Next(), "the watermark is 30, that of partition 1: left 4 waits until 35")
	r.Stop()
}

func TestJoinLeavesNothingOfARecordThatFails(t *testing.T) {
	p := newPairing(1, 1)
	r := p.start(t, func(l, r flow.KeyedStream[string, one]) operators.Joined[one, one, two] {
		return operators.Join(l, r, "join", joins.Between(-5*time.Second, 5*time.Second), func(l, r one) two {
			if l.N+r.N == 12 {
				panic("twelve")
			}
			return pair(&l, &r)
		})
	})
	p.left.Feed(left(1, 1), left(2, 2))
	r.Settle()
	p.right.Feed(right(10, 1), right(11, 2))
	r.Epoch()
	require.Empty(t, p.out.Next(), "2+10 and 1+11 fail, and take what their records gave with them")
	require.Len(t, p.dead.Next(), 2)
	p.left.Feed(left(3, 3))
	p.right.Feed(right(12, 3))
	r.Epoch()
	require.ElementsMatch(t, []two{{"a", 3, 12}, {"a", 1, 12}, {"a", 2, 12}}, p.out.Next())
	r.Stop()
}

func TestIntervalJoinValidate(t *testing.T) {
	top := flow.New("pairs")
	in := flow.From(top, "in", flowtest.NewSource[one]())
	l, r := sides(in, 0)
	n := 0
	add := func(when joins.Interval, opts ...joins.Option) {
		n++
		flow.To(operators.Join(l, r, fmt.Sprint("join-", n), when, func(l, r one) two { return pair(&l, &r) }, opts...), fmt.Sprint("out-", n), flowtest.NewSink[two]())
	}
	add(joins.Between(time.Second, 0))
	add(joins.Between(0, 0).ExclusiveLower())
	add(joins.Between(0, 0), joins.AllowedLateness(time.Second), joins.Within(time.Second))
	add(joins.Between(0, 0), joins.LeftCodec[two](nil))
	flow.To(operators.OuterJoin[string, one, one, two](l, r, "none", joins.Interval{}, 9, nil), "none-out", flowtest.NewSink[two]())
	err := top.Validate()
	for _, want := range []string{
		"nothing lies in the interval [1s, 0s]", "nothing lies in the interval (0s, 0s]", "AllowedLateness on an interval join",
		"Within on an interval join", "there is no Kind(9) join", "its function is nil", "the node keeps state but the topology has no store",
	} {
		require.ErrorContains(t, err, want)
	}
	top = flow.New("untimed")
	in = flow.From(top, "in", flowtest.NewSource[one]())
	k := flow.KeyBy(in, one.key)
	flow.To(operators.Join(k, k, "join", joins.Interval{}, func(l, r one) two { return pair(&l, &r) }), "out", flowtest.NewSink[two]())
	require.Error(t, top.Validate())
}

// Where both inputs come of one partition, each partition joins for itself.
func TestJoinOfCoPartitionedStreams(t *testing.T) {
	src, out := flowtest.NewSource[one]("0", "1"), flowtest.NewSink[two]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("pairs", opts...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", one.time, watermark.BoundedOutOfOrderness(5*time.Second).Every(0))
		l, r := flow.Split(timed, "side", one.isLeft)
		kl, kr := flow.KeyBy(l, one.key, flow.CoPartitioned()), flow.KeyBy(r, one.key, flow.CoPartitioned())
		flow.To(operators.OuterJoin(kl, kr, "join", joins.Between(-4*time.Second, 4*time.Second), joins.Full, pair), "out", out)
		return top
	}, src)
	in := script(13, 60, 4)
	for i, o := range in {
		src.FeedTo(fmt.Sprint(int(o.Key[1])%2), o)
		if i%7 == 0 {
			r.Epoch()
			r.Crash()
		}
	}
	r.Flush()
	require.ElementsMatch(t, nested(in, -4, 4, joins.Full), out.Values())
}

package operators_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// reading is a number of a key at a second.
type reading struct {
	Key string
	At  float64
	X   float64
}

func (r reading) key() string     { return r.Key }
func (r reading) x() float64      { return r.X }
func (r reading) time() time.Time { return time.Unix(0, int64(r.At*1e9)) }

// sieveOf puts a filter behind in; its outliers come with their reason.
func sieveOf(in flow.Stream[reading], filter func(flow.KeyedStream[string, reading]) operators.Sifted[string, reading]) []flow.Stream[string] {
	times := flow.AssignTime(in, "time", reading.time, watermark.BoundedOutOfOrderness(5*time.Second).Every(0))
	f := filter(flow.KeyBy(times, reading.key))
	return []flow.Stream[string]{
		operators.Map(f, "good", func(_ context.Context, r reading) (string, error) { return fmt.Sprintf("%s %v", r.Key, r.X), nil }),
		operators.Map(f.Outliers(), "bad", func(_ context.Context, o operators.Outlier[reading]) (string, error) {
			return fmt.Sprintf("%s! %v %s (%.3g)", o.Value.Key, o.Number, o.Reason, o.Score), nil
		}),
	}
}

func series(key string, xs ...float64) (in []reading) {
	for i, x := range xs {
		in = append(in, reading{key, float64(i), x})
	}
	return in
}

var inf, nan = math.Inf(1), math.NaN()

func TestOutliers(t *testing.T) {
	for name, c := range map[string]struct {
		in     []reading
		filter func(flow.KeyedStream[string, reading]) operators.Sifted[string, reading]
		want   []string
	}{
		"range": {
			append(series("a", -1, 0, 5, 10, 10.5, nan, inf), series("b", -inf, 3)...),
			func(s flow.KeyedStream[string, reading]) operators.Sifted[string, reading] {
				return operators.OutOfRange(s, "f", reading.x, 0, 10)
			},
			[]string{"a! -1 below the range (-1)", "a 0", "a 5", "a 10", "a! 10.5 above the range (10.5)", "a! NaN not a number (NaN)", "a! +Inf above the range (+Inf)",
				"b! -Inf below the range (-Inf)", "b 3"},
		},
		"open range": {
			series("a", -1, 0, inf, nan),
			func(s flow.KeyedStream[string, reading]) operators.Sifted[string, reading] {
				return operators.OutOfRange(s, "f", reading.x, 0, inf)
			},
			[]string{"a! -1 below the range (-1)", "a 0", "a +Inf", "a! NaN not a number (NaN)"},
		},
		"rate of change": {
			[]reading{
				{"a", 0, nan}, {"a", 1, 20}, {"a", 2, 22}, {"b", 2, 500}, {"a", 3, 30}, {"a", 4, 24}, {"a", 3.5, 23.5}, {"a", 3, 20}, {"a", 4, 24}, {"a", 4, 24.1},
				// A lasting jump passes in the end.
				{"a", 5, 34}, {"a", 6, 34}, {"a", 8, 34}, {"a", 9, 34}, {"a", 10, -inf}, {"a", 11, 35},
			},
			func(s flow.KeyedStream[string, reading]) operators.Sifted[string, reading] {
				return operators.RateOfChange(s, "f", reading.x, 2)
			},
			[]string{
				"a! NaN not a number (NaN)", "a 20", "a 22", "b 500", "a! 30 changes too fast (8)", "a 24", "a 23.5", "a! 20 changes too fast (4)", "a 24",
				"a! 24.1 changes too fast (+Inf)", "a! 34 changes too fast (10)", "a! 34 changes too fast (5)", "a! 34 changes too fast (2.5)", "a 34",
				"a! -Inf infinite (NaN)", "a 35",
			},
		},
		"z-score": {
			// The last four of 10 12 10 12 have mean 11 and deviation 1.155.
			append(series("a", 10, 12, 10, 12, 15, 11, nan, 12, 10, 12, 11, 8), series("b", 7, 7, 7, 7, 7, 7.001, 7, 7, 7, 7, 8)...),
			func(s flow.KeyedStream[string, reading]) operators.Sifted[string, reading] {
				return operators.ZScore(s, "f", reading.x, 4, 3)
			},
			[]string{
				"a 10", "a 12", "a 10", "a 12", "a! 15 too far from the mean of the last ones (3.46)", "a 11", "a! NaN not a number (NaN)", "a 12", "a 10", "a 12", "a 11",
				"a! 8 too far from the mean of the last ones (3.39)",
				"b 7", "b 7", "b 7", "b 7", "b 7", "b! 7.001 too far from the mean of the last ones (+Inf)", "b 7", "b 7", "b 7", "b 7",
				"b! 8 too far from the mean of the last ones (+Inf)",
			},
		},
		"z-score with a least deviation": {
			series("b", 7, 7, 7, 7.5, 7, 8),
			func(s flow.KeyedStream[string, reading]) operators.Sifted[string, reading] {
				return operators.ZScore(s, "f", reading.x, 3, 3, operators.MinDeviation(0.5))
			},
			[]string{"b 7", "b 7", "b 7", "b 7.5", "b 7", "b 8"},
		},
		"hampel": {
			// The last five of 1 2 3 4 100 have median 3, and distances 0 1 1 2 97: a deviation of 1.4826.
			append(series("a", 1, 2, 3, 4, 100, 7, 8, inf, 4), series("b", 5, 5, 5, 5, 5, 5, 6, 6, 6, 6, 5)...),
			func(s flow.KeyedStream[string, reading]) operators.Sifted[string, reading] {
				return operators.Hampel(s, "f", reading.x, 5, 3)
			},
			[]string{
				"a 1", "a 2", "a 3", "a 4", "a 100", "a 7", "a 8", "a! +Inf infinite (NaN)", "a 4",
				"b 5", "b 5", "b 5", "b 5", "b 5", "b 5", "b! 6 too far from the median of the last ones (+Inf)", "b! 6 too far from the median of the last ones (+Inf)",
				"b! 6 too far from the median of the last ones (+Inf)", "b 6", "b! 5 too far from the median of the last ones (+Inf)",
			},
		},
		"hampel, an even number": {
			// The last four of 1 2 4 8 have median 3, and distances 1 1 2 5: a deviation of 2.2239.
			series("a", 1, 2, 4, 8, 10, 3),
			func(s flow.KeyedStream[string, reading]) operators.Sifted[string, reading] {
				return operators.Hampel(s, "f", reading.x, 4, 3)
			},
			[]string{"a 1", "a 2", "a 4", "a 8", "a! 10 too far from the median of the last ones (3.15)", "a 3"},
		},
		"key forgotten": {
			[]reading{{"a", 0, 1}, {"a", 1, 1}, {"a", 2, 9}, {"z", 20, 1}, {"z", 20, 1}, {"a", 21, 9}},
			func(s flow.KeyedStream[string, reading]) operators.Sifted[string, reading] {
				return operators.ZScore(s, "f", reading.x, 2, 3, operators.IdleTTL(10*time.Second))
			},
			[]string{"a 1", "a 1", "a! 9 too far from the mean of the last ones (+Inf)", "z 1", "z 1", "a 9"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flowtest.CheckOperator(t, flowtest.OperatorCheck[reading, string]{
				Inputs: c.in, Key: firstWord, Want: c.want,
				BuildMany: func(in flow.Stream[reading]) []flow.Stream[string] { return sieveOf(in, c.filter) },
			})
		})
	}
}

// The numbers are those of the definition, over many random series: an oracle sorts and sums anew for each record.
func TestRollingScoresAreThoseOfTheDefinition(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{2, 3, 8, 25} {
		var xs []float64
		for range 300 {
			xs = append(xs, math.Round(rnd.NormFloat64()*5)/2)
		}
		for name, c := range map[string]struct {
			filter func(flow.KeyedStream[string, reading]) operators.Sifted[string, reading]
			score  func(last []float64, x float64) float64
		}{
			"z-score": {func(s flow.KeyedStream[string, reading]) operators.Sifted[string, reading] {
				return operators.ZScore(s, "f", reading.x, n, 1.5)
			}, zScore},
			"hampel": {func(s flow.KeyedStream[string, reading]) operators.Sifted[string, reading] {
				return operators.Hampel(s, "f", reading.x, n, 1.5)
			}, hampelScore},
		} {
			src, out := flowtest.NewSource[reading](), flowtest.NewSink[operators.Outlier[reading]]()
			r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
				top := flow.New("scores", opts...)
				f := c.filter(flow.KeyBy(flow.From(top, "in", src), reading.key))
				flow.To(f, "out", flowtest.NewSink[reading]())
				flow.To(f.Outliers(), "outliers", out)
				return top
			}, src)
			in := series("a", xs...)
			src.Feed(in[:150]...)
			r.Epoch()
			r.Crash()
			src.Feed(in[150:]...)
			r.Flush()
			var want []float64
			for i := n; i < len(xs); i++ {
				if s := c.score(xs[i-n:i], xs[i]); s > 1.5 {
					want = append(want, s)
				}
			}
			var got []float64
			for _, o := range out.Values() {
				got = append(got, o.Score)
			}
			require.NotEmpty(t, want)
			require.Len(t, got, len(want), "%s of %d", name, n)
			for i := range want {
				if got[i] != want[i] { // also where both are infinite
					require.InDelta(t, want[i], got[i], 1e-9, "%s of %d", name, n)
				}
			}
		}
	}
}

func zScore(last []float64, x float64) float64 {
	mean, squares := 0.0, 0.0
	for _, v := range last {
		mean += v / float64(len(last))
	}
	for _, v := range last {
		squares += (v - mean) * (v - mean)
	}
	return distanceIn(math.Abs(x-mean), math.Sqrt(squares/float64(len(last)-1)))
}

func hampelScore(last []float64, x float64) float64 {
	median := func(vs []float64) float64 {
		vs = slices.Sorted(slices.Values(vs))
		return (vs[(len(vs)-1)/2] + vs[len(vs)/2]) / 2
	}
	m := median(last)
	var distances []float64
	for _, v := range last {
		distances = append(distances, math.Abs(v-m))
	}
	return distanceIn(math.Abs(x-m), 1.4826*median(distances))
}

func distanceIn(distance, deviation float64) float64 {
	if distance < 1e-12 {
		return 0
	}
	if deviation < 1e-12 {
		deviation = 0
	}
	return distance / deviation
}

// What passes keeps its key: a window stands behind it without another exchange.
func TestSiftedIsKeyed(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[reading, string]{
		Inputs: []reading{{"a", 0, 1}, {"b", 1, 2}, {"a", 2, 900}, {"a", 3, 3}, {"b", 11, 4}}, Key: firstWord,
		Want: []string{"a 2", "b 1", "b 1"},
		Build: func(in flow.Stream[reading]) flow.Stream[string] {
			times := flow.AssignTime(in, "time", reading.time, watermark.BoundedOutOfOrderness(5*time.Second))
			good := operators.OutOfRange(flow.KeyBy(times, reading.key), "f", reading.x, 0, 10)
			counts := operators.Window(good.Keyed(), "count", window.Tumbling(10*time.Second), agg.Count(reading.x))
			return operators.Map(counts, "lines", func(_ context.Context, r window.Result[string, int64]) (string, error) {
				return fmt.Sprint(r.Key, " ", r.Value), nil
			})
		},
	})
}

func TestOutlierFunctionThatPanics(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[reading, string]{
		Inputs: series("a", 1, 1, 13, 1, 5, 1), Key: firstWord,
		Want: []string{"a 1", "a 1", "a 1", "a! 5 too far from the mean of the last ones (+Inf)", "a 1"},
		BuildMany: func(in flow.Stream[reading]) []flow.Stream[string] {
			return sieveOf(in, func(s flow.KeyedStream[string, reading]) operators.Sifted[string, reading] {
				return operators.ZScore(s, "f", func(r reading) float64 {
					if r.X == 13 {
						panic("no")
					}
					return r.X
				}, 2, 3, flow.OnError(flow.DropOnError))
			})
		},
	})
}

func TestOutlierFiltersRefuse(t *testing.T) {
	top := flow.New("wrong", flow.WithStore(state.InMemory()))
	in := flow.KeyBy(flow.From(top, "in", flowtest.NewSource[reading]()), reading.key)
	n := 0
	to := func(s flow.Stream[reading]) {
		n++
		flow.To(s, fmt.Sprint("out-", n), flowtest.NewSink[reading]())
	}
	to(operators.OutOfRange(in, "nil", nil, 0, 1))
	to(operators.OutOfRange(in, "empty", reading.x, 1, 0))
	to(operators.OutOfRange(in, "nan", reading.x, nan, 0))
	to(operators.OutOfRange(in, "no-state", reading.x, 0, 1, operators.IdleTTL(time.Second)))
	to(operators.RateOfChange(in, "rate", reading.x, -1))
	to(operators.RateOfChange(in, "untimed", reading.x, 1))
	to(operators.RateOfChange(in, "no-deviation", reading.x, 1, operators.MinDeviation(1)))
	to(operators.ZScore(in, "one", reading.x, 1, 3))
	to(operators.Hampel(in, "limit", reading.x, 5, nan))
	to(operators.Hampel(in, "least", reading.x, 5, 3, operators.MinDeviation(-1)))
	err := top.Validate()
	for _, say := range []string{
		`"nil": its function is nil`, `"empty": the range from 1 to 0 is empty`, `"nan": the range from NaN`, `"no-state": IdleTTL on a filter without state`,
		`"rate": a greatest change of -1`, `"untimed": the operator needs event time`, `"no-deviation": MinDeviation on a filter`, `"one": the last 1 numbers`,
		`"limit": a limit of NaN`, `"least": MinDeviation(-1)`,
	} {
		require.ErrorContains(t, err, say)
	}
}

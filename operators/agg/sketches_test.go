package agg_test

import (
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
)

func TestHistogram(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	bounds := []float64{0, 10, 100}
	a := agg.Histogram(reading.temperature, bounds...)
	bounds[0] = -1 // the aggregate's own are a copy
	want := agg.Buckets{Bounds: []float64{0, 10, 100}, Counts: []int64{2, 3, 1, 1}, Count: 7, Sum: 170.5, NaN: 2}
	require.Equal(t, want, fold(t, a, temps(-1, 0, 0.5, nan, 10, 10, 50, nan, 101)))
	require.Equal(t, agg.Buckets{Bounds: want.Bounds, Counts: make([]int64, 4)}, fold(t, a, nil))
	got := fold(t, a, temps(-inf, 5))
	require.Equal(t, []int64{1, 1, 0, 0}, got.Counts)
	require.True(t, math.IsInf(got.Sum, -1))
	require.Equal(t, []int64{0, 0, 0, 1}, fold(t, a, temps(inf)).Counts)
}

// TestQuantilesAreWithinTheirAccuracy compares with the sorted values.
func TestQuantilesAreWithinTheirAccuracy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		accuracy := rapid.SampledFrom([]float64{0.001, 0.01, 0.1, 0.5}).Draw(t, "accuracy")
		scale := rapid.SampledFrom([]float64{1e-3, 1, 1e9}).Draw(t, "scale")
		q := []float64{0, 0.01, 0.5, 0.9, 0.99, 1}
		values := rapid.SliceOfN(rapid.OneOf(rapid.Float64Range(-1, 1), rapid.Float64Range(1e-9, 1e-3), rapid.Just(0.0)), 1, 300).Draw(t, "values")
		for i := range values {
			if values[i] *= scale; math.Abs(values[i]) < 1e-12*scale {
				values[i] = 0
			}
		}
		s := agg.Quantiles(reading.temperature, accuracy, q...).NewStore()
		first := s.AllocBlock()
		s.AddBatch(repeat(first, len(values)), temps(values...))
		slices.Sort(values)
		for i, got := range s.Result(first) {
			rank := q[i] * float64(len(values)-1)
			low, high := values[int(math.Floor(rank))], values[int(math.Ceil(rank))]
			near := func(want float64) bool { return math.Abs(want-got) <= math.Abs(want)*accuracy*1.0001 }
			require.True(t, low >= 0 && near(low) || low < 0 && near(high) || near(low), "%v: %v is neither %v nor %v", q[i], got, low, high)
		}
	})
}

func TestQuantilesOfSpecialValues(t *testing.T) {
	t.Parallel()
	nan, inf, most := math.NaN(), math.Inf(1), 1e308
	for name, c := range map[string]struct{ in, want []float64 }{
		"nothing":            {nil, nil},
		"NaN alone":          {[]float64{nan}, nil},
		"NaN is passed over": {[]float64{nan, 7, nan}, []float64{7, 7, 7}},
		"infinities":         {[]float64{inf, 1, -inf}, []float64{-inf, 1, inf}},
		"infinity alone":     {[]float64{inf}, []float64{inf, inf, inf}},
		"half infinite":      {[]float64{1, 2, inf, inf}, []float64{1, 2, inf}},
		"below all":          {[]float64{-inf, -inf, 4}, []float64{-inf, -inf, 4}},
		"ends of float64":    {[]float64{-most, 5e-324, most}, []float64{-most, 0, most}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := fold(t, agg.Quantiles(reading.temperature, 0.02, 0, 0.5, 1), temps(c.in...))
			require.Len(t, got, len(c.want))
			for i := range got {
				if math.IsInf(c.want[i], 0) {
					require.InDelta(t, math.Copysign(1, c.want[i]), math.Copysign(1, got[i]), 0)
					require.True(t, math.IsInf(got[i], 0))
					continue
				}
				require.InEpsilon(t, c.want[i]+1, got[i]+1, 0.0201)
			}
		})
	}
	require.Zero(t, fold(t, agg.Quantile(reading.temperature, 0.01, 0.5), nil))
	require.InEpsilon(t, 3, fold(t, agg.Quantile(reading.temperature, 0.01, 0.5), temps(1, 3, 9)), 0.01)
}

// TestDistinct: few values are counted exactly, many within a few standard errors.
func TestDistinct(t *testing.T) {
	t.Parallel()
	for _, e := range []float64{0.26, 0.05, 0.01, 0.0021} {
		s := agg.Distinct(reading.device, e).NewStore()
		first := s.AllocBlock()
		for n := 1; n <= 30_000; n++ {
			r := flow.Record[reading]{Value: reading{Device: "dev-" + strconv.Itoa(n)}}
			s.Add(first, &r)
			if n%3 == 0 {
				s.Add(first, &r)
			}
			switch {
			case n == 6, n == 384 && e == 0.01:
				require.Equal(t, int64(n), s.Result(first), "error %v", e)
			case n%10_000 == 0:
				require.InEpsilon(t, n, s.Result(first), 4*e, "error %v", e)
			}
		}
	}
}

func TestDistinctByKind(t *testing.T) {
	t.Parallel()
	type key struct {
		Device string
		Pair   [2]float32
		At     time.Time
	}
	in := temps(1, 2, math.NaN(), 0, math.Copysign(0, -1), 2, -math.NaN())
	in[1].Value.Device, in[5].Value.Device = "a", "a"
	require.Equal(t, int64(4), fold(t, agg.Distinct(reading.temperature, 0.01), in))
	require.Equal(t, int64(2), fold(t, agg.Distinct(reading.device, 0.01), in))
	require.Equal(t, int64(1), fold(t, agg.Distinct(reading.level, 0.01), in))
	require.Equal(t, int64(1), fold(t, agg.Distinct(func(reading) bool { return true }, 0.01), in))
	require.Equal(t, int64(4), fold(t, agg.Distinct(func(r reading) key {
		return key{r.Device, [2]float32{float32(r.Temperature), 1}, time.Unix(1, 0)}
	}, 0.01), in))
	zones := []time.Time{time.Unix(5, 0).UTC(), time.Unix(5, 0).In(time.FixedZone("x", 3600)), time.Unix(5, 1)}
	i := 0
	s := agg.Distinct(func(reading) time.Time { i++; return zones[i%3] }, 0.01).NewStore()
	first := s.AllocBlock()
	s.AddBatch(repeat(first, len(in)), in)
	require.Equal(t, int64(2), s.Result(first))
}

func TestTopK(t *testing.T) {
	t.Parallel()
	in := temps(3, 1, 3, 2, 2, 3, math.NaN(), 9)
	got := fold(t, agg.TopK(reading.temperature, 2, 10), in)
	require.Equal(t, agg.Frequent[float64]{Values: []agg.Counted[float64]{{3, 3}, {2, 2}}}, got)
	got = fold(t, agg.TopK(reading.temperature, 4, 8), in)
	require.Equal(t, []agg.Counted[float64]{{3, 3}, {2, 2}, {1, 1}, {9, 1}}, got.Values, "equal counts in order of the values")
	require.Zero(t, fold(t, agg.TopK(reading.device, 2, 10), nil))
	payload := []byte("abc")
	s := agg.TopK(reading.device, 2, 10).NewStore()
	first := s.AllocBlock()
	s.Add(first, &flow.Record[reading]{Value: reading{Device: unsafeString(payload)}})
	copy(payload, "xyz")
	require.Equal(t, "abc", s.Result(first).Values[0].Value)
}

// TestTopKKeepsItsBound counts more values than the limit, in parts that are merged, and compares with exact counts.
func TestTopKKeepsItsBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const k, limit = 4, 16
		s := agg.TopK(reading.level, k, limit).NewStore()
		first := s.AllocBlock()
		exact := map[int8]int64{}
		n := rapid.IntRange(0, 2000).Draw(t, "n")
		seed := rapid.Uint64().Draw(t, "seed")
		parts := agg.Slot(rapid.IntRange(1, 5).Draw(t, "parts"))
		for i := range n {
			seed = seed*6364136223846793005 + 1442695040888963407
			// Half of the records are of few values.
			v := int8(seed >> 56)
			if seed>>40&1 == 0 {
				v = int8(seed >> 61)
			}
			exact[v]++
			s.Add(first+agg.Slot(i)%parts, &flow.Record[reading]{Value: reading{Level: v}})
		}
		for i := agg.Slot(1); i < parts; i++ {
			s.Merge(first, first+i)
		}
		got := s.Result(first)
		require.LessOrEqual(t, got.Error, int64(2*n/limit))
		if len(exact) <= limit {
			require.Zero(t, got.Error)
		}
		listed := map[int8]bool{}
		for _, c := range got.Values {
			listed[c.Value] = true
			require.LessOrEqual(t, c.Count, exact[c.Value])
			require.GreaterOrEqual(t, c.Count+got.Error, exact[c.Value])
		}
		for v, n := range exact {
			if !listed[v] && len(got.Values) == k {
				require.LessOrEqual(t, n, got.Values[k-1].Count+got.Error)
			} else if !listed[v] {
				require.LessOrEqual(t, n, got.Error)
			}
		}
	})
}

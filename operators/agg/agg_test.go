package agg_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
)

type reading struct {
	Device      string
	At          int64
	Temperature float64
	Level       int8
	Tags        []string
	Fault       *string
}

func (r reading) temperature() float64 { return r.Temperature }
func (r reading) level() int8          { return r.Level }
func (r reading) device() string       { return r.Device }
func (r reading) tags() []string       { return r.Tags }
func (r reading) fault() *string       { return r.Fault }

func temps(v ...float64) []flow.Record[reading] {
	out := make([]flow.Record[reading], len(v))
	for i, t := range v {
		out[i] = flow.Record[reading]{Value: reading{Temperature: t}, Time: flow.Timestamp(i)}
	}
	return out
}

// fold runs in through Add, AddBatch and Merge of halves, demands that all agree, and returns the result.
func fold[R any](t *testing.T, a agg.Aggregate[reading, R], in []flow.Record[reading]) R {
	t.Helper()
	require.NoError(t, agg.Check(a))
	s := a.NewStore()
	first := s.AllocBlock()
	slots := make([]agg.Slot, len(in))
	for i := range in {
		slots[i] = first + 1
		s.Add(first, &in[i])
	}
	s.AddBatch(slots, in)
	half := len(in) / 2
	s.AddBatch(slots[:half], in[:half])
	second := s.AllocBlock()
	for i := range in {
		to := second
		if i >= half {
			to++
		}
		s.Add(to, &in[i])
	}
	s.Merge(second, second+1)
	got := s.Result(first)
	requireSame(t, got, s.Result(second))
	s.FreeBlock(first)
	again := s.AllocBlock()
	require.Equal(t, first, again, "a freed block is reused")
	s.AddBatch(append(slots[:0:0], repeat(again+3, len(in))...), in)
	requireSame(t, got, s.Result(again+3))
	return got
}

func repeat(s agg.Slot, n int) []agg.Slot {
	out := make([]agg.Slot, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// requireSame is Equal that takes NaN for equal to NaN.
func requireSame(t require.TestingT, want, got any) {
	w, wok := want.(float64)
	g, gok := got.(float64)
	if wok && gok && math.IsNaN(w) && math.IsNaN(g) {
		return
	}
	require.Equal(t, want, got)
}

func TestFloats(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	for name, c := range map[string]struct {
		in                  []float64
		sum, avg, low, high float64
	}{
		"nothing":             {nil, 0, 0, 0, 0},
		"one":                 {[]float64{-3}, -3, -3, -3, -3},
		"some":                {[]float64{2, -1, 5, 2}, 8, 2, -1, 5},
		"NaN first":           {[]float64{nan, 1, 3}, nan, nan, 1, 3},
		"NaN between":         {[]float64{1, nan, 3}, nan, nan, 1, 3},
		"NaN last":            {[]float64{1, 3, nan}, nan, nan, 1, 3},
		"NaN only":            {[]float64{nan, nan}, nan, nan, nan, nan},
		"infinity":            {[]float64{1, inf}, inf, inf, 1, inf},
		"both infinities":     {[]float64{inf, -inf}, nan, nan, -inf, inf},
		"infinity and NaN":    {[]float64{-inf, nan}, nan, nan, -inf, -inf},
		"sum beyond float64":  {[]float64{math.MaxFloat64, math.MaxFloat64}, inf, inf, math.MaxFloat64, math.MaxFloat64},
		"greatest is below 0": {[]float64{-5, -2, -9}, -16, -16.0 / 3, -9, -2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := temps(c.in...)
			requireSame(t, c.sum, fold(t, agg.Sum(reading.temperature), in))
			requireSame(t, c.avg, fold(t, agg.Avg(reading.temperature), in))
			requireSame(t, c.low, fold(t, agg.Min(reading.temperature), in))
			requireSame(t, c.high, fold(t, agg.Max(reading.temperature), in))
			require.Equal(t, int64(len(c.in)), fold(t, agg.Count(reading.temperature), in))
		})
	}
}

func TestIntegersWrap(t *testing.T) {
	t.Parallel()
	in := []flow.Record[reading]{{Value: reading{Level: 100}}, {Value: reading{Level: 100}}, {Value: reading{Level: -1}}}
	require.Equal(t, int8(-57), fold(t, agg.Sum(reading.level), in))
	require.Equal(t, 199, fold(t, agg.Sum(func(r reading) int { return int(r.Level) }), in))
	require.InDelta(t, 199.0/3, fold(t, agg.Avg(reading.level), in), 1e-12)
	require.Equal(t, int8(-1), fold(t, agg.Min(reading.level), in))
	require.Equal(t, int8(100), fold(t, agg.Max(reading.level), in))
	lowest := []flow.Record[reading]{{Value: reading{At: math.MinInt64}}}
	require.Equal(t, int64(math.MinInt64), fold(t, agg.Max(func(r reading) int64 { return r.At }), lowest))
}

func TestCountPassesOverNil(t *testing.T) {
	t.Parallel()
	bad := "bad"
	in := []flow.Record[reading]{
		{Value: reading{Fault: &bad, Tags: []string{}}}, {Value: reading{}}, {Value: reading{Fault: &bad}},
	}
	require.Equal(t, int64(3), fold(t, agg.Count(reading.device), in))
	require.Equal(t, int64(2), fold(t, agg.Count(reading.fault), in))
	require.Equal(t, int64(1), fold(t, agg.Count(reading.tags), in), "an empty slice is not nil")
	require.Equal(t, int64(1), fold(t, agg.Count(func(r reading) any {
		if r.Tags != nil {
			return (*string)(nil)
		}
		return nil
	}), in), "a typed nil in an interface is a value")
}

func TestFirstAndLastGoByTime(t *testing.T) {
	t.Parallel()
	at := func(d string, at flow.Timestamp) flow.Record[reading] {
		return flow.Record[reading]{Value: reading{Device: d}, Time: at}
	}
	for name, c := range map[string]struct {
		in          []flow.Record[reading]
		first, last string
	}{
		"nothing":      {nil, "", ""},
		"in order":     {[]flow.Record[reading]{at("a", 1), at("b", 2), at("c", 3)}, "a", "c"},
		"out of order": {[]flow.Record[reading]{at("b", 2), at("c", 3), at("a", 1)}, "a", "c"},
		"equal times":  {[]flow.Record[reading]{at("a", 1), at("b", 1), at("c", 1)}, "a", "c"},
		"without time": {[]flow.Record[reading]{at("b", -5), at("a", flow.None)}, "a", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.first, fold(t, agg.First(reading.device), c.in))
			require.Equal(t, c.last, fold(t, agg.Last(reading.device), c.in))
		})
	}
}

func TestKeptStringsAreCopies(t *testing.T) {
	t.Parallel()
	type pair struct {
		Name [2]string
		Raw  []byte
	}
	payload := []byte("aaa")
	alias := func([]byte) string { return unsafeString(payload) }
	a := agg.Into(
		agg.To(func(r *[4]any) *any { return &r[0] }, boxed(agg.Max(func(p []byte) string { return alias(p) }))),
		agg.To(func(r *[4]any) *any { return &r[1] }, boxed(agg.Last(func(p []byte) string { return alias(p) }))),
		agg.To(func(r *[4]any) *any { return &r[2] }, boxed(agg.First(func(p []byte) pair {
			return pair{Name: [2]string{alias(p), alias(p)}, Raw: payload}
		}))),
	)
	s := a.NewStore()
	at := s.AllocBlock()
	s.AddBatch([]agg.Slot{at}, []flow.Record[[]byte]{{Value: payload}})
	copy(payload, "zzz")
	got := s.Result(at)
	require.Equal(t, "aaa", got[0])
	require.Equal(t, "aaa", got[1])
	require.Equal(t, pair{Name: [2]string{"aaa", "aaa"}, Raw: []byte("aaa")}, got[2])
}

type stats struct {
	Avg, Max, Min float64
	Count         int64
	Busiest       string
}

func four() agg.Aggregate[reading, stats] {
	return agg.Into(
		agg.To(func(s *stats) *float64 { return &s.Avg }, agg.Avg(reading.temperature)),
		agg.To(func(s *stats) *float64 { return &s.Max }, agg.Max(reading.temperature)),
		agg.To(func(s *stats) *float64 { return &s.Min }, agg.Min(reading.temperature)),
		agg.To(func(s *stats) *int64 { return &s.Count }, agg.Count(reading.temperature)),
	)
}

func TestInto(t *testing.T) {
	t.Parallel()
	require.Equal(t, stats{Avg: 2, Max: 5, Min: -1, Count: 4}, fold(t, four(), temps(2, -1, 5, 2)))
	type both struct {
		Stats stats
		Sum   float64
		Last  string
		Naive int
	}
	nested := agg.Into(
		agg.To(func(b *both) *stats { return &b.Stats }, four()),
		agg.To(func(b *both) *string { return &b.Last }, agg.Last(reading.device)),
		agg.To(func(b *both) *int { return &b.Naive }, agg.Aggregate[reading, int](naive{})),
		agg.To(func(b *both) *float64 { return &b.Sum }, agg.Sum(reading.temperature)),
	)
	in := temps(2, -1, 5, 2)
	in[3].Value.Device = "d3"
	require.Equal(t, both{stats{Avg: 2, Max: 5, Min: -1, Count: 4}, 8, "d3", 4}, fold(t, nested, in))
}

func TestCheckNamesTheMistake(t *testing.T) {
	t.Parallel()
	type open struct{ m map[string]int } //nolint:unused // an accumulator that cannot be stored
	for want, err := range map[string]error{
		"agg.Sum is nil":              agg.Check(agg.Sum[reading, int](nil)),
		"agg.Max is nil":              agg.Check(agg.Max[reading, int](nil)),
		"agg.StdDev is nil":           agg.Check(agg.StdDev[reading, int](nil)),
		"agg.Collect is nil":          agg.Check(agg.Collect[reading, int](nil, 1, agg.KeepFirst)),
		"limit of agg.Collect is 0":   agg.Check(agg.Collect(reading.device, 0, agg.KeepFirst)),
		"agg.Collect keeps 2":         agg.Check(agg.Collect(reading.device, 1, 2)),
		"agg.VariancePop is nil":      agg.Check(agg.VariancePop[reading, int](nil)),
		"measure of agg.ArgMin is":    agg.Check(agg.ArgMin[reading, int](nil, reading.device)),
		"function of agg.ArgMax is":   agg.Check(agg.ArgMax[reading, int8, int](reading.level, nil)),
		"agg.Largest is to keep 0":    agg.Check(agg.Largest(reading.level, reading.device, 0)),
		"measure of agg.Smallest":     agg.Check(agg.Smallest[reading, int8](nil, reading.device, 1)),
		"TimeWeightedAvg is nil":      agg.Check(agg.TimeWeightedAvg[reading, int](nil)),
		"agg.Reorder of agg.Rate is":  agg.Check(agg.Rate(reading.level, agg.Reorder(0))),
		"agg.Linear is given to":      agg.Check(agg.Increase(reading.level, agg.Linear())),
		"agg.Histogram is nil":        agg.Check(agg.Histogram[reading, int](nil, 1)),
		"agg.Histogram has 0 bounds":  agg.Check(agg.Histogram(reading.level)),
		"bound 1 of agg.Histogram, 1": agg.Check(agg.Histogram(reading.level, 1, 1)),
		"bound 0 of agg.Histogram is": agg.Check(agg.Histogram(reading.level, math.NaN())),
		"agg.Quantiles is nil":        agg.Check(agg.Quantiles[reading, int](nil, 0.01, 0.5)),
		"accuracy of agg.Quantile is": agg.Check(agg.Quantile(reading.level, 0, 0.5)),
		"agg.Quantiles has no ranks":  agg.Check(agg.Quantiles(reading.level, 0.01)),
		"rank 99 of agg.Quantiles":    agg.Check(agg.Quantiles(reading.level, 0.01, 99)),
		"agg.Distinct is nil":         agg.Check(agg.Distinct[reading, int](nil, 0.01)),
		"error of agg.Distinct is 0":  agg.Check(agg.Distinct(reading.level, 0)),
		"*string cannot be hashed":    agg.Check(agg.Distinct(reading.fault, 0.01)),
		"agg.TopK is nil":             agg.Check(agg.TopK[reading, int](nil, 1, 10)),
		"k of agg.TopK is 0":          agg.Check(agg.TopK(reading.level, 0, 10)),
		"limit of agg.TopK is 19":     agg.Check(agg.TopK(reading.level, 10, 19)),
		"agg.Last is nil":             agg.Check(agg.Last[reading, int](nil)),
		"aggregate is nil":            agg.Check[reading, int](nil),
		"no fields":                   agg.Check(agg.Into[reading, stats]()),
		"field 0":                     agg.Check(agg.Into(agg.Field[reading, stats]{})),
		"field function":              agg.Check(agg.Into(agg.To[reading, int64, stats](nil, agg.Count(reading.device)))),
		"merge of agg.Func":           agg.Check(agg.Func(func(*int, reading) {}, nil, func(a *int) int { return *a })),
		"unexported field m":          agg.Check(agg.Func(func(*open, reading) {}, func(_, _ *open) {}, func(*open) int { return 0 })),
		"unexported field Value.hole": agg.Check(agg.First(func(reading) (v struct{ hole *int }) { return v })),
	} {
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, agg.Check(agg.Count[reading, int](nil)), "of is not called for an int")
}

func TestFingerprintTellsLayoutsApart(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range []string{
		agg.Sum(reading.temperature).NewStore().Fingerprint(),
		agg.Sum(reading.level).NewStore().Fingerprint(),
		agg.Avg(reading.level).NewStore().Fingerprint(),
		agg.Min(reading.temperature).NewStore().Fingerprint(),
		agg.Max(reading.temperature).NewStore().Fingerprint(),
		agg.Max(reading.device).NewStore().Fingerprint(),
		agg.First(reading.device).NewStore().Fingerprint(),
		agg.First(reading.tags).NewStore().Fingerprint(),
		agg.Count(reading.tags).NewStore().Fingerprint(),
		agg.StdDev(reading.temperature).NewStore().Fingerprint(),
		agg.Collect(reading.device, 9, agg.KeepFirst).NewStore().Fingerprint(),
		agg.Collect(reading.device, 9, agg.KeepLast).NewStore().Fingerprint(),
		agg.Collect(reading.device, 8, agg.KeepLast).NewStore().Fingerprint(),
		agg.Collect(reading.level, 8, agg.KeepLast).NewStore().Fingerprint(),
		agg.ArgMin(reading.temperature, reading.device).NewStore().Fingerprint(),
		agg.ArgMax(reading.temperature, reading.device).NewStore().Fingerprint(),
		agg.ArgMax(reading.level, reading.device).NewStore().Fingerprint(),
		agg.ArgMax(reading.temperature, reading.level).NewStore().Fingerprint(),
		agg.Largest(reading.temperature, reading.level, 3).NewStore().Fingerprint(),
		agg.Largest(reading.temperature, reading.level, 4).NewStore().Fingerprint(),
		agg.Smallest(reading.temperature, reading.level, 3).NewStore().Fingerprint(),
		agg.TimeWeightedAvg(reading.temperature).NewStore().Fingerprint(),
		agg.TimeWeightedAvg(reading.level).NewStore().Fingerprint(),
		agg.TimeWeightedAvg(reading.temperature, agg.Linear()).NewStore().Fingerprint(),
		agg.Increase(reading.temperature).NewStore().Fingerprint(),
		agg.Histogram(reading.temperature, 1, 2).NewStore().Fingerprint(),
		agg.Histogram(reading.temperature, 1, 2.5).NewStore().Fingerprint(),
		agg.Quantiles(reading.temperature, 0.01, 0.5).NewStore().Fingerprint(),
		agg.Quantiles(reading.temperature, 0.02, 0.5).NewStore().Fingerprint(),
		agg.Distinct(reading.device, 0.01).NewStore().Fingerprint(),
		agg.Distinct(reading.device, 0.1).NewStore().Fingerprint(),
		agg.TopK(reading.device, 3, 10).NewStore().Fingerprint(),
		agg.TopK(reading.device, 3, 11).NewStore().Fingerprint(),
		agg.TopK(reading.level, 3, 11).NewStore().Fingerprint(),
		four().NewStore().Fingerprint(),
		agg.Func(func(*struct{ n int }, reading) {}, nil, func(*struct{ n int }) int { return 0 }).NewStore().Fingerprint(),
		agg.Func(func(*struct{ m int }, reading) {}, nil, func(*struct{ m int }) int { return 0 }).NewStore().Fingerprint(),
	} {
		require.False(t, seen[f], f)
		seen[f] = true
	}
	require.Equal(t, four().NewStore().Fingerprint(), four().NewStore().Fingerprint())
	require.True(t, strings.HasPrefix(four().NewStore().Fingerprint(), "into(avg {sum:f64,n:i64}; max "))
}

func TestNoAllocations(t *testing.T) {
	in := temps(2, -1, 5, 2)
	for i := range in {
		in[i].Value.Device = "dev"
	}
	a := agg.Into(
		agg.To(func(s *stats) *float64 { return &s.Avg }, agg.Avg(reading.temperature)),
		agg.To(func(s *stats) *float64 { return &s.Max }, agg.Max(reading.temperature)),
		agg.To(func(s *stats) *int64 { return &s.Count }, agg.Count(reading.temperature)),
		agg.To(func(s *stats) *string { return &s.Busiest }, agg.Last(reading.device)),
	)
	s := a.NewStore()
	first := s.AllocBlock()
	slots := []agg.Slot{first, first + 1, first, first + 2}
	s.AddBatch(slots, in)
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Add(first, &in[0]) }), "Add")
	require.Zero(t, testing.AllocsPerRun(100, func() { s.AddBatch(slots, in) }), "AddBatch")
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Merge(first, first+1) }), "Merge")
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = s.Result(first) }), "Result")
	require.Zero(t, testing.AllocsPerRun(100, func() { s.FreeBlock(s.AllocBlock()) }), "blocks")
}

func TestManyBlocks(t *testing.T) {
	t.Parallel()
	s := four().NewStore()
	in := temps(1)
	const blocks = 5000
	for i := range agg.Slot(blocks) {
		require.Equal(t, i*agg.BlockSize, s.AllocBlock())
		in[0].Value.Temperature = float64(i)
		s.Add(i*agg.BlockSize+i%agg.BlockSize, &in[0])
	}
	for i := range agg.Slot(blocks) {
		require.InDelta(t, float64(i), s.Result(i*agg.BlockSize+i%agg.BlockSize).Max, 0)
		require.Equal(t, int64(1), s.Result(i*agg.BlockSize+i%agg.BlockSize).Count)
	}
}

func TestDurationsAreNumbers(t *testing.T) {
	t.Parallel()
	require.Equal(t, 3*time.Second, fold(t, agg.Sum(func(r reading) time.Duration {
		return time.Duration(r.Temperature) * time.Second
	}), temps(1, 2)))
}

package agg_test

import (
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/operators/agg"
)

// twoPass computes the standard deviation with the mean known, in 300 bits.
func twoPass(in []float64, less int) float64 {
	if len(in)-less < 1 || len(in) < 2 {
		return 0
	}
	num := func(v float64) *big.Float { return new(big.Float).SetPrec(300).SetFloat64(v) }
	sum := num(0)
	for _, v := range in {
		sum.Add(sum, num(v))
	}
	mean := sum.Quo(sum, num(float64(len(in))))
	m2 := num(0)
	for _, v := range in {
		d := num(v)
		d.Sub(d, mean)
		m2.Add(m2, d.Mul(d, d))
	}
	sd, _ := m2.Sqrt(m2.Quo(m2, num(float64(len(in)-less)))).Float64()
	return sd
}

// TestStdDevAgreesWithTwoPasses folds values that lie far from 0 close together, which sums of squares cannot do, in parts that are
// merged in order.
func TestStdDevAgreesWithTwoPasses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.SampledFrom([]float64{0, 1, -20, 1e6, -1e9}).Draw(t, "base")
		in := rapid.SliceOfN(rapid.Float64Range(-1, 1), 0, 60).Draw(t, "values")
		for i := range in {
			in[i] += base
		}
		rs := temps(in...)
		for less, a := range map[int]agg.Aggregate[reading, float64]{
			1: agg.StdDev(reading.temperature), 0: agg.StdDevPop(reading.temperature),
		} {
			s := a.NewStore()
			first := s.AllocBlock()
			rest := rs
			for i := range agg.Slot(agg.BlockSize) {
				n := rapid.IntRange(0, len(rest)).Draw(t, "n")
				if i == agg.BlockSize-1 {
					n = len(rest)
				}
				s.AddBatch(repeat(first+i, n), rest[:n])
				rest = rest[n:]
			}
			for i := agg.Slot(1); i < agg.BlockSize; i++ {
				s.Merge(first, first+i)
			}
			require.InDelta(t, twoPass(in, less), s.Result(first), 1e-13+1e-13*math.Abs(base))
		}
	})
}

func TestStdDevOfSpecialValues(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	for name, c := range map[string]struct {
		in          []float64
		sample, pop float64
	}{
		"nothing":         {nil, 0, 0},
		"one":             {[]float64{7}, 0, 0},
		"equal":           {[]float64{7, 7, 7}, 0, 0},
		"two":             {[]float64{1, 3}, math.Sqrt2, 1},
		"NaN":             {[]float64{1, nan, 3}, nan, nan},
		"NaN alone":       {[]float64{nan}, nan, nan},
		"infinity":        {[]float64{1, inf, 3}, nan, nan},
		"infinity alone":  {[]float64{-inf}, nan, nan},
		"beyond float64":  {[]float64{-math.MaxFloat64, math.MaxFloat64}, nan, nan},
		"large and close": {[]float64{1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16}, math.Sqrt(30), math.Sqrt(22.5)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireSame(t, c.sample, fold(t, agg.StdDev(reading.temperature), temps(c.in...)))
			requireSame(t, c.pop, fold(t, agg.StdDevPop(reading.temperature), temps(c.in...)))
		})
	}
}

func TestStdDevAllocatesNothing(t *testing.T) {
	in := temps(2, -1, 5, 2)
	s := agg.StdDev(reading.temperature).NewStore()
	first := s.AllocBlock()
	slots := []agg.Slot{first, first + 1, first, first + 2}
	s.AddBatch(slots, in)
	require.Zero(t, testing.AllocsPerRun(100, func() { s.AddBatch(slots, in) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Merge(first, first+1) }))
}

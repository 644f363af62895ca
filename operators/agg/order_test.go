package agg_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
)

// unordered are the aggregates whose result does not depend on the order of arrival, given that no two records have the same time and that
// sums are exact.
func unordered() map[string]agg.Aggregate[reading, any] {
	return map[string]agg.Aggregate[reading, any]{
		"Count":           boxed(agg.Count(reading.temperature)),
		"Sum":             boxed(agg.Sum(reading.temperature)),
		"Sum of int8":     boxed(agg.Sum(reading.level)),
		"Avg":             boxed(agg.Avg(reading.temperature)),
		"Min":             boxed(agg.Min(reading.temperature)),
		"Max":             boxed(agg.Max(reading.device)),
		"First":           boxed(agg.First(shapeOf)),
		"Last":            boxed(agg.Last(shapeOf)),
		"ArgMin":          boxed(agg.ArgMin(reading.temperature, shapeOf)),
		"ArgMax":          boxed(agg.ArgMax(reading.level, shapeOf)),
		"Largest":         boxed(agg.Largest(reading.device, shapeOf, 4)),
		"Smallest":        boxed(agg.Smallest(reading.temperature, shapeOf, 4)),
		"TimeWeightedAvg": boxed(agg.TimeWeightedAvg(reading.temperature)),
		"Linear":          boxed(agg.TimeWeightedAvg(reading.temperature, agg.Linear())),
		"Increase":        boxed(agg.Increase(reading.level)),
		"Rate":            boxed(agg.Rate(reading.temperature)),
		"Histogram":       boxed(agg.Histogram(reading.temperature, -100, 0, 5, 100)),
		"Quantiles":       boxed(agg.Quantiles(reading.temperature, 0.01, 0, 0.5, 0.99, 1)),
		"Quantile":        boxed(agg.Quantile(reading.wide, 0.5, 0.3)),
		"Distinct":        boxed(agg.Distinct(reading.device, 0.01)),
		"Distinct, many":  boxed(agg.Distinct(reading.temperature, 0.26)),
		"TopK":            boxed(agg.TopK(reading.temperature, 3, 100)),
	}
}

// wide spreads over more magnitudes than a sketch holds.
func (r reading) wide() float64 {
	return math.Copysign(math.Pow(10, math.Abs(r.Temperature)/10), r.Temperature)
}

// TestOrderOfArrivalDoesNotMatter folds records in two orders, the second one in parts that are merged in any order.
func TestOrderOfArrivalDoesNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := readings().Draw(t, "readings")
		for i := range in {
			in[i].Time = flow.Timestamp(i*1e9 + rapid.IntRange(0, 1e9-1).Draw(t, "time"))
		}
		shuffled := rapid.Permutation(slices.Clone(in)).Draw(t, "order")
		parts := make([]agg.Slot, len(in))
		for i := range parts {
			parts[i] = agg.Slot(rapid.IntRange(0, 4).Draw(t, "part"))
		}
		into := rapid.Permutation([]agg.Slot{0, 1, 2, 3, 4}).Draw(t, "merge")
		for name, a := range unordered() {
			s, r := a.NewStore(), a.NewStore()
			first, other := s.AllocBlock(), r.AllocBlock()
			for i := range in {
				s.Add(first, &in[i])
			}
			r.AddBatch(parts, shuffled)
			for _, from := range into[1:] {
				before := r.Append(nil, []agg.Slot{other + from})
				r.Merge(other+into[0], other+from)
				require.Equal(t, before, r.Append(nil, []agg.Slot{other + from}), "%s: a merge leaves what it reads", name)
			}
			require.Equal(t, s.Result(first), r.Result(other+into[0]), name)
			// What was merged shares nothing with what it came from.
			joined, from := other+into[0], other+into[1]
			for _, pair := range [][2]agg.Slot{{joined, from}, {from, joined}} {
				want := r.Result(pair[1])
				for i := range in {
					changed := in[len(in)-1-i]
					changed.Value.Temperature++
					changed.Value.Device += "x"
					changed.Value.Level++
					changed.Time += flow.Timestamp(i % 2)
					r.Add(pair[0], &changed)
				}
				require.Equal(t, want, r.Result(pair[1]), name)
			}
		}
	})
}

// TestSpecialFloats is the table of NaN and infinities of docs/operators/aggregates.md, but for quantiles, which have their own. The values come at 0, 1, 2, ... seconds.
func TestSpecialFloats(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	of := reading.temperature
	for name, c := range map[string]struct {
		a                             agg.Aggregate[reading, any]
		nan, nanAlone, infinity, both string // of NaN 1 3, NaN, 1 Inf 3, and Inf -Inf 1
	}{
		"Count":                   {boxed(agg.Count(of)), "3", "1", "3", "3"},
		"Sum":                     {boxed(agg.Sum(of)), "NaN", "NaN", "+Inf", "NaN"},
		"Avg":                     {boxed(agg.Avg(of)), "NaN", "NaN", "+Inf", "NaN"},
		"StdDev":                  {boxed(agg.StdDev(of)), "NaN", "NaN", "NaN", "NaN"},
		"StdDevPop":               {boxed(agg.StdDevPop(of)), "NaN", "NaN", "NaN", "NaN"},
		"Variance":                {boxed(agg.Variance(of)), "NaN", "NaN", "NaN", "NaN"},
		"VariancePop":             {boxed(agg.VariancePop(of)), "NaN", "NaN", "NaN", "NaN"},
		"Min":                     {boxed(agg.Min(of)), "1", "NaN", "1", "-Inf"},
		"Max":                     {boxed(agg.Max(of)), "3", "NaN", "+Inf", "+Inf"},
		"First":                   {boxed(agg.First(of)), "NaN", "NaN", "1", "+Inf"},
		"Last":                    {boxed(agg.Last(of)), "3", "NaN", "3", "1"},
		"ArgMin":                  {boxed(agg.ArgMin(of, of)), "1", "NaN", "1", "-Inf"},
		"ArgMax":                  {boxed(agg.ArgMax(of, of)), "3", "NaN", "+Inf", "+Inf"},
		"Largest":                 {boxed(agg.Largest(of, of, 2)), "[3 1]", "[]", "[+Inf 3]", "[+Inf 1]"},
		"Smallest":                {boxed(agg.Smallest(of, of, 2)), "[1 3]", "[]", "[1 3]", "[-Inf 1]"},
		"Collect":                 {boxed(agg.Collect(of, 9, agg.KeepFirst)), "{[NaN 1 3] 0}", "{[NaN] 0}", "{[1 +Inf 3] 0}", "{[+Inf -Inf 1] 0}"},
		"TimeWeightedAvg":         {boxed(agg.TimeWeightedAvg(of)), "NaN", "NaN", "+Inf", "NaN"},
		"TimeWeightedAvg, Linear": {boxed(agg.TimeWeightedAvg(of, agg.Linear())), "NaN", "NaN", "+Inf", "NaN"},
		"Increase":                {boxed(agg.Increase(of)), "2", "0", "2", "0"},
		"Rate":                    {boxed(agg.Rate(of)), "2", "0", "1", "0"},
		"Histogram":               {boxed(agg.Histogram(of, 2)), "{[2] [1 1] 2 4 1}", "{[2] [0 0] 0 0 1}", "{[2] [1 2] 3 +Inf 0}", "{[2] [2 1] 3 NaN 0}"},
		"Distinct":                {boxed(agg.Distinct(of, 0.01)), "3", "1", "3", "3"},
		"TopK":                    {boxed(agg.TopK(of, 2, 9)), "{[{1 1} {3 1}] 0}", "{[] 0}", "{[{1 1} {3 1}] 0}", "{[{-Inf 1} {1 1}] 0}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for want, in := range map[*string][]float64{
				&c.nan: {nan, 1, 3}, &c.nanAlone: {nan}, &c.infinity: {1, inf, 3}, &c.both: {inf, -inf, 1},
			} {
				s := c.a.NewStore()
				first := s.AllocBlock()
				for sec, v := range in {
					r := at(float64(sec), v)
					s.Add(first, &r)
				}
				require.Equal(t, *want, fmt.Sprint(s.Result(first)), in)
			}
		})
	}
}

// FuzzReadMore reads damaged accumulators of ranks, times and sketches, first each kind alone, so that the fuzzer reaches them.
func FuzzReadMore(f *testing.F) {
	kinds := []agg.Aggregate[reading, any]{
		boxed(agg.ArgMin(reading.temperature, reading.tags)), boxed(agg.Largest(reading.temperature, reading.device, 3)),
		boxed(agg.TimeWeightedAvg(reading.temperature, agg.Reorder(2))), boxed(agg.Increase(reading.level)),
		boxed(agg.Histogram(reading.temperature, 1, 2)), boxed(agg.Quantiles(reading.temperature, 0.1, 0.5)),
		boxed(agg.Distinct(reading.temperature, 0.26)), boxed(agg.TopK(reading.device, 1, 4)), boxed(moreOf()),
	}
	in := temps(1, 2, 3, 4, -5, 0, 1e9, -1e-9, math.Inf(1))
	for i, a := range kinds {
		s := a.NewStore()
		first := s.AllocBlock()
		s.AddBatch(repeat(first, len(in)), in)
		f.Add(byte(i), s.Append(nil, []agg.Slot{first, first + 1}))
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) { rereads(t, kinds[int(kind)%len(kinds)], b) })
}

// TestDamageIsAnError cuts and changes what each aggregate wrote: reading it gives an error or another accumulator, and never panics.
func TestDamageIsAnError(t *testing.T) {
	t.Parallel()
	in := temps(1, 2, 3, 4, -5, 0, 1e9, -1e-9)
	for i := range in {
		in[i].Value.Device, in[i].Value.Level = string(rune('a'+i)), int8(i)
	}
	for name, a := range unordered() {
		s := a.NewStore()
		slots := []agg.Slot{s.AllocBlock()}
		s.AddBatch(repeat(slots[0], len(in)), in)
		whole := s.Append(nil, slots)
		for n := range whole {
			_, err := s.Read(whole[:n], slots)
			require.Error(t, err, "%s: %d of %d bytes", name, n, len(whole))
		}
		for i := range whole {
			for _, x := range []byte{0, 1, 0x7f, 0x80, 0xff} {
				b := slices.Clone(whole)
				b[i] = x
				rereads(t, a, b)
			}
		}
	}
}

package agg_test

import (
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
)

// at is a reading of v at the given second.
func at(sec, v float64) flow.Record[reading] {
	return flow.Record[reading]{Value: reading{Temperature: v, At: int64(v)}, Time: flow.Timestamp(sec * 1e9)}
}

func counter(r reading) int64 { return r.At }

func TestOverTime(t *testing.T) {
	t.Parallel()
	none := flow.Record[reading]{Value: reading{Temperature: 1e6}, Time: flow.None}
	for name, c := range map[string]struct {
		in                           []flow.Record[reading]
		step, linear, increase, rate float64
	}{
		"nothing":         {nil, 0, 0, 0, 0},
		"one":             {[]flow.Record[reading]{at(5, 7)}, 7, 7, 0, 0},
		"without a time":  {[]flow.Record[reading]{none, at(5, 7), none}, 7, 7, 0, 0},
		"irregular":       {[]flow.Record[reading]{at(0, 20), at(10, 30), at(15, 10)}, 350.0 / 15, 350.0 / 15, 20, 20.0 / 15},
		"out of order":    {[]flow.Record[reading]{at(15, 10), at(0, 20), at(10, 30)}, 350.0 / 15, 350.0 / 15, 20, 20.0 / 15},
		"a burst":         {[]flow.Record[reading]{at(0, 10), at(8, 50), at(8.5, 50), at(9, 50), at(10, 0)}, 18, 31.5, 40, 4},
		"equal times":     {[]flow.Record[reading]{at(0, 1), at(0, 4), at(2, 6), at(2, 8)}, 4, 6, 4, 2},
		"before 1970":     {[]flow.Record[reading]{at(-4, 2), at(-2, 4)}, 2, 3, 2, 1},
		"reset":           {[]flow.Record[reading]{at(0, 100), at(1, 140), at(2, 20), at(3, 50)}, 260.0 / 3, 235.0 / 3, 90, 30},
		"reset to 0":      {[]flow.Record[reading]{at(0, 5), at(1, 0), at(2, 5)}, 2.5, 2.5, 5, 2.5},
		"counter idles":   {[]flow.Record[reading]{at(0, 5), at(4, 5)}, 5, 5, 0, 0},
		"widest of times": {[]flow.Record[reading]{{Value: reading{Temperature: 3, At: 3}, Time: flow.None + 1}, {Value: reading{Temperature: 3, At: 3}, Time: flow.EndOfTime}}, 3, 3, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.InDelta(t, c.step, fold(t, agg.TimeWeightedAvg(reading.temperature), c.in), 1e-12)
			require.InDelta(t, c.linear, fold(t, agg.TimeWeightedAvg(reading.temperature, agg.Linear()), c.in), 1e-12)
			require.InDelta(t, c.increase, fold(t, agg.Increase(counter), c.in), 1e-12)
			require.InDelta(t, c.rate, fold(t, agg.Rate(reading.temperature), c.in), 1e-12)
		})
	}
}

func TestCounterReadingsThatAreNoNumbers(t *testing.T) {
	t.Parallel()
	in := []flow.Record[reading]{at(0, 5), at(1, math.NaN()), at(2, math.Inf(1)), at(3, 8), at(4, math.Inf(-1))}
	require.Zero(t, fold(t, agg.Increase(reading.temperature), in)-3)
	require.Zero(t, fold(t, agg.Rate(reading.temperature), in)-1)
	large := []flow.Record[reading]{at(0, 0), at(1, 0), at(2, 0)}
	large[0].Value.At, large[1].Value.At, large[2].Value.At = 1<<62, 1<<62+1, 1<<62+3
	require.InDelta(t, 3, fold(t, agg.Increase(counter), large), 0, "differences of integers lose no digits")
	large[0].Value.At, large[1].Value.At, large[2].Value.At = math.MinInt64, math.MaxInt64, math.MaxInt64
	require.InDelta(t, 0x1p64, fold(t, agg.Increase(counter), large), 0, "nor do they wrap around")
}

// TestReorder: within the limit the order of arrival does not show although points are folded; what comes behind more is left out and counted.
func TestReorder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 200).Draw(t, "points")
		keep := rapid.IntRange(1, 20).Draw(t, "reorder")
		in := make([]flow.Record[reading], n)
		for i := range in {
			in[i] = at(float64(i)+rapid.Float64Range(0, 0.9).Draw(t, "jitter"), float64(rapid.IntRange(0, 100).Draw(t, "value")))
		}
		// Each point moves back by less than keep places.
		late := slices.Clone(in)
		for i := 0; i+keep <= len(late); i += keep {
			part := late[i : i+keep]
			copy(part, rapid.Permutation(slices.Clone(part)).Draw(t, "order"))
		}
		missed := new(atomic.Int64)
		opts := []agg.TimeOption{agg.Reorder(keep), agg.CountMissed(missed)}
		for name, of := range map[string]func(...agg.TimeOption) agg.Aggregate[reading, float64]{
			"step": func(o ...agg.TimeOption) agg.Aggregate[reading, float64] {
				return agg.TimeWeightedAvg(reading.temperature, o...)
			},
			"linear": func(o ...agg.TimeOption) agg.Aggregate[reading, float64] {
				return agg.TimeWeightedAvg(reading.temperature, append(o, agg.Linear())...)
			},
			"rate": func(o ...agg.TimeOption) agg.Aggregate[reading, float64] { return agg.Rate(counter, o...) },
		} {
			exact, bounded := of().NewStore(), of(opts...).NewStore()
			e, b := exact.AllocBlock(), bounded.AllocBlock()
			exact.AddBatch(repeat(e, n), in)
			bounded.AddBatch(repeat(b, n), late)
			require.InDelta(t, exact.Result(e), bounded.Result(b), 1e-9, name)
			require.Zero(t, missed.Load(), name)
			if n > 2*keep {
				bounded.Add(b, &in[0])
				require.Equal(t, int64(1), missed.Swap(0), name)
				require.InDelta(t, exact.Result(e), bounded.Result(b), 1e-9, name)
			}
		}
	})
}

// TestBeforeAllThatIsFolded: a point before the first one has its place whatever is folded.
func TestBeforeAllThatIsFolded(t *testing.T) {
	t.Parallel()
	missed := new(atomic.Int64)
	s := agg.TimeWeightedAvg(reading.temperature, agg.Reorder(2), agg.CountMissed(missed)).NewStore()
	first := s.AllocBlock()
	for sec := 1; sec <= 10; sec++ {
		r := at(float64(sec), 5)
		s.Add(first, &r)
	}
	r := at(0, 15)
	s.Add(first, &r)
	require.Zero(t, missed.Load())
	require.InDelta(t, 6, s.Result(first), 1e-12)
}

// TestMergeOfFoldedSeries: accumulators of separate times merge exactly in any order, however much of them is folded.
func TestMergeOfFoldedSeries(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		missed := new(atomic.Int64)
		a := agg.TimeWeightedAvg(reading.temperature, agg.Reorder(rapid.IntRange(1, 4).Draw(t, "reorder")), agg.CountMissed(missed))
		s, plain := a.NewStore(), agg.TimeWeightedAvg(reading.temperature).NewStore()
		first, want := s.AllocBlock(), plain.AllocBlock()
		var parts []agg.Slot
		sec := 0.0
		for i := range agg.Slot(rapid.IntRange(1, 8).Draw(t, "parts")) {
			parts = append(parts, first+i)
			for range rapid.IntRange(0, 12).Draw(t, "points") {
				sec += rapid.Float64Range(0.1, 5).Draw(t, "gap")
				r := at(sec, float64(rapid.IntRange(-9, 9).Draw(t, "value")))
				s.Add(first+i, &r)
				plain.Add(want, &r)
			}
		}
		parts = rapid.Permutation(parts).Draw(t, "order")
		for _, p := range parts[1:] {
			before := s.Append(nil, []agg.Slot{p})
			s.Merge(parts[0], p)
			require.Equal(t, before, s.Append(nil, []agg.Slot{p}), "a merge leaves what it reads")
		}
		// Only a point that falls between parts which are folded already may be missed: parts that come out of order, one inside the other.
		falling := slices.Clone(parts)
		slices.Reverse(falling)
		if slices.IsSorted(parts) || slices.IsSorted(falling) || missed.Load() == 0 {
			require.Zero(t, missed.Load())
			require.InDelta(t, plain.Result(want), s.Result(parts[0]), 1e-9)
		}
	})
}

// TestMergeOfOverlappingSeries: two folded runs of the same time cannot be told apart; the longer one stays and the other is counted.
func TestMergeOfOverlappingSeries(t *testing.T) {
	t.Parallel()
	missed := new(atomic.Int64)
	s := agg.TimeWeightedAvg(reading.temperature, agg.Reorder(2), agg.CountMissed(missed)).NewStore()
	a := s.AllocBlock()
	b := a + 1
	for i := range 10 {
		r := at(float64(i), 5)
		s.Add(a, &r)
		if i < 6 {
			r = at(float64(i)+0.5, 100)
			s.Add(b, &r)
		}
	}
	s.Merge(b, a) // a has folded 8 (0 to 7 s), b 4 (0.5 to 3.5 s) and 4.5, 5.5 s
	require.Equal(t, int64(6), missed.Load())
	require.InDelta(t, 5, s.Result(b), 1e-12)
	s.Merge(a, a+2)
	require.InDelta(t, 5, s.Result(a), 1e-12)
}

// TestReorderMayChange: stored points that a smaller limit does not hold are folded when they are read.
func TestReorderMayChange(t *testing.T) {
	t.Parallel()
	wide := agg.Increase(reading.temperature, agg.Reorder(100)).NewStore()
	w := []agg.Slot{wide.AllocBlock()}
	for i := range 50 {
		r := at(float64(i), float64(2*i))
		wide.Add(w[0], &r)
	}
	narrow := agg.Increase(reading.temperature, agg.Reorder(3)).NewStore()
	n := []agg.Slot{narrow.AllocBlock()}
	require.Equal(t, wide.Fingerprint(), narrow.Fingerprint())
	bytes := wide.Append(nil, w)
	rest, err := narrow.Read(bytes, n)
	require.NoError(t, err)
	require.Empty(t, rest)
	require.InDelta(t, 98, narrow.Result(n[0]), 0)
	require.Less(t, len(narrow.Append(nil, n)), len(bytes)/4)
}

func TestSeriesAllocateOnlyToGrow(t *testing.T) {
	s := agg.Rate(reading.temperature, agg.Reorder(4)).NewStore()
	first := s.AllocBlock()
	in := []flow.Record[reading]{at(1, 1), at(2, 2)}
	slots := []agg.Slot{first, first}
	next := func() {
		s.AddBatch(slots, in)
		in[0].Time += flow.Timestamp(2 * time.Second)
		in[1].Time += flow.Timestamp(2 * time.Second)
	}
	for range 10 {
		next()
	}
	require.Zero(t, testing.AllocsPerRun(100, next))
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Result(first) }))
}

package agg

import (
	"math"

	"github.com/millrace-stream/millrace/flow"
)

// StdDev is the standard deviation of a sample: the root of the squared distances from the mean, summed and divided by their count
// less one. Of fewer than two values it is 0.
//
// It is computed by Welford's method, partial results are joined by that of Chan, Golub and LeVeque ("Updating formulae and a pairwise
// algorithm for computing sample variances", 1979), so that values far from 0 with a small spread lose no digits. The order of the
// additions and merges shows in the last digits only. NaN or an infinity among the values makes it NaN; so do values so far apart
// that their squared distance is beyond 1.8e308.
func StdDev[T any, N Number](of func(T) N) Aggregate[T, float64] {
	return &stdDev[T, N]{of, 1, true, "StdDev"}
}

// StdDevPop is the standard deviation of a whole population: as StdDev, divided by the count. Of one value it is 0.
func StdDevPop[T any, N Number](of func(T) N) Aggregate[T, float64] {
	return &stdDev[T, N]{of, 0, true, "StdDevPop"}
}

// Variance is the square of StdDev, the variance of a sample: of fewer than two values it is 0. In all else it is as StdDev, with
// which it shares the accumulator and the fingerprint.
func Variance[T any, N Number](of func(T) N) Aggregate[T, float64] {
	return &stdDev[T, N]{of, 1, false, "Variance"}
}

// VariancePop is the square of StdDevPop, the variance of a whole population. Of one value it is 0.
func VariancePop[T any, N Number](of func(T) N) Aggregate[T, float64] {
	return &stdDev[T, N]{of, 0, false, "VariancePop"}
}

type stdDev[T any, N Number] struct {
	of func(T) N
	// less is what the divisor is less than the count: 1 for a sample.
	less int64
	root bool
	name string
}

func (a *stdDev[T, N]) NewStore() Store[T, float64] { return newStore[T, float64](a) }

func (a *stdDev[T, N]) check() error {
	if a.of == nil {
		return nilFunc("the function of agg." + a.name)
	}
	return nil
}

func (a *stdDev[T, N]) place(l *layout[T]) part[T, float64] {
	return &stdDevPart[T, N]{cellsFor[T, moments](l, "stddev"), valuesOf(l, a.of), a.less, a.root}
}

// moments are count, mean and the sum of squared distances from the mean.
type moments struct {
	n    int64
	mean float64
	m2   float64
}

func (m *moments) add(v float64) {
	m.n++
	d := v - m.mean
	m.mean += d / float64(m.n)
	m.m2 += d * (v - m.mean)
}

func (m *moments) merge(b moments) {
	if b.n == 0 {
		return
	}
	if m.n == 0 {
		*m = b
		return
	}
	n := m.n + b.n
	d := b.mean - m.mean
	share := float64(b.n) / float64(n)
	m.mean += d * share
	m.m2 += b.m2 + d*d*float64(m.n)*share
	m.n = n
}

type stdDevPart[T any, N Number] struct {
	cellPart[moments]
	of   *values[T, N]
	less int64
	root bool
}

func (p *stdDevPart[T, N]) add(s Slot, r *flow.Record[T]) { p.at(s).add(float64(p.of.of(r.Value))) }

func (p *stdDevPart[T, N]) addBatch(_ []Slot, _ []flow.Record[T]) {
	c, vs := p.in(), p.of.buf
	c.rows = c.rows[:len(vs)]
	for i, v := range vs {
		c.at(i).add(float64(v))
	}
}

func (p *stdDevPart[T, N]) merge(_, _ Slot) {
	a, b := p.pair()
	a.merge(*b)
}

func (p *stdDevPart[T, N]) result(s Slot) float64 {
	a := p.at(s)
	if math.IsNaN(a.m2) || math.IsInf(a.m2, 0) || math.IsInf(a.mean, 0) {
		return math.NaN()
	}
	if a.n < 2 {
		return 0
	}
	variance := a.m2 / float64(a.n-p.less)
	if p.root {
		return math.Sqrt(variance)
	}
	return variance
}

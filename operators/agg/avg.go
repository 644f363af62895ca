package agg

import "github.com/millrace-stream/millrace/flow"

// Avg is the arithmetic mean: the sum of the values as float64, divided by their count. The sum behaves as that of Sum: NaN
// makes the mean NaN, an infinity makes it infinite, both infinities make NaN, and a sum beyond 1.8e308 is infinite. The mean of
// nothing is 0.
func Avg[T any, N Number](of func(T) N) Aggregate[T, float64] { return &avg[T, N]{of} }

type avg[T any, N Number] struct{ of func(T) N }

func (a *avg[T, N]) NewStore() Store[T, float64] { return newStore[T, float64](a) }

func (a *avg[T, N]) check() error {
	if a.of == nil {
		return nilFunc("the function of agg.Avg")
	}
	return nil
}

func (a *avg[T, N]) place(l *layout[T]) part[T, float64] {
	return &avgPart[T, N]{cellsFor[T, mean](l, "avg"), valuesOf(l, a.of)}
}

type mean struct {
	sum float64
	n   int64
}

type avgPart[T any, N Number] struct {
	cellPart[mean]
	of *values[T, N]
}

func (p *avgPart[T, N]) add(s Slot, r *flow.Record[T]) {
	v := p.of.of(r.Value)
	a := p.at(s)
	a.sum += float64(v)
	a.n++
}

func (p *avgPart[T, N]) addBatch(_ []Slot, _ []flow.Record[T]) {
	c, vs := p.in(), p.of.buf
	c.rows = c.rows[:len(vs)]
	for i, v := range vs {
		a := c.at(i)
		a.sum += float64(v)
		a.n++
	}
}

func (p *avgPart[T, N]) merge(_, _ Slot) {
	a, b := p.pair()
	a.sum += b.sum
	a.n += b.n
}

func (p *avgPart[T, N]) result(s Slot) float64 {
	a := p.at(s)
	if a.n == 0 {
		return 0
	}
	return a.sum / float64(a.n)
}

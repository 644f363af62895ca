package agg

// TimeWeightedAvg is the average of a value over time, for what is reported irregularly: a value holds from its time until that of the
// next record, so that a burst of readings weighs no more than the time that it took. With Linear the value runs straight
// from each to the next instead.
//
// The average is taken from the first to the last point of the accumulator: what the value was before the first one and after the
// last one is not known, so the last value counts, without Linear, only by ending the one before. A single point gives its value,
// nothing gives 0.
//
//	value   20        30     10
//	time    0 s       10 s   15 s          (20 * 10 s + 30 * 5 s) / 15 s = 23.3, linear (25 * 10 s + 20 * 5 s) / 15 s = 23.3
//
// Points are put in order of event time; the order of arrival does not matter within Reorder, except that of two values of the same
// time the last to arrive counts. Records without a time (flow.None) are left out. A value that is NaN for any time makes the average NaN,
// an infinity makes it infinite, both infinities make NaN; so do sums of value times seconds beyond 1.8e308.
//
// State: each distinct time takes a point of 16 bytes until there are twice Reorder. A merge costs the number of points.
func TimeWeightedAvg[T any, N Number](of func(T) N, opts ...TimeOption) Aggregate[T, float64] {
	return &timeWeighted[T, N]{of, timeConfigOf(opts)}
}

type timeWeighted[T any, N Number] struct {
	of  func(T) N
	cfg timeConfig
}

func (a *timeWeighted[T, N]) NewStore() Store[T, float64] { return newStore[T, float64](a) }

func (a *timeWeighted[T, N]) check() error {
	if a.of == nil {
		return nilFunc("the function of agg.TimeWeightedAvg")
	}
	return a.cfg.check("TimeWeightedAvg", true)
}

func (a *timeWeighted[T, N]) place(l *layout[T]) part[T, float64] {
	if a.cfg.linear {
		return newSeriesPart(l, "timeweighted linear", a.cfg, a.of, slope[N], meanOver[N])
	}
	return newSeriesPart(l, "timeweighted step", a.cfg, a.of, step[N], meanOver[N])
}

func step[N Number](a, b point[N]) float64 { return float64(a.v) * seconds(a.t, b.t) }

func slope[N Number](a, b point[N]) float64 {
	return (float64(a.v)/2 + float64(b.v)/2) * seconds(a.t, b.t)
}

func meanOver[N Number](r run[N]) float64 {
	switch {
	case r.n == 0:
		return 0
	case r.first.t == r.last.t:
		return float64(r.last.v)
	}
	return r.sum / seconds(r.first.t, r.last.t)
}

package agg

// Increase is by how much a counter grew from the first to the last point of the accumulator, resets included: the sum of the differences of
// neighbours, where a fall means that the counter began again at 0, so that the new value counts whole. Of fewer than two points it is 0.
//
//	counter  100   140   20   50      40 + 20 + 30 = 90
//
// These are Prometheus's semantics of increase, but without its extrapolation to the ends of the window: what was counted before
// the first and after the last point is not guessed. Windows that follow each other therefore miss the growth between the last point of one and
// the first of the next: let them be long beside the distance of the points.
//
// Points are put in order of event time; the order of arrival does not matter within Reorder, except that of two values of the same
// time the last to arrive counts. Records without a time (flow.None), NaN and infinities are left out. Differences are computed in N and
// added as float64, exactly up to 2^53.
//
// State and merges are those of TimeWeightedAvg.
func Increase[T any, N Number](of func(T) N, opts ...TimeOption) Aggregate[T, float64] {
	return &increase[T, N]{of, timeConfigOf(opts), false}
}

// Rate is Increase per second: divided by the time from the first to the last point. Of fewer than two points it is 0. In all else it is as
// Increase, with which it shares the accumulator and the fingerprint.
func Rate[T any, N Number](of func(T) N, opts ...TimeOption) Aggregate[T, float64] {
	return &increase[T, N]{of, timeConfigOf(opts), true}
}

type increase[T any, N Number] struct {
	of        func(T) N
	cfg       timeConfig
	perSecond bool
}

func (a *increase[T, N]) NewStore() Store[T, float64] { return newStore[T, float64](a) }

func (a *increase[T, N]) name() string {
	if a.perSecond {
		return "Rate"
	}
	return "Increase"
}

func (a *increase[T, N]) check() error {
	if a.of == nil {
		return nilFunc("the function of agg." + a.name())
	}
	return a.cfg.check(a.name(), false)
}

func (a *increase[T, N]) place(l *layout[T]) part[T, float64] {
	result := total[N]
	if a.perSecond {
		result = perSecond[N]
	}
	p := newSeriesPart(l, "increase", a.cfg, a.of, growth[N], result)
	p.ok = finite[N]
	return p
}

// finite is false for NaN and infinities, whose difference to themselves is not 0.
func finite[N Number](v N) bool { return v-v == 0 } //nolint:gocritic // meant

func growth[N Number](a, b point[N]) float64 {
	switch {
	case b.v < a.v:
		return float64(b.v)
	case a.v < 0: // the difference may not fit
		return float64(b.v) - float64(a.v)
	}
	return float64(b.v - a.v)
}

func total[N Number](r run[N]) float64 { return r.sum }

func perSecond[N Number](r run[N]) float64 {
	if r.n < 2 {
		return 0
	}
	return r.sum / seconds(r.first.t, r.last.t)
}

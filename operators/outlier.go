package operators

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Outlier is a record that a filter took out.
type Outlier[T any] struct {
	Value T
	// Time is the record's event time.
	Time flow.Timestamp
	// Number is what was judged, and Score what the filter compared with its limit: the number itself, its change per second, or how many
	// deviations it lies from the middle. Score is NaN where Number is NaN or infinite.
	Number, Score float64
	// Reason says in words what is wrong.
	Reason string
}

// Sifted is the result of the outlier filters: the stream of records that passed, with the side output of those that did not.
type Sifted[K comparable, T any] struct {
	flow.Stream[T]
	keyed    flow.KeyedStream[K, T]
	outliers flow.Stream[Outlier[T]]
}

// Keyed is the stream of records that passed with their key, for operators that need it: no new exchange stands between.
func (s Sifted[K, T]) Keyed() flow.KeyedStream[K, T] { return s.keyed }

// Outliers is the stream of records that were taken out. Unconnected, they are counted (outliers) and dropped.
func (s Sifted[K, T]) Outliers() flow.Stream[Outlier[T]] { return s.outliers }

// OutlierOption configures the outlier filters.
type OutlierOption func(flow.Configurable)

type outlierConfig struct {
	flow.NodeConfig
	idle    time.Duration
	nearest float64
	spread  bool // the filter knows MinDeviation
}

func (c *outlierConfig) setIdle(d time.Duration) { c.idle = d }

// MinDeviation lets ZScore and Hampel pass numbers that lie at most d from the middle, whatever their score: where a sensor's numbers
// hardly differ, the least change would be many deviations. Defaults to 0.
func MinDeviation(d float64) OutlierOption {
	return flow.SetOption(func(c *outlierConfig) {
		c.nearest = d
		switch {
		case !c.spread:
			c.Problem("MinDeviation on a filter without a deviation", "take it out: it is for ZScore and Hampel")
		case !(d >= 0):
			c.Problem(fmt.Sprintf("MinDeviation(%v)", d), "give 0 or more")
		}
	})
}

// OutOfRange takes out records whose number is below least or above most; NaN is in no range, infinities are in one that ends with
// them. The others pass unchanged, in order. It keeps no state.
func OutOfRange[K comparable, T any](s flow.KeyedStream[K, T], name string, of func(T) float64, least, most float64, opts ...OutlierOption) Sifted[K, T] {
	cfg := flow.Configure(&outlierConfig{}, opts)
	cfg.Traits = flow.Traits{Kind: "out-of-range"}
	if cfg.idle > 0 {
		cfg.Problem("IdleTTL on a filter without state", "take it out")
	}
	if !(least <= most) {
		cfg.Problem(fmt.Sprintf("the range from %v to %v is empty", least, most), "give the lesser bound first")
	}
	return sifted(s, name, cfg, func() *sieve[K, T, struct{}] {
		return &sieve[K, T, struct{}]{of: of, inRange: func(n float64) (float64, string) {
			switch {
			case n < least:
				return n, "below the range"
			case n > most:
				return n, "above the range"
			}
			return n, ""
		}, infinite: true}
	}, of == nil)
}

// RateOfChange takes out records whose number differs from the key's last good one by more than perSecond times the seconds of event
// time between them. The others pass unchanged, in order of arrival, and become the last good one unless they are older than it. The rate
// is taken without regard to direction, in time too: a record that came late is compared with one that is later than itself. Of two
// records of one time, the second passes if it is equal. A key's first record passes, if it is a number; NaN and infinities never do.
//
// A lasting jump passes when enough time has gone by since the last good record, so one bad record that passed does not stop a key for
// ever.
//
// State: 16 bytes per key, for ever without IdleTTL. A crash rolls back to the last epoch together with the sources.
func RateOfChange[K comparable, T any](s flow.KeyedStream[K, T], name string, of func(T) float64, perSecond float64, opts ...OutlierOption) Sifted[K, T] {
	cfg := flow.Configure(&outlierConfig{}, opts)
	cfg.Traits = flow.Traits{Kind: "rate-of-change", EventTime: true, Stateful: true, Loses: "the last good record of each key"}
	if !(perSecond >= 0) {
		cfg.Problem(fmt.Sprintf("a greatest change of %v per second", perSecond), "give 0 or more")
	}
	return sifted(s, name, cfg, func() *sieve[K, T, lastGood] {
		return &sieve[K, T, lastGood]{of: of, judge: func(l *lastGood, known bool, n float64, at flow.Timestamp) (float64, string) {
			if known {
				change := math.Abs(n - l.Number)
				seconds := math.Abs(time.Duration(at - l.At).Seconds())
				if change > perSecond*seconds {
					return change / seconds, "changes too fast"
				}
				if at < l.At {
					return 0, ""
				}
			}
			*l = lastGood{at, n}
			return 0, ""
		}, cells: cells[K, lastGood]{ttl: cfg.idle, timed: cfg.idle > 0}}
	}, of == nil)
}

type lastGood struct {
	At     flow.Timestamp
	Number float64
}

// ZScore takes out records whose number lies more than limit standard deviations from the mean of the key's last n numbers, itself not
// among them. The deviation is that of a sample (n-1). Where the last n are all equal, every other number is an outlier, unless it is within
// MinDeviation of them. Until n have come nothing is judged; NaN and infinities are outliers always, and never among the last n.
//
// Outliers are among the last n of the records after them: a filter that left them out would refuse everything behind a lasting change
// of level. An outlier raises the deviation until n records later, which hides others; Hampel does not have that weakness.
//
// Records pass unchanged, in order of arrival, by which the last n are meant, too.
//
// State: the last n numbers per key, each key an entry of its own, for ever without IdleTTL. A record costs a pass over the n numbers. A
// crash rolls back to the last epoch together with the sources.
func ZScore[K comparable, T any](s flow.KeyedStream[K, T], name string, of func(T) float64, n int, limit float64, opts ...OutlierOption) Sifted[K, T] {
	return rolling(s, name, "z-score", of, n, limit, opts, func(l *lastNumbers) (middle, deviation float64) {
		return l.meanAndDeviation()
	}, "too far from the mean of the last ones")
}

// Hampel takes out records whose number lies more than limit deviations from the median of the key's last n numbers, itself not among
// them; the deviation is 1.4826 times the median of their distances from that median, which is the standard deviation where numbers are
// normally distributed. All else is as with ZScore; single outliers hardly move a median, so they hide no others.
//
// This is the causal variant of the Hampel filter: the original looks at as many records behind the judged one as before it, and puts the
// median in its place.
func Hampel[K comparable, T any](s flow.KeyedStream[K, T], name string, of func(T) float64, n int, limit float64, opts ...OutlierOption) Sifted[K, T] {
	return rolling(s, name, "hampel", of, n, limit, opts, func(l *lastNumbers) (middle, deviation float64) {
		return l.medianAndDeviation()
	}, "too far from the median of the last ones")
}

func rolling[K comparable, T any](s flow.KeyedStream[K, T], name, kind string, of func(T) float64, n int, limit float64,
	opts []OutlierOption, spread func(*lastNumbers) (float64, float64), reason string) Sifted[K, T] {
	cfg := flow.Configure(&outlierConfig{spread: true}, opts)
	cfg.Traits = flow.Traits{Kind: kind, EventTime: cfg.idle > 0, Stateful: true, Counts: true, Loses: "the last numbers of each key"}
	if n < 2 {
		cfg.Problem(fmt.Sprintf("the last %d numbers", n), "judge by 2 or more")
	}
	if !(limit > 0) {
		cfg.Problem(fmt.Sprintf("a limit of %v deviations", limit), "give a positive one; 3 is usual")
	}
	return sifted(s, name, cfg, func() *sieve[K, T, lastNumbers] {
		return &sieve[K, T, lastNumbers]{of: of, judge: func(l *lastNumbers, _ bool, number float64, _ flow.Timestamp) (score float64, why string) {
			if len(l.numbers) >= n {
				middle, deviation := spread(l)
				if distance := math.Abs(number - middle); distance > cfg.nearest {
					if score = distance / deviation; score > limit {
						why = reason
					}
				}
			}
			l.push(number, n)
			return score, why
		}, cells: cells[K, lastNumbers]{ttl: cfg.idle, timed: cfg.idle > 0}}
	}, of == nil)
}

func sifted[K comparable, T, A any](s flow.KeyedStream[K, T], name string, cfg *outlierConfig, newOp func() *sieve[K, T, A], noNumber bool) Sifted[K, T] {
	if noNumber {
		cfg.Problem("its function is nil", "pass a function from record to number")
	}
	side, outliers := flow.SideOutput[Outlier[T]](s.Topology(), name, "outliers")
	keyed := flow.ApplyKept[K, T](s, name, func() *sieve[K, T, A] {
		op := newOp()
		op.side = side
		return op
	}, flow.With(cfg))
	return Sifted[K, T]{keyed.Unkeyed(), keyed, outliers}
}

// sieve is an outlier filter.
type sieve[K comparable, T, A any] struct {
	cells[K, A]
	of func(T) float64
	// judge returns a reason if a number, finite, is an outlier, and changes what is kept of the key. It is nil where nothing is kept.
	judge func(kept *A, known bool, number float64, at flow.Timestamp) (score float64, why string)
	// inRange is judge without state.
	inRange  func(number float64) (score float64, why string)
	infinite bool // infinities are judged
	side     *flow.Side[Outlier[T]]
	out      *flow.Output[Outlier[T]]
	rt       flow.Runtime
	one      [1]bool
}

// Open implements flow.Opener.
func (o *sieve[K, T, A]) Open(_ context.Context, rt flow.Runtime) error {
	o.rt, o.out = rt, o.side.Open(rt)
	if o.judge == nil {
		return flow.OpenKeys(rt, &o.keys)
	}
	return o.open(rt)
}

// Keep implements flow.KeyedFilter.
func (o *sieve[K, T, A]) Keep(_ context.Context, keys []flow.Slot, in []flow.Record[T], keep []bool) (n int, err error) {
	found := int64(0)
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
		if found > 0 {
			o.rt.Count("outliers", found)
		}
	}()
	for ; n < len(in); n++ {
		r := &in[n]
		number := o.of(r.Value)
		score, why := math.NaN(), "not a number"
		switch {
		case math.IsNaN(number):
		case math.IsInf(number, 0) && !o.infinite:
			why = "infinite"
		case o.judge == nil:
			score, why = o.inRange(number)
		default:
			known := o.has(keys[n])
			score, why = o.judge(o.get(keys[n]), known, number, r.Time)
			o.touch(keys[n], max(r.Time, o.wm))
		}
		if keep[n] = why == ""; !keep[n] {
			found++
			*o.out.Next(r.Time, r.Meta) = Outlier[T]{r.Value, r.Time, number, score, why}
		}
	}
	return n, nil
}

// Process is the same for one record.
func (o *sieve[K, T, A]) Process(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[T]) error {
	if _, err := o.Keep(ctx, []flow.Slot{o.keys.Find(key)}, []flow.Record[T]{*r}, o.one[:]); err != nil {
		return err
	}
	if o.one[0] {
		out.Emit(*r)
	}
	return nil
}

// OnWatermark implements flow.WatermarkHandler.
func (o *sieve[K, T, A]) OnWatermark(_ context.Context, wm flow.Timestamp, _ *flow.Output[T]) error {
	o.expire(wm)
	return nil
}

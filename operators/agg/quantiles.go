package agg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	sketch "github.com/DataDog/sketches-go/ddsketch/store"

	"github.com/millrace-stream/millrace/flow"
)

// Quantiles are the values at the given ranks, one for each q in the order given: 0.5 is the median, 0.99 what 99 % are at most, 0 and 1 the
// ends. Each is within the given accuracy of the value at rank q*(count-1) (rounded down, among negative values up), as a share of that
// value: 0.01 is 1 %. It is the DDSketch of
// Masson, Rim and Lee ("DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees", VLDB 2019) in Datadog's
// implementation.
//
// The accuracy (0.001 to 0.5) holds for values whose magnitude is at least 1e-12 of the greatest of the same sign; smaller ones count
// as of about that magnitude, those below 1e-307 as 0, those above 1e308 as 1e308 or more. The order of arrival and of merges does not matter. NaN is passed over. -Inf comes
// before and +Inf after all other values. Of nothing the result is nil.
//
// State: per sign, an array of 8-byte counts from the least to the greatest magnitude, with 63 to spare, and at most 14 / accuracy of them:
// 11 KiB for 1 %, whatever the number of values. A merge adds the arrays.
func Quantiles[T any, N Number](of func(T) N, accuracy float64, q ...float64) Aggregate[T, []float64] {
	return &quantiles[T, N, []float64]{of, accuracy, slices.Clone(q), "Quantiles", every}
}

// Quantile is the value at one rank q, 0 of nothing, and in all else as Quantiles. Several ranks of one value are cheaper by Quantiles,
// which keeps one sketch for all.
func Quantile[T any, N Number](of func(T) N, accuracy, q float64) Aggregate[T, float64] {
	return &quantiles[T, N, float64]{of, accuracy, []float64{q}, "Quantile", only}
}

type quantiles[T any, N Number, R any] struct {
	of       func(T) N
	accuracy float64
	q        []float64
	name     string
	result   func(*ranks, []float64) R
}

func (a *quantiles[T, N, R]) NewStore() Store[T, R] { return newStore[T, R](a) }

func (a *quantiles[T, N, R]) check() error {
	switch {
	case a.of == nil:
		return nilFunc("the function of agg." + a.name)
	case !(a.accuracy >= 0.001 && a.accuracy <= 0.5):
		return fmt.Errorf("the accuracy of agg.%s is %v: give a share from 0.001 to 0.5, 0.01 for 1 %%", a.name, a.accuracy)
	case len(a.q) == 0:
		return errors.New("agg.Quantiles has no ranks: give at least one, such as 0.5")
	}
	for _, q := range a.q {
		if !(q >= 0 && q <= 1) {
			return fmt.Errorf("the rank %v of agg.%s is no share: give numbers from 0 to 1, 0.99 for 99 %%", q, a.name)
		}
	}
	return nil
}

// reach is the ratio of magnitudes that the accuracy holds for.
const reach = 1e12

func (a *quantiles[T, N, R]) place(l *layout[T]) part[T, R] {
	accuracy := min(max(a.accuracy, 0.001), 0.5)
	m, err := mapping.NewLogarithmicMapping(accuracy)
	if err != nil {
		panic(fmt.Errorf("aggregate: accuracy of agg.%s: %w", a.name, err))
	}
	return &quantilesPart[T, N, R]{
		cells: reserve[T, ranks](l), of: valuesOf(l, a.of), q: a.q, mapping: m,
		least: m.Index(m.MinIndexableValue()), greatest: m.Index(m.MaxIndexableValue()),
		bins: int(math.Log(reach)/math.Log((1+accuracy)/(1-accuracy))) + 2, value: a.result,
		name: "quantiles " + strconv.FormatFloat(a.accuracy, 'g', -1, 64),
	}
}

// ranks are the values of an accumulator; sketch holds the finite ones and is nil as long as there are none.
type ranks struct {
	sketch    *ddsketch.DDSketch
	low, high int64 // infinities
}

type quantilesPart[T any, N Number, R any] struct {
	cells[ranks]
	of              *values[T, N]
	q               []float64
	mapping         *mapping.LogarithmicMapping
	least, greatest int // indices of bins
	bins            int
	value           func(*ranks, []float64) R
	name            string
	scratch         []bin
}

type bin struct {
	index int
	n     uint64
}

func (p *quantilesPart[T, N, R]) newSketch() *ddsketch.DDSketch {
	return ddsketch.NewDDSketch(p.mapping, sketch.NewCollapsingLowestDenseStore(p.bins), sketch.NewCollapsingLowestDenseStore(p.bins))
}

func (p *quantilesPart[T, N, R]) put(a *ranks, v float64) {
	switch {
	case math.IsNaN(v):
		return
	case v > math.MaxFloat64:
		a.high++
		return
	case v < -math.MaxFloat64:
		a.low++
		return
	}
	if a.sketch == nil {
		a.sketch = p.newSketch()
	}
	limit := p.mapping.MaxIndexableValue()
	if err := a.sketch.Add(min(max(v, -limit), limit)); err != nil {
		panic(fmt.Errorf("aggregate: %v: %w", v, err))
	}
}

func (p *quantilesPart[T, N, R]) add(s Slot, r *flow.Record[T]) {
	p.put(p.at(s), float64(p.of.of(r.Value)))
}

func (p *quantilesPart[T, N, R]) addBatch(_ []Slot, _ []flow.Record[T]) {
	c, vs := p.in(), p.of.buf
	c.rows = c.rows[:len(vs)]
	for i, v := range vs {
		p.put(c.at(i), float64(v))
	}
}

func (p *quantilesPart[T, N, R]) merge(into, from Slot) {
	a, b := p.at(into), p.at(from)
	a.low += b.low
	a.high += b.high
	switch {
	case b.sketch == nil:
	case a.sketch == nil:
		a.sketch = b.sketch.Copy()
	default:
		if err := a.sketch.MergeWith(b.sketch); err != nil {
			panic(fmt.Errorf("aggregate: sketches of one store do not match: %w", err))
		}
	}
}

func (p *quantilesPart[T, N, R]) result(s Slot) R { return p.value(p.at(s), p.q) }

// at is the value at rank q.
func (a *ranks) at(q float64) float64 {
	finite := 0.0
	if a.sketch != nil {
		finite = a.sketch.GetCount()
	}
	rank := q * (float64(a.low) + finite + float64(a.high) - 1)
	switch {
	case rank < float64(a.low):
		return math.Inf(-1)
	case rank >= float64(a.low)+finite:
		return math.Inf(1)
	case a.low+a.high > 0:
		// The share that gives the same rank among the finite values.
		q = min(max((rank-float64(a.low))/max(finite-1, 1), 0), 1)
	}
	v, err := a.sketch.GetValueAtQuantile(q)
	if err != nil {
		panic(fmt.Errorf("aggregate: quantile %v: %w", q, err))
	}
	return v
}

func (a *ranks) empty() bool { return a.sketch == nil && a.low+a.high == 0 }

func every(a *ranks, q []float64) []float64 {
	if a.empty() {
		return nil
	}
	out := make([]float64, len(q))
	for i := range q {
		out[i] = a.at(q[i])
	}
	return out
}

func only(a *ranks, q []float64) float64 {
	if a.empty() {
		return 0
	}
	return a.at(q[0])
}

func (p *quantilesPart[T, N, R]) fingerprint() string { return p.name }

// A slot is stored as both counts of infinities, the count of zeros, and for each sign the number of bins and their indices and counts,
// ascending, all as varints. It is Millrace's own, so that damage is noticed before a sketch is made of it.

func (p *quantilesPart[T, N, R]) append(b []byte, slots []Slot) []byte {
	for _, s := range slots {
		a := p.at(s)
		b = binary.AppendUvarint(b, uint64(a.low))
		b = binary.AppendUvarint(b, uint64(a.high))
		if a.sketch == nil {
			b = append(b, 0, 0, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(a.sketch.GetZeroCount()))
		b = appendBins(b, a.sketch.GetNegativeValueStore())
		b = appendBins(b, a.sketch.GetPositiveValueStore())
	}
	return b
}

func appendBins(b []byte, s sketch.Store) []byte {
	n := 0
	s.ForEach(func(int, float64) bool { n++; return false })
	b = binary.AppendUvarint(b, uint64(n))
	s.ForEach(func(index int, count float64) bool {
		b = binary.AppendVarint(b, int64(index))
		b = binary.AppendUvarint(b, uint64(count))
		return false
	})
	return b
}

// maxCount is what float64 counts exactly.
const maxCount = 1 << 53

func (p *quantilesPart[T, N, R]) read(b []byte, slots []Slot) ([]byte, error) {
	for _, s := range slots {
		var n [3]uint64
		for i := range n {
			var ok bool
			if n[i], b, ok = readUvarint(b, maxCount); !ok {
				return b, errRead
			}
		}
		a := ranks{low: int64(n[0]), high: int64(n[1])}
		made := p.newSketch()
		if n[2] > 0 {
			if err := made.AddWithCount(0, float64(n[2])); err != nil {
				return b, fmt.Errorf("%w: %w", errRead, err)
			}
		}
		var ok bool
		if b, ok = p.readBins(b, made.GetNegativeValueStore()); !ok {
			return b, errRead
		}
		if b, ok = p.readBins(b, made.GetPositiveValueStore()); !ok {
			return b, errRead
		}
		if !made.IsEmpty() {
			a.sketch = made
		}
		*p.at(s) = a
	}
	return b, nil
}

func (p *quantilesPart[T, N, R]) readBins(b []byte, into sketch.Store) ([]byte, bool) {
	n, b, ok := readUvarint(b, uint64(p.bins))
	if !ok || n*2 > uint64(len(b)) {
		return b, false
	}
	p.scratch = p.scratch[:0]
	for i := range int(n) {
		index, m := binary.Varint(b)
		if m <= 0 || index < int64(p.least) || index > int64(p.greatest) {
			return b, false
		}
		var count uint64
		if count, b, ok = readUvarint(b[m:], maxCount); !ok || count == 0 {
			return b, false
		}
		if i > 0 && (int(index) <= p.scratch[i-1].index || int(index)-p.scratch[0].index >= p.bins) {
			return b, false
		}
		p.scratch = append(p.scratch, bin{int(index), count})
	}
	// From the greatest down, so that nothing is taken for too small on the way.
	for _, x := range slices.Backward(p.scratch) {
		into.AddWithCount(x.index, float64(x.n))
	}
	return b, true
}

func readUvarint(b []byte, limit uint64) (uint64, []byte, bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v > limit {
		return 0, b, false
	}
	return v, b[n:], true
}

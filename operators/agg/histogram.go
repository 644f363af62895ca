package agg

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/millrace-stream/millrace/flow"
)

// Buckets is the result of Histogram.
type Buckets struct {
	// Bounds are the upper bounds of the buckets, which belong to them. They are shared by all results: do not change them.
	Bounds []float64
	// Counts are one more than Bounds. Counts[i] is how many values are above Bounds[i-1] and at most Bounds[i]; the last one counts those
	// above all bounds.
	Counts []int64
	// Count is the sum of Counts.
	Count int64
	// Sum is the sum of the values, NaN not among them.
	Sum float64
	// NaN is how many values were NaN. They are in no bucket.
	NaN int64
}

// Histogram counts values by buckets whose upper bounds are given, in ascending order; the upper bound belongs to its bucket, as in Prometheus
// (whose buckets are cumulated, ours are not).
//
// -Inf is in the first bucket and +Inf in the last, and the sum is then infinite, or NaN with both. NaN is counted apart. Of
// nothing all counts are 0. The sum is added plainly, so that its last digits depend on the order of arrival; the counts do not.
//
// An accumulator takes 8 bytes per bucket and 16 more, without pointers.
func Histogram[T any, N Number](of func(T) N, bounds ...float64) Aggregate[T, Buckets] {
	return &histogram[T, N]{of, slices.Clone(bounds)}
}

type histogram[T any, N Number] struct {
	of     func(T) N
	bounds []float64
}

func (a *histogram[T, N]) NewStore() Store[T, Buckets] { return newStore[T, Buckets](a) }

// maxBounds keeps a block of accumulators below a MiB.
const maxBounds = 4096

func (a *histogram[T, N]) check() error {
	if a.of == nil {
		return nilFunc("the function of agg.Histogram")
	}
	if n := len(a.bounds); n < 1 || n > maxBounds {
		return fmt.Errorf("agg.Histogram has %d bounds: give 1 to %d", n, maxBounds)
	}
	for i, b := range a.bounds {
		if math.IsNaN(b) || math.IsInf(b, 0) {
			return fmt.Errorf("bound %d of agg.Histogram is %v: give finite ones, what is above the last has its own bucket", i, b)
		}
		if i > 0 && b <= a.bounds[i-1] {
			return fmt.Errorf("bound %d of agg.Histogram, %v, is not above %v: give them in ascending order", i, b, a.bounds[i-1])
		}
	}
	return nil
}

func (a *histogram[T, N]) place(l *layout[T]) part[T, Buckets] {
	return &histogramPart[T, N]{reserveWords(l, len(a.bounds)+3), valuesOf(l, a.of), a.bounds}
}

// An accumulator is the counts of the buckets, the count of NaN, and the bits of the sum.
type histogramPart[T any, N Number] struct {
	cells[uint64]
	of     *values[T, N]
	bounds []float64
}

func (p *histogramPart[T, N]) words() int { return len(p.bounds) + 3 }

func (p *histogramPart[T, N]) count(w *uint64, v float64) {
	words := unsafe.Slice(w, p.words())
	if math.IsNaN(v) {
		words[len(words)-2]++
		return
	}
	sum := &words[len(words)-1]
	*sum = math.Float64bits(math.Float64frombits(*sum) + v)
	low, high := 0, len(p.bounds)
	for low < high {
		mid := int(uint(low+high) / 2)
		if p.bounds[mid] < v {
			low = mid + 1
		} else {
			high = mid
		}
	}
	words[low]++
}

func (p *histogramPart[T, N]) add(s Slot, r *flow.Record[T]) {
	p.count(p.at(s), float64(p.of.of(r.Value)))
}

func (p *histogramPart[T, N]) addBatch(_ []Slot, _ []flow.Record[T]) {
	c, vs := p.in(), p.of.buf
	c.rows = c.rows[:len(vs)]
	for i, v := range vs {
		p.count(c.at(i), float64(v))
	}
}

func (p *histogramPart[T, N]) merge(into, from Slot) {
	a, b := unsafe.Slice(p.at(into), p.words()), unsafe.Slice(p.at(from), p.words())
	last := len(a) - 1
	for i, n := range b[:last] {
		a[i] += n
	}
	a[last] = math.Float64bits(math.Float64frombits(a[last]) + math.Float64frombits(b[last]))
}

func (p *histogramPart[T, N]) result(s Slot) Buckets {
	words := unsafe.Slice(p.at(s), p.words())
	n := len(p.bounds) + 1
	out := Buckets{Bounds: p.bounds, Counts: make([]int64, n), NaN: int64(words[n]), Sum: math.Float64frombits(words[n+1])}
	for i, c := range words[:n] {
		out.Counts[i] = int64(c)
		out.Count += int64(c)
	}
	return out
}

func (p *histogramPart[T, N]) fingerprint() string {
	var s strings.Builder
	s.WriteString("histogram")
	for _, b := range p.bounds {
		s.WriteString(" " + strconv.FormatFloat(b, 'g', -1, 64))
	}
	return s.String()
}

func (p *histogramPart[T, N]) append(b []byte, slots []Slot) []byte {
	for _, s := range slots {
		for _, w := range unsafe.Slice(p.at(s), p.words()) {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
	}
	return b
}

func (p *histogramPart[T, N]) read(b []byte, slots []Slot) ([]byte, error) {
	n := p.words()
	for _, s := range slots {
		if len(b) < n*8 {
			return b, errRead
		}
		words := unsafe.Slice(p.at(s), n)
		for i := range words {
			words[i] = binary.LittleEndian.Uint64(b[i*8:])
			if i < n-1 && int64(words[i]) < 0 {
				return b, errRead
			}
		}
		b = b[n*8:]
	}
	return b, nil
}

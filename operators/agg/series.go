package agg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/millrace-stream/millrace/flow"
)

// TimeOption configures TimeWeightedAvg, Increase and Rate, which need their points in order of time.
type TimeOption func(*timeConfig)

type timeConfig struct {
	reorder int
	missed  *atomic.Int64
	linear  bool
}

// defaultReorder lets a device hand in half an hour of seconds behind newer ones and bounds an accumulator to 16 KiB.
const defaultReorder = 512

// maxReorder bounds the memory of an accumulator to 2 MiB.
const maxReorder = 1 << 16

// Reorder sets how far out of order points may arrive: a point is in its place if fewer than n later ones of the same accumulator came before
// it. One that comes behind more is left out (see CountMissed). An accumulator holds at most 2n points, 16 bytes each (fewer for
// narrow types); older ones are folded into a sum. Defaults to 512, at most 65,536. It may be changed between two runs.
func Reorder(n int) TimeOption { return func(c *timeConfig) { c.reorder = n } }

// CountMissed lets the aggregate add to n each record that it left out: one that came behind more later ones than Reorder allows, or
// that has no time. It counts over all keys and tasks of the process, and again what is replayed after a crash.
func CountMissed(n *atomic.Int64) TimeOption { return func(c *timeConfig) { c.missed = n } }

// Linear lets TimeWeightedAvg draw a straight line from each value to the next instead of a step.
func Linear() TimeOption { return func(c *timeConfig) { c.linear = true } }

func timeConfigOf(opts []TimeOption) timeConfig {
	c := timeConfig{reorder: defaultReorder}
	for _, o := range opts {
		if o != nil {
			o(&c)
		}
	}
	return c
}

func (c *timeConfig) check(name string, linear bool) error {
	switch {
	case c.reorder < 1 || c.reorder > maxReorder:
		return fmt.Errorf("agg.Reorder of agg.%s is %d: give a number from 1 to %d", name, c.reorder, maxReorder)
	case c.linear && !linear:
		return errors.New("agg.Linear is given to agg." + name + ": it is for agg.TimeWeightedAvg")
	}
	return nil
}

// point is a value at a time.
type point[N Number] struct {
	t flow.Timestamp
	v N
}

// run is a stretch of n points, of which the ends are kept and the sum over its neighbours.
type run[N Number] struct {
	first, last point[N]
	sum         float64
	n           int64
}

// series are points in order of time, one for each time: the newest as they came, the older folded into head.
type series[N Number] struct {
	head   run[N]
	points []point[N]
}

// timeline folds points into series.
type timeline[N Number] struct {
	// between is what two neighbours add to the sum.
	between func(a, b point[N]) float64
	// keep is how many points remain when 2*keep are folded.
	keep    int
	missed  *atomic.Int64
	scratch []run[N]
}

func (l *timeline[N]) miss(n int64) {
	if l.missed != nil {
		l.missed.Add(n)
	}
}

// put sets the value at a time. One of the same time is replaced.
func (l *timeline[N]) put(s *series[N], t flow.Timestamp, v N) {
	l.insert(s, t, v)
	l.trim(s)
}

func (l *timeline[N]) insert(s *series[N], t flow.Timestamp, v N) {
	n := len(s.points)
	switch {
	case n > 0 && t > s.points[n-1].t, n == 0 && s.head.n == 0 && t != flow.None:
		s.points = append(s.points, point[N]{t, v})
	case t == flow.None || s.head.n > 0 && t <= s.head.last.t && t >= s.head.first.t:
		l.miss(1)
	case s.head.n > 0 && t < s.head.first.t:
		r := run[N]{point[N]{t, v}, point[N]{t, v}, 0, 1}
		l.join(&r, &s.head)
		s.head = r
	default:
		i := place(s.points, t)
		if i < n && s.points[i].t == t {
			s.points[i].v = v
		} else {
			s.points = slices.Insert(s.points, i, point[N]{t, v})
		}
	}
}

// place is the first point that is not before t.
func place[N Number](points []point[N], t flow.Timestamp) int {
	low, high := 0, len(points)
	for low < high {
		mid := int(uint(low+high) / 2)
		if points[mid].t < t {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// trim folds all but the newest points of a full series.
func (l *timeline[N]) trim(s *series[N]) {
	if len(s.points) < 2*l.keep {
		return
	}
	old := len(s.points) - l.keep
	l.fold(&s.head, s.points[:old])
	s.points = s.points[:copy(s.points, s.points[old:])]
}

// fold appends points to r.
func (l *timeline[N]) fold(r *run[N], points []point[N]) {
	for _, p := range points {
		l.join(r, &run[N]{p, p, 0, 1})
	}
}

// join appends a run to r.
func (l *timeline[N]) join(r, next *run[N]) {
	if r.n == 0 {
		*r = *next
		return
	}
	r.sum += l.between(r.last, next.first)
	r.sum += next.sum
	r.last = next.last
	r.n += next.n
}

// whole is all of a series as one run.
func (l *timeline[N]) whole(s *series[N]) run[N] {
	r := s.head
	l.fold(&r, s.points)
	return r
}

// merge folds b into a. What is folded in b can only be put before, behind or between what is in a: where it overlaps, the shorter run is
// left out. Slices and sessions never overlap.
func (l *timeline[N]) merge(a, b *series[N]) {
	if a.head.n == 0 && len(a.points) == 0 {
		a.head, a.points = b.head, append(a.points, b.points...)
		return
	}
	if b.head.n == 0 && (a.head.n == 0 || len(b.points) == 0 || b.points[0].t >= a.head.first.t) {
		for _, p := range b.points {
			l.insert(a, p.t, p.v)
		}
		l.trim(a)
		return
	}
	runs := appendRuns(appendRuns(l.scratch[:0], a), b)
	slices.SortStableFunc(runs, func(x, y run[N]) int {
		switch {
		case x.first.t < y.first.t:
			return -1
		case x.first.t > y.first.t:
			return 1
		}
		return 0
	})
	l.scratch, runs = runs, l.separate(runs)
	folded := 0
	for i := range runs {
		if runs[i].n > 1 {
			folded = i + 1
		}
	}
	a.head = run[N]{}
	for i := range runs[:folded] {
		l.join(&a.head, &runs[i])
	}
	a.points = a.points[:0]
	for _, r := range runs[folded:] {
		a.points = append(a.points, r.first)
	}
	l.trim(a)
}

func appendRuns[N Number](runs []run[N], s *series[N]) []run[N] {
	if s.head.n > 0 {
		runs = append(runs, s.head)
	}
	for _, p := range s.points {
		runs = append(runs, run[N]{p, p, 0, 1})
	}
	return runs
}

// separate takes out of sorted runs what overlaps.
func (l *timeline[N]) separate(runs []run[N]) []run[N] {
	out := runs[:0]
	for _, r := range runs {
		if len(out) == 0 || r.first.t > out[len(out)-1].last.t {
			out = append(out, r)
			continue
		}
		prev := &out[len(out)-1]
		switch {
		case prev.n == 1 && r.n == 1: // two values of one time: that of b replaces that of a
			*prev = r
		case r.n > prev.n:
			l.miss(prev.n)
			*prev = r
		default:
			l.miss(r.n)
		}
	}
	return out
}

// seriesPart is the part of an aggregate over series.
type seriesPart[T any, N Number] struct {
	cells[series[N]]
	timeline[N]
	of     *values[T, N]
	sum    func(run[N]) float64
	ok     func(N) bool
	head   *wire
	points *wire
	name   string
	slots  []Slot
}

func newSeriesPart[T any, N Number](l *layout[T], name string, c timeConfig, of func(T) N,
	between func(a, b point[N]) float64, sum func(run[N]) float64,
) *seriesPart[T, N] {
	head, _ := wireOf[run[N]](nil)
	points, _ := wireOf[point[N]](nil)
	return &seriesPart[T, N]{
		cells: reserve[T, series[N]](l), timeline: timeline[N]{between: between, keep: min(max(c.reorder, 1), maxReorder), missed: c.missed},
		of: valuesOf(l, of), sum: sum, head: head, points: points, name: name,
	}
}

func (p *seriesPart[T, N]) add(s Slot, r *flow.Record[T]) {
	if v := p.of.of(r.Value); p.ok == nil || p.ok(v) {
		p.put(p.at(s), r.Time, v)
	}
}

func (p *seriesPart[T, N]) addBatch(_ []Slot, in []flow.Record[T]) {
	c, vs := p.in(), p.of.buf
	in = in[:len(vs)]
	for i, v := range vs {
		if p.ok == nil || p.ok(v) {
			p.put(c.at(i), in[i].Time, v)
		}
	}
}

func (p *seriesPart[T, N]) merge(into, from Slot) { p.timeline.merge(p.at(into), p.at(from)) }

func (p *seriesPart[T, N]) result(s Slot) float64 {
	return p.sum(p.whole(p.at(s)))
}

func (p *seriesPart[T, N]) fingerprint() string { return p.name + " " + p.head.shape }

// A slot is stored as the count of points, the head, and the points by column.

func (p *seriesPart[T, N]) append(b []byte, slots []Slot) []byte {
	for _, s := range slots {
		a := p.at(s)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(a.points)))
		head, points := rowsOf(unsafe.Slice(&a.head, 1)), rowsOf(a.points)
		b = p.head.append(b, upTo(&p.slots, 1), &head)
		b = p.points.append(b, upTo(&p.slots, len(a.points)), &points)
	}
	return b
}

func (p *seriesPart[T, N]) read(b []byte, slots []Slot) ([]byte, error) {
	for _, s := range slots {
		if len(b) < 4 {
			return b, errRead
		}
		n := uint64(binary.LittleEndian.Uint32(b))
		if b = b[4:]; n >= 2*maxReorder || n*p.points.least() > uint64(len(b)) {
			return b, errRead
		}
		var a series[N]
		if n > 0 {
			a.points = make([]point[N], n)
		}
		head, points := rowsOf(unsafe.Slice(&a.head, 1)), rowsOf(a.points)
		var err error
		if b, err = p.head.read(b, upTo(&p.slots, 1), &head); err != nil {
			return b, err
		}
		if b, err = p.points.read(b, upTo(&p.slots, int(n)), &points); err != nil {
			return b, err
		}
		if !a.ordered() {
			return b, errRead
		}
		p.trim(&a)
		*p.at(s) = a
	}
	return b, nil
}

// ordered tells whether s can have been made by put and merge.
func (s *series[N]) ordered() bool {
	last := flow.None
	switch {
	case s.head.n < 0 || s.head.n == 0 && s.head != run[N]{} || s.head.n > 0 && s.head.first.t == flow.None:
		return false
	case s.head.n > 0:
		if last = s.head.last.t; last < s.head.first.t {
			return false
		}
	}
	for _, p := range s.points {
		if p.t <= last {
			return false
		}
		last = p.t
	}
	return true
}

// seconds is the time from a to b, which is not before a.
func seconds(a, b flow.Timestamp) float64 { return float64(uint64(b)-uint64(a)) / 1e9 }

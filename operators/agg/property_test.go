package agg_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/operators/agg"
)

// everything is one aggregate of each kind and each way of being stored.
type everything struct {
	Stats    stats
	Sum      float64
	Low      int8
	Longest  string
	First    string
	Last     shape
	LastTags []string
	Seen     int
	Own      ownResult
	Map      int
	Coded    int
	Naive    int
	Head     agg.Collected[string]
	Tail     agg.Collected[shape]
	TagsOf   agg.Collected[[]string]
	More     more
}

// more are the aggregates of ranks, times and sketches.
type more struct {
	ArgMin   string
	ArgMax   []string
	Largest  []shape
	Smallest [][]string
	Step     float64
	Linear   float64
	Increase float64
	Rate     float64
	Buckets  agg.Buckets
	Ranks    []float64
	Median   float64
	Devices  int64
	Times    int64
	Top      agg.Frequent[string]
	TopLevel agg.Frequent[int8]
}

func shapeOf(r reading) shape {
	s := shape{device: r.Device, at: time.Unix(r.At*1e9, r.At).UTC(), pair: [2]float32{float32(r.Temperature), 1}, flag: r.Level > 0}
	s.levels[2].a, s.levels[1].b = int16(r.Level), uint(r.At)
	return s
}

func moreOf() agg.Aggregate[reading, more] {
	return agg.Into(
		agg.To(func(m *more) *string { return &m.ArgMin }, agg.ArgMin(reading.temperature, reading.device)),
		agg.To(func(m *more) *[]string { return &m.ArgMax }, agg.ArgMax(reading.device, reading.tags)),
		agg.To(func(m *more) *[]shape { return &m.Largest }, agg.Largest(reading.temperature, shapeOf, 3)),
		agg.To(func(m *more) *[][]string { return &m.Smallest }, agg.Smallest(reading.device, reading.tags, 4)),
		agg.To(func(m *more) *float64 { return &m.Step }, agg.TimeWeightedAvg(reading.temperature)),
		agg.To(func(m *more) *float64 { return &m.Linear }, agg.TimeWeightedAvg(reading.level, agg.Linear())),
		agg.To(func(m *more) *float64 { return &m.Increase }, agg.Increase(reading.level)),
		agg.To(func(m *more) *float64 { return &m.Rate }, agg.Rate(reading.temperature)),
		agg.To(func(m *more) *agg.Buckets { return &m.Buckets }, agg.Histogram(reading.temperature, -10, 0, 100)),
		agg.To(func(m *more) *[]float64 { return &m.Ranks }, agg.Quantiles(reading.temperature, 0.05, 0.1, 0.9)),
		agg.To(func(m *more) *float64 { return &m.Median }, agg.Quantile(reading.level, 0.3, 0.5)),
		agg.To(func(m *more) *int64 { return &m.Devices }, agg.Distinct(reading.device, 0.02)),
		agg.To(func(m *more) *int64 { return &m.Times }, agg.Distinct(shapeOf, 0.26)),
		agg.To(func(m *more) *agg.Frequent[string] { return &m.Top }, agg.TopK(reading.device, 3, 6)),
		agg.To(func(m *more) *agg.Frequent[int8] { return &m.TopLevel }, agg.TopK(reading.level, 2, 256)),
	)
}

type shape struct {
	device string
	at     time.Time
	pair   [2]float32
	flag   bool
	levels [3]struct {
		a int16
		b uint
	}
}

type ownResult struct {
	n   int
	max float32
	dev string
}

func (o *ownResult) add(r reading) {
	o.n++
	o.max = max(o.max, float32(r.Temperature))
	o.dev += r.Device
}

func (o *ownResult) merge(from *ownResult) {
	o.n += from.n
	o.max = max(o.max, from.max)
	o.dev += from.dev
}

func (o *ownResult) result() ownResult { return *o }

type distinct struct {
	Seen map[string]int
	At   time.Time
}

func addDistinct(d *distinct, r reading) {
	if d.Seen == nil {
		d.Seen = map[string]int{}
	}
	d.Seen[r.Device]++
	d.At = time.Unix(r.At%1e9, 5)
}

func mergeDistinct(into, from *distinct) {
	for k, n := range from.Seen {
		if into.Seen == nil {
			into.Seen = map[string]int{}
		}
		into.Seen[k] += n
	}
	into.At = from.At
}

func all() agg.Aggregate[reading, everything] {
	size := func(d *distinct) int { return len(d.Seen) }
	return agg.Into(
		agg.To(func(e *everything) *stats { return &e.Stats }, four()),
		agg.To(func(e *everything) *float64 { return &e.Sum }, agg.Sum(reading.temperature)),
		agg.To(func(e *everything) *int8 { return &e.Low }, agg.Min(reading.level)),
		agg.To(func(e *everything) *string { return &e.Longest }, agg.Max(reading.device)),
		agg.To(func(e *everything) *string { return &e.First }, agg.First(reading.device)),
		agg.To(func(e *everything) *shape { return &e.Last }, agg.Last(shapeOf)),
		agg.To(func(e *everything) *[]string { return &e.LastTags }, agg.Last(reading.tags)),
		agg.To(func(e *everything) *ownResult { return &e.Own },
			agg.Func((*ownResult).add, (*ownResult).merge, (*ownResult).result)),
		agg.To(func(e *everything) *int { return &e.Map }, agg.Func(addDistinct, mergeDistinct, size)),
		agg.To(func(e *everything) *int { return &e.Coded },
			agg.Func(addDistinct, mergeDistinct, size, agg.StoredAs(codec.CBOR[distinct]()))),
		agg.To(func(e *everything) *int { return &e.Naive }, agg.Aggregate[reading, int](naive{})),
		agg.To(func(e *everything) *agg.Collected[string] { return &e.Head }, agg.Collect(reading.device, 5, agg.KeepFirst)),
		agg.To(func(e *everything) *agg.Collected[shape] { return &e.Tail }, agg.Collect(shapeOf, 3, agg.KeepLast)),
		agg.To(func(e *everything) *agg.Collected[[]string] { return &e.TagsOf }, agg.Collect(reading.tags, 1000, agg.KeepLast)),
		agg.To(func(e *everything) *more { return &e.More }, moreOf()),
	)
}

// readings draws temperatures that add up exactly, so that the order of additions does not show.
func readings() *rapid.Generator[[]flow.Record[reading]] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) flow.Record[reading] {
		return flow.Record[reading]{
			Value: reading{
				Device:      rapid.SampledFrom([]string{"", "a", "b", "lang\xff", "dev-0000001"}).Draw(t, "device"),
				At:          rapid.Int64Range(0, 1<<40).Draw(t, "at"),
				Temperature: float64(rapid.IntRange(-1000, 1000).Draw(t, "temperature")) / 4,
				Level:       rapid.Int8().Draw(t, "level"),
				Tags:        rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y"}), 1, 3).Draw(t, "tags"),
			},
			Time: flow.Timestamp(rapid.Int64Range(-3, 3).Draw(t, "time")),
		}
	}), 0, 40)
}

// TestAnyWayOfFoldingAgrees folds one sequence per slot in ways that must not matter: one by one or in batches, in one slot or in
// several that are merged in order, in one store or in a second one that reads the first one's bytes in between.
func TestAnyWayOfFoldingAgrees(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := readings().Draw(t, "readings")
		plain := all().NewStore()
		want := plain.AllocBlock()
		for i := range in {
			plain.Add(want, &in[i])
		}

		s := all().NewStore()
		for range rapid.IntRange(0, 3).Draw(t, "blocks before") {
			s.AllocBlock()
		}
		block := s.AllocBlock()
		parts := []agg.Slot{block + 7}
		for len(in) > 0 {
			switch rapid.SampledFrom([]string{"add", "batch", "slot", "store"}).Draw(t, "step") {
			case "add":
				s.Add(parts[len(parts)-1], &in[0])
				in = in[1:]
			case "batch":
				n := rapid.IntRange(0, len(in)).Draw(t, "n")
				s.AddBatch(repeat(parts[len(parts)-1], n), in[:n])
				in = in[n:]
			case "slot":
				if len(parts) < agg.BlockSize {
					parts = append(parts, block+(7+agg.Slot(len(parts)))%agg.BlockSize)
				}
			case "store":
				next := all().NewStore()
				rest, err := next.Read(append(s.Append(nil, parts), "rest"...), slotsOf(next, &block, parts))
				require.NoError(t, err)
				require.Equal(t, "rest", string(rest))
				s = next
			}
		}
		for len(parts) > 1 {
			i := rapid.IntRange(0, len(parts)-2).Draw(t, "merge")
			s.Merge(parts[i], parts[i+1])
			parts = append(parts[:i+1:i+1], parts[i+2:]...)
		}
		require.Equal(t, plain.Result(want), s.Result(parts[0]))
	})
}

// slotsOf allocates a block of next for parts and moves parts and block there.
func slotsOf(next agg.Store[reading, everything], block *agg.Slot, parts []agg.Slot) []agg.Slot {
	next.FreeBlock(next.AllocBlock())
	first := next.AllocBlock()
	for i := range parts {
		parts[i] = first + parts[i] - *block
	}
	*block = first
	return parts
}

func TestStoredFloatsKeepTheirBits(t *testing.T) {
	t.Parallel()
	for _, v := range []float64{math.NaN(), math.Inf(-1), math.Copysign(0, -1), 5e-324} {
		a := agg.Into(
			agg.To(func(p *[2]float64) *float64 { return &p[0] }, agg.Max(reading.temperature)),
			agg.To(func(p *[2]float64) *float64 { return &p[1] }, agg.Last(reading.temperature)),
		)
		s, r := a.NewStore(), a.NewStore()
		at := []agg.Slot{s.AllocBlock()}
		r.AllocBlock()
		s.AddBatch(at, temps(v))
		_, err := r.Read(s.Append(nil, at), at)
		require.NoError(t, err)
		for _, got := range r.Result(at[0]) {
			require.Equal(t, math.Float64bits(v), math.Float64bits(got))
		}
	}
}

func FuzzRead(f *testing.F) {
	s := all().NewStore()
	first := s.AllocBlock()
	slots := []agg.Slot{first + 1, first + 2, first + 5}
	in := temps(1, 2, math.NaN())
	in[0].Value.Device, in[2].Value.Tags = "dev-1", []string{"x"}
	s.AddBatch(slots, in)
	f.Add(s.Append(nil, slots))
	f.Add(s.Append(nil, slots[:1]))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := all().NewStore()
		first := s.AllocBlock()
		slots := []agg.Slot{first + 1, first + 2, first + 5}
		rest, err := s.Read(data, slots)
		if err != nil {
			return
		}
		for _, at := range slots {
			s.Result(at)
		}
		// What was read is written and read again as the same.
		again := s.Append(nil, slots)
		other := all().NewStore()
		other.AllocBlock()
		left, err := other.Read(again, slots)
		require.NoError(t, err)
		require.Empty(t, left)
		require.LessOrEqual(t, len(rest), len(data))
		require.Equal(t, again, other.Append(nil, slots))
	})
}

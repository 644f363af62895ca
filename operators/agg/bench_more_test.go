package agg_test

import (
	"strconv"
	"testing"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
)

func (e event) device() string { return e.Device }
func (e event) seq() int64     { return e.Seq }

// BenchmarkAdd is one record into an accumulator of each aggregate: 4,096 records in batches of 256 that fall on 1,000 keys in turn, one per
// second and key, in order but for each eighth, which comes one behind its successor.
func BenchmarkAdd(b *testing.B) {
	benchAdd(b, "StdDev", agg.StdDev(event.temperature))
	benchAdd(b, "Variance", agg.Variance(event.temperature))
	benchAdd(b, "First", agg.First(event.temperature))
	benchAdd(b, "Last", agg.Last(event.temperature))
	benchAdd(b, "ArgMax", agg.ArgMax(event.temperature, event.seq))
	benchAdd(b, "Largest10", agg.Largest(event.temperature, event.seq, 10))
	benchAdd(b, "TimeWeightedAvg", agg.TimeWeightedAvg(event.temperature, agg.Reorder(64)))
	benchAdd(b, "Rate", agg.Rate(event.seq, agg.Reorder(64)))
	benchAdd(b, "Histogram12", agg.Histogram(event.temperature, 0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100))
	benchAdd(b, "Quantiles1%", agg.Quantiles(event.temperature, 0.01, 0.5, 0.99))
	benchAdd(b, "Distinct1%/1000", agg.Distinct(event.seq, 0.01))
	benchAdd(b, "Distinct1%/few strings", agg.Distinct(event.device, 0.01))
	benchAdd(b, "TopK/few strings", agg.TopK(event.device, 3, 100))
	benchAdd(b, "TopK/many", agg.TopK(event.seq, 10, 100))
}

func benchAdd[R any](b *testing.B, name string, a agg.Aggregate[event, R]) {
	const n, batch, keys = 4096, 256, 1000
	in := make([]flow.Record[event], n)
	x := uint64(1)
	for i := range in {
		x = x*6364136223846793005 + 1442695040888963407
		in[i].Value = event{Device: "dev-" + strconv.Itoa(int(x>>61)), Temperature: float64(x>>40) / (1 << 24) * 120, Seq: int64(x >> 44 % 1000)}
	}
	slots := make([]agg.Slot, batch)
	b.Run(name, func(b *testing.B) {
		s := a.NewStore()
		for range keys/agg.BlockSize + 1 {
			s.AllocBlock()
		}
		b.ReportAllocs()
		for i := 0; i < b.N; i += batch {
			part := in[i%n : i%n+batch]
			for j := range part {
				slots[j] = agg.Slot((i + j) % keys)
				sec := (i + j) / keys
				if sec%8 == 0 {
					sec += 2
				}
				part[j].Time = flow.Timestamp(sec * 1e9)
			}
			s.AddBatch(slots, part)
		}
	})
}

// BenchmarkMerge merges an accumulator of 60 records into an empty one, as a sliding window of two slices does, and reads it.
func BenchmarkMerge(b *testing.B) {
	benchMerge(b, "Avg", agg.Avg(event.temperature))
	benchMerge(b, "ArgMax", agg.ArgMax(event.temperature, event.seq))
	benchMerge(b, "Largest10", agg.Largest(event.temperature, event.seq, 10))
	benchMerge(b, "TimeWeightedAvg", agg.TimeWeightedAvg(event.temperature))
	benchMerge(b, "Rate", agg.Rate(event.seq))
	benchMerge(b, "Histogram12", agg.Histogram(event.temperature, 0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100))
	benchMerge(b, "Quantiles1%", agg.Quantiles(event.temperature, 0.01, 0.5, 0.99))
	benchMerge(b, "Distinct1%", agg.Distinct(event.seq, 0.01))
	benchMerge(b, "TopK", agg.TopK(event.device, 3, 100))
}

func benchMerge[R any](b *testing.B, name string, a agg.Aggregate[event, R]) {
	s := a.NewStore()
	first := s.AllocBlock()
	x := uint64(1)
	for i := range 60 {
		x = x*6364136223846793005 + 1442695040888963407
		r := flow.Record[event]{Time: flow.Timestamp(i * 1e9)}
		r.Value = event{Device: "dev-" + strconv.Itoa(int(x>>61)), Temperature: float64(x>>40) / (1 << 24) * 120, Seq: int64(x >> 40)}
		s.Add(first, &r)
	}
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			s.Empty(first + 1)
			s.Merge(first+1, first)
			s.Result(first + 1)
		}
	})
}

package agg_test

import (
	"fmt"
	"testing"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/agg"
)

// event is the reference workload's: 48 bytes, 5 fields.
type event struct {
	Device      string
	TS          int64
	Temperature float64
	Humidity    float64
	Seq         int64
}

func (e event) temperature() float64 { return e.Temperature }

type result struct {
	Avg, Max, Min float64
	Count         int64
}

type own struct {
	sum, max, min float64
	n             int64
}

func (o *own) add(e event) {
	t := e.Temperature
	if o.n == 0 || t > o.max {
		o.max = t
	}
	if o.n == 0 || t < o.min {
		o.min = t
	}
	o.sum += t
	o.n++
}

func (o *own) merge(*own)     {}
func (o *own) result() result { return result{o.sum / float64(o.n), o.max, o.min, o.n} }

// BenchmarkFourAggregates is avg, max, min and count of one field, slots known: 4,096 records in batches of 256 that fall on
// keys of the given number.
func BenchmarkFourAggregates(b *testing.B) {
	into := agg.Into(
		agg.To(func(r *result) *float64 { return &r.Avg }, agg.Avg(event.temperature)),
		agg.To(func(r *result) *float64 { return &r.Max }, agg.Max(event.temperature)),
		agg.To(func(r *result) *float64 { return &r.Min }, agg.Min(event.temperature)),
		agg.To(func(r *result) *int64 { return &r.Count }, agg.Count(event.temperature)),
	)
	for _, keys := range []int{10_000, 1_000_000} {
		const n, batch = 1 << 20, 256
		in := make([]flow.Record[event], 4096)
		slots := make([]agg.Slot, n)
		x := uint64(1)
		for i := range slots {
			x = x*6364136223846793005 + 1442695040888963407
			slots[i] = agg.Slot((x >> 32) * uint64(keys) >> 32)
			in[i%len(in)].Value.Temperature = float64(x>>40) / 1e3
		}
		eachBatch := func(b *testing.B, f func(s []agg.Slot, in []flow.Record[event])) {
			b.ReportAllocs()
			for i := 0; i < b.N; i += batch {
				at := i % n
				f(slots[at:at+batch], in[at%len(in):at%len(in)+batch])
			}
		}
		run := func(name string, a agg.Aggregate[event, result], one bool) {
			b.Run(fmt.Sprintf("keys=%d/%s", keys, name), func(b *testing.B) {
				s := a.NewStore()
				for range (keys + agg.BlockSize - 1) / agg.BlockSize {
					s.AllocBlock()
				}
				b.ResetTimer()
				if !one {
					eachBatch(b, s.AddBatch)
					return
				}
				eachBatch(b, func(slots []agg.Slot, in []flow.Record[event]) {
					for i := range in {
						s.Add(slots[i], &in[i])
					}
				})
			})
		}
		b.Run(fmt.Sprintf("keys=%d/hand", keys), func(b *testing.B) {
			acc := make([]own, keys)
			eachBatch(b, func(s []agg.Slot, in []flow.Record[event]) {
				for i := range in {
					o, t := &acc[s[i]], in[i].Value.Temperature
					if o.n == 0 || t > o.max {
						o.max = t
					}
					if o.n == 0 || t < o.min {
						o.min = t
					}
					o.sum += t
					o.n++
				}
			})
		})
		run("Into/AddBatch", into, false)
		run("Into/Add", into, true)
		run("Func/AddBatch", agg.Func((*own).add, (*own).merge, (*own).result), false)
	}
}

func BenchmarkAppend(b *testing.B) {
	s := four().NewStore()
	var slots []agg.Slot
	for range 64 / agg.BlockSize {
		first := s.AllocBlock()
		for i := range agg.Slot(agg.BlockSize) {
			slots = append(slots, first+i)
		}
	}
	var buf []byte
	b.ReportAllocs()
	for i := 0; i < b.N; i += len(slots) {
		buf = s.Append(buf[:0], slots)
	}
	b.ReportMetric(float64(len(buf))/float64(len(slots)), "B/slot")
}

package scenarios

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/jobs"
	"github.com/millrace-stream/millrace/bench/scenarios/readingpb"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/codec/fields"
	"github.com/millrace-stream/millrace/flow/codec/protobuf"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
)

// parts are scenarios of what stands between operators: exchanges, lookups, codecs, the router.
func parts() []harness.Scenario {
	all := []harness.Scenario{
		inProcess("keyed", "each event through a keyed operator without state, 10,000 devices, in one task", workload.B10k(), true, passed),
		inProcess("exchange", "the same in two workers behind an exchange: the difference is what that costs", workload.B10k(), true, passed, flow.WithParallelism(2)),
		inProcess("enrich-table", "each event with what a table in memory knows of its device, 10,000 devices", workload.B10k(), true, func(s flow.Stream[event]) flow.Stream[int64] {
			return enriched(s, operators.Table[string, int](deviceTable()))
		}),
		inProcess("enrich-hit", "each event with what a lookup said of its device, out of the cache, 10,000 devices", workload.B10k(), true, func(s flow.Stream[event]) flow.Stream[int64] {
			return enriched(s, answers(deviceTable()), operators.Cache(time.Hour, 20_000))
		}),
		inProcess("enrich-miss", "each event asks a lookup that answers at once, without a cache, 10,000 devices", workload.B10k(), true, func(s flow.Stream[event]) flow.Stream[int64] {
			return enriched(s, answers(deviceTable()))
		}),
		payloadScenario("json-decode", "JSON of six fields by the default codec", codec.JSON[jobs.Reading]()),
		payloadScenario("json-decode-known", "JSON of six fields by the codec for known fields", jobs.ReadingCodec()),
		payloadScenario("json-decode-alias", "JSON of six fields by the codec for known fields, texts pointing into the payload", jobs.ReadingCodec(fields.Alias())),
		protobufDecode(),
		columns(),
	}
	for _, size := range []int{1, 64, 256} {
		all = append(all, routerHop(size))
	}
	return all
}

func passed(s flow.Stream[event]) flow.Stream[int64] {
	return flow.ApplyKeyed[string, event, int64](flow.KeyBy(s, device), "passed", func() passer { return passer{} })
}

// passer is a keyed operator without state.
type passer struct{}

func (passer) Process(_ context.Context, _ string, r *flow.Record[event], out *flow.Output[int64]) error {
	*out.Next(r.Time, r.Meta) = r.Value.Seq
	return nil
}

func (passer) ProcessBatch(_ context.Context, _ []flow.Slot, in []flow.Record[event], out *flow.Output[int64]) (int, error) {
	for i := range in {
		*out.Next(in[i].Time, in[i].Meta) = in[i].Value.Seq
	}
	return len(in), nil
}

func deviceTable() map[string]int {
	t := map[string]int{}
	for i, d := range workload.New(workload.B10k()).Devices() {
		t[d] = i
	}
	return t
}

// answers is a lookup that must be asked, and answers at once.
type answers map[string]int

// Lookup answers for a batch of keys.
func (a answers) Lookup(_ context.Context, keys []string, vals []int, found []bool) error {
	for i, k := range keys {
		vals[i], found[i] = a[k]
	}
	return nil
}

func enriched(s flow.Stream[event], from operators.Lookup[string, int], opts ...operators.EnrichOption) flow.Stream[int64] {
	return operators.Enrich(s, "enriched", from, device, func(e event, _ int, found bool) (int64, error) {
		if !found {
			return 0, fmt.Errorf("no device %s", e.Device)
		}
		return e.Seq, nil
	}, opts...)
}

// firstSeq is the number in payload 0.
const firstSeq = 1_000_000_000

// payloadScenario decodes each payload in the source; making it is copying it and writing two numbers.
func payloadScenario(name, about string, c codec.Codec[jobs.Reading]) harness.Scenario {
	return harness.Func("micro/"+name, about, func(ctx context.Context, l *harness.Load, m *harness.Meter) error {
		m.EachOnce()
		t := topology(m)
		in := flow.From(t, "readings", harness.From(l, decoded(workload.NewPayloads(workload.New(workload.F())), c)))
		flow.To(operators.Map(in, "number", func(_ context.Context, r jobs.Reading) (int64, error) { return numberOf(r.Seq) }), "out", numbers(m))
		return t.Run(ctx)
	})
}

func numberOf(seq int64) (int64, error) {
	if seq < firstSeq {
		return 0, fmt.Errorf("a payload was not decoded: its number is %d", seq)
	}
	return seq - firstSeq, nil
}

// columns writes events as rows of four columns into inserts that go nowhere.
func columns() harness.Scenario {
	return harness.Func("micro/clickhouse-encode", "ClickHouse columns (String, DateTime64, Float64, Int64), blocks and LZ4, without a server",
		func(ctx context.Context, l *harness.Load, m *harness.Meter) error {
			m.EachOnce()
			type row struct {
				Device      string    `ch:"device"`
				At          time.Time `ch:"ts,DateTime64(3, 'UTC')"`
				Temperature float64   `ch:"temperature"`
				Seq         int64     `ch:"seq"`
			}
			out := clickhouse.Discard(clickhouse.Config{}, func(e event) row { return row{e.Device, e.Time(), e.Temperature, e.Seq} })
			t := topology(m)
			flow.To(flow.From(t, "events", harness.From(l, workload.New(workload.B10k()).Fill)), "out",
				harness.Watch(out, func(e *event) int64 { return e.Seq }, func(seqs []int64) { m.Done(seqs...) }))
			return t.Run(ctx)
		})
}

// protobufDecode takes payloads out of a pool, as job F does; they are not changed.
func protobufDecode() harness.Scenario {
	return harness.Func("micro/protobuf-decode", "Protobuf of six fields, generated message", func(ctx context.Context, l *harness.Load, m *harness.Meter) error {
		m.EachOnce()
		g, c := workload.New(workload.F()), protobuf.Codec[*readingpb.Reading]()
		pool := make([][]byte, 1<<16)
		for i := range pool {
			e := g.Next(int64(i))
			r := &readingpb.Reading{DeviceId: e.Device, Ts: e.TS, Temperature: e.Temperature, Humidity: e.Humidity, Fw: "1.4", Seq: firstSeq + e.Seq}
			var err error
			if pool[i], err = c.Append(nil, &r); err != nil {
				return err
			}
		}
		t := topology(m)
		type numbered struct {
			*readingpb.Reading
			n int64
		}
		in := flow.From(t, "readings", harness.From(l, func(i int64, v *numbered) {
			*v = numbered{n: i}
			if c.Decode(pool[i%int64(len(pool))], &v.Reading) != nil {
				v.Reading = nil
			}
		}))
		flow.To(operators.Map(in, "number", func(_ context.Context, v numbered) (int64, error) {
			at, err := numberOf(v.GetSeq())
			if err == nil && at != v.n%int64(len(pool)) {
				err = fmt.Errorf("payload %d has number %d", v.n, at)
			}
			return v.n, err
		}), "out", numbers(m))
		return t.Run(ctx)
	})
}

// routerHop is what a batch costs to come through Watermill's router: the smaller the batch, the more of it.
func routerHop(size int) harness.Scenario {
	return harness.Func(fmt.Sprintf("micro/router-hop-%d", size), fmt.Sprintf("each event through one Map, in batches of %d through the router", size),
		func(ctx context.Context, l *harness.Load, m *harness.Meter) error {
			m.EachOnce()
			t := topology(m)
			in := flow.From(t, "events", harness.InBatches(l, workload.New(workload.A()).Fill, size))
			flow.To(numbered(in), "out", numbers(m))
			return t.Run(ctx)
		})
}

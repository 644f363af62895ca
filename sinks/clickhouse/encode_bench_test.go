package clickhouse

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

type benchReading struct {
	Device      string
	Temperature float64
	Seq         uint64
}

type benchRow struct {
	Device string         `ch:"device"`
	At     flow.Timestamp `ch:"at"`
	Value  float64        `ch:"value"`
	Seq    uint64         `ch:"seq"`
}

func toBenchRow(r benchReading) benchRow {
	return benchRow{Device: r.Device, At: flow.Timestamp(r.Seq) * 1_000_000, Value: r.Temperature, Seq: r.Seq}
}

func benchBatches(n int) [][]flow.Record[benchReading] {
	batches := make([][]flow.Record[benchReading], n)
	for b := range batches {
		batches[b] = make([]flow.Record[benchReading], flow.MaxBatch)
		for i := range batches[b] {
			k := uint64(b*flow.MaxBatch + i)
			z := (k + 1) * 0x9E3779B97F4A7C15
			z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
			z ^= z >> 27
			batches[b][i] = flow.Record[benchReading]{
				Value: benchReading{Device: fmt.Sprintf("dev-%07d", z%10_000), Temperature: 20 + float64(z&0xFFFF)*(80.0/65536), Seq: 1_699_999_980_000 + k},
				Time:  flow.Timestamp(k),
			}
		}
	}
	return batches
}

// BenchmarkEncode goes from records to compressed blocks, up to the socket: row function, columns, Native block, compression. Four
// columns: String, DateTime64(3), Float64, UInt64.
func BenchmarkEncode(b *testing.B) {
	for _, bench := range []struct {
		name string
		c    Compression
	}{{"LZ4", LZ4}, {"ZSTD", ZSTD}, {"none", NoCompression}} {
		b.Run(bench.name, func(b *testing.B) {
			s := Sink(New(Config{Compression: bench.c}), "t", toBenchRow, MaxAge(0)).(*sink[benchReading, benchRow])
			require.NoError(b, s.err)
			s.start(flow.SinkRuntime{})
			ctx := context.Background()
			w, err := s.Writer(ctx, flow.TaskInfo{})
			require.NoError(b, err)
			batches := benchBatches(64)
			rows := 0
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := w.Write(ctx, batches[i%len(batches)]); err != nil {
					b.Fatal(err)
				}
				if i%49 == 48 {
					blocks, err := w.Seal(ctx)
					if err != nil {
						b.Fatal(err)
					}
					for _, fb := range blocks {
						blk := fb.(*block)
						if err := s.encodeTo(io.Discard, blk.cols, blk.names, blk.rows); err != nil {
							b.Fatal(err)
						}
						s.finish(&insert{segments: []segment{{blk, 0}}})
					}
				}
				rows += flow.MaxBatch
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(rows), "ns/row")
		})
	}
}

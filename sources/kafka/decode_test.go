package kafka

import (
	"context"
	"fmt"
	"hash/crc32"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
)

// answer holds n records of a partition in batches of 500, compressed.
func answer(t testing.TB, n int) *kmsg.FetchResponseTopicPartition {
	t.Helper()
	zip, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	defer func() { _ = zip.Close() }()
	p := kmsg.NewFetchResponseTopicPartition()
	p.HighWatermark = int64(n)
	for first := 0; first < n; first += 500 {
		b := kmsg.NewRecordBatch()
		b.FirstOffset, b.LastOffsetDelta, b.NumRecords, b.Magic, b.Attributes, b.ProducerID = int64(first), 499, 500, 2, 4, -1
		b.FirstTimestamp, b.MaxTimestamp = 1_700_000_000_000, 1_700_000_000_000
		var recs []byte
		for i := range 500 {
			r := kmsg.NewRecord()
			r.OffsetDelta, r.Value = int32(i), fmt.Appendf(nil, `{"deviceId":"dev-%07d","temperature":21.5,"humidity":40.25,"seq":%d}`, i, first+i)
			r.Length = int32(len(r.AppendTo(nil)) - 1)
			if r.Length > 63 {
				r.Length = int32(len(r.AppendTo(nil)) - 2)
			}
			recs = r.AppendTo(recs)
		}
		b.Records = zip.EncodeAll(recs, nil)
		b.Length = int32(49 + len(b.Records))
		raw := b.AppendTo(nil)
		b.CRC = int32(crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
		p.RecordBatches = b.AppendTo(p.RecordBatches)
	}
	return &p
}

// decoding is a reader with an engine that takes everything.
func decoding(t testing.TB) (*reader, *taking) {
	t.Helper()
	h := &hub{cfg: Config{}.withDefaults(), rt: flow.SourceRuntime{Clock: flow.SystemClock(), Count: func(string, int64) {}}}
	e := &taking{buf: make([]flow.Record[int], 0, flow.MaxBatch)}
	r := newReader(h, kafka.Key{Topic: "t"}, true)
	d := &decoder[int]{hub: h, codec: sizes{}, in: flow.NewIntake[int](e)}
	r.sink, r.box.in = d, d
	return r, e
}

type taking struct {
	silent
	buf   []flow.Record[int]
	taken int
}

func (e *taking) Buffer() []flow.Record[int] { return e.buf }
func (e *taking) Emit(_ context.Context, b []flow.Record[int], _ flow.Position) error {
	e.taken += len(b)
	return nil
}

func (e *taking) Reject([]byte, error, flow.Position) {}
func (e *taking) Reference(time.Time)                 {}
func (e *taking) Window(int)                          {}

// sizes is a codec that only looks.
type sizes struct{}

func (sizes) ID() string                              { return "sizes" }
func (sizes) Append(b []byte, _ *int) ([]byte, error) { return b, nil }
func (sizes) Decode(b []byte, v *int) error           { *v = len(b); return nil }

func TestReadingAllocatesByAnswerNotByRecord(t *testing.T) {
	r, e := decoding(t)
	const n = 5000
	part := answer(t, n)
	read := func() {
		r.offset = 0
		if err := r.chunk(context.Background(), chunk{part: part}); err != nil {
			panic(err)
		}
	}
	read()
	require.Equal(t, n, e.taken)
	require.Equal(t, int64(n), r.offset)
	require.Less(t, testing.AllocsPerRun(10, read), 500.0, "for 5,000 records")
}

func BenchmarkDecode(b *testing.B) {
	r, _ := decoding(b)
	const n = 5000
	part := answer(b, n)
	b.ReportAllocs()
	for b.Loop() {
		r.offset = 0
		require.NoError(b, r.chunk(context.Background(), chunk{part: part}))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/rec")
}

package jobs_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/jobs"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/codec/fields"
	"github.com/millrace-stream/millrace/flow/state"
)

func runF(tb testing.TB, p *workload.Payloads, n int64, c codec.Codec[jobs.Reading]) workload.Result {
	var r workload.Result
	t := flow.New("job", quiet(), flow.WithParallelism(1), flow.WithStore(state.InMemory()))
	jobs.F(t, jobs.PayloadSource(p, n, c), &r)
	require.NoError(tb, t.Run(context.Background()))
	return r
}

func codecs() []struct {
	name  string
	codec codec.Codec[jobs.Reading]
} {
	return []struct {
		name  string
		codec codec.Codec[jobs.Reading]
	}{
		{"known fields", jobs.ReadingCodec(fields.Alias())},
		{"known fields, copied", jobs.ReadingCodec()},
		{"JSON", codec.JSON[jobs.Reading]()},
	}
}

func TestJobF(t *testing.T) {
	j := workload.F()
	p := workload.NewPayloads(workload.New(j))
	for _, c := range codecs() {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, j.Verify(workload.N, runF(t, p, workload.N, c.codec)))
		})
	}
}

// BenchmarkF has the floor and job F with each codec side by side, so that one run gives their ratios.
func BenchmarkF(b *testing.B) {
	p := workload.NewPayloads(workload.New(workload.F()))
	b.Run("floor", func(b *testing.B) {
		defer cpu(b)()
		p.Floor(int64(b.N))
	})
	for _, c := range codecs() {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			defer cpu(b)()
			runF(b, p, int64(b.N), c.codec)
		})
	}
}

package peers

import (
	"context"
	"io"
	"log/slog"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/jobs"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/codec/fields"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/operators"
)

// millrace is a topology of one task with router, watermarks and epochs of a second, its state in memory.
func millrace() *flow.Topology {
	return flow.New("peer", flow.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))), flow.WithStore(state.InMemory()), flow.WithParallelism(1))
}

func millraceA(ctx context.Context, in *input, r *workload.Result) error {
	t := millrace()
	jobs.A(t, harness.From(in.load, in.events.Fill), r)
	return t.Run(ctx)
}

func millraceB(ctx context.Context, in *input, r *workload.Result) error {
	t := millrace()
	jobs.B(t, harness.From(in.load, in.events.Fill), r)
	return t.Run(ctx)
}

// millraceFMap decodes with a codec.
func millraceFMap(c codec.Codec[jobs.Reading]) program {
	return func(ctx context.Context, in *input, r *workload.Result) error {
		t := millrace()
		readings := flow.From(t, "readings", harness.From(in.load, decoded(in.payloads, c)))
		fahrenheit := operators.Update(readings, "fahrenheit", func(_ context.Context, r *jobs.Reading) error {
			r.Temperature = r.Temperature*1.8 + 32
			return nil
		})
		flow.To(fahrenheit, "sum", jobs.Sum(func(r jobs.Reading) float64 { return r.Temperature }, r))
		return t.Run(ctx)
	}
}

func knownFields() codec.Codec[jobs.Reading] { return jobs.ReadingCodec(fields.Alias()) }
func defaultJSON() codec.Codec[jobs.Reading] { return codec.JSON[jobs.Reading]() }

// decoded makes readings of payloads. They lie in one piece of memory, as in the answer of a broker: a new one for each thousand where the
// codec points into it, the same one otherwise. One that cannot be decoded is empty, which the result then shows.
func decoded(p *workload.Payloads, c codec.Codec[jobs.Reading]) func(int64, *jobs.Reading) {
	const size = 128 // more than any payload has
	var piece []byte
	return func(i int64, r *jobs.Reading) {
		if cap(piece)-len(piece) < size {
			if piece = piece[:0]; piece == nil || codec.Aliases(c) {
				piece = make([]byte, 0, flow.MaxBatch*size)
			}
		}
		at := len(piece)
		piece = p.Append(piece, i)
		if err := c.Decode(piece[at:], r); err != nil {
			*r = jobs.Reading{}
		}
	}
}

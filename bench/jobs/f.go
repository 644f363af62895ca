package jobs

import (
	"context"
	"time"

	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/window"
)

//go:generate go run ../../flow/codec/cmd/millrace-codec -type Reading

// Reading is job F's payload.
type Reading struct {
	DeviceID    string  `json:"deviceId"`
	TS          int64   `json:"ts"`
	Temperature float64 `json:"temperature"`
	Humidity    float64 `json:"humidity"`
	FW          string  `json:"fw"`
	Seq         int64   `json:"seq"`
}

// At is the reading's event time.
func (r Reading) At() time.Time { return time.UnixMilli(r.TS) }

func readingDevice(r Reading) string       { return r.DeviceID }
func readingTemperature(r Reading) float64 { return r.Temperature }

// F is B behind the decoding of JSON and a conversion.
func F(t *flow.Topology, src flow.Source[Reading], r *workload.Result) {
	flow.To(FahrenheitPerMinute(flow.From(t, "readings", src)), "sum", Sum(Total, r))
}

// FahrenheitPerMinute is job F without source and sink.
func FahrenheitPerMinute(readings flow.Stream[Reading]) flow.Stream[Minute] {
	timed := flow.AssignTime(readings, "event-time", Reading.At, watermark.Monotonous().Simulated())
	fahrenheit := operators.Update(timed, "fahrenheit", func(_ context.Context, r *Reading) error {
		r.Temperature = r.Temperature*1.8 + 32
		return nil
	})
	return operators.Window(flow.KeyBy(fahrenheit, readingDevice), "per-minute", window.Tumbling(time.Minute), stats(readingTemperature))
}

// PayloadSource decodes n payloads in one partition. The payloads of a batch lie in one piece of memory, as in the answer of a broker: a
// new one for each batch where the codec points into it, the same one otherwise.
func PayloadSource(p *workload.Payloads, n int64, c codec.Codec[Reading]) flow.Source[Reading] {
	return &payloadSource{source{n: n}, p, c}
}

type payloadSource struct {
	source
	p *workload.Payloads
	c codec.Codec[Reading]
}

// payloadSize is more than any payload has.
const payloadSize = 128

func (s *payloadSource) Read(ctx context.Context, _ flow.Partition, from flow.Position, in *flow.Intake[Reading]) error {
	var payloads []byte
	for i := from.Offset; i < s.n; {
		b := in.Buffer()
		if payloads = payloads[:0]; payloads == nil || codec.Aliases(s.c) {
			payloads = make([]byte, 0, flow.MaxBatch*payloadSize)
		}
		for range min(int64(flow.MaxBatch), s.n-i) {
			at := len(payloads)
			payloads = s.p.Append(payloads, i)
			i++
			b = append(b, flow.Record[Reading]{Time: flow.None})
			if err := s.c.Decode(payloads[at:], &b[len(b)-1].Value); err != nil {
				b = b[:len(b)-1]
				in.Reject(payloads[at:], err, flow.Position{Offset: i})
			}
		}
		if err := in.Emit(ctx, b, flow.Position{Offset: i}); err != nil {
			return err
		}
	}
	return nil
}

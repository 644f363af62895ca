package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure" // the processors and what Bloblang knows
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/millrace-stream/millrace/bench/workload"
)

// benthosA does the three operators in one mutation, which changes messages in place.
func benthosA(ctx context.Context, in *input, r *workload.Result) error {
	return benthos(ctx, r, `
mutation: |
  let dry = this.humidity < 50
  root.temperature = this.temperature * 1.8 + 32
  root.humidity = this.temperature * 0.5 + this.humidity * 0.1
  root = if !$dry { deleted() }
`, "humidity", func() service.MessageBatch {
		var b service.MessageBatch
		for _, e := range in.batch(ctx) {
			m := service.NewMessage(nil)
			m.SetStructuredMut(map[string]any{
				"deviceId": e.Device, "ts": e.TS, "temperature": e.Temperature, "humidity": e.Humidity, "seq": e.Seq,
			})
			b = append(b, m)
		}
		return b
	})
}

// benthosFMap decodes payloads with the library's own JSON.
func benthosFMap(ctx context.Context, in *input, r *workload.Result) error {
	return benthos(ctx, r, `mutation: root.temperature = this.temperature * 1.8 + 32`, "temperature", func() service.MessageBatch {
		var b service.MessageBatch
		first, n := in.take(ctx)
		for i := first; i < first+int64(n); i++ {
			b = append(b, service.NewMessage(in.payloads.Append(nil, i)))
		}
		return b
	})
}

// benthos runs a stream of one thread in batches, until next has no more, and sums a field of what comes out.
func benthos(ctx context.Context, r *workload.Result, processor, field string, next func() service.MessageBatch) error {
	s := service.NewStreamBuilder()
	s.SetThreads(1)
	s.SetHTTPMux(http.NewServeMux())
	s.SetLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	send, err := s.AddBatchProducerFunc()
	err = errors.Join(err, s.SetMetricsYAML("none: {}"), s.AddProcessorYAML(processor),
		s.AddBatchConsumerFunc(func(_ context.Context, b service.MessageBatch) error { return benthosSum(b, field, r) }))
	if err != nil {
		return err
	}
	stream, err := s.Build()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- stream.Run(ctx)
		cancel()
	}()
	for b := next(); len(b) > 0 && err == nil; b = next() {
		err = send(ctx, b)
	}
	return errors.Join(err, stream.StopWithin(time.Minute), <-ended)
}

// benthosSum is called by one goroutine.
func benthosSum(b service.MessageBatch, field string, r *workload.Result) error {
	for _, m := range b {
		v, err := m.AsStructured()
		if err != nil {
			return err
		}
		object, _ := v.(map[string]any)
		f, ok := object[field].(float64)
		if !ok {
			return fmt.Errorf("the message has no number %q: %v", field, v)
		}
		r.Out++
		r.Sum += f
	}
	return nil
}

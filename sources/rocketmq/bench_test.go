package rocketmq

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
)

// BenchmarkSource reads topics of 200,000 messages of 200 bytes in 4 queues, with a codec that only looks.
func BenchmarkSource(b *testing.B) {
	const queues, each = 4, 50_000
	x := setup(b, services.Need(b, services.RocketBroker), queues)
	bodies := make([]string, each)
	for i := range bodies {
		bodies[i] = fmt.Sprintf("%07d %s", i, strings.Repeat("x", 192))
	}
	for q := range queues {
		x.send(q, bodies...)
	}
	for q := range queues {
		x.visible(q, each)
	}
	cfg := x.config()
	cfg.Batch = 1024
	for b.Loop() {
		s := Source(cfg, length{})
		ctx, cancel := context.WithCancel(b.Context())
		require.NoError(b, s.Open(ctx, flow.SourceRuntime{Clock: flow.SystemClock(), Count: func(string, int64) {}}))
		d := &drain{left: queues * each, full: cancel}
		d.start = func(p flow.Partition) {
			_ = s.Read(ctx, p, flow.Position{}, flow.NewIntake[int](&drainQueue{drain: d, buf: make([]flow.Record[int], 0, flow.MaxBatch)}))
		}
		require.NoError(b, s.Run(ctx, d))
		require.NoError(b, s.Close(context.Background()))
	}
	b.ReportMetric(float64(b.N)*queues*each/b.Elapsed().Seconds(), "msg/s")
}

type length struct{}

func (length) ID() string                              { return "length" }
func (length) Append(b []byte, _ *int) ([]byte, error) { return b, nil }
func (length) Decode(b []byte, v *int) error           { *v = len(b); return nil }

// drain counts records down and ends the run at zero.
type drain struct {
	left  int64
	full  func()
	start func(flow.Partition)
}

func (d *drain) Add(parts ...flow.Partition) error {
	for _, p := range parts {
		go d.start(p)
	}
	return nil
}

func (d *drain) Remove(context.Context, ...flow.Partition) error { return nil }

type drainQueue struct {
	*drain
	buf []flow.Record[int]
}

func (d *drainQueue) Buffer() []flow.Record[int] { return d.buf }

func (d *drainQueue) Emit(ctx context.Context, batch []flow.Record[int], _ flow.Position) error {
	if atomic.AddInt64(&d.left, -int64(len(batch))) <= 0 {
		d.full()
	}
	return ctx.Err()
}

func (d *drainQueue) Reject([]byte, error, flow.Position) {}
func (d *drainQueue) Reference(time.Time)                 {}
func (d *drainQueue) Idle()                               {}
func (d *drainQueue) Busy()                               {}
func (d *drainQueue) Lag(int64)                           {}
func (d *drainQueue) Window(int)                          {}

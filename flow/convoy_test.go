package flow_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
)

// evenly is a source of batches of the same size.
type evenly struct {
	batches, size int
	emitted       atomic.Int64
}

func (s *evenly) Partitions() int                                             { return 1 }
func (s *evenly) Open(context.Context, flow.SourceRuntime) error              { return nil }
func (s *evenly) Commit(context.Context, flow.Partition, flow.Position) error { return nil }
func (s *evenly) Replay() flow.Replay                                         { return flow.Seek }
func (s *evenly) Close(context.Context) error                                 { return nil }
func (s *evenly) Run(_ context.Context, a flow.Assign) error {
	return a.Add(flow.Partition{ID: "0"})
}

func (s *evenly) Read(ctx context.Context, _ flow.Partition, from flow.Position, in *flow.Intake[int]) error {
	for i := from.Offset; i < int64(s.size*s.batches); {
		b := in.Buffer()
		for range s.size {
			b = append(b, flow.Record[int]{Value: int(i)})
			i++
		}
		if err := in.Emit(ctx, b, flow.Position{Offset: i}); err != nil {
			return err
		}
		s.emitted.Add(1)
	}
	<-ctx.Done()
	return nil
}

// Batches that wait go together in one message of the router, unless batches take long by themselves or too much would be pending.
func TestBatchesThatWaitShareAMessage(t *testing.T) {
	for name, c := range map[string]struct {
		size     int
		slow     int // so many batches take 2 ms by the topology's clock
		pending  int64
		before   int64 // so many batches are processed before an epoch has ended
		messages int64
	}{
		"quick":                    {size: 10, before: 4, messages: 2},
		"slow":                     {size: 10, slow: 4, before: 4, messages: 4},
		"quick, but for the first": {size: 10, slow: 1, before: 4, messages: 3},
		"room for the next":        {size: 600, pending: flow.MaxBatch, before: 2, messages: 3},
		"room for the next two":    {size: 500, pending: flow.MaxBatch, before: 3, messages: 3},
	} {
		t.Run(name, func(t *testing.T) {
			clock := flowtest.NewClock(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
			src, out := &evenly{batches: 4, size: c.size}, flowtest.NewSink[int]()
			release := make(chan struct{})
			opts := []flow.TopologyOption{quiet(), flow.ManualEpochs(), flow.WithClock(clock)}
			if c.pending > 0 {
				opts = append(opts, flow.WithMaxPending(c.pending))
			}
			top := flow.New("top", opts...)
			var processed atomic.Int64
			held := operators.Map(flow.From(top, "in", src), "hold", func(_ context.Context, v int) (int, error) {
				if v == 0 {
					<-release
				}
				if v%c.size == 0 && v/c.size < c.slow {
					clock.Advance(2 * time.Millisecond)
				}
				processed.Add(1)
				return v, nil
			})
			flow.To(held, "out", out)
			r := newRouter(t)
			var messages atomic.Int64
			r.AddMiddleware(func(h message.HandlerFunc) message.HandlerFunc {
				return func(msg *message.Message) ([]*message.Message, error) {
					messages.Add(1)
					return h(msg)
				}
			})
			running, err := top.AddTo(t.Context(), r.Router)
			require.NoError(t, err)
			r.run(t)
			eventually(t, func() bool { return src.emitted.Load() == 4 }, "three batches wait behind the first")
			close(release)
			eventually(t, func() bool { return processed.Load() == c.before*int64(c.size) }, "what may be pending is processed")
			require.NoError(t, running.Epoch(t.Context()))
			require.NoError(t, running.Idle(t.Context()))
			require.NoError(t, running.Stop(t.Context()))
			require.Equal(t, c.messages, messages.Load())
			want := make([]int, 4*c.size)
			for i := range want {
				want[i] = i
			}
			require.Equal(t, want, out.Values(), "each once and in order")
		})
	}
}

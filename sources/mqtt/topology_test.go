package mqtt_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

// topology runs a source into memory until stop.
type topology struct {
	t      *testing.T
	mu     sync.Mutex
	up     bool
	values []int
	dead   int
	cancel context.CancelFunc
	done   chan error
	log    *logBook
}

func runTopology(t *testing.T, cfg mqtt.Config) *topology {
	t.Helper()
	r := &topology{t: t, done: make(chan error, 1), log: &logBook{}}
	top := flow.New("mqtt-test", flow.WithStore(state.InMemory()), flow.AcceptRepeats(), flow.WithLogger(slog.New(slog.NewTextHandler(r.log, nil))))
	flow.To(flow.From(top, "in", mqtt.Source(cfg, numbers{})), "out", flow.SinkFunc(func(_ context.Context, batch []flow.Record[int]) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.up = true
		for _, rec := range batch {
			if rec.Value >= 0 {
				r.values = append(r.values, rec.Value)
			}
		}
		return nil
	}))
	flow.To(top.DeadLetters(), "dead", flow.SinkFunc(func(_ context.Context, batch []flow.Record[flow.DeadLetter]) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.dead += len(batch)
		return nil
	}))
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- top.Run(ctx) }()
	t.Cleanup(r.stop)
	return r
}

func (r *topology) stop() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	require.NoError(r.t, <-r.done, r.log)
}

func (r *topology) await(n, dead int) []int {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.values) >= n && r.dead >= dead
	}, patience, 2*time.Millisecond, r.log)
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Equal(r.t, dead, r.dead)
	return append([]int(nil), r.values...)
}

// The whole way through the engine, with the smallest of windows and a clean stop in the middle.
func TestTopology(t *testing.T) {
	s := mosquitto(t, 20)
	cfg := configFor(s.MQTT(), "d")
	first := runTopology(t, cfg)
	p := newPublisher(t, s.MQTT())
	require.Eventually(t, func() bool { // until the subscription stands
		p.publish("d", -1, 0)
		first.mu.Lock()
		defer first.mu.Unlock()
		return first.up
	}, patience, 10*time.Millisecond)
	p.await(p.c.Publish("d", 1, false, "no number"))
	began := time.Now()
	p.publish("d", 0, 10_000)
	inOrder(t, 10_000, first.await(10_000, 1))
	t.Logf("10,000 messages through a window of 20 in %v", time.Since(began))

	done := make(chan struct{})
	go func() {
		defer close(done)
		p.publish("d", 10_000, 20_000)
	}()
	first.await(11_000, 1)
	first.stop()
	second := runTopology(t, cfg)
	<-done
	second.await(20_000-len(first.values), 0)
	second.stop()
	inOrder(t, 20_000, append(first.values, second.values...))
	last := runTopology(t, cfg)
	last.stop()
	require.Empty(t, last.values)
}

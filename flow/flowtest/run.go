package flowtest

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// deadline bounds every wait: a test that reaches it hangs.
const deadline = 30 * time.Second

// Run is a topology under test. Epochs end only by Epoch, Stop and Flush; the clock moves only by Clock.Advance.
type Run struct {
	T     testing.TB
	Clock *Clock
	Store *Store

	build   func(opts ...flow.TopologyOption) *flow.Topology
	waits   []func(context.Context) error
	running *flow.Running
	cancel  context.CancelFunc
	done    chan error
}

// Waiter is a Source, of whatever type.
type Waiter interface{ wait(context.Context) error }

// Start builds and starts a topology. build is called again after each Crash, and must pass opts to flow.New and use the same
// sources and sinks each time. The sources are named so that Settle can wait for them.
func Start(t testing.TB, build func(opts ...flow.TopologyOption) *flow.Topology, sources ...Waiter) *Run {
	t.Helper()
	r := New(t, build, sources...)
	r.Restart()
	return r
}

// New is Start without starting.
func New(t testing.TB, build func(opts ...flow.TopologyOption) *flow.Topology, sources ...Waiter) *Run {
	r := &Run{T: t, Clock: NewClock(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)), Store: NewStore(), build: build}
	for _, s := range sources {
		r.waits = append(r.waits, s.wait)
	}
	t.Cleanup(func() {
		if r.running != nil {
			r.running.Abort()
			r.end()
		}
	})
	return r
}

// Restart starts the topology, which must not be running.
func (r *Run) Restart() {
	r.T.Helper()
	require.NoError(r.T, r.TryRestart())
}

// TryRestart starts the topology and returns what AddTo says.
func (r *Run) TryRestart() error {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	top := r.build(flow.WithClock(r.Clock), flow.WithStore(r.Store), flow.WithLogger(quiet), flow.ManualEpochs())
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	running, err := top.AddTo(context.Background(), router)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.running, r.cancel, r.done = running, cancel, make(chan error, 1)
	done := r.done
	go func() { done <- router.Run(ctx) }()
	return nil
}

// Running is the topology's handle.
func (r *Run) Running() *flow.Running { return r.running }

func (r *Run) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), deadline)
}

// Settle returns when everything that was fed is processed.
func (r *Run) Settle() {
	r.T.Helper()
	require.NoError(r.T, r.TrySettle())
}

// TrySettle is Settle for a topology that may have failed.
func (r *Run) TrySettle() error {
	ctx, cancel := r.ctx()
	defer cancel()
	running := r.running
	go func() {
		select {
		case <-running.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	for _, w := range r.waits {
		if err := w(ctx); err != nil {
			if e := running.Err(); e != nil {
				return e
			}
			return err
		}
	}
	return running.Idle(ctx)
}

// Epoch settles and commits an epoch.
func (r *Run) Epoch() {
	r.T.Helper()
	r.Settle()
	ctx, cancel := r.ctx()
	defer cancel()
	require.NoError(r.T, r.running.Epoch(ctx))
}

// Crash ends the topology as kill -9 would, then builds and starts it again on what was committed.
func (r *Run) Crash() {
	r.T.Helper()
	r.Kill()
	r.Restart()
}

// Kill ends the topology as kill -9 would.
func (r *Run) Kill() {
	r.T.Helper()
	r.running.Abort()
	r.end()
}

func (r *Run) end() {
	r.T.Helper()
	r.cancel()
	ctx, cancel := r.ctx()
	defer cancel()
	select {
	case err := <-r.done:
		if err != nil {
			r.T.Errorf("flowtest: the router: %v", err)
		}
	case <-ctx.Done():
		r.T.Error("flowtest: the router does not end")
	}
	r.running = nil
}

// Stop stops the topology in order; windows stay open.
func (r *Run) Stop() { r.T.Helper(); r.stop() }

// Flush stops the topology and ends its streams: windows fire.
func (r *Run) Flush() { r.T.Helper(); r.Settle(); r.stop(flow.Flush()) }

func (r *Run) stop(opts ...flow.StopOption) {
	r.T.Helper()
	ctx, cancel := r.ctx()
	defer cancel()
	require.NoError(r.T, r.running.Stop(ctx, opts...))
	r.end()
}

// Wait waits for the topology's own end and returns its error, or nil.
func (r *Run) Wait() error {
	r.T.Helper()
	running := r.running
	ctx, cancel := r.ctx()
	defer cancel()
	select {
	case <-running.Done():
	case <-ctx.Done():
		r.T.Fatal("flowtest: the topology does not end")
	}
	err := running.Err()
	r.end()
	return err
}

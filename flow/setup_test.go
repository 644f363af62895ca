package flow_test

import (
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() flow.TopologyOption {
	return flow.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
}

const patience = 20 * time.Second

func eventually(t testing.TB, is func() bool, why string) {
	t.Helper()
	require.Eventually(t, is, patience, time.Millisecond, why)
}

// advancing lets the virtual clock run by step each millisecond while f runs.
func advancing(c *flowtest.Clock, step time.Duration, f func()) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				c.Advance(step)
			case <-end:
				return
			}
		}
	}()
	f()
	close(end)
	wg.Wait()
}

// counter is the value of one of a running topology's counters.
func counter(r *flowtest.Run, node, name string) int64 {
	for _, c := range r.Running().Counters() {
		if c.Node == node && c.Name == name {
			return c.Value
		}
	}
	return 0
}

// epochs is a hook that keeps what it is told.
type epochs struct {
	mu   sync.Mutex
	seen []flow.EpochInfo
}

func (e *epochs) OnEpoch(i flow.EpochInfo) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, i)
}

// triggers counts the epochs by the reason for which they ended.
func (e *epochs) triggers() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := map[string]int{}
	for _, i := range e.seen {
		n[i.Trigger]++
	}
	return n
}

func readings(device string, from, n int) []reading {
	rs := make([]reading, n)
	for i := range rs {
		rs[i] = reading{Device: device, ID: int64(from + i), Temp: 1, At: int64(from + i)}
	}
	return rs
}

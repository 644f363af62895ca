package flow_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
)

// A source's positions are stored under its name: under another one they are missing, and what state has counted would count again.
func TestSourceOfAnotherName(t *testing.T) {
	w := newWindowed()
	from := &unackable{Source: w.src}
	w.from = from
	r := w.start(t)
	w.src.Feed(readings("a", 1, 5)...)
	r.Epoch()
	w.src.Feed(readings("a", 6, 3)...)
	r.Settle()
	from.on.Store(true) // the state is written, the ack does not get through
	done := make(chan error, 1)
	go func() { done <- r.Running().Epoch(t.Context()) }()
	eventually(t, func() bool { return from.asked.Load() > 0 }, "it asks")
	r.Kill()
	require.Error(t, <-done)
	from.on.Store(false)

	w.in = "input"
	w.noDedup = false
	err := r.TryRestart()
	if err == nil {
		w.src.End()
		err = r.Wait()
	}
	require.ErrorIs(t, err, flow.ErrStateMismatch, "else 3 readings count twice: %v", w.sums())
	require.ErrorContains(t, err, `node "in"`)
	w.opts = []flow.TopologyOption{flow.Renamed("in", "input")}
	r.Restart()
	r.Flush()
	require.Equal(t, map[string]float64{"a 0": 8}, w.sums())
}

// Event time does not go back when the node behind the KeyBy gets another name, or another node in front of it.
func TestTimeDoesNotGoBack(t *testing.T) {
	for name, change := range map[string]func(w *windowed){
		"renamed":        func(w *windowed) { w.name, w.opts = "window", []flow.TopologyOption{flow.Renamed("win", "window")} },
		"a node between": func(w *windowed) { w.noDedup = false },
		"nothing":        func(*windowed) {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWindowed("busy", "silent")
			w.noDedup = true
			w.wm = watermark.Monotonous().Every(0).IdleAfter(30 * time.Second)
			r := flowtest.Start(t, w.build, w.src)
			w.src.FeedTo("busy", readings("a", 1, 25)...)
			w.src.Idle("silent")
			r.Settle()
			eventually(t, func() bool {
				r.Clock.Advance(time.Second)
				r.Epoch()
				return len(w.out.Values()) == 2
			}, "the silent one leaves")
			change(w)
			r.Crash()
			w.src.FeedTo("silent", at("a", 100, 3), at("a", 101, 12))
			r.Epoch()
			w.src.FeedTo("silent", at("a", 102, 26))
			r.Epoch()
			r.Flush()
			require.Len(t, w.late.Values(), 2, "their windows were gone before the crash")
			require.Equal(t, map[string]float64{"a 0": 9, "a 10": 10, "a 20": 7}, w.sums())
		})
	}
}

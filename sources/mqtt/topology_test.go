package mqtt_test

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
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
	raw    [][]byte      // of the dead letters
	hold   chan struct{} // when set, the sink takes nothing until it is closed
	cancel context.CancelFunc
	done   chan error
	log    *logBook
}

func runTopology(t *testing.T, cfg mqtt.Config, opts ...func(*topology)) *topology {
	t.Helper()
	r := &topology{t: t, done: make(chan error, 1), log: &logBook{}}
	for _, o := range opts {
		o(r)
	}
	top := flow.New("mqtt-test", flow.WithStore(state.InMemory()), flow.AcceptRepeats(), flow.WithLogger(slog.New(slog.NewTextHandler(r.log, nil))))
	flow.To(flow.From(top, "in", mqtt.Source(cfg, numbers{})), "out", flow.SinkFunc(func(_ context.Context, batch []flow.Record[int]) error {
		r.mu.Lock()
		r.up = true
		r.mu.Unlock()
		if r.hold != nil {
			<-r.hold
		}
		r.mu.Lock()
		defer r.mu.Unlock()
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
		for _, l := range batch {
			r.raw = append(r.raw, l.Value.Raw)
		}
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

// awaitUp publishes until something comes through.
func (r *topology) awaitUp(p *publisher) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		p.publish("d", -1, 0)
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.up
	}, patience, 10*time.Millisecond, r.log)
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
	t.Parallel()
	s := mosquitto(t, 20)
	cfg := configFor(s.MQTT(), "d")
	first := runTopology(t, cfg)
	p := newPublisher(t, s.MQTT())
	first.awaitUp(p)
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

// A chain that stands still for three keepalives costs no connection, with more messages than fit into the inbox.
func TestSlowChain(t *testing.T) {
	t.Parallel()
	for _, protocol := range []mqtt.Protocol{mqtt.V311, mqtt.V5} {
		t.Run("MQTT "+string(protocol), func(t *testing.T) {
			t.Parallel()
			s := mosquitto(t, 1000)
			cfg := configFor(s.MQTT(), "d")
			cfg.Protocol, cfg.KeepAlive, cfg.PingTimeout = protocol, 2*time.Second, time.Second
			r := runTopology(t, cfg, func(r *topology) { r.hold = make(chan struct{}) })
			release := sync.OnceFunc(func() { close(r.hold) })
			t.Cleanup(release)
			p := newPublisher(t, s.MQTT())
			r.awaitUp(p)
			p.publish("d", 0, 6000)
			require.NoError(t, flow.SystemClock().Sleep(t.Context(), 3*cfg.KeepAlive))
			release()
			inOrder(t, 6000, r.await(6000, 0))
			require.NotContains(t, r.log.String(), "level=WARN")
		})
	}
}

// A hundred thousand messages that cannot be decoded, with a window of 20: the stream does not stop, and each is in the dead
// letters with its bytes.
func TestMalformed(t *testing.T) {
	t.Parallel()
	for protocol, total := range map[mqtt.Protocol]int{mqtt.V311: 100_000, mqtt.V5: 10_000} {
		t.Run("MQTT "+string(protocol), func(t *testing.T) {
			t.Parallel()
			s := mosquitto(t, 20)
			cfg := configFor(s.MQTT(), "d")
			if cfg.Protocol = protocol; protocol == mqtt.V5 {
				cfg.Window = 20
			}
			r := runTopology(t, cfg)
			p := newPublisher(t, s.MQTT())
			r.awaitUp(p)
			began := time.Now()
			window := make([]paho.Token, 0, 256)
			for i := range total {
				window = append(window, p.c.Publish("d", 1, false, "malformed "+strconv.Itoa(i)))
				if len(window) == cap(window) || i == total-1 {
					for _, tok := range window {
						p.await(tok)
					}
					window = window[:0]
				}
			}
			p.publish("d", 0, 5)
			inOrder(t, 5, r.await(5, total))
			t.Logf("%d messages through a window of 20 in %v", total, time.Since(began))
			for i, raw := range r.raw {
				require.Equal(t, "malformed "+strconv.Itoa(i), string(raw))
			}
			require.NotContains(t, r.log.String(), "connection lost")
		})
	}
}

package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/internal/mqttbroker"
	"github.com/millrace-stream/millrace/topologies/iot"
	"github.com/millrace-stream/millrace/topologies/iot/internal/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector is a subscriber that keeps every message.
type collector struct {
	mu       sync.Mutex
	payloads []string
}

func (c *collector) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.payloads...)
}

func setup(t *testing.T) (*mqttbroker.Broker, *collector) {
	b, err := mqttbroker.Start(context.Background(), "127.0.0.1:0", mqttbroker.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	c := &collector{}
	sub := paho.NewClient(paho.NewClientOptions().AddBroker(b.URL()).SetClientID("collector"))
	token := sub.Connect()
	token.Wait()
	require.NoError(t, token.Error())
	t.Cleanup(func() { sub.Disconnect(100) })
	token = sub.Subscribe("devices/#", 1, func(_ paho.Client, m paho.Message) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.payloads = append(c.payloads, string(m.Payload()))
	})
	token.Wait()
	require.NoError(t, token.Error())
	return b, c
}

func options(t *testing.T, url string) Options {
	l := load()
	l.Devices, l.HotEvery, l.LateFrom = 50, 10, 500
	return Options{
		Load: l, Broker: Broker{URL: url, ClientID: "sim", Connections: 2, InFlight: 64}, TopicPrefix: "devices", Readings: 5000,
		Settle: time.Millisecond, Ledger: filepath.Join(t.TempDir(), "ledger"), StopTimeout: 20 * time.Second,
		Log: slog.New(slog.DiscardHandler), Progress: &Progress{},
	}
}

// book makes a ledger of what arrived, by the words of docs/ledger.md alone.
func book(t *testing.T, payloads []string) *ledger.Ledger {
	now := time.Now()
	l := &ledger.Ledger{Minutes: map[ledger.Key]ledger.Cell{}, Late: map[ledger.Event]bool{}, BadClock: map[ledger.Event]bool{}, Invalid: map[ledger.Event]bool{}, Malformed: map[string]bool{}}
	seen := map[ledger.Event]bool{}
	for _, p := range payloads {
		var r iot.Reading
		if err := json.Unmarshal([]byte(p), &r); err != nil || r.DeviceID == "" || r.Kind != iot.KindReading && r.Kind != iot.KindHeartbeat {
			l.Malformed[p] = true
			continue
		}
		e := ledger.Event{Device: r.DeviceID, Seq: r.Seq}
		switch {
		case r.Heartbeat() || seen[e]:
			continue
		case r.At().After(now.Add(24 * time.Hour)):
			l.BadClock[e] = true
		case !r.Valid():
			l.Invalid[e] = true
		case r.At().Before(now.Add(-30 * time.Minute)):
			l.Late[e] = true
		default:
			h := ledger.Hundredths(math.Round(r.Temperature * 100))
			k := ledger.Key{Device: r.DeviceID, Minute: r.TS / 60_000}
			c, ok := l.Minutes[k]
			if !ok {
				c = ledger.Cell{Site: r.Site, Min: h, Max: h}
			}
			c.Count, c.Sum, c.Min, c.Max = c.Count+1, c.Sum+h, min(c.Min, h), max(c.Max, h)
			l.Minutes[k] = c
		}
		seen[e] = true
	}
	return l
}

func requireBooked(t *testing.T, o Options, c *collector, totals ledger.Totals) *ledger.Ledger {
	require.Zero(t, totals.Unacked)
	require.Eventually(t, func() bool { return int64(len(c.all())) >= totals.Published }, 10*time.Second, 10*time.Millisecond)
	want, err := ledger.Read(o.Ledger)
	require.NoError(t, err)
	require.Equal(t, totals, want.Totals)
	got := book(t, c.all())
	require.Equal(t, want.Minutes, got.Minutes)
	require.Equal(t, want.Late, got.Late)
	require.Equal(t, want.BadClock, got.BadClock)
	require.Equal(t, want.Invalid, got.Invalid)
	require.Equal(t, want.Malformed, got.Malformed)
	return want
}

func TestRunBooksWhatArrives(t *testing.T) {
	t.Parallel()
	b, c := setup(t)
	o := options(t, b.URL())
	totals, err := Run(context.Background(), o)
	require.NoError(t, err)
	want := requireBooked(t, o, c, totals)
	require.EqualValues(t, o.Readings, totals.Published-totals.Heartbeats)
	require.EqualValues(t, totals.Published, len(c.all()), "an undisturbed run publishes nothing twice")
	require.Greater(t, totals.Duplicates, int64(50))
	require.Greater(t, totals.BadClock, int64(50))
	require.NotEmpty(t, want.Late)
	require.NotEmpty(t, want.Invalid)
	require.True(t, o.Progress.WarmedUp.Load())
	require.Equal(t, totals.Published, o.Progress.Acked.Load())
}

func TestSameSeedSameLoad(t *testing.T) {
	t.Parallel()
	b, c := setup(t)
	var first []string
	for range 2 {
		before := len(c.all())
		o := options(t, b.URL())
		o.Readings, o.Broker.Connections = 1000, 1
		totals, err := Run(context.Background(), o)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return int64(len(c.all())-before) == totals.Published }, 10*time.Second, 10*time.Millisecond)
		var run []string
		for _, p := range c.all()[before:] {
			var r iot.Reading
			if json.Unmarshal([]byte(p), &r) == nil {
				run = append(run, fmt.Sprintln(r.DeviceID, r.Kind, r.Seq, r.Temperature, r.Humidity))
			}
		}
		if first == nil {
			first = run
		}
		require.Equal(t, first, run)
	}
}

func TestRunSurvivesCutConnections(t *testing.T) {
	t.Parallel()
	b, c := setup(t)
	o := options(t, b.URL())
	o.Readings, o.Rate = 10_000, 10_000
	wait := start(context.Background(), o)
	cuts := 0
	for seen := int64(0); seen < 8000; seen += 3000 {
		require.Eventually(t, func() bool { return o.Progress.Published.Load() >= seen+3000 }, 30*time.Second, time.Millisecond)
		if b.Cut("sim-0") && b.Cut("sim-1") {
			cuts++
		}
	}
	totals, err := wait()
	require.NoError(t, err)
	require.Greater(t, cuts, 1)
	requireBooked(t, o, c, totals)
}

// start runs in the background; wait returns how it ended.
func start(ctx context.Context, o Options) (wait func() (ledger.Totals, error)) {
	type result struct {
		totals ledger.Totals
		err    error
	}
	done := make(chan result, 1)
	go func() {
		totals, err := Run(ctx, o)
		done <- result{totals, err}
	}()
	return func() (ledger.Totals, error) {
		r := <-done
		return r.totals, r.err
	}
}

func TestStopIsClean(t *testing.T) {
	t.Parallel()
	b, c := setup(t)
	o := options(t, b.URL())
	o.Readings, o.Rate = 0, 2000
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	wait := start(ctx, o)
	require.Eventually(t, func() bool { return o.Progress.Published.Load() >= 1000 }, 30*time.Second, time.Millisecond)
	cancel()
	totals, err := wait()
	require.NoError(t, err)
	require.GreaterOrEqual(t, totals.Published, int64(1000))
	requireBooked(t, o, c, totals)
}

func TestUnreachableBroker(t *testing.T) {
	t.Parallel()
	o := options(t, "tcp://127.0.0.1:1")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := Run(ctx, o)
	require.ErrorContains(t, err, "MQTT broker tcp://127.0.0.1:1")
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	b, err := mqttbroker.Start(context.Background(), "127.0.0.1:0", mqttbroker.Options{Username: "iot", Password: "right"})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	o := options(t, b.URL())
	o.Broker.Username, o.Broker.Password = "iot", "wrong"
	_, err = Run(context.Background(), o)
	require.ErrorContains(t, err, `refuses user "iot"`)
	require.ErrorContains(t, err, "check mqtt.username and mqtt.password")
}

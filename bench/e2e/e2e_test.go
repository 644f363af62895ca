package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/e2e"
	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/internal/services"
)

// pair runs both of a pair once more than once, so that what a run leaves behind would be in the way of the next, and has every record counted.
func pair(t *testing.T, bare, path e2e.Bench, events int64) {
	t.Cleanup(func() {
		require.NoError(t, bare.Close(context.WithoutCancel(t.Context())))
		require.NoError(t, path.Close(context.WithoutCancel(t.Context())))
	})
	r, err := e2e.Pair(t.Context(), bare, path, harness.Settings{Events: events, Runs: 2}, nil)
	require.NoError(t, err)
	require.Len(t, r.Bare.Runs, 3)
	require.Len(t, r.Path.Runs, 2)
	require.Len(t, r.Each, 2)
	require.Positive(t, r.Median)
	require.Positive(t, r.CPU)
	dir := t.TempDir()
	require.NoError(t, harness.Write(dir, r.Bare, r.Path))
	again, err := e2e.Ratios(dir)
	require.NoError(t, err)
	require.Len(t, again, 1)
	require.InDelta(t, r.Median, again[0].Median, 1e-9)
	for _, x := range append(r.Bare.Runs, r.Path.Runs...) {
		require.Equal(t, events, x.Events)
		require.Equal(t, events, x.Out)
		require.Zero(t, x.Lost+x.Repeats)
	}
}

func TestMQTT(t *testing.T) {
	t.Parallel()
	bare, path := e2e.MQTT(e2e.Of(services.Need(t, services.Mosquitto, services.ClickHouse)))
	pair(t, bare, path, 3_000)
}

func TestKafka(t *testing.T) {
	t.Parallel()
	bare, path := e2e.Kafka(e2e.Of(services.Need(t, services.Kafka, services.ClickHouse)))
	pair(t, bare, path, 20_000)
}

func TestRocketMQ(t *testing.T) {
	t.Parallel()
	bare, path := e2e.RocketMQ(e2e.Of(services.Need(t, services.RocketBroker, services.ClickHouse)))
	pair(t, bare, path, 20_000)
}

// The rule that eKuiper is measured beside. eKuiper itself is not there in tests.
func TestRule(t *testing.T) {
	t.Parallel()
	peer, path := e2e.Rule(e2e.Of(services.Need(t, services.Mosquitto)), t.TempDir())
	r, err := e2e.Measure(t.Context(), path, harness.Settings{Events: 20_000, Runs: 2}, nil)
	require.NoError(t, err)
	for _, x := range r.Runs {
		require.EqualValues(t, 20_000, x.Events)
	}
	_, err = e2e.Measure(t.Context(), peer, harness.Settings{Events: 20_000, Runs: 1}, nil)
	require.ErrorContains(t, err, "the folder of eKuiper has to have its etc")
}

func TestDurability(t *testing.T) {
	t.Parallel()
	rs, err := e2e.Turns(t.Context(), e2e.Durability(), harness.Settings{Events: 20_000}, nil)
	require.NoError(t, err)
	require.Len(t, rs, 3)
	for _, r := range rs {
		require.EqualValues(t, 20_000, r.Runs[0].Out)
		require.Positive(t, r.Runs[0].Epochs.N)
	}
	require.Zero(t, rs[0].Runs[0].Epochs.Bytes)
	require.Positive(t, rs[1].Runs[0].Epochs.Bytes)
}

// childDir names the folder of the process that is killed.
const childDir = "MILLRACE_E2E_CHILD"

func TestRecovery(t *testing.T) {
	t.Parallel()
	const keys = 20_000
	if dir := os.Getenv(childDir); dir != "" {
		require.NoError(t, e2e.Child(t.Context(), dir, keys, os.Stdout))
		return
	}
	r := e2e.Recovery{Keys: keys, Command: func(ctx context.Context, dir string, _ int64) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestRecovery$")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		return cmd
	}}
	got, err := r.Run(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, keys, got.Rows)
	require.GreaterOrEqual(t, got.From, int64(2*keys))
	require.Positive(t, got.Restored)
	require.Positive(t, got.First)
	require.Positive(t, got.StateBytes)
	require.Len(t, r.Results([]e2e.Recovered{got}), 2)
}

func TestRatiosTakeTurns(t *testing.T) {
	t.Parallel()
	runs := func(perSecond ...float64) (r harness.Result) {
		for _, x := range perSecond {
			r.Runs = append(r.Runs, harness.Run{PerSecond: x, CPU: 1})
		}
		return r
	}
	r, err := e2e.RatioOf(runs(100, 200, 400), runs(120, 270))
	require.NoError(t, err)
	require.InDeltaSlice(t, []float64{0.8, 0.9}, r.Each, 1e-9)
	require.InDelta(t, 0.85, r.Median, 1e-9)
	_, err = e2e.RatioOf(runs(100, 200), runs(120, 270))
	require.ErrorContains(t, err, "not measured in turns")
}

package peers

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small makes a job small: 50 devices, and 20 events a second, so that few events come to several minutes.
func small(j job) job {
	j.Job = workload.Job{Name: j.Name, What: j.What, Keys: 50, Rate: 20}
	return j
}

// TestPrograms checks each program against the loop by hand.
func TestPrograms(t *testing.T) {
	for _, e := range entries() {
		t.Run(e.name+"/"+e.peer, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, small(e.job).once(t.Context(), e.run, 5_003))
		})
	}
}

// TestWrongResultsAreSeen runs the scenario of a program that loses one event.
func TestWrongResultsAreSeen(t *testing.T) {
	loses := func(ctx context.Context, in *input, r *workload.Result) error {
		if err := roA(ctx, in, r); err != nil {
			return err
		}
		r.Out--
		return nil
	}
	run := func(p program, set harness.Settings) error {
		_, err := harness.Measure(t.Context(), jobA().scenario("x", "", p), set, nil)
		return err
	}
	require.NoError(t, run(roA, harness.Settings{Events: 3_000}))
	require.ErrorContains(t, run(loses, harness.Settings{Events: 3_000}), "the loop by hand has")
	require.ErrorContains(t, run(loses, harness.Settings{Events: workload.N}), "want 499340 and")
	require.ErrorContains(t, run(loses, harness.Settings{Duration: 1}), "want 499340 and") // before anything is timed
	require.ErrorContains(t, run(roA, harness.Settings{Rate: 10}), "without -rate")
}

// TestCommand runs every scenario once, as the command does.
func TestCommand(t *testing.T) {
	var out, errOut bytes.Buffer
	code := harness.Main(t.Context(), []string{"run", "all", "-events", "300", "-warm-up", "0s", "-quiet"}, &out, &errOut, Scenarios()...)
	require.Zero(t, code, errOut.String())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")[1:]
	require.Len(t, lines, len(entries()))
	seen := map[string]bool{}
	for i, e := range entries() {
		name, _, _ := strings.Cut(lines[i], " ")
		require.Equal(t, "peers/"+e.name+"/"+e.peer, name)
		require.False(t, seen[name], name)
		seen[name] = true
	}
}

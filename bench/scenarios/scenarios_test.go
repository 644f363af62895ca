package scenarios_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/scenarios"
)

// TestEveryScenarioRuns keeps them from rotting.
func TestEveryScenarioRuns(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios.All() {
		t.Run(s.Name(), func(t *testing.T) {
			t.Parallel()
			r, err := harness.Measure(t.Context(), s, harness.Settings{Events: 30_000}, nil)
			require.NoError(t, err)
			require.EqualValues(t, 30_000, r.Runs[0].Events)
			require.Positive(t, r.Runs[0].Out)
			require.Zero(t, r.Runs[0].Lost)
			require.Zero(t, r.Runs[0].Repeats)
		})
	}
}

package scenarios_test

import (
	"strings"
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
			n := int64(30_000)
			if strings.HasPrefix(s.Name(), "iot/") { // enough for them, and much work each
				n = 5_000
			}
			r, err := harness.Measure(t.Context(), s, harness.Settings{Events: n}, nil)
			require.NoError(t, err)
			require.Equal(t, n, r.Runs[0].Events)
			require.Positive(t, r.Runs[0].Out)
			require.Zero(t, r.Runs[0].Lost)
			require.Zero(t, r.Runs[0].Repeats)
		})
	}
}

package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/harness"
)

func TestOrdersRun(t *testing.T) {
	r, err := harness.Measure(t.Context(), harness.Func("shop/totals", "", orders), harness.Settings{Events: 20_000}, nil)
	require.NoError(t, err)
	require.EqualValues(t, 20_000, r.Runs[0].Out)
	require.Zero(t, r.Runs[0].Lost)
	require.Zero(t, r.Runs[0].Repeats)
}

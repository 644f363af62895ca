//go:build linux

package services

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHiveMQStartsAgainAfterAKill(t *testing.T) {
	t.Parallel()
	s := Isolated(t, Options{}, HiveMQ)
	require.NoError(t, readyHiveMQ(t.Context(), s))
	require.NoError(t, s.Kill(t.Context(), HiveMQ))
	require.Error(t, readyHiveMQ(t.Context(), s))
	require.NoError(t, s.Start(t.Context(), HiveMQ))
	require.True(t, s.Status()[0].Ready)
}

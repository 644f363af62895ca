package mqtt

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/operators"
)

func TestTopologyIsValid(t *testing.T) {
	top := flow.New("linkage", flow.WithStore(state.InMemory()))
	hot := operators.Filter(readings(top).Unkeyed(), "hot", func(r Reading) bool { return r.Celsius > 90 })
	send(operators.Map(hot, "close", func(_ context.Context, r Reading) (Command, error) {
		return Command{Device: r.Device, Valve: "closed"}, nil
	}))
	require.NoError(t, top.Validate())
}

func TestCredentialsComeFromTheToken(t *testing.T) {
	cfg := secured(func(context.Context) (string, error) { return "secret", nil })
	user, password, err := cfg.Credentials(t.Context())
	require.NoError(t, err)
	require.Equal(t, "per-minute", user)
	require.Equal(t, "secret", password.Reveal())
	require.Equal(t, "[redacted]", password.String())
}

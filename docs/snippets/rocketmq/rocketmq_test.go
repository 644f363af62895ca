package rocketmq

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
)

func TestTopologiesAreValid(t *testing.T) {
	require.True(t, secure().TLS.Enabled)
	for _, from := range []func(*flow.Topology) flow.Stream[Reading]{readings, alarms} {
		for _, to := range []func(flow.Stream[Reading]){publish, remind, publishWhole} {
			top := flow.New("rocketmq", flow.WithStore(state.InMemory()))
			to(from(top))
			require.NoError(t, top.Validate())
		}
	}
}

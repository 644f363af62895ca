package kafka

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
)

func TestTopologiesAreValid(t *testing.T) {
	for _, to := range []func(flow.Stream[Reading]){publish, publishWhole} {
		top := flow.New("hot", flow.WithStore(state.InMemory()))
		to(readings(top))
		require.NoError(t, top.Validate())
	}
}

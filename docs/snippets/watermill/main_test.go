package main

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

func TestTheParts(t *testing.T) {
	pubSub := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	src := orders(pubSub)
	require.NoError(t, src.Open(t.Context(), flow.SourceRuntime{}))
	require.NoError(t, src.Close(t.Context()))
	sub, err := subscriber([]string{"tcp://127.0.0.1:1883"})
	require.NoError(t, err)
	require.NoError(t, sub.Close())
}

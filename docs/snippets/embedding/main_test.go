package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow/codec"
	sink "github.com/millrace-stream/millrace/sinks/watermill"
)

func TestServe(t *testing.T) {
	pubSub := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	spent, err := pubSub.Subscribe(t.Context(), "spent")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, pubSub) }()
	n := 0
	require.Eventually(t, func() bool { // GoChannel forgets what nobody is subscribed to
		n++
		o := Order{fmt.Sprint(n), "c", time.Unix(int64(60*n), 0), 250}
		b, err := codec.JSON[Order]().Append(nil, &o)
		require.NoError(t, err)
		require.NoError(t, pubSub.Publish("orders", message.NewMessage(o.ID, b)))
		select {
		case m := <-spent:
			require.Equal(t, "c", m.Metadata.Get(sink.MetadataKey))
			m.Ack()
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	}, 20*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, pubSub.Close())
}

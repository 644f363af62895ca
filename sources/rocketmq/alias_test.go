package rocketmq

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
)

// pointing is a codec whose values point into the payload.
type pointing struct{}

func (pointing) Decode(data []byte, v *string) error {
	*v = unsafe.String(unsafe.SliceData(data), len(data))
	return nil
}
func (pointing) Append(b []byte, v *string) ([]byte, error) { return append(b, *v...), nil }
func (pointing) ID() string                                 { return "pointing" }
func (pointing) AliasesPayload() bool                       { return true }

// Answers of the broker whose payloads are pointed into are not used again: records that are kept over many pulls stay what they were.
func TestValuesThatPointIntoPayloadsStayWhatTheyAre(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 1)
	const pulls, each = 40, 50
	text := func(i int) string { return strings.Repeat(fmt.Sprintf("%06d ", i), 20) }
	var mu sync.Mutex
	var kept []string
	topo := flow.New("alias", flow.WithStore(state.InMemory()), flow.WithLogger(slog.New(slog.DiscardHandler)))
	cfg := b.config()
	cfg.Batch = each
	flow.To(flow.From(topo, "in", Source(cfg, pointing{})), "keep", flow.SinkFunc(func(_ context.Context, rs []flow.Record[string]) error {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range rs {
			kept = append(kept, r.Value)
		}
		return nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- topo.Run(ctx) }()
	for p := range pulls {
		var data []byte
		for i := range each {
			var err error
			data, err = rocketmq.AppendMessage(data, []byte(text(p*each+i)), nil)
			require.NoError(t, err)
		}
		r, err := b.client.Call(t.Context(), b.set.Broker(), rocketmq.SendBatch("p", b.topic, b.queue(0), time.Now(), data))
		require.NoError(t, err)
		require.NoError(t, r.Err())
		r.Release()
	}
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(kept) == pulls*each }, 30*time.Second, 10*time.Millisecond)
	for i, v := range kept {
		require.Equal(t, text(i), v)
	}
	cancel()
	require.NoError(t, <-done)
}

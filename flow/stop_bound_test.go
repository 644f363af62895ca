package flow_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

// A stop ends while a batch waits at the bound of what may be pending: no commit but the stop's own would make room for it.
func TestStopAtTheBoundOfWhatIsPending(t *testing.T) {
	src, out := flowtest.NewSource[int](), flowtest.NewSink[int]()
	store := flowtest.NewStore()
	top := flow.New("bound", flow.WithStore(store), flow.ManualEpochs(), flow.WithMaxPending(flow.MaxBatch))
	flow.To(flow.From(top, "in", src), "out", out)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- top.Run(ctx) }()
	src.Feed(make([]int, 3*flow.MaxBatch)...)
	require.Never(t, func() bool { return len(out.Values()) > 0 }, 200*time.Millisecond, 10*time.Millisecond, "nothing is committed by itself")
	cancel()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("the stop does not end")
	}
	require.NotEmpty(t, out.Values())
	require.EqualValues(t, len(out.Values()), src.Committed("0"), "what went in is committed, the rest comes again")
}

package rocketmq

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
)

// What brokers do, and other clients have fallen for; docs/traps.md says where each is dealt with.

// A broker gives at most 32 messages a pull unless it is told otherwise, whatever the client asks for. The log says so, once, when
// it shows.
func TestTrapABrokerThatGivesFewMessagesAPull(t *testing.T) {
	l := &logs{}
	h := &hub{cfg: Config{Batch: 256}, rt: flow.SourceRuntime{Log: slog.New(l)}}
	r := &reader{hub: h}
	for range 9 {
		r.checkCap(32, 100_000)
	}
	r.checkCap(200, 100_000) // not capped after all
	for range 9 {
		r.checkCap(32, 100_000)
	}
	r.checkCap(20, 20) // there was no more
	require.Empty(t, l.with("maxTransferCountOnMessageInMemory"))
	for range 30 {
		r.checkCap(32, 100_000)
	}
	require.Len(t, l.with("maxTransferCountOnMessageInMemory", "maxTransferCountOnMessageInDisk", "1024"), 1)
}

// On a network that breaks again and again other clients have committed offset 0 and read everything once more. What the broker
// remembers never falls here.
func TestTrapCommitsOnAFlakyNetworkNeverFall(t *testing.T) {
	set := services.Need(t, services.RocketNameSrv, services.RocketBroker)
	b := setup(t, set, 1)
	network := faults.Group{faults.New(t, set.NameServer()), faults.New(t, set.Broker())}
	cfg := b.config()
	cfg.Timeout, cfg.PollTimeout = time.Second, 200*time.Millisecond
	p := &proxied{Source[int](cfg, number{}).(*source[int]), network}
	require.NoError(t, p.Open(t.Context(), flow.SourceRuntime{
		Clock: flow.SystemClock(), Log: slog.New(slog.DiscardHandler), Count: func(string, int64) {},
	}))
	route, err := p.client.Route(t.Context(), b.topic)
	require.NoError(t, err)
	p.setMasters(route)
	b.send(0, numbers(0, 200)...)

	// The first pull makes the group.
	resp, err := p.client.Call(t.Context(), set.Broker(), rocketmq.Pull{Group: cfg.Group, Topic: b.topic, Queue: b.queue(0), Max: 1}.Request())
	require.NoError(t, err)
	resp.Release()

	const last = 200
	var done sync.WaitGroup
	var failed error
	retries := 0
	done.Go(func() {
		for at := int64(1); at <= last; {
			switch err := p.Commit(t.Context(), flow.Partition{ID: b.id(0)}, flow.Position{Offset: at}); {
			case err == nil:
				at++
			case !flow.IsTransient(err):
				failed = err
				return
			default:
				retries++
				if flow.SystemClock().Sleep(t.Context(), 5*time.Millisecond) != nil {
					return
				}
			}
		}
	})
	highest := int64(0)
	look := func() {
		at, known, err := b.client.Committed(t.Context(), set.Broker(), cfg.Group, b.topic, b.queue(0))
		require.NoError(t, err)
		require.True(t, !known && highest == 0 || at >= highest, "%d after %d", at, highest)
		highest = max(highest, at)
	}
	for _, fault := range []func(){network.Cut, network.Reset, network.HalfOpen, network.DropAnswers, network.Cut, network.Reset} {
		look()
		fault()
		require.NoError(t, flow.SystemClock().Sleep(context.Background(), 30*time.Millisecond))
		look()
		network.Restore()
		require.NoError(t, flow.SystemClock().Sleep(context.Background(), 20*time.Millisecond))
		look()
	}
	done.Wait()
	require.NoError(t, failed)
	look()
	require.EqualValues(t, last, highest)
	require.NotZero(t, retries)
	require.NoError(t, p.Close(t.Context()))
}

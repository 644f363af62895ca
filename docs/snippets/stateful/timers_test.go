package stateful

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

type once struct {
	timers flow.Timers[string]
	tries  *int
}

func (o *once) Open(_ context.Context, rt flow.Runtime) error { return flow.OpenTimers(rt, &o.timers) }
func (o *once) Process(_ context.Context, key string, r *flow.Record[Reading], _ *flow.Output[Reading]) error {
	o.timers.Set(key, r.Time.Add(time.Minute))
	return nil
}
func (o *once) OnTimer(_ context.Context, key string, at flow.Timestamp, out *flow.Output[Reading]) error {
	if *o.tries++; *o.tries == 1 {
		return flow.Transient(errors.New("for a moment"))
	}
	*out.Next(at, nil) = Reading{Device: key}
	return nil
}

func TestATimerThatFailsForAMomentFiresAgain(t *testing.T) {
	tries := 0
	r, src, out := run(t, func(s flow.KeyedStream[string, Reading]) flow.Stream[Reading] {
		return flow.ApplyKeyed[string, Reading, Reading](s, "once", func() *once { return &once{tries: &tries} })
	})
	src.Feed(reading("a", 0), reading("b", 10))
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				r.Clock.Advance(time.Second)
			}
		}
	}()
	r.Epoch()
	close(stop)
	require.Len(t, out.Values(), 1)
	r.Stop()
}

func TestWhatAKeptOperatorEmitsInATimerKeepsItsKey(t *testing.T) {
	tries := 1
	r, src, out := run(t, func(s flow.KeyedStream[string, Reading]) flow.Stream[Reading] {
		kept := flow.ApplyKept[string, Reading](s, "once", func() *once { return &once{tries: &tries} })
		return flow.ApplyKeyed[string, Reading, Reading](kept, "pass", func() pass { return pass{} })
	})
	src.Feed(reading("a", 0), reading("b", 10))
	r.Epoch()
	require.Len(t, out.Values(), 1)
	r.Stop()
}

type pass struct{}

func (pass) Process(_ context.Context, _ string, r *flow.Record[Reading], out *flow.Output[Reading]) error {
	out.Emit(*r)
	return nil
}

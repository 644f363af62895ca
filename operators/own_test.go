package operators_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

// session is a user's own operator, with state, timers and a side output: it sums each key's events until none comes for 10 s.
type session struct {
	sum    flow.State[string, total]
	timers flow.Timers[string]
	small  *flow.Side[string]
	out    *flow.Output[string]
}

type total struct {
	N    int64
	Ends flow.Timestamp
}

func (s *session) Open(_ context.Context, rt flow.Runtime) error {
	s.out = s.small.Open(rt)
	if err := flow.OpenState(rt, "sum", &s.sum); err != nil {
		return err
	}
	return flow.OpenTimers(rt, &s.timers)
}

func (s *session) Process(_ context.Context, key string, r *flow.Record[event], _ *flow.Output[string]) error {
	v := s.sum.Get(key)
	if v.Ends != 0 {
		s.timers.Clear(key, v.Ends)
	}
	v.N += r.Value.N
	v.Ends = max(v.Ends, r.Time.Add(10*time.Second))
	s.timers.Set(key, v.Ends)
	return nil
}

func (s *session) OnTimer(_ context.Context, key string, at flow.Timestamp, out *flow.Output[string]) error {
	n := s.sum.Peek(key).N
	line := fmt.Sprintf("%s: %d until %d", key, n, at.Time().Unix())
	if n < 20 {
		*s.out.Next(at, nil) = "small " + line
	} else {
		*out.Next(at, nil) = line
	}
	s.sum.Delete(key)
	return nil
}

func TestOwnOperatorInAllModes(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, string]{
		Inputs: events(5, 60, 6),
		Key:    func(s string) string { return s[:8] },
		BuildMany: func(in flow.Stream[event]) []flow.Stream[string] {
			side, small := flow.SideOutput[string](in.Topology(), "session", "small")
			keyed := flow.KeyBy(timed(in), event.key)
			big := flow.ApplyKeyed[string, event, string](keyed, "session", func() *session { return &session{small: side} })
			return []flow.Stream[string]{big, small}
		},
	})
}

// asking answers numbers from outside; a call in flight when the topology crashes is made again.
type asking struct{}

func (asking) Try(_ context.Context, r *flow.Record[int], out *flow.Output[string]) (bool, error) {
	if r.Value%3 == 0 && r.Value%7 != 0 {
		*out.Next(r.Time, r.Meta) = fmt.Sprint("known ", r.Value)
		return true, nil
	}
	return false, nil
}

func (asking) Call(_ context.Context, in []flow.Record[int], answers []flow.Answer[string]) error {
	for i := range in {
		answers[i] = flow.Answer[string]{Value: fmt.Sprint("asked ", in[i].Value), Drop: in[i].Value%7 == 0}
	}
	return nil
}

func TestAsyncInAllModes(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[int, string]{
		Inputs: numbers(40),
		Key:    func(s string) string { return s[len(s)-1:] }, // whether Try or Call answers depends on what waits; the order does not
		Build: func(in flow.Stream[int]) flow.Stream[string] {
			asked := flow.ApplyAsync[int, string](in, "ask", func() asking { return asking{} }, flow.AsyncConfig{Capacity: 5, BatchSize: 3, Concurrency: 2})
			return flow.Apply[string, string](asked, "strip", func() flow.OperatorFunc[string, string] {
				return func(_ context.Context, r *flow.Record[string], out *flow.Output[string]) error {
					*out.Next(r.Time, r.Meta) = r.Value[6:]
					return nil
				}
			})
		},
	})
}

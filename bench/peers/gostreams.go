package peers

import (
	"context"
	"time"

	"github.com/reugn/go-streams"
	"github.com/reugn/go-streams/extension"
	"github.com/reugn/go-streams/flow"

	"github.com/millrace-stream/millrace/bench/workload"
)

// goStreamsSource makes the events. They are passed by pointer, a thousand of them in one piece of memory: a value would be allocated anew by each
// operator.
func goStreamsSource(ctx context.Context, in *input) *extension.ChanSource {
	events := make(chan any, 1024)
	go func() {
		defer close(events)
		for {
			b := in.batch(ctx)
			if len(b) == 0 {
				return
			}
			for i := range b {
				events <- &b[i]
			}
		}
	}()
	return extension.NewChanSource(events)
}

// goStreamsSum is a sink that is done when all is added.
type goStreamsSum struct {
	in   chan any
	done chan struct{}
}

func newGoStreamsSum[T any](r *workload.Result, value func(T) float64) *goStreamsSum {
	s := &goStreamsSum{make(chan any, 1024), make(chan struct{})}
	go func() {
		defer close(s.done)
		for e := range s.in {
			r.Out++
			r.Sum += value(e.(T))
		}
	}()
	return s
}

func (s *goStreamsSum) In() chan<- any   { return s.in }
func (s *goStreamsSum) AwaitCompletion() { <-s.done }

func goStreamsA(ctx context.Context, in *input, r *workload.Result) error {
	goStreamsSource(ctx, in).
		Via(flow.NewMap(func(e *event) *event { e.Temperature = e.Temperature*1.8 + 32; return e }, 1)).
		Via(flow.NewFilter(func(e *event) bool { return e.Humidity < 50 }, 1)).
		Via(flow.NewMap(func(e *event) *event { e.Humidity = e.Temperature*0.5 + e.Humidity*0.1; return e }, 1)).
		To(newGoStreamsSum(r, func(e *event) float64 { return e.Humidity }))
	return nil
}

// goStreamsB keys by device. The library's windows close by the wall clock: an hour is longer than any run, so that one window collects all
// events of its device, and they are taken apart by minute of event time when it closes at the end.
func goStreamsB(ctx context.Context, in *input, r *workload.Result) error {
	perDevice := flow.NewKeyed(func(e *event) string { return e.Device },
		func() streams.Flow { return flow.NewTumblingWindow[*event](time.Hour) },
		func() streams.Flow { return flow.NewFlatMap(minutesOf, 1) })
	goStreamsSource(ctx, in).Via(perDevice).To(newGoStreamsSum(r, func(m minute) float64 { return m.total() }))
	return nil
}

// minutesOf are the minutes of one device's events, which are in order of time.
func minutesOf(events []*event) (all []minute) {
	var m minute
	for _, e := range events {
		if done, ok := m.add(e.TS, e.Temperature); ok {
			all = append(all, done)
		}
	}
	return append(all, m)
}

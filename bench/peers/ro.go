package peers

import (
	"context"

	"github.com/samber/ro"

	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
)

// roSource makes the events, in the caller's goroutine: each is out of all operators when Next returns, so that they can lie in the same piece of
// memory. The source and all operators are without locks, where the library has a choice.
func roSource(ctx context.Context, in *input) ro.Observable[*event] {
	return ro.NewUnsafeObservable(func(to ro.Observer[*event]) ro.Teardown {
		var b [flow.MaxBatch]event
		for first, n := in.take(ctx); n > 0; first, n = in.take(ctx) {
			for i := range b[:n] {
				in.events.Fill(first+int64(i), &b[i])
				to.Next(&b[i])
			}
		}
		to.Complete()
		return nil
	})
}

// roSum subscribes, and returns when all is added.
func roSum[T any](from ro.Observable[T], r *workload.Result, value func(T) float64) (err error) {
	from.Subscribe(ro.NewObserver(func(v T) {
		r.Out++
		r.Sum += value(v)
	}, func(e error) { err = e }, func() {})).Wait()
	return err
}

func roA(ctx context.Context, in *input, r *workload.Result) error {
	return roSum(ro.Pipe3(roSource(ctx, in),
		ro.Map(func(e *event) *event { e.Temperature = e.Temperature*1.8 + 32; return e }),
		ro.Filter(func(e *event) bool { return e.Humidity < 50 }),
		ro.Map(func(e *event) *event { e.Humidity = e.Temperature*0.5 + e.Humidity*0.1; return e }),
	), r, func(e *event) float64 { return e.Humidity })
}

// roB groups by device; the window is an operator of one's own, since the library's go by the wall clock or by count.
func roB(ctx context.Context, in *input, r *workload.Result) error {
	return roSum(ro.Pipe2(roSource(ctx, in),
		ro.GroupBy(func(e *event) string { return e.Device }),
		ro.MergeMap(roMinutes),
	), r, func(m minute) float64 { return m.total() })
}

// roMinutes is an operator: the minutes of one device's events, which are in order of time.
func roMinutes(device ro.Observable[*event]) ro.Observable[minute] {
	return ro.NewUnsafeObservable(func(to ro.Observer[minute]) ro.Teardown {
		var m minute
		return device.Subscribe(ro.NewObserver(func(e *event) {
			if done, ok := m.add(e.TS, e.Temperature); ok {
				to.Next(done)
			}
		}, to.Error, func() {
			to.Next(m)
			to.Complete()
		})).Unsubscribe
	})
}

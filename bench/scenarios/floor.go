package scenarios

import (
	"context"
	"errors"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/workload"
)

// floorScenarios are the reference jobs as loops by hand, on one thread: what engines are measured against.
func floorScenarios() []harness.Scenario {
	var all []harness.Scenario
	for _, r := range references() {
		if r.name != "F-json" {
			all = append(all, floor(r.name, "", r.job, r.floor))
		}
	}
	batches := ", in batches of 256"
	return append(all, floor("B10k-batches", batches, workload.B10k(), workload.FloorBBatches), floor("B1m-batches", batches, workload.B1m(), workload.FloorBBatches))
}

// floor is a loop that must know beforehand how many events there are. Where the load has a duration, the number is taken from how long
// the first 1,000,000 take; that is also the warm-up, and what they come to is checked.
func floor(name, how string, j workload.Job, loop func(*workload.Generator, int64) workload.Result) harness.Scenario {
	return harness.Func("floor/"+name, j.What+how+", by hand", func(ctx context.Context, l *harness.Load, m *harness.Meter) error {
		if l.Open() {
			return errors.New("the loops by hand take events as fast as they can: run them without -rate")
		}
		g := workload.New(j)
		took, n := l.Duration()
		if n <= 0 {
			began := time.Now()
			if err := j.Verify(workload.N, loop(g, workload.N)); err != nil {
				return err
			}
			n = max(workload.N, int64(float64(workload.N)*took.Seconds()/time.Since(began).Seconds()))
		}
		m.Begin()
		l.Take(ctx, int(n))
		got := loop(g, n)
		m.End()
		m.Count(got.Out)
		return j.Verify(n, got)
	})
}

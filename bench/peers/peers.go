// Package peers runs jobs of the reference workload on other Go libraries for streams, on a loop by hand and on Millrace: the same events, the
// same work, and the same results, which are checked before anything is timed and after each run.
package peers

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
)

type event = workload.Event

// input is the work: the events of a load, by number.
type input struct {
	load     *harness.Load
	events   *workload.Generator
	payloads *workload.Payloads // of the jobs that decode
	// begin begins the measurement, for programs that take all events at once.
	begin func()
}

// take returns the next events: n of them from number first on, none when the load has ended. All programs take as many at once.
func (in *input) take(ctx context.Context) (first int64, n int) {
	if ctx.Err() != nil {
		return 0, 0
	}
	return in.load.Take(ctx, flow.MaxBatch)
}

// batch makes the next events in a slice of their own; it is empty when the load has ended.
func (in *input) batch(ctx context.Context) []event {
	first, n := in.take(ctx)
	b := make([]event, n)
	for i := range b {
		in.events.Fill(first+int64(i), &b[i])
	}
	return b
}

// program does a job on one library: it takes all events and returns when all that came of them has been added up in r.
type program func(ctx context.Context, in *input, r *workload.Result) error

// job is what all programs do alike.
type job struct {
	name string
	workload.Job
	decodes bool
	floor   func(in *input, n int64) workload.Result
}

func (j job) input(l *harness.Load) *input {
	in := &input{load: l, events: workload.New(j.Job), begin: func() {}}
	if j.decodes {
		in.payloads = workload.NewPayloads(in.events)
	}
	return in
}

// check compares a result with what is known of n events, and with the loop by hand; sums may differ by the order of additions.
func (j job) check(in *input, n int64, got workload.Result) error {
	if err := j.Verify(n, got); err != nil {
		return err
	}
	want := j.floor(in, n)
	if off := math.Abs(got.Sum - want.Sum); got.Out != want.Out || !(off <= 1e-9*math.Abs(want.Sum)) {
		return fmt.Errorf("job %s at %d events: got %d outputs and sum %.3f, the loop by hand has %d and %.3f", j.name, n, got.Out, got.Sum, want.Out, want.Sum)
	}
	return nil
}

// once runs a program over n events and checks what comes out.
func (j job) once(ctx context.Context, run program, n int64) error {
	in := j.input(harness.NewLoad(0, 0, 0, n))
	var r workload.Result
	if err := run(ctx, in, &r); err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	return j.check(in, n, r)
}

// scenario is a program as the harness runs it. Where the load has a duration, it first does the workload.N events of which the result is
// known, which is a warm-up, too.
func (j job) scenario(peer, about string, run program) harness.Scenario {
	verified := false
	return harness.Func("peers/"+j.name+"/"+peer, j.What+": "+about, func(ctx context.Context, l *harness.Load, m *harness.Meter) error {
		if l.Open() {
			return errors.New("the peers take events as fast as they can: run them without -rate")
		}
		if _, limit := l.Duration(); limit <= 0 && !verified {
			if err := j.once(ctx, run, workload.N); err != nil {
				return err
			}
			verified = true
		}
		in := j.input(l)
		in.begin = m.Begin
		var r workload.Result
		err := run(ctx, in, &r)
		m.End()
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		m.Count(r.Out)
		return j.check(in, l.Taken(), r)
	})
}

func jobA() job {
	return job{"A", workload.A(), false, func(in *input, n int64) workload.Result { return workload.FloorA(in.events, n) }}
}

func jobB() job {
	return job{"B10k", workload.B10k(), false, func(in *input, n int64) workload.Result { return workload.FloorB(in.events, n) }}
}

// jobFMap is the stateless part of job F.
func jobFMap() job {
	j := workload.Job{Name: "F-map", What: "decode JSON, update", Keys: workload.F().Keys, Rate: workload.F().Rate}
	return job{"F-map", j, true, func(in *input, n int64) workload.Result { return in.payloads.FloorMap(n) }}
}

// entry is a program that does a job.
type entry struct {
	job
	peer, about string
	run         program
}

func entries() []entry {
	a, b, f := jobA(), jobB(), jobFMap()
	return []entry{
		{a, "floor", "by hand", floor(a)},
		{a, "millrace", "one task", millraceA},
		{a, "samber-ro", "two Maps and a Filter of samber/ro", roA},
		{a, "go-streams", "two Maps and a Filter of reugn/go-streams", goStreamsA},
		{a, "benthos", "a mutation of benthos", benthosA},
		{a, "goka", "a callback of goka, on its test kit in place of Kafka", gokaA},
		{a, "watermill", "a handler per operator on Watermill's router and GoChannel", watermillA},
		{b, "floor", "by hand", floor(b)},
		{b, "millrace", "one task", millraceB},
		{b, "samber-ro", "GroupBy of samber/ro, window by hand", roB},
		{b, "go-streams", "Keyed of reugn/go-streams, windows by the wall clock taken apart by event time", goStreamsB},
		{b, "goka", "a group table of goka, on its test kit in place of Kafka, window by hand", gokaB},
		{f, "floor", "by hand, with a decoder for these payloads", floor(f)},
		{f, "millrace", "one task, default JSON codec", millraceFMap(defaultJSON())},
		{f, "millrace-fields", "one task, codec for known fields", millraceFMap(knownFields())},
		{f, "benthos", "a mutation of benthos", benthosFMap},
	}
}

// Scenarios are all jobs on all libraries that can do them.
func Scenarios() (all []harness.Scenario) {
	for _, e := range entries() {
		all = append(all, e.scenario(e.peer, e.about, e.run))
	}
	return all
}

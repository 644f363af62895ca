package scenarios

import (
	"context"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/jobs"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/codec/fields"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/operators/cep"
)

// reference is a job of the reference workload. jobs/NAME runs it in one task, jobs/p2/NAME in two workers behind an exchange, and
// jobs/durable/NAME in one task with its state in files, written once a second.
type reference struct {
	name  string
	job   workload.Job
	floor func(*workload.Generator, int64) workload.Result
	// add adds the job to a topology: the load's events, the chain, and a sum.
	add         func(b *building) *harness.Total
	p2, durable bool
}

// building is a topology between a load and a meter.
type building struct {
	t *flow.Topology
	l *harness.Load
	m *harness.Meter
	j workload.Job
	g *workload.Generator
}

func references() []reference {
	first, second, third := cep.Where(hot), cep.Where(hot), cep.Where(hot)
	return []reference{
		{name: "A", job: workload.A(), floor: workload.FloorA, add: events(jobs.Stateless, humidity, ofEvent)},
		{name: "B10k", job: workload.B10k(), floor: workload.FloorB, add: events(jobs.PerMinute, jobs.Total, ofWindow), p2: true, durable: true},
		{name: "B1m", job: workload.B1m(), floor: workload.FloorB, add: events(jobs.PerMinute, jobs.Total, ofWindow), p2: true, durable: true},
		{name: "C", job: workload.C(), floor: workload.FloorC, add: events(jobs.LastMinute, jobs.Total, ofWindow), p2: true},
		{name: "D", job: workload.D(), floor: workload.FloorD, add: events(jobs.Distinct, humidity, ofEvent), p2: true},
		{name: "En", job: workload.En(), floor: workload.FloorEn, p2: true, add: events(
			pattern(cep.Begin("first", first).Next("second", second).Next("third", third).Within(10*time.Second)), nothing, itself)},
		{name: "Ef", job: workload.Ef(), floor: workload.FloorEf, p2: true, add: events(
			pattern(cep.Begin("first", first).FollowedBy("second", second).FollowedBy("third", third).Within(10*time.Second)), nothing, itself)},
		{name: "F", job: workload.F(), floor: workload.FloorF, add: payloads(jobs.ReadingCodec(fields.Alias())), p2: true},
		{name: "F-json", job: workload.F(), floor: workload.FloorF, add: payloads(codec.JSON[jobs.Reading]())},
	}
}

func humidity(e event) float64 { return e.Humidity }
func nothing(int64) float64    { return 0 }

func ofEvent(_ *building, e event) int64 { return e.Seq }
func itself(_ *building, i int64) int64  { return i }

// ofWindow is the number of the last event that a window can have.
func ofWindow(b *building, m jobs.Minute) int64 {
	ms := int64(m.End)/int64(time.Millisecond) - workload.Start
	return min((ms*b.j.Rate-1)/1000, b.l.Taken()-1)
}

// events joins a chain to the events of the load.
func events[R any](chain func(flow.Stream[event]) flow.Stream[R], value func(R) float64, number func(*building, R) int64) func(*building) *harness.Total {
	return func(b *building) *harness.Total {
		sink, total := harness.Sum(b.m, value, func(r R) int64 { return number(b, r) })
		flow.To(chain(flow.From(b.t, "events", harness.From(b.l, b.g.Fill))), "sum", sink)
		return total
	}
}

// payloads joins job F to payloads that are decoded.
func payloads(c codec.Codec[jobs.Reading]) func(*building) *harness.Total {
	return func(b *building) *harness.Total {
		sink, total := harness.Sum(b.m, jobs.Total, func(m jobs.Minute) int64 { return ofWindow(b, m) })
		src := harness.From(b.l, decoded(workload.NewPayloads(b.g), c))
		flow.To(jobs.FahrenheitPerMinute(flow.From(b.t, "readings", src)), "sum", sink)
		return total
	}
}

// decoded makes events out of payloads. They lie in one piece of memory, as in the answer of a broker: a new one for each thousand where
// the codec points into it, the same one otherwise. A payload that cannot be decoded gives no device, which the result then shows.
func decoded(p *workload.Payloads, c codec.Codec[jobs.Reading]) func(int64, *jobs.Reading) {
	const size = 128 // more than any payload has
	var piece []byte
	return func(i int64, r *jobs.Reading) {
		if cap(piece)-len(piece) < size {
			if piece = piece[:0]; piece == nil || codec.Aliases(c) {
				piece = make([]byte, 0, flow.MaxBatch*size)
			}
		}
		at := len(piece)
		piece = p.Append(piece, i)
		if err := c.Decode(piece[at:], r); err != nil {
			*r = jobs.Reading{}
		}
	}
}

func jobScenarios() (all []harness.Scenario) {
	for _, r := range references() {
		all = append(all, r.scenario("jobs/"+r.name, ", in one task", inMemory, 1))
		if r.p2 {
			all = append(all, r.scenario("jobs/p2/"+r.name, ", in two workers", inMemory, 2))
		}
		if r.durable {
			all = append(all, r.scenario("jobs/durable/"+r.name, ", state in files once a second", inFiles, 1))
		}
	}
	return all
}

// store makes a store, and says what to do when it is no longer needed.
type store func() (opts []flow.TopologyOption, done func() error, err error)

func inMemory() ([]flow.TopologyOption, func() error, error) {
	return []flow.TopologyOption{flow.WithStore(state.InMemory())}, func() error { return nil }, nil
}

// inFiles keeps state in a folder of the system's for temporary files. Epochs come by the clock alone, not by the number of records that
// wait for one.
func inFiles() ([]flow.TopologyOption, func() error, error) {
	dir, err := os.MkdirTemp("", "flowbench-")
	if err != nil {
		return nil, nil, err
	}
	opts := []flow.TopologyOption{flow.WithStore(pebble.Dir(dir)), flow.WithEpochInterval(time.Second), flow.WithMaxPending(math.MaxInt64 / 4)}
	return opts, func() error { return os.RemoveAll(dir) }, nil
}

// scenario runs the job and checks what came out: against the count and sum that are known, or against the loop by hand.
func (r reference) scenario(name, how string, in store, tasks int) harness.Scenario {
	what := r.job.What
	if r.name == "F-json" {
		what += " (default codec)"
	}
	return harness.Func(name, what+how, func(ctx context.Context, l *harness.Load, m *harness.Meter) (err error) {
		opts, done, err := in()
		if err != nil {
			return err
		}
		b := &building{l: l, m: m, j: r.job, g: workload.New(r.job)}
		b.t = flow.New("job", append(opts, flow.WithLogger(silent()), flow.WithParallelism(tasks), flow.WithHooks(m))...)
		total := r.add(b)
		err = b.t.Run(ctx)
		m.End()
		if closed := done(); err == nil {
			err = closed
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
		return r.check(b.g, l.Taken(), total)
	})
}

func (r reference) check(g *workload.Generator, n int64, total *harness.Total) error {
	if _, known := r.job.Expected(n); known {
		return r.job.Verify(n, workload.Result{Out: total.Out(), Sum: total.Sum()})
	}
	want := r.floor(g, n)
	if err := total.Check(want.Out, want.Sum); err != nil {
		return fmt.Errorf("job %s at %d events: %w", r.name, n, err)
	}
	return nil
}

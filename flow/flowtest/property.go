package flowtest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/flow"
)

// Execution is one way to run an operator over its inputs.
type Execution struct {
	// Tasks are the parallelism of each start, in turn. Defaults to 1 at each.
	Tasks []int
	// Batch cuts batches of so many records; 0 means what is there, at most flow.MaxBatch.
	Batch int
	// Exchanged makes KeyBy an exchange also with one task.
	Exchanged bool
	// Epochs and Crashes are numbers of inputs behind which an epoch is committed or the topology crashes, the epoch first.
	Epochs, Crashes []int
}

// Execute runs the operator over its inputs in one way, flushes the stream, and returns what was delivered.
func (c *OperatorCheck[In, Out]) Execute(t testing.TB, x Execution) []flow.Record[Out] {
	t.Helper()
	if len(x.Tasks) == 0 {
		x.Tasks = []int{1}
	}
	src, out := NewSource[In](), NewSink[Out]()
	src.BatchSize = x.Batch
	starts := 0
	r := Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		opts = append(opts, flow.WithParallelism(x.Tasks[starts%len(x.Tasks)]))
		starts++
		top := flow.New("execution", append(opts, c.Options...)...)
		var from flow.Source[In] = src
		if x.Exchanged {
			from = unbounded[In]{src}
		}
		in := flow.From(top, "in", from)
		if c.BuildMany == nil {
			flow.To(c.Build(in), "out", out)
			return top
		}
		for i, s := range c.BuildMany(in) {
			flow.To(s, fmt.Sprint("out-", i), out)
		}
		return top
	}, src)
	fed := 0
	for i := range len(c.Inputs) + 1 {
		epoch, crash := slices.Contains(x.Epochs, i), slices.Contains(x.Crashes, i)
		if !epoch && !crash {
			continue
		}
		src.Feed(c.Inputs[fed:i]...)
		fed = i
		if epoch {
			r.Epoch()
		}
		if crash {
			r.Settle()
			r.Crash()
		}
	}
	src.Feed(c.Inputs[fed:]...)
	r.Flush()
	return out.Records()
}

// Property says what holds for an operator whatever its inputs and however it is run.
type Property[In, Out any] struct {
	// Inputs draws inputs, in any order.
	Inputs func(*rapid.T) []In
	// Build and BuildMany are those of OperatorCheck.
	Build     func(in flow.Stream[In]) flow.Stream[Out]
	BuildMany func(in flow.Stream[In]) []flow.Stream[Out]
	// Time is the event time of an input. Where it is set inputs arrive in order of time but for Disorder: none of them is more than
	// Disorder behind one that came before, so that with a watermark of that bound, or of less and the rest of it as allowed lateness,
	// none is too late. Without it they arrive as drawn.
	Time     func(In) time.Time
	Disorder time.Duration
	// Identity, if set, makes a later output replace an earlier one of the same identity, as the refined result of a window does.
	Identity func(Out) string
	// Oracle, if set, says what must come out, in any order, by the shortest way from the inputs. It must not depend on
	// their order.
	Oracle func(in []In) []Out
	// Options are for the topology.
	Options []flow.TopologyOption
}

// CheckProperty draws inputs, two orders of arrival and two ways to run (size of batches, tasks, exchange, epochs and crashes anywhere),
// and demands that the outputs are the same, and are those of the oracle. It makes 100 such draws, or as many as the flag -rapid.checks
// says, and shrinks what fails to the least inputs that do.
func CheckProperty[In, Out any](t *testing.T, p Property[In, Out]) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		in := p.Inputs(rt)
		var first []string
		if p.Oracle != nil {
			first = p.lines(p.Oracle(in))
		}
		for _, run := range []string{"first", "second"} {
			arrived := p.arrive(rt, in, run)
			x := drawExecution(rt, len(in), run)
			c := OperatorCheck[In, Out]{Inputs: arrived, Build: p.Build, BuildMany: p.BuildMany, Options: p.Options}
			got := p.lines(values(c.Execute(t, x)))
			if first == nil {
				first = got
				continue
			}
			if missing, added := less(first, got), less(got, first); len(missing)+len(added) > 0 {
				rt.Fatalf("the %s run, %+v,\nof %+v\nlacks %q\nand has %q,\nof %d that should come out", run, x, arrived, missing, added, len(first))
			}
		}
	})
}

// arrive draws an order of arrival: each input is held back by less than Disorder.
func (p *Property[In, Out]) arrive(rt *rapid.T, in []In, run string) []In {
	if p.Time == nil {
		return in
	}
	type arrival struct {
		v  In
		at time.Time
	}
	as := make([]arrival, len(in))
	for i, v := range in {
		held := time.Duration(0)
		if p.Disorder > 0 {
			held = time.Duration(rapid.Int64Range(0, int64(p.Disorder)).Draw(rt, run+" run: held back"))
		}
		as[i] = arrival{v, p.Time(v).Add(held)}
	}
	slices.SortStableFunc(as, func(a, b arrival) int { return a.at.Compare(b.at) })
	out := make([]In, len(in))
	for i := range as {
		out[i] = as[i].v
	}
	return out
}

func drawExecution(rt *rapid.T, n int, run string) Execution {
	cuts := rapid.SliceOfNDistinct(rapid.IntRange(0, n), 0, 3, rapid.ID[int])
	return Execution{
		Tasks:     rapid.SliceOfN(rapid.SampledFrom([]int{1, 4, 2}), 1, 3).Draw(rt, run+" run: tasks"),
		Batch:     rapid.SampledFrom([]int{0, 1, 7}).Draw(rt, run+" run: batch"),
		Exchanged: rapid.Bool().Draw(rt, run+" run: exchanged"),
		Epochs:    cuts.Draw(rt, run+" run: epochs"),
		Crashes:   cuts.Draw(rt, run+" run: crashes"),
	}
}

// lines are outputs as text, sorted, those that were replaced left out.
func (p *Property[In, Out]) lines(vs []Out) []string {
	last := map[string]int{}
	if p.Identity != nil {
		for i, v := range vs {
			last[p.Identity(v)] = i
		}
	}
	lines := []string{}
	for i, v := range vs {
		if p.Identity == nil || last[p.Identity(v)] == i {
			lines = append(lines, fmt.Sprintf("%+v", v))
		}
	}
	slices.Sort(lines)
	return lines
}

// less is a without b, as multisets.
func less(a, b []string) (rest []string) {
	n := map[string]int{}
	for _, s := range b {
		n[s]++
	}
	for _, s := range a {
		if n[s]--; n[s] < 0 {
			rest = append(rest, s)
		}
	}
	return rest
}

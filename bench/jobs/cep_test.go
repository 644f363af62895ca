package jobs_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/jobs"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/operators/cep"
)

// TestPatternJobs checks the counts that Flink and the hand-written loops give.
func TestPatternJobs(t *testing.T) {
	const n = 1_000_000
	for name, j := range map[string]struct {
		job   workload.Job
		build build
		floor func(*workload.Generator, int64) workload.Result
	}{"En": {workload.En(), jobs.En, workload.FloorEn}, "Ef": {workload.Ef(), jobs.Ef, workload.FloorEf}} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, j.job.Verify(n, j.floor(workload.New(j.job), n)))
			require.NoError(t, j.job.Verify(n, run(t, j.build, workload.New(j.job), n, flow.WithStore(state.InMemory()))))
		})
	}
}

func BenchmarkEn(b *testing.B) {
	bench(b, workload.En(), jobs.En, workload.FloorEn, flow.WithStore(state.InMemory()))
}

func BenchmarkEf(b *testing.B) {
	bench(b, workload.Ef(), jobs.Ef, workload.FloorEf, flow.WithStore(state.InMemory()))
}

func hotterThan(t float64) cep.StepOption[jobs.Event] {
	return cep.Where(func(e jobs.Event) bool { return e.Temperature > t })
}

func coolerThan(t float64) cep.StepOption[jobs.Event] {
	return cep.Where(func(e jobs.Event) bool { return e.Temperature < t })
}

// BenchmarkPatterns is what an event costs patterns of 10,000 devices when one event in 100 starts a partial match, and what the worst case
// costs within its limit.
func BenchmarkPatterns(b *testing.B) {
	hot, cool := hotterThan(99.2), coolerThan(20.8)
	for name, p := range map[string]cep.Pattern[jobs.Event]{
		"followed by":     cep.Begin("hot", hot).FollowedBy("cool", cool).Within(10 * time.Second),
		"times 3":         cep.Begin("hot", hot, cep.Times(3)).Within(10 * time.Second),
		"not followed by": cep.Begin("hot", hot).NotFollowedBy("cool", cool).Within(10 * time.Second),
		"absent":          cep.Begin("hot", hot).Absent("cool", 5*time.Second, cool),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			g := workload.New(workload.En())
			defer cpu(b)()
			run(b, jobs.CEP(p), g, int64(b.N), flow.WithStore(state.InMemory()))
		})
	}
	b.Run("combinations at the limit of 100", func(b *testing.B) {
		b.ReportAllocs()
		g := workload.New(workload.En())
		any := cep.Where(func(jobs.Event) bool { return true })
		p := cep.Begin("first", any).FollowedByAny("more", any, cep.OneOrMore(), cep.AllowCombinations()).FollowedByAny("never", cep.Where(func(jobs.Event) bool { return false }))
		defer cpu(b)()
		run(b, jobs.CEP(p, cep.MaxPartials(100, cep.DropOldest())), g, int64(b.N), flow.WithStore(state.InMemory()))
	})
}

package gen_test

import (
	"testing"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/sources/gen"
)

// The sources of this package keep the contract of flow.Source, at a rate and without, in one partition and in several.
func TestContract(t *testing.T) {
	const count = 5000
	for name, source := range map[string]func() flow.Source[int]{
		"source":     func() flow.Source[int] { return gen.Source(id, gen.Count(count)) },
		"partitions": func() flow.Source[int] { return gen.Source(id, gen.Count(count), gen.Partitions(3)) },
		"rate":       func() flow.Source[int] { return gen.Source(id, gen.Count(count), gen.Rate(50_000)) },
		"func": func() flow.Source[int] {
			return gen.Func(func(i int64, emit func(int)) { emit(int(i)) }, gen.Count(count))
		},
	} {
		t.Run(name, func(t *testing.T) {
			flowtest.SourceContract(t, flowtest.SourceSetup[int]{
				New: func(testing.TB) flowtest.SourceCase[int] { return flowtest.SourceCase[int]{Source: source} },
				ID:  func(v int) int { return v }, Count: count,
				Wrong: map[string]func() flow.Source[int]{
					"gen.Count(-1)":     func() flow.Source[int] { return gen.Source(id, gen.Count(-1)) },
					"gen.Rate(0)":       func() flow.Source[int] { return gen.Source(id, gen.Rate(0)) },
					"gen.Partitions(0)": func() flow.Source[int] { return gen.Source(id, gen.Partitions(0)) },
					"next is nil":       func() flow.Source[int] { return gen.Source[int](nil) },
				},
			})
		})
	}
}

func id(i int64) int { return int(i) }

package flowtest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millrace-stream/millrace/flow"
)

func countedBy(newOp func() *counting) func(flow.Stream[string]) flow.Stream[counted] {
	return func(in flow.Stream[string]) flow.Stream[counted] {
		return flow.ApplyKeyed[string, string, counted](flow.KeyBy(in, identity), "count", newOp)
	}
}

func words(rt *rapid.T) []string {
	return rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 20).Draw(rt, "words")
}

func TestPropertyOfACorrectOperator(t *testing.T) {
	CheckProperty(t, Property[string, counted]{
		Inputs: words,
		Build:  countedBy(func() *counting { return &counting{} }),
		Oracle: func(in []string) (out []counted) {
			n := map[string]int{}
			for _, w := range in {
				n[w]++
				out = append(out, counted{w, n[w]})
			}
			return out
		},
	})
}

func TestExecution(t *testing.T) {
	c := OperatorCheck[string, counted]{Inputs: []string{"a", "b", "a", "a"}, Build: countedBy(func() *counting { return &counting{} })}
	want := []counted{{"a", 1}, {"b", 1}, {"a", 2}, {"a", 3}}
	require.Equal(t, want, values(c.Execute(t, Execution{})))
	require.Equal(t, want, values(c.Execute(t, Execution{Epochs: []int{1, 4}, Crashes: []int{0, 1, 2, 4}, Exchanged: true, Batch: 1})))
	bad := OperatorCheck[string, counted]{Inputs: c.Inputs, Build: func(in flow.Stream[string]) flow.Stream[counted] {
		return flow.ApplyKeyed[string, string, counted](flow.KeyBy(in, identity), "count", func() *forgetful { return &forgetful{map[string]int{}} })
	}}
	require.Equal(t, []counted{{"a", 1}, {"b", 1}, {"a", 1}, {"a", 2}}, values(bad.Execute(t, Execution{Epochs: []int{2}, Crashes: []int{2}})))
}

// No input arrives behind one that is Disorder or more ahead of it, whatever is drawn.
func TestArrivalStaysWithinTheDisorder(t *testing.T) {
	p := Property[int, int]{Time: func(n int) time.Time { return time.Unix(int64(n), 0) }, Disorder: 5 * time.Second}
	rapid.Check(t, func(rt *rapid.T) {
		in := rapid.SliceOf(rapid.IntRange(-20, 20)).Draw(rt, "times")
		arrived := p.arrive(rt, in, "a")
		require.ElementsMatch(t, in, arrived)
		top := -1000
		for _, n := range arrived {
			top = max(top, n)
			require.LessOrEqual(t, top-n, 5)
		}
	})
}

func TestLinesOfAProperty(t *testing.T) {
	p := Property[int, counted]{Identity: func(c counted) string { return c.Key }}
	require.Equal(t, []string{"{Key:a N:2}", "{Key:b N:1}"}, p.lines([]counted{{"a", 1}, {"b", 1}, {"a", 2}}))
	require.Equal(t, []string{"y", "x"}, less([]string{"x", "y", "x"}, []string{"x", "z"}))
}

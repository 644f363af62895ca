package flowtest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

func ones(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = string(rune('a' + i%5))
	}
	return keys
}

// counting numbers the records of each key.
type counting struct {
	seen flow.State[string, int]
}

type counted struct {
	Key string
	N   int
}

func (c *counting) Open(_ context.Context, rt flow.Runtime) error {
	return flow.OpenState(rt, "seen", &c.seen)
}

func (c *counting) Process(_ context.Context, key string, r *flow.Record[string], out *flow.Output[counted]) error {
	n := c.seen.Get(key)
	*n++
	*out.Next(r.Time, r.Meta) = counted{key, *n}
	return nil
}

// forgetful does so in a map that no epoch stores.
type forgetful struct{ seen map[string]int }

func (f *forgetful) Process(_ context.Context, key string, r *flow.Record[string], out *flow.Output[counted]) error {
	f.seen[key]++
	*out.Next(r.Time, r.Meta) = counted{key, f.seen[key]}
	return nil
}

// greedy emits once per batch.
type greedy struct {
	flow.OperatorFunc[string, string]
}

func (greedy) ProcessBatch(_ context.Context, in []flow.Record[string], out *flow.Output[string]) (int, error) {
	out.Emit(in[0])
	return len(in), nil
}

func identity(s string) string { return s }

func TestCheckOperator(t *testing.T) {
	CheckOperator(t, OperatorCheck[string, counted]{
		Inputs: ones(12),
		Build: func(in flow.Stream[string]) flow.Stream[counted] {
			return flow.ApplyKeyed[string, string, counted](flow.KeyBy(in, identity), "count", func() *counting { return &counting{} })
		},
		Key: func(c counted) string { return c.Key },
		Want: []counted{
			{"a", 1}, {"a", 2}, {"a", 3}, {"b", 1}, {"b", 2}, {"b", 3}, {"c", 1}, {"c", 2}, {"d", 1}, {"d", 2}, {"e", 1}, {"e", 2},
		},
	})
}

// The harness finds an operator whose state does not survive, and one that depends on how batches are cut.
func TestCheckOperatorFinds(t *testing.T) {
	c := OperatorCheck[string, counted]{
		Inputs: ones(12),
		Build: func(in flow.Stream[string]) flow.Stream[counted] {
			return flow.ApplyKeyed[string, string, counted](flow.KeyBy(in, identity), "count", func() *forgetful { return &forgetful{map[string]int{}} })
		},
		Key: func(c counted) string { return c.Key },
	}
	want := c.run(t, modes[0])
	for _, m := range modes[1:] {
		require.Equal(t, m.crash, c.difference(want, c.run(t, m)) != "", m.name)
	}

	b := OperatorCheck[string, string]{
		Inputs: ones(12),
		Build: func(in flow.Stream[string]) flow.Stream[string] {
			return flow.Apply[string, string](in, "greedy", func() greedy { return greedy{} })
		},
	}
	require.NotEmpty(t, b.difference(b.run(t, modes[0]), b.run(t, modes[1])))
	require.Empty(t, b.difference(b.run(t, modes[0]), b.run(t, modes[2])))
}

func TestDifference(t *testing.T) {
	rs := func(vs ...string) (r []flow.Record[string]) {
		for _, v := range vs {
			r = append(r, flow.Record[string]{Value: v})
		}
		return r
	}
	free := OperatorCheck[int, string]{}
	require.Empty(t, free.difference(rs("a1", "b", "a2"), rs("a2", "a1", "b")))
	require.NotEmpty(t, free.difference(rs("a1"), rs("a1", "a1")))
	require.NotEmpty(t, free.difference(rs("a1"), nil))
	require.NotEmpty(t, free.difference(nil, rs("a1")))
	ordered := OperatorCheck[int, string]{Key: func(s string) string { return s[:1] }}
	require.Empty(t, ordered.difference(rs("a1", "b", "a2"), rs("b", "a1", "a2")))
	require.NotEmpty(t, ordered.difference(rs("a1", "b", "a2"), rs("a2", "a1", "b")))
	require.NotEmpty(t, ordered.difference(rs("a1"), rs("a1", "b")))
}

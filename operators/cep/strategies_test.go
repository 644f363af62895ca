package cep_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/operators/cep"
)

// The examples of docs/operators/cep.md.
func TestStrategies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		skip cep.Skip
		want []string
	}{
		"no skip":   {cep.NoSkip(), []string{"a1 b9", "a1,a2 b9", "a1,a2,a3 b9", "a2 b9", "a2,a3 b9", "a3 b9"}},
		"to next":   {cep.SkipToNext(), []string{"a1,a2,a3 b9", "a2,a3 b9", "a3 b9"}},
		"past last": {cep.SkipPastLast(), []string{"a1,a2,a3 b9"}},
		// Those of a2 and a3 wait, since the partial match of a1 could repeat further.
		"to first of a": {cep.SkipToFirst("a"), []string{"a1 b9", "a1,a2 b9", "a1,a2,a3 b9"}},
		"to last of a":  {cep.SkipToLast("a"), []string{"a1,a2,a3 b9", "a3 b9"}},
		"to first of b": {cep.SkipToFirst("b"), []string{"a1,a2,a3 b9"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := gives(t, cep.Begin("a", is("a"), cep.OneOrMore()).FollowedBy("b", is("b")).AfterMatch(c.skip), "k:a1@1 k:a2@2 k:a3@3 k:b9@4")
			var want []string
			for _, w := range c.want {
				want = append(want, "k a="+w[:len(w)-3]+" b=b9 @4")
			}
			require.Equal(t, sorted(want), got)
		})
	}
	_, err := cep.Begin("a", is("a")).FollowedBy("b", is("b"), cep.Optional()).AfterMatch(cep.SkipToFirst("b").OrFail()).Explain()
	require.NoError(t, err)
}

// The tables of steps and repetitions of docs/operators/cep.md.
func TestContiguity(t *testing.T) {
	t.Parallel()
	script := "k:a1@1 k:c0@2 k:b1@3 k:a2@4 k:b2@5 k:b3@6"
	a, b := cep.Begin("a", is("a")), is("b")
	for _, c := range []struct {
		p    cep.Pattern[beat]
		want []string
	}{
		{a.Next("b", b), list("k a=a2 b=b2 @5")},
		{a.FollowedBy("b", b), list("k a=a1 b=b1 @3", "k a=a2 b=b2 @5")},
		{a.FollowedByAny("b", b), list("k a=a1 b=b1 @3", "k a=a1 b=b2 @5", "k a=a1 b=b3 @6", "k a=a2 b=b2 @5", "k a=a2 b=b3 @6")},
		{a.NotNext("c", is("c")).FollowedBy("b", b), list("k a=a2 b=b2 @5")},
		{a.NotFollowedBy("c", is("c")).FollowedBy("b", b), list("k a=a2 b=b2 @5")},
	} {
		got, _ := gives(t, c.p, script)
		require.Equal(t, c.want, got)
	}
	for _, c := range []struct {
		q    []cep.StepOption[beat]
		want []string
	}{
		{nil, list("k x=x1,x2 @3", "k x=x2,x3 @4")},
		{[]cep.StepOption[beat]{cep.Consecutive()}, list("k x=x2,x3 @4")},
		{[]cep.StepOption[beat]{cep.AllowCombinations()}, list("k x=x1,x2 @3", "k x=x1,x3 @4", "k x=x2,x3 @4")},
	} {
		got, _ := gives(t, cep.Begin("x", append(c.q, is("x"), cep.Times(2))...), "k:x1@1 k:w0@2 k:x2@3 k:x3@4")
		require.Equal(t, c.want, got)
	}
}

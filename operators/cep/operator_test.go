package cep_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

// randomBeats are n events of some keys and the kinds x, y and z, up to 3 s out of order, so that some are late.
func randomBeats(seed uint64, n, keys int) []beat {
	rnd := rand.New(rand.NewPCG(seed, 1))
	bs := make([]beat, n)
	for i := range bs {
		bs[i] = beat{fmt.Sprint("k", rnd.IntN(keys)), string("xyz"[rnd.IntN(3)]), int64(i), (int64(i)/2 - rnd.Int64N(4) + 10) * 1e9}
	}
	return bs
}

// outcome is a match, a partial one or a late event, as text.
type outcome struct{ Key, Text string }

func keyOf(o outcome) string { return o.Key }

// forget takes the time off records.
func forget(s flow.Stream[outcome], name string) flow.Stream[outcome] {
	return flow.Apply(s, name, func() flow.OperatorFunc[outcome, outcome] {
		return func(_ context.Context, r *flow.Record[outcome], out *flow.Output[outcome]) error {
			*out.Next(0, nil) = r.Value
			return nil
		}
	})
}

// checkModes runs a pattern in all modes. byWatermark says that matches complete by the watermark: when is a matter of the mode then.
func checkModes(t *testing.T, p cep.Pattern[beat], byWatermark bool, opts ...cep.Option) {
	t.Helper()
	var matches atomic.Int64
	defer func() { require.Positive(t, matches.Load(), "something has matched") }()
	flowtest.CheckOperator(t, flowtest.OperatorCheck[beat, outcome]{
		Inputs: randomBeats(1, 32, 2), Key: keyOf,
		BuildMany: func(in flow.Stream[beat]) []flow.Stream[outcome] {
			wm := watermark.BoundedOutOfOrderness(2 * time.Second).Every(0)
			m := operators.CEP(flow.KeyBy(flow.AssignTime(in, "time", beat.time, wm), beat.key), "cep", p,
				func(_ context.Context, m beatMatch) (outcome, error) {
					matches.Add(1)
					if byWatermark {
						return outcome{m.Key, m.Key + stepTexts(m)}, nil
					}
					return outcome{m.Key, matchText(m)}, nil
				}, opts...)
			almost := operators.Map(m.TimedOut(), "almost", func(_ context.Context, m beatMatch) (outcome, error) {
				return outcome{m.Key + " timed out", matchText(m)}, nil
			})
			late := operators.Map(m.Late(), "too-late", func(_ context.Context, l flow.Late[beat]) (outcome, error) {
				return outcome{l.Value.Key + " late", l.Value.text()}, nil
			})
			if byWatermark {
				return []flow.Stream[outcome]{forget(m, "out"), almost, late}
			}
			return []flow.Stream[outcome]{m, almost, late}
		},
	})
}

func TestPatternsInAllModes(t *testing.T) {
	x, y, z := is("x"), is("y"), is("z")
	last := func(b beat, sofar *cep.Taken[beat]) bool {
		v, ok := sofar.Last("x")
		return ok && (b.N-v.N)%2 == 0
	}
	for name, p := range map[string]cep.Pattern[beat]{
		"strict":          cep.Begin("x", x).Next("y", y).Within(9 * time.Second),
		"relaxed":         cep.Begin("x", x).FollowedBy("y", y).FollowedBy("z", z).Within(6 * time.Second),
		"any":             cep.Begin("x", x).FollowedByAny("y", y).Within(4 * time.Second),
		"combinations":    cep.Begin("x", x, cep.Range(2, 3), cep.AllowCombinations()).FollowedBy("y", y).Within(9 * time.Second),
		"greedy":          cep.Begin("x", x, cep.OneOrMore(), cep.Greedy()).Next("y", y).Within(8 * time.Second),
		"groups":          cep.BeginGroup(cep.Begin("x", x).FollowedBy("y", y), cep.Times(2)).FollowedBy("z", z).Within(20 * time.Second),
		"not in between":  cep.Begin("x", x).NotFollowedBy("z", z).FollowedBy("y", y).Within(6 * time.Second),
		"given":           cep.Begin("x", x, cep.OneOrMore(), cep.Consecutive()).FollowedBy("y", y, cep.WhereGiven(last)).Within(6 * time.Second),
		"skip to next":    cep.Begin("x", x).FollowedByAny("y", y).Within(5 * time.Second).AfterMatch(cep.SkipToNext()),
		"skip past last":  cep.Begin("x", x, cep.OneOrMore()).FollowedBy("y", y).Within(5 * time.Second).AfterMatch(cep.SkipPastLast()),
		"skip to first":   cep.Begin("z", z).FollowedBy("x", x, cep.OneOrMore()).FollowedBy("y", y).Within(9 * time.Second).AfterMatch(cep.SkipToFirst("x")),
		"skip to last":    cep.Begin("z", z).FollowedBy("x", x, cep.OneOrMore()).FollowedBy("y", y).Within(9 * time.Second).AfterMatch(cep.SkipToLast("x")),
		"absent":          cep.Begin("x", x).Absent("z", 2*time.Second, z),
		"absent, any":     cep.Begin("x", x).FollowedByAny("y", y).Absent("z", 3*time.Second, z).Within(9 * time.Second),
		"absent between":  cep.Begin("x", x).Absent("z", 2*time.Second, z).FollowedBy("y", y).Within(9 * time.Second),
		"begin absent":    cep.BeginAbsent("z", 3*time.Second, z),
		"absent, then":    cep.BeginAbsent("z", 3*time.Second, z).FollowedBy("x", x).Within(8 * time.Second),
		"all of":          cep.AllOf(cep.Begin("x", x), cep.Begin("y", y), cep.Begin("z", z)).Within(5 * time.Second),
		"all of, then":    cep.Begin("z", z).FollowedByGroup(cep.AllOf(cep.Begin("x", x), cep.Begin("y", y))).Within(7 * time.Second),
		"any of":          cep.Begin("x", x).FollowedByGroup(cep.AnyOf(cep.Begin("y", y), cep.Begin("z", z)), cep.Times(2)).Within(7 * time.Second),
		"gap":             cep.Begin("x", x, cep.Times(3), cep.Gap(6*time.Second)),
		"within previous": cep.Begin("x", x).FollowedBy("y", y, cep.WithinPrevious(2*time.Second)),
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); checkModes(t, p, false) })
	}
	t.Run("not at the end", func(t *testing.T) {
		t.Parallel()
		checkModes(t, cep.Begin("x", x).NotFollowedBy("z", z).Within(3*time.Second), true)
	})
	t.Run("not at the end, skip past last", func(t *testing.T) {
		t.Parallel()
		checkModes(t, cep.Begin("x", x).FollowedBy("y", y).NotFollowedBy("z", z).Within(4*time.Second).AfterMatch(cep.SkipPastLast()), true)
	})
	t.Run("limits", func(t *testing.T) {
		t.Parallel()
		checkModes(t, cep.Begin("x", x, cep.OneOrMore(), cep.AllowCombinations()).FollowedBy("y", y).Within(9*time.Second), false, cep.MaxPartials(3, cep.RefuseNew()))
	})
	t.Run("order by", func(t *testing.T) {
		t.Parallel()
		checkModes(t, cep.Begin("x", x).Next("y", y), false, cep.OrderBy(func(a, b beat) int { return int(b.N - a.N) }))
	})
}

package cep_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/cep"
)

func TestProblems(t *testing.T) {
	t.Parallel()
	type P = cep.Pattern[beat]
	x, y, z := is("x"), is("y"), is("z")
	begin := cep.Begin("x", x)
	given := cep.WhereGiven(func(beat, *cep.Taken[beat]) bool { return true })
	until := cep.Until(func(beat) bool { return true })
	for want, p := range map[string]P{
		`an empty pattern: make it with cep.Begin`:                                                                                                  {},
		`step "x": a NOT step with nothing before it: begin with cep.Begin, or with cep.BeginAbsent`:                                                P{}.NotNext("x", x).Next("y", y),
		`step "x" is there 2 times: give each step a name of its own`:                                                                               begin.Next("x", y),
		`a step without a name: give each step a name`:                                                                                              begin.Next(" ", y),
		`a step without a name: give each step a name in AllOf`:                                                                                     cep.AllOf(cep.Begin("", x), cep.Begin("y", y)),
		`step "y": a NOT step cannot have a quantifier: take it out: one event that fits is enough`:                                                 begin.NotNext("y", y, cep.Times(2)).Next("z", z),
		`step "y": a NOT step cannot be optional: take Optional out, or the step`:                                                                   begin.NotFollowedBy("y", y, cep.Optional()).Next("z", z),
		`step "z": a NOT step after step "y", which is optional: put a step between that must come`:                                                 begin.Next("y", y, cep.Optional()).NotNext("z", z).Next("w"),
		`the group of step "y" cannot be greedy: make its steps greedy`:                                                                             begin.NextGroup(cep.Begin("y", y), cep.OneOrMore(), cep.Greedy()),
		`step "x": Greedy on a step that comes once: add a quantifier like cep.OneOrMore or cep.Range`:                                              cep.Begin("x", x, cep.Greedy()),
		`step "x": Greedy with AllowCombinations: choose one`:                                                                                       cep.Begin("x", x, cep.OneOrMore(), cep.Greedy(), cep.AllowCombinations()),
		`step "y": an optional step after step "x", which is greedy: make one of them neither`:                                                      cep.Begin("x", x, cep.OneOrMore(), cep.Greedy()).Next("y", y, cep.Optional()),
		`step "x": Until on a step whose number of repetitions is bounded: use it with cep.OneOrMore or cep.TimesOrMore`:                            cep.Begin("x", x, cep.Times(2), until),
		`step "x": Gap on a step that comes once: use cep.WithinPrevious`:                                                                           cep.Begin("x", x, cep.Gap(time.Second)),
		`step "x": its Gap is longer than Within(1s): make it shorter, or leave it out`:                                                             cep.Begin("x", x, cep.Times(2), cep.Gap(2*time.Second)).Within(time.Second),
		`step "y": its WithinPrevious is longer than Within(1s): make it shorter, or leave it out`:                                                  begin.Next("y", y, cep.WithinPrevious(2*time.Second)).Within(time.Second),
		`step "x": WithinPrevious on a step that repeats or has none before it: use cep.Gap for repetitions`:                                        cep.Begin("x", x, cep.WithinPrevious(time.Second)),
		`step "y": WithinPrevious on a step that repeats or has none before it: use cep.Gap for repetitions`:                                        begin.Next("y", y, cep.Times(2), cep.WithinPrevious(time.Second)),
		`the group of step "y": WithinPrevious on a group: set it on its first step`:                                                                begin.NextGroup(cep.Begin("y", y), cep.WithinPrevious(time.Second)),
		`the group of step "y": Gap on a group: bound its steps by Gap and WithinPrevious`:                                                          begin.NextGroup(cep.Begin("y", y), cep.Times(2), cep.Gap(time.Second)),
		`step "y": a pattern that ends with NotFollowedBy would wait for ever: add Within, or use Absent`:                                           begin.NotFollowedBy("y", y),
		`the group of step "y" ends with NotFollowedBy, which holds until a step behind it: put it behind the group`:                                begin.NextGroup(cep.Begin("y", y).NotFollowedBy("z", z)).Within(time.Second),
		`AfterMatch skips to step "no", which is not a step of the pattern that takes events: name one, outside of groups`:                          begin.AfterMatch(cep.SkipToFirst("no")),
		`AfterMatch skips to step "y", which is not a step of the pattern that takes events: name one, outside of groups`:                           begin.NotNext("y", y).Next("z", z).AfterMatch(cep.SkipToLast("y")),
		`Within(0s): give a positive duration`:                                                                                                      begin.Within(0),
		`step "x": Gap(-1s): give a positive duration`:                                                                                              cep.Begin("x", x, cep.Times(2), cep.Gap(-time.Second)),
		`step "y": WithinPrevious(0s): give a positive duration`:                                                                                    begin.Next("y", y, cep.WithinPrevious(0)),
		`step "y": an absence of 0s: give a positive duration`:                                                                                      begin.Absent("y", 0, y),
		`step "y": an absence cannot repeat, be optional or bounded: leave the quantifiers out; its duration bounds it`:                             begin.Absent("y", time.Second, y, cep.Times(2)),
		`step "x": a condition on what was taken, where nothing can have been: use cep.Where`:                                                       cep.BeginAbsent("x", time.Second, given),
		`step "z": an absence behind step "y", a NOT step that no step ends before it: put both conditions into the absence, or a step between`:     begin.NotFollowedBy("y", y).FollowedBy("w", x, cep.Optional()).Absent("z", time.Second, z),
		`step "z": an absence with nothing before it that must come: make a step before it come, or begin with cep.BeginAbsent`:                     cep.Begin("x", x, cep.Optional()).Absent("z", time.Second, z),
		`an empty group: make it with cep.Begin`:                                                                                                    begin.NextGroup(P{}),
		`the group of "y" has Within or AfterMatch of its own: set them on the whole pattern`:                                                       begin.NextGroup(cep.Begin("y", y).Within(time.Second)),
		`the group of "y" begins with an absence: only a pattern can; put it behind a step`:                                                         begin.NextGroup(cep.BeginAbsent("y", time.Second, y)),
		`the group of step "y": a condition on a group: set it on its steps`:                                                                        begin.NextGroup(cep.Begin("y", y), cep.Quantifier(z)),
		`step "x": Consecutive on a step that comes once: add a quantifier like cep.OneOrMore or cep.Times`:                                         cep.Begin("x", x, cep.Consecutive()),
		`step "x": Consecutive and AllowCombinations together: choose one`:                                                                          cep.Begin("x", x, cep.OneOrMore(), cep.Consecutive(), cep.AllowCombinations()),
		`step "x": two quantifiers: keep one of Times, Range, OneOrMore, TimesOrMore`:                                                               cep.Begin("x", x, cep.Times(2), cep.OneOrMore()),
		`step "x": -1 to 2 times: give positive numbers; cep.Range(0, n) may be left out`:                                                           cep.Begin("x", x, cep.Range(-1, 2)),
		`step "x": 3 to 2 times: give the smaller number first`:                                                                                     cep.Begin("x", x, cep.Range(3, 2)),
		`step "x": 0 times or more: give a positive number; add cep.Optional where none at all will do`:                                             cep.Begin("x", x, cep.TimesOrMore(0)),
		`step "x": the function of Where is nil: pass a function of the event`:                                                                      cep.Begin("x", cep.Where[beat](nil)),
		`step "x": the function of WhereGiven is nil: pass a function of the event`:                                                                 cep.Begin("x", cep.WhereGiven[beat](nil)),
		`step "x": the function of Or is nil: pass a function of the event`:                                                                         cep.Begin("x", cep.Or[beat](nil)),
		`step "x": the function of Until is nil: pass a function of the event`:                                                                      cep.Begin("x", cep.OneOrMore(), cep.Until[beat](nil)),
		`step "x": the function of UntilGiven is nil: pass a function of the event`:                                                                 cep.Begin("x", cep.OneOrMore(), cep.UntilGiven[beat](nil)),
		`AllOf of 0 steps: give 1 to 10`:                                                                                                            cep.AllOf[beat](),
		`AllOf takes steps without quantifiers, each as a pattern of its own, like cep.Begin(name, cep.Where(…)): put quantifiers on the group`:     cep.AllOf(cep.Begin("x", x, cep.OneOrMore())),
		`AnyOf takes steps without quantifiers, each as a pattern of its own, like cep.Begin(name, cep.Where(…)): put quantifiers on the group tha`: cep.AnyOf(begin.Next("y", y)),
	} {
		found := p.Problems()
		want, _ = strings.CutSuffix(want, " in AllOf")
		require.Contains(t, strings.Join(found, "\n"), want)
		require.Len(t, found, 1, "%s: nothing else is wrong: %q", want, found)
		_, err := p.Explain()
		require.ErrorContains(t, err, want)
	}
	require.Nil(t, begin.Problems())
}

// All that is wrong is listed at once, with what is wrong with the options.
func TestValidateListsAllProblems(t *testing.T) {
	t.Parallel()
	top := flow.New("wrong")
	k := flow.KeyBy(timed(flow.From(top, "in", flowtest.NewSource[beat]())), beat.key)
	p := cep.Begin("x", is("x"), cep.Times(0)).Next("x", is("y"), cep.Greedy()).NotFollowedBy("z", is("z"))
	m := operators.CEP[string, beat, string](k, "alarms", p, nil, cep.MaxPartials(0, cep.DropOldest()), cep.MaxTotal(-1), cep.MaxWaiting(0),
		cep.OrderBy(func(a, b string) int { return 0 }), cep.OrderBy[beat](nil), cep.OrderBy(func(a, b string) int { return 0 }),
		cep.Trace(7, func(cep.Line[beat]) {}), cep.Trace[string, beat]("a", nil))
	flow.To(m, "out", flowtest.NewSink[string]())
	err := top.Validate()
	require.ErrorIs(t, err, flow.ErrInvalid)
	for _, want := range []string{
		`node "alarms": step "x": 0 to 0 times`, `step "x" is there 2 times`, `step "x": Greedy on a step that comes once`, `step "z": a pattern that ends with NotFollowedBy`,
		`its function is nil`, `0 partial matches per key at most: give 1 or more`, `-1 partial matches at most`, `0 waiting events at most`,
		`cep.OrderBy has a func(string, string) int, which does not compare events of the input`, `the function of cep.OrderBy is nil`,
		`cep.Trace has a cep.Tracing[int,`, `the function of cep.Trace is nil`,
	} {
		require.ErrorContains(t, err, want)
	}

	top = flow.New("wrong")
	k = flow.KeyBy(timed(flow.From(top, "in", flowtest.NewSource[beat]())), beat.key)
	set := cep.Set[beat]{}.Add("a", "1", cep.Begin("x", is("x"), cep.Times(0))).Add("a", "1", waits()).Add("", "2", waits())
	changes := flow.From(top, "changes", flowtest.NewSource[cep.Change]())
	flow.To(operators.CEPSet(k, "alarms", set, changes, func(context.Context, beatMatch) (string, error) { return "", nil }, cep.ProcessingTime()), "out", flowtest.NewSink[string]())
	flow.To(operators.CEPSet(k, "none", cep.Set[beat]{}, changes, func(context.Context, beatMatch) (string, error) { return "", nil }), "out-2", flowtest.NewSink[string]())
	err = top.Validate()
	for _, want := range []string{
		`pattern "a" version "1": step "x": 0 to 0 times`, `pattern "a" has version "1" twice: give each a version of its own`, `a pattern with the name "" and version "2": give both`,
		`cep.ProcessingTime on a set of patterns`, `a set without patterns: add one with Add`,
	} {
		require.ErrorContains(t, err, want)
	}
}

var mermaid = regexp.MustCompile(`^    (s\d+: [^:]+|(\[\*\]|s\d+|lead) --> (\[\*\]|s\d+|lead|stopped|timed_out)(: [^:]+)?|lead: [^:]+)$`)

func TestExplain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p    cep.Pattern[beat]
		want string
	}{
		{cep.Begin("warm", is("x")).Next("hot", is("y")).Within(time.Minute), `
stateDiagram-v2
    s2: wait for warm
    s1: wait for hot
    [*] --> s2
    s2 --> s1: take warm
    s1 --> [*]: take hot
    s1 --> timed_out: time
`},
		{cep.Begin("up", is("x")).FollowedBy("noise", is("z"), cep.OneOrMore()).Absent("down", 5*time.Second, is("y")), `
stateDiagram-v2
    s6: wait for up
    s5: wait for noise
    s3: wait for noise
    s1: down absent for 5s
    s4: wait for noise
    [*] --> s6
    s6 --> s5: take up
    s5 --> s3: take noise
    s5 --> s5: skip
    s3 --> s1: or at once
    s3 --> s3: take noise
    s3 --> s4: skip
    s1 --> stopped: an event that must not come
    s1 --> s1: skip
    s1 --> [*]: time
    s4 --> s3: take noise
    s4 --> s4: skip
`},
		{cep.BeginAbsent("beat", time.Minute, is("x")).FollowedByGroup(cep.AllOf(cep.Begin("y", is("y")), cep.Begin("z", is("z")))), `
stateDiagram-v2
    s1: wait for y or z
    s2: wait for z
    s3: wait for y
    lead: beat absent for 1m0s
    [*] --> lead
    lead --> s1: time
    s1 --> s2: take y
    s1 --> s3: take z
    s1 --> s1: skip
    s2 --> [*]: take z
    s2 --> s2: skip
    s3 --> [*]: take y
    s3 --> s3: skip
`},
	} {
		got, err := c.p.Explain()
		require.NoError(t, err)
		require.Equal(t, c.want[1:], got)
		lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
		require.Equal(t, "stateDiagram-v2", lines[0])
		for _, l := range lines[1:] {
			require.Regexp(t, mermaid, l)
		}
	}
}

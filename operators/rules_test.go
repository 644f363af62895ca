package operators_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/rule"
)

// told is an alarm in a line: key, state, rule, times, what it says.
func toldAlarm(_ context.Context, a rule.Alarm[string, event]) (string, error) {
	s := fmt.Sprintf("%s %v %s since %d at %d", a.Key, a.State, a.Rule, a.Since.Time().Unix(), a.At.Time().Unix())
	if a.Severity != "warning" {
		s += " " + a.Severity
	}
	if a.Device != "" {
		s += " of " + a.Device
	}
	if a.Reason != "" {
		s += " (" + a.Reason + ")"
	}
	if a.Flapping {
		s += " flapping"
	}
	return s, nil
}

func ruled(s flow.Stream[event], from rule.Source, opts ...rule.Option) flow.Stream[string] {
	return operators.Map(operators.Rules(flow.KeyBy(timed(s), event.key), "rules", from, opts...), "told", toldAlarm)
}

// rulesRun runs events through Rules whose watermark is 5 s behind.
type rulesRun struct {
	*flowtest.Run
	src  *flowtest.Source[event]
	out  *flowtest.Sink[string]
	from rule.Source
	opts []rule.Option
}

func startRules(t *testing.T, from rule.Source, opts ...rule.Option) *rulesRun {
	t.Helper()
	s := &rulesRun{src: flowtest.NewSource[event](), out: flowtest.NewSink[string](), from: from, opts: opts}
	s.Run = flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("rules", append(opts, flow.WithParallelism(1))...)
		flow.To(ruled(flow.From(top, "in", s.src), s.from, s.opts...), "out", s.out)
		return top
	}, s.src)
	return s
}

// after feeds events, ends an epoch, and returns what has come out since.
func (s *rulesRun) after(es ...event) []string {
	s.T.Helper()
	s.src.Feed(es...)
	s.Epoch()
	return s.out.Next()
}

// of are events of key a at second 0, 1, 2 …
func of(from int64, ns ...int64) (es []event) {
	for i, n := range ns {
		es = append(es, event{"a", n, from + int64(i)})
	}
	return es
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, rules string
		in          []event
		want        []string
	}{
		{"raised and cleared once", "{when: N > 5}", of(0, 1, 6, 7, 5, 9),
			[]string{"a raised r since 1 at 1", "a cleared r since 1 at 3", "a raised r since 4 at 4"}},
		{"hysteresis", "{when: N > 5, clear: N < 3}", of(0, 6, 4, 7, 3, 2, 4, 6),
			[]string{"a raised r since 0 at 0", "a cleared r since 0 at 4", "a raised r since 6 at 6"}},
		{"what is true beats what clears", "{when: N > 5, clear: N > 7}", of(0, 6, 8, 4, 8, 1),
			[]string{"a raised r since 0 at 0"}},
		{"for, by a record", "{when: N > 5, for: 2s}", of(0, 6, 7, 8, 9, 1),
			[]string{"a raised r since 0 at 2", "a cleared r since 0 at 4"}},
		{"for, by time only", "{when: N > 5, for: 2s}", []event{{"a", 6, 0}, {"b", 1, 20}},
			[]string{"a raised r since 0 at 2"}},
		{"for, broken off", "{when: N > 5, for: 2s}", []event{{"a", 6, 0}, {"a", 1, 2}, {"b", 1, 20}}, nil},
		{"for, before a later record", "{when: N > 5, for: 2s}", []event{{"a", 6, 0}, {"a", 1, 3}},
			[]string{"a raised r since 0 at 2", "a cleared r since 0 at 3"}},
		{"for, of late records", "{when: N > 5, for: 10s}", []event{{"z", 0, 100}, {"a", 6, 0}, {"a", 6, 5}, {"a", 1, 8}, {"a", 6, 20}, {"a", 6, 31}, {"a", 0, 32}, {"b", 6, 0}, {"z", 0, 109}, {"z", 0, 111}},
			[]string{"a raised r since 20 at 30", "a cleared r since 20 at 32", "b raised r since 0 at 104"}},
		{"count", "{when: N > 5, count: 3}", of(0, 6, 6, 1, 6, 6, 6, 1),
			[]string{"a raised r since 3 at 5", "a cleared r since 3 at 6"}},
		{"count and for", "{when: N > 5, count: 3, for: 4s}", []event{{"a", 6, 0}, {"a", 6, 1}, {"b", 0, 20}, {"a", 6, 22}},
			[]string{"a raised r since 0 at 22"}},
		{"count, then for by time", "{when: N > 5, count: 2, for: 4s}", []event{{"a", 6, 0}, {"a", 6, 1}, {"b", 0, 20}},
			[]string{"a raised r since 0 at 4"}},
		{"cooldown", "{when: N > 5, cooldown: 10s}", append(of(0, 6, 1, 6, 1, 6), event{"b", 0, 30}, event{"a", 1, 31}, event{"a", 6, 45}),
			[]string{"a raised r since 0 at 0", "a cleared r since 0 at 1", "a raised r since 4 at 11", "a cleared r since 4 at 31", "a raised r since 45 at 45"}},
		{"stale records", "{when: N > 5}", []event{{"a", 6, 4}, {"a", 1, 3}, {"a", 1, 4}},
			[]string{"a raised r since 4 at 4", "a cleared r since 4 at 4"}},
		{"levels", "{when: N > 5, levels: [{when: N > 8, severity: critical}, {when: N > 7, severity: major}]}", of(0, 6, 7, 8, 8, 9, 6, 1),
			[]string{"a raised r since 0 at 0", "a updated r since 0 at 2 major (severity)", "a updated r since 0 at 4 critical (severity)",
				"a updated r since 0 at 5 (severity)", "a cleared r since 0 at 6"}},
		{"update", "{when: N > 5, update: N / 10 > 1}", of(0, 6, 7, 11, 12, 7),
			[]string{"a raised r since 0 at 0", "a updated r since 0 at 2 (update)", "a updated r since 0 at 4 (update)"}},
		{"flapping", "{when: N > 5, flapping: {changes: 4, within: 60s, stable: 20s}}",
			append(of(0, 6, 1, 6, 1, 6, 1, 6, 1), event{"b", 0, 33}, event{"a", 6, 34}, event{"a", 1, 35}),
			[]string{"a raised r since 0 at 0", "a cleared r since 0 at 1", "a raised r since 2 at 2", "a updated r since 2 at 3 (flapping) flapping",
				"a cleared r since 2 at 27 (stable)", "a raised r since 34 at 34", "a cleared r since 34 at 35"}},
		{"flapping, found as it is raised", "{when: N > 5, flapping: {changes: 3, within: 60s}}",
			append(of(0, 6, 1, 6, 1, 6), event{"b", 0, 70}),
			[]string{"a raised r since 0 at 0", "a cleared r since 0 at 1", "a raised r since 2 at 2 (flapping) flapping", "a updated r since 2 at 64 (stable)"}},
		{"flapping is forgotten", "{when: N > 5, flapping: {changes: 3, within: 2s}}", []event{{"a", 6, 0}, {"a", 1, 1}, {"a", 6, 5}, {"a", 1, 20}, {"a", 6, 30}},
			[]string{"a raised r since 0 at 0", "a cleared r since 0 at 1", "a raised r since 5 at 5", "a cleared r since 5 at 20", "a raised r since 30 at 30"}},
		{"selection", "{when: N > 5, select: {Key: [a, c], N: [6, 7]}}", []event{{"a", 6, 0}, {"b", 6, 1}, {"a", 8, 2}, {"c", 7, 3}},
			[]string{"a raised r since 0 at 0", "c raised r since 3 at 3"}},
		{"an expression that fails", "{when: 'N > 5 && [1, 2][N - 6] > 0'}", of(0, 1, 6, 7, 8, 1),
			[]string{"a raised r since 1 at 1", "a cleared r since 1 at 4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, crash := range []bool{false, true} {
				r := startRules(t, rule.Text("- "+strings.Replace(c.rules, "{", "{id: r, ", 1)))
				var got []string
				if crash {
					for _, e := range c.in {
						got = append(got, r.after(e)...)
						r.Crash()
					}
				} else {
					got = r.after(c.in...)
				}
				require.Equal(t, c.want, got, "crash: %v", crash)
				r.Stop()
			}
		})
	}
}

const manyRules = `
rules:
  - {id: high, when: N % 7 > 3, clear: N % 7 < 2, levels: [{when: N % 7 > 5, severity: critical}], cooldown: 9s}
  - {id: held, when: N % 5 > 1, for: 8s, labels: {key: "{{.Key}}"}, message: "{{.Record.N}}"}
  - {id: often, when: N % 3 == 0, count: 2, parent: high}
  - {id: flaps, when: N % 2 == 0, flapping: {changes: 3, within: 30s, stable: 12s}}
  - {id: some, when: N % 2 == 1, select: {Key: [k1, k3]}, update: N / 10, for: 3s}
`

func TestRulesInAllModes(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, string]{
		Inputs: events(31, 60, 4), Key: firstWord,
		Build: func(s flow.Stream[event]) flow.Stream[string] {
			out := operators.Rules(flow.KeyBy(timed(s), event.key), "rules", rule.Text(manyRules))
			return operators.Map(out, "told", func(ctx context.Context, a rule.Alarm[string, event]) (string, error) {
				s, err := toldAlarm(ctx, a)
				return fmt.Sprintf("%s %s %v %q %v", s, a.ID, a.Labels, a.Message, a.Value), err
			})
		},
	})
}

func TestRulesByDeviceInAllModes(t *testing.T) {
	flowtest.CheckOperator(t, flowtest.OperatorCheck[event, string]{
		Inputs: events(32, 60, 4), Key: firstWord,
		Build: func(s flow.Stream[event]) flow.Stream[string] {
			return ruled(s, rule.Text(manyRules), rule.Device(func(e event) string { return fmt.Sprint("d", e.N%3) }))
		},
	})
}

// A gateway that is offline keeps its sensors' alarms back.
func TestRulesSuppression(t *testing.T) {
	t.Parallel()
	r := startRules(t, rule.Text(`
- {id: sensor, when: N > 5 && N < 100, clear: N < 3, parent: offline, levels: [{when: N > 8, severity: critical}]}
- {id: offline, when: N == 100, clear: N == 101}
- {id: child, when: N == 9, parent: sensor}
`), rule.Device(func(e event) string {
		if e.N >= 100 {
			return "gateway"
		}
		return fmt.Sprint("s", e.N%2)
	}))
	require.Equal(t, []string{"a raised sensor since 0 at 0 of s0"}, r.after(event{"a", 6, 0}))
	require.Equal(t, []string{"a raised offline since 1 at 1 of gateway"}, r.after(event{"a", 100, 1}))
	r.Crash()
	require.Equal(t, []string{"b raised sensor since 2 at 2 of s1", "a cleared sensor since 0 at 5 of s0"},
		r.after(event{"a", 7, 2}, event{"b", 7, 2}, event{"a", 9, 3}, event{"a", 8, 4}, event{"a", 2, 5}),
		"what is raised can be cleared, another gateway's sensors are not concerned, and a parent's parent counts")
	require.Equal(t, []string{"a cleared offline since 1 at 6 of gateway", "a raised sensor since 2 at 7 of s1"},
		r.after(event{"a", 101, 6}, event{"a", 7, 7}), "what still holds is raised with its next record")
	r.Stop()
}

// Time fires without another record of the key, also for what was stored.
func TestRulesByClock(t *testing.T) {
	t.Parallel()
	src, out := flowtest.NewSource[event](), flowtest.NewSink[string]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("rules", append(opts, flow.WithParallelism(1))...)
		alarms := operators.Rules(flow.KeyBy(flow.From(top, "in", src), event.key), "rules",
			rule.Fixed(rule.Rule{ID: "r", When: "N > 5", For: 10 * time.Second, Cooldown: time.Minute}), rule.ByClock())
		flow.To(operators.Map(alarms, "told", func(_ context.Context, a rule.Alarm[string, event]) (string, error) {
			return fmt.Sprintf("%s %v after %v", a.Key, a.State, (a.At - a.Since).Time().Sub(time.Unix(0, 0))), nil
		}), "out", out)
		return top
	}, src)
	src.Feed(event{"a", 6, 0})
	r.Epoch()
	r.Clock.Advance(4 * time.Second)
	src.Feed(event{"a", 7, 0}, event{"b", 7, 0})
	r.Epoch()
	require.Empty(t, out.Next())
	r.Crash()
	fired := func() bool { r.Clock.Advance(time.Second); r.Epoch(); return len(out.Values()) == 1 }
	require.Eventually(t, fired, 20*time.Second, time.Millisecond)
	require.Equal(t, []string{"a raised after 10s"}, out.Next())
	src.Feed(event{"b", 1, 0}, event{"a", 1, 0}, event{"a", 8, 0})
	r.Epoch()
	require.Len(t, out.Next(), 1)
	r.Stop()
}

func TestRulesValidate(t *testing.T) {
	top := flow.New("rules", flow.WithStore(state.InMemory()))
	untimed := flow.KeyBy(flow.From(top, "in", flowtest.NewSource[event]()), event.key)
	to := func(name string, s flow.KeyedStream[string, event], from rule.Source, opts ...rule.Option) {
		flow.To(operators.Rules(s, name, from, opts...), name+"-out", flowtest.NewSink[rule.Alarm[string, event]]())
	}
	to("none", untimed, nil, rule.ByClock())
	to("bad", untimed, rule.Text("- {id: r, when: n > 5}\n- {id: s, when: N}"), rule.ByClock())
	to("untimed", untimed, rule.Fixed())
	to("no-file", untimed, rule.File("none.yaml", rule.Every(0)), rule.ByClock())
	to("no-path", untimed, rule.File("", rule.Every(0)), rule.ByClock())
	to("options", untimed, rule.Fixed(), rule.ByClock(), rule.Device(func(int) string { return "" }), rule.RecordCodec[int](nil))
	to("nil-device", untimed, rule.Fixed(), rule.ByClock(), rule.Device[event](nil))
	numbers := flow.KeyBy(flow.From(top, "numbers", flowtest.NewSource[int]()), func(n int) int { return n })
	flow.To(operators.Rules(numbers, "ints", rule.Fixed(), rule.ByClock()), "ints-out", flowtest.NewSink[rule.Alarm[int, int]]())
	err := top.Validate()
	for _, say := range []string{
		`"none": it has no rules: pass a rule.Source`,
		`"bad": rules:1:17: rule "r": when: unknown name n: did you mean "N"? the record has At, Key, N`,
		`"bad": rules:2:`,
		`"untimed": the operator needs event time`,
		`"no-file": rules: stat none.yaml: no such file or directory: put the file back`,
		`"no-path": rules: the file's path is empty`,
		`"options": rule.Device has a func(int) string: pass a func(operators_test.event) string`,
		`"nil-device": the function of rule.Device is nil`,
		`"ints": rules over int: a record must be a struct`,
	} {
		require.ErrorContains(t, err, say)
	}
}

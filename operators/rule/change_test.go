package rule_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/rule"
)

type reading struct {
	Device  string  `json:"device"`
	Celsius float64 `json:"celsius"`
	At      int64   `json:"at"`
}

func (r reading) key() string     { return r.Device }
func (r reading) time() time.Time { return time.Unix(r.At, 0) }

type alarm = rule.Alarm[string, reading]

func line(_ context.Context, a alarm) (string, error) {
	s := fmt.Sprintf("%s %v %s %s at %d", a.Key, a.State, a.Rule, a.Severity, a.At.Time().Unix())
	if a.Reason != "" {
		s += " (" + a.Reason + ")"
	}
	return s, nil
}

// run is a topology of Rules under test.
type run struct {
	*flowtest.Run
	src  *flowtest.Source[reading]
	out  *flowtest.Sink[string]
	dead *flowtest.Sink[flow.DeadLetter]
	log  *logs
}

// logs are what was logged.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRun(t *testing.T, tasks int, from func(*flow.Topology) rule.Source, more ...flowtest.Waiter) *run {
	t.Helper()
	r := &run{src: flowtest.NewSource[reading](), out: flowtest.NewSink[string](), dead: flowtest.NewSink[flow.DeadLetter](), log: &logs{}}
	r.Run = flowtest.New(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("rules", append(opts, flow.WithParallelism(tasks), flow.WithLogger(slog.New(slog.NewTextHandler(r.log, nil))))...)
		in := flow.AssignTime(flow.From(top, "in", r.src), "time", reading.time, watermark.BoundedOutOfOrderness(5*time.Second).Every(0))
		alarms := operators.Rules(flow.KeyBy(in, reading.key), "alarms", from(top))
		flow.To(operators.Map(alarms, "line", line), "out", r.out)
		flow.To(top.DeadLetters(), "dead", r.dead)
		return top
	}, append(more, r.src)...)
	return r
}

// after feeds readings, ends an epoch, and returns what has come out since.
func (r *run) after(rs ...reading) []string {
	r.T.Helper()
	r.src.Feed(rs...)
	r.Epoch()
	return r.out.Next()
}

func hot(id string, above int) rule.Rule {
	return rule.Rule{ID: id, When: fmt.Sprint("celsius > ", above)}
}

// A change is in force behind the epoch that it came in, in all tasks, and not before, in whatever order things came.
func TestChangeAtTheEndOfAnEpoch(t *testing.T) {
	t.Parallel()
	for _, tasks := range []int{1, 4} {
		t.Run(fmt.Sprint(tasks, " tasks"), func(t *testing.T) {
			t.Parallel()
			changes := flowtest.NewSource[rule.Change]()
			r := newRun(t, tasks, func(top *flow.Topology) rule.Source { return rule.Broadcast(flow.From(top, "changes", changes)) }, changes)
			r.Restart()
			require.Empty(t, r.after(reading{"a", 99, 0}, reading{"b", 99, 0}), "there are no rules yet")
			changes.Feed(rule.Change{Put: []rule.Rule{hot("one", 50)}})
			r.Settle()
			require.Empty(t, r.after(reading{"a", 99, 1}), "the change came in this epoch")
			require.Equal(t, []string{"a raised one warning at 2"}, r.after(reading{"a", 99, 2}))

			// A crash takes the change back with everything else.
			changes.Feed(rule.Change{Whole: true, Put: []rule.Rule{hot("two", 60)}})
			r.Settle()
			r.Crash()
			require.ElementsMatch(t, []string{"b raised one warning at 3"}, r.after(reading{"b", 99, 3}))
			got := r.after(reading{"a", 99, 4})
			require.ElementsMatch(t, []string{"a cleared one warning at 2 (rule removed)", "b cleared one warning at 3 (rule removed)", "a raised two warning at 4"}, got)
			r.Crash()

			// A change with a mistake goes to the dead letters, and changes nothing.
			changes.Feed(rule.Change{Put: []rule.Rule{{ID: "bad", When: "celsiu > 1"}}}, rule.Change{Remove: []string{"none"}},
				rule.Change{Whole: true, Put: []rule.Rule{{ID: "child", When: "celsius > 1", Parent: "none"}}},
				rule.Change{Put: []rule.Rule{{ID: "child", When: "celsius > 1000", Parent: "later"}}})
			require.Empty(t, r.after())
			dead := r.dead.Next()
			require.Len(t, dead, 2)
			require.Contains(t, dead[0].Cause, `rule "bad": when: unknown name celsiu: did you mean "celsius"?`)
			require.Contains(t, dead[1].Cause, `there is no rule "none"`)

			// A rule that has changed keeps its alarm, and says so with the next record.
			two := hot("two", 40)
			two.Severity = "critical"
			changes.Feed(rule.Change{Put: []rule.Rule{two}})
			require.Empty(t, r.after())
			r.Crash()
			require.Equal(t, []string{"a updated two critical at 5 (severity)", "a cleared two critical at 6"}, r.after(reading{"a", 45, 5}, reading{"a", 40, 6}))
			changes.Feed(rule.Change{Remove: []string{"two"}})
			r.Epoch()
			require.Empty(t, r.after(reading{"a", 99, 7}))
			r.Stop()
		})
	}
}

// What is pending for a rule that changes begins anew, and an alarm that the rule does not select any more is cleared.
func TestChangeOfPendingAndOfSelection(t *testing.T) {
	t.Parallel()
	changes := flowtest.NewSource[rule.Change]()
	r := newRun(t, 1, func(top *flow.Topology) rule.Source { return rule.Broadcast(flow.From(top, "changes", changes)) }, changes)
	r.Restart()
	one, two := hot("one", 50), hot("two", 50)
	one.For = 10 * time.Second
	flaps := hot("flaps", 50)
	flaps.Flapping = &rule.Flapping{Changes: 2, Within: time.Hour}
	changes.Feed(rule.Change{Put: []rule.Rule{one, two, flaps}})
	r.Epoch()
	require.Equal(t, []string{"a raised flaps warning at 0", "a raised two warning at 0", "a updated flaps warning at 1 (flapping)", "a cleared two warning at 1", "a raised two warning at 2"},
		r.after(reading{"a", 60, 0}, reading{"a", 0, 1}, reading{"a", 60, 2}))
	one.When, two.Select, flaps.Flapping = "celsius > 55", map[string]rule.Values{"device": {"b"}}, nil
	changes.Feed(rule.Change{Put: []rule.Rule{one, two, flaps}})
	r.Epoch()
	require.Equal(t, []string{"a updated flaps warning at 2 (stable)", "a cleared two warning at 2 (rule changed)"}, r.after(reading{"z", 0, 8}))
	r.Crash()
	require.Equal(t, []string{"a updated flaps warning at 9 (rule changed)", "a raised one warning at 19"}, r.after(reading{"a", 60, 9}, reading{"z", 0, 30}))
	r.Stop()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rules.yaml")
	from := func(*flow.Topology) rule.Source { return rule.File(path, rule.Every(time.Second)) }
	r := newRun(t, 2, from)
	log := func(say string) {
		t.Helper()
		require.Eventually(t, func() bool { r.Clock.Advance(time.Second); return strings.Contains(r.log.String(), say) }, 20*time.Second, time.Millisecond)
	}

	// Without stored rules the file must be good.
	write(t, path, "rules:\n  - id: one\n    when: celsiu > 50\n")
	require.NoError(t, r.TryRestart())
	require.ErrorContains(t, r.Wait(), path+`:3:11: rule "one": when: unknown name celsiu: did you mean "celsius"?`)

	write(t, path, "rules:\n  - id: one\n    when: celsius > 50\n")
	r.Restart()
	require.Equal(t, []string{"a raised one warning at 0"}, r.after(reading{"a", 60, 0}), "the rules are there before the first record")

	// A bad file leaves the old rules in force, also at a start.
	write(t, path, "rules:\n  - id: one\n    when: celsius > \n")
	log(path + ":3:20: rule")
	require.Contains(t, r.log.String(), path+":3:20: rule \\\"one\\\": when: unexpected token EOF: mend the expression")
	require.Empty(t, r.after(reading{"a", 60, 1}))
	r.Crash()
	require.Equal(t, []string{"a cleared one warning at 2"}, r.after(reading{"a", 50, 2}))
	require.NoError(t, os.Remove(path))
	log("put the file back")

	// A good one takes their place.
	write(t, path, "rules:\n  - id: two\n    when: celsius > 70\n")
	log("rules read anew")
	r.Epoch()
	require.Equal(t, []string{"a raised two warning at 4"}, r.after(reading{"a", 60, 3}, reading{"a", 80, 4}))

	// So does one that was changed while the topology was down.
	r.Kill()
	write(t, path, "rules: []\n")
	r.Restart()
	require.Eventually(t, func() bool {
		r.Clock.Advance(time.Second)
		r.Epoch()
		return strings.Count(r.log.String(), "rules read anew") == 2
	}, 20*time.Second, time.Millisecond)
	r.Epoch()
	require.Equal(t, []string{"a cleared two warning at 4 (rule removed)"}, r.after(reading{"a", 90, 6}))
	r.Stop()
}

// Rules that change with the program only: the state follows at the start.
func TestFixedRulesChangeWithTheProgram(t *testing.T) {
	t.Parallel()
	rules := []rule.Rule{hot("one", 50), hot("two", 50)}
	r := newRun(t, 1, func(*flow.Topology) rule.Source { return rule.Fixed(rules...) })
	r.Restart()
	require.Equal(t, []string{"a raised one warning at 0", "a raised two warning at 0"}, r.after(reading{"a", 60, 0}))
	rules = []rule.Rule{hot("two", 70)}
	r.Crash()
	require.Equal(t, []string{"a cleared one warning at 0 (rule removed)", "a cleared two warning at 1"}, r.after(reading{"a", 60, 1}))
	r.Stop()
}

// Without durable state a change comes in force as well.
func TestChangeInMemory(t *testing.T) {
	t.Parallel()
	src, changes, out := flowtest.NewSource[reading](), flowtest.NewSource[rule.Change](), flowtest.NewSink[string]()
	changes.Feed(rule.Change{Put: []rule.Rule{hot("one", 50)}})
	changes.End()
	top := flow.New("rules", flow.WithStore(state.InMemory()), flow.WithParallelism(1), flow.AllowColdStart())
	alarms := operators.Rules(flow.KeyBy(flow.From(top, "in", src), reading.key), "alarms", rule.Broadcast(flow.From(top, "changes", changes)), rule.ByClock())
	flow.To(operators.Map(alarms, "line", func(_ context.Context, a alarm) (string, error) { return a.Key, nil }), "out", out)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- top.Run(ctx) }()
	require.Eventually(t, func() bool { src.Feed(reading{"a", 60, 0}); return len(out.Values()) > 0 }, 20*time.Second, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
	require.Equal(t, []string{"a"}, out.Values())
}

func TestAPI(t *testing.T) {
	t.Parallel()
	api := rule.NewAPI(rule.Fixed(hot("one", 50)))
	server := httptest.NewServer(api)
	defer server.Close()
	ask := func(method, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL, strings.NewReader(body))
		require.NoError(t, err)
		resp, err := server.Client().Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		var b bytes.Buffer
		_, err = b.ReadFrom(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, b.String()
	}
	code, _ := ask(http.MethodPut, "rules: []")
	require.Equal(t, http.StatusServiceUnavailable, code)
	r := newRun(t, 2, func(*flow.Topology) rule.Source { return api })
	r.Restart()
	require.Equal(t, []string{"a raised one warning at 0"}, r.after(reading{"a", 60, 0}))
	code, body := ask(http.MethodGet, "")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "rules:\n- id: one\n  when: celsius > 50\n", body)
	code, body = ask(http.MethodPut, "rules:\n- id: two\n  when: celsiu > 50\n")
	require.Equal(t, http.StatusUnprocessableEntity, code)
	require.Contains(t, body, `{"line":3,"column":9,"rule":"two","field":"when","what":"unknown name celsiu","cure":"did you mean`)
	code, _ = ask(http.MethodDelete, "")
	require.Equal(t, http.StatusMethodNotAllowed, code)
	code, _ = ask(http.MethodPost, body)
	require.Equal(t, http.StatusUnprocessableEntity, code)
	const two = "rules:\n- id: two\n  when: celsius > 55\n  for: 1m0s\n"
	code, _ = ask(http.MethodPost, two)
	require.Equal(t, http.StatusNoContent, code)

	answer := make(chan int, 1)
	go func() {
		code := http.StatusServiceUnavailable // until the topology listens
		for code == http.StatusServiceUnavailable && t.Context().Err() == nil {
			code, _ = ask(http.MethodPut, two)
		}
		answer <- code
	}()
	require.Eventually(t, func() bool { r.Epoch(); return len(answer) > 0 }, 20*time.Second, time.Millisecond)
	require.Equal(t, http.StatusNoContent, <-answer)
	require.Equal(t, []string{"a cleared one warning at 0 (rule removed)"}, r.after(reading{"a", 60, 1}))
	r.Crash()
	code, body = ask(http.MethodGet, "")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, two, body, "it is what was stored")
	require.Equal(t, []string{"a raised two warning at 61"}, r.after(reading{"a", 60, 62}))

	// A topology that ends lets nobody wait.
	go func() {
		code, _ := ask(http.MethodPut, "rules: []")
		answer <- code
	}()
	r.Stop()
	code, _ = ask(http.MethodPut, "rules: []")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, []int{http.StatusServiceUnavailable, http.StatusNoContent}, <-answer)
}

// still are rules with a control stream that says nothing.
type still struct{ rule.Source }

func (still) Control(t *flow.Topology, name string, _ func(rule.Change) error) flow.Stream[rule.Change] {
	src := flowtest.NewSource[rule.Change]()
	src.End()
	return flow.From(t, name+"/still", src)
}

// What changes while it runs is checked in all modes as what does not: rules in shared state, an exchange in any case.
func TestControlledRulesInAllModes(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(9, 9))
	var in []reading
	for i := range 60 {
		in = append(in, reading{fmt.Sprint("d", rnd.IntN(4)), float64(rnd.IntN(12)), int64(2*i) - rnd.Int64N(6)})
	}
	flowtest.CheckOperator(t, flowtest.OperatorCheck[reading, string]{
		Inputs: in, Key: func(s string) string { return s[:2] },
		Build: func(s flow.Stream[reading]) flow.Stream[string] {
			timed := flow.AssignTime(s, "time", reading.time, watermark.BoundedOutOfOrderness(5*time.Second).Every(0))
			return operators.Map(operators.Rules(flow.KeyBy(timed, reading.key), "alarms", still{rule.Text(`
- {id: high, when: celsius > 8, clear: celsius < 5, cooldown: 9s, levels: [{when: celsius > 10, severity: critical}]}
- {id: held, when: celsius > 3, for: 6s}
- {id: flaps, when: int(celsius) % 2 == 0, flapping: {changes: 3, within: 30s, stable: 9s}}
`)}), "line", line)
		},
	})
}

// renamed is a reading as a later version of the program has it.
type renamed struct {
	Device string `json:"device"`
	Kelvin float64
	At     int64
}

// Stored rules that a new version of the record type does not fit are replaced by those of the source, if these do.
func TestRecordTypeChanges(t *testing.T) {
	t.Parallel()
	src, next, out := flowtest.NewSource[reading](), flowtest.NewSource[renamed](), flowtest.NewSink[string]()
	rules, old := "- {id: hot, when: celsius > 50}", true
	r := flowtest.New(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("rules", append(opts, flow.WithParallelism(1))...)
		from := still{rule.Text(rules)}
		if old {
			alarms := operators.Rules(flow.KeyBy(flow.From(top, "in", src), reading.key), "alarms", from, rule.ByClock())
			flow.To(operators.Map(alarms, "line", func(_ context.Context, a alarm) (string, error) { return a.Rule + a.State.String() + a.Reason, nil }), "out", out)
			return top
		}
		alarms := operators.Rules(flow.KeyBy(flow.From(top, "in", next), func(r renamed) string { return r.Device }), "alarms", from, rule.ByClock())
		flow.To(operators.Map(alarms, "line", func(_ context.Context, a rule.Alarm[string, renamed]) (string, error) {
			return a.Rule + a.State.String() + a.Reason, nil
		}), "out", out)
		return top
	})
	r.Restart()
	src.Feed(reading{"a", 60, 0})
	require.Eventually(t, func() bool { r.Epoch(); return len(out.Values()) > 0 }, 20*time.Second, time.Millisecond)
	require.Equal(t, []string{"hotraised"}, out.Next())
	old = false
	r.Kill()
	require.NoError(t, r.TryRestart())
	require.ErrorContains(t, r.Wait(), "the stored rules do not fit the records any more: ")
	rules = "- {id: hot, when: Kelvin > 323}\n- {id: cold, when: Kelvin < 273}"
	r.Restart()
	next.Feed(renamed{}, renamed{"a", 300, 1}, renamed{"a", 200, 2})
	require.Eventually(t, func() bool { r.Epoch(); return len(out.Values()) > 1 }, 20*time.Second, time.Millisecond)
	require.Equal(t, []string{"hotcleared", "coldraised"}, out.Next())
	r.Stop()
}

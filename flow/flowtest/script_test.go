package flowtest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/watermark"
)

// lastSeen emits, at each watermark, how many records of a key came since the last one: a small window.
type lastSeen struct {
	seen flow.State[string, int]
}

func (c *lastSeen) Open(_ context.Context, rt flow.Runtime) error {
	return flow.OpenState(rt, "seen", &c.seen)
}

func (c *lastSeen) Process(_ context.Context, key string, r *flow.Record[string], out *flow.Output[string]) error {
	if key == "bad" {
		return errors.New("a bad key")
	}
	n := c.seen.Get(key)
	*n++
	*out.Next(r.Time, r.Meta) = fmt.Sprint(key, " ", *n, " at ", ScriptTime(r.Time))
	return nil
}

func countingScript(s *Script) {
	in := ScriptInput(s, "words", func(text string) (string, error) {
		if text == "?" {
			return "", errors.New("not a word")
		}
		return text, nil
	})
	counts := flow.ApplyKeyed[string, string, string](flow.KeyBy(in, identity), "count", func() *lastSeen { return &lastSeen{} })
	prefix := s.Arg("prefix", "")
	ScriptOutput(s, "counts", counts, func(line string) string { return prefix + line })
}

func runScript(t *testing.T, setup func(*Script), lines ...string) error {
	_, err := (&scriptTest{path: "case.txt", text: strings.Join(lines, "\n"), setup: setup}).run(t)
	return err
}

func TestScriptThatIsRight(t *testing.T) {
	require.NoError(t, runScript(t, countingScript,
		"# words are counted",
		"with prefix=>",
		"",
		"in 1s a",
		"in 1m a",
		"in words -1h30m b",
		"watermark 1m",
		"expect",
		"    >a 1 at 1s",
		"    >a 2 at 1m",
		"    >b 1 at -1h30m",
		"crash",
		"in 2024-03-01T00:00:00Z a",
		"epoch",
		"restart",
		"clock 1h",
		"clock -1h",
		"clock 2024-02-01T00:00:00Z",
		"in 0 c",
		"expect",
		"    >a 3 at 2024-03-01T00:00:00Z",
		"    >c 1 at 0s",
		"in 1s d",
		"flush",
		"expect",
		"    >d 1 at 1s",
	))
}

func TestScriptsThatAreWrong(t *testing.T) {
	two := func(s *Script) {
		countingScript(s)
		ScriptOutput(s, "out", ScriptSource[int](s, "numbers", nil), nil)
	}
	for want, c := range map[string]struct {
		setup func(*Script)
		lines []string
	}{
		`case.txt:2: unknown command "watermrk"; the commands are with, in, watermark`: {countingScript, []string{"in 1s a", "watermrk 5s"}},
		`case.txt:1: an indented line that belongs to no expect; begin commands`:       {countingScript, []string{"    a 1"}},
		`case.txt:1: "soon" is not a time; write a duration since 1970`:                {countingScript, []string{"in words soon a"}},
		`case.txt:1: a record without a value; write: in 5s VALUE`:                     {countingScript, []string{"in 5s"}},
		`case.txt:1: a watermark of no time`:                                           {countingScript, []string{"watermark none"}},
		`case.txt:1: watermark with "a" behind it; take it away`:                       {countingScript, []string{"watermark 5s a"}},
		`case.txt:1: "soon" is no move of the clock`:                                   {countingScript, []string{"clock soon"}},
		`case.txt:1: "x" is not an argument; write: with name=value`:                   {countingScript, []string{"with x"}},
		`case.txt:2: a second argument "x"`:                                            {countingScript, []string{"with x=1", "with x=2"}},
		`case.txt:2: setup does not ask for the argument "prefx"; it asks for prefix`:  {two, []string{"", "with prefx=1"}},
		`case.txt:2: crash behind flush, which ends the topology`:                      {countingScript, []string{"flush", "crash"}},
		`case.txt:2: expect behind fails, which ends the topology`:                     {countingScript, []string{"fails x", "expect"}},
		`case.txt:1: fails without a text`:                                             {countingScript, []string{"fails"}},
		`case.txt:1: there is no input "letters"; the inputs of setup are words`:       {countingScript, []string{"in letters 1s a"}},
		`the line does not say which input it speaks to; write one of words, numbers`:  {two, []string{"in 1s a"}},
		`case.txt:2: the line does not say to which partition its record goes`:         {countingScript, []string{"in /x 1s a", "in 1s a", "in /y 1s a"}},
		`case.txt:1: in: not a word`:                                                   {countingScript, []string{"in 1s ?"}},
		`case.txt:1: in: a record without a time has no place in a ScriptInput`:        {countingScript, []string{"in none a"}},
		`case.txt:1: watermark: the input is a ScriptSource`:                           {two, []string{"watermark numbers 1s"}},
		`case.txt:2: not what is expected`:                                             {countingScript, []string{"in 1s a", "expect", "    a 2 at 1s"}},
		"    expected:\n        (nothing)\n    came out:\n        a 1 at 1s":           {countingScript, []string{"in 1s a", "expect"}},
		`case.txt:1: more came out than any expect names; add an expect`:               {countingScript, []string{"in 1s a"}},
		`a bad key`: {countingScript, []string{"in 1s bad", "expect"}},
		`the topology fails with another error than "good"`: {countingScript, []string{"in 1s bad", "fails good"}},
		`case.txt:2: the topology runs; it should have`:     {countingScript, []string{"in 1s a", "fails bad"}},
		`setup has no input; make one by`:                   {func(*Script) {}, []string{"fails no source", "#"}},
		`setup has two outputs named "counts"`: {func(s *Script) {
			countingScript(s)
			ScriptOutput(s, "counts", ScriptSource[string](s, "more", nil), nil)
		}, []string{"epoch"}},
		`x=soon is not a duration; write one like`: {func(s *Script) { countingScript(s); s.Duration("x", 0) }, []string{"with x=soon"}},
		"this is a run with an epoch and a crash behind each line": {func(s *Script) {
			counts := flow.ApplyKeyed[string, string, counted](flow.KeyBy(ScriptInput[string](s, "in", nil), identity), "count",
				func() *forgetful { return &forgetful{map[string]int{}} })
			ScriptOutput(s, "out", counts, nil)
		}, []string{`in 1s "a"`, `in 2s "a"`, "expect", `    {"Key":"a","N":1}`, `    {"Key":"a","N":2}`}},
	} {
		t.Run(want, func(t *testing.T) { require.ErrorContains(t, runScript(t, c.setup, c.lines...), want) })
	}
}

func TestScriptThatFails(t *testing.T) {
	require.NoError(t, runScript(t, countingScript, "in 1s a", "expect", "  a 1 at 1s", "in 1s bad", "fails a bad key"))
	require.NoError(t, runScript(t, func(s *Script) {
		in := flow.AssignTime(ScriptSource[int](s, "in", nil), "time", func(n int) time.Time { return time.Unix(int64(n), 0) }, watermark.Strategy{})
		ScriptOutput(s, "out", in, nil)
	}, "fails the watermark strategy is empty"), "a topology that Validate refuses")
}

// Partitions have watermarks of their own, the least of which counts; idle ones hold nothing back.
func TestScriptOfPartitions(t *testing.T) {
	waiting := func(s *Script) {
		in := ScriptInput[string](s, "in", nil)
		ScriptOutput(s, "due", flow.ApplyKeyed[struct{}, string, string](flow.KeyBy(in, flow.Whole), "wait", func() *waiter { return &waiter{} }), func(v string) string { return v })
	}
	require.NoError(t, runScript(t, waiting,
		`in /a 4s ""`,
		`in /a 8s ""`,
		`in /b 20s ""`,
		"watermark /a 10s",
		"expect",
		"watermark /b 5s",
		"expect",
		"    due at 4s",
		"idle /b",
		"clock 29s",
		"expect",
		"clock 1s",
		"expect",
		"    due at 8s",
		"watermark 20s",
		"expect",
		"    due at 20s",
	))
}

// waiter emits when the watermark reaches the time of a record.
type waiter struct{ timers flow.Timers[struct{}] }

func (w *waiter) Open(_ context.Context, rt flow.Runtime) error {
	return flow.OpenTimers(rt, &w.timers)
}

func (w *waiter) Process(_ context.Context, key struct{}, r *flow.Record[string], _ *flow.Output[string]) error {
	w.timers.Set(key, r.Time)
	return nil
}

func (w *waiter) OnTimer(_ context.Context, _ struct{}, at flow.Timestamp, out *flow.Output[string]) error {
	*out.Next(at, nil) = "due at " + ScriptTime(at)
	return nil
}

// A ScriptSource has the watermarks of the strategy under test.
func TestScriptOfAStrategy(t *testing.T) {
	type clocked struct{ At int64 }
	require.NoError(t, runScript(t, func(s *Script) {
		in := ScriptSource[clocked](s, "in", nil)
		timed := flow.AssignTime(in, "time", func(c clocked) time.Time { return time.Unix(c.At, 0) }, watermark.BoundedOutOfOrderness(2*time.Second).Every(0))
		ScriptOutput(s, "in-order", timed, nil)
		ScriptOutput(s, "bad", timed.BadClock(), func(l flow.Late[clocked]) string { return l.Reason })
	},
		`in 5s {"At":5}`,
		`in 6s {"At":86407}`,
		`in none {"At":86407}`,
		"expect",
		`    in-order: {"At":5}`,
		`    in-order: {"At":86407}`,
		"    bad: its time is more than the allowed skew ahead of the reference time",
	))
}

func TestScriptsAreRewritten(t *testing.T) {
	before := "# keep me\nin 1s a\nexpect\n    wrong\n\n    also wrong\n\n# and me\nin 2s b\nexpect\ncrash\nin 3s c"
	after := "# keep me\nin 1s a\nexpect\n    a 1 at 1s\n\n# and me\nin 2s b\nexpect\n    b 1 at 2s\ncrash\nin 3s c\nexpect\n    c 1 at 3s\n"
	s := &scriptTest{path: "case.txt", text: before, setup: countingScript, update: true}
	got, err := s.run(t)
	require.NoError(t, err)
	require.Equal(t, after, got)
	s.text, s.update = got, false
	got, err = s.run(t)
	require.NoError(t, err, "what was written is right")
	require.Equal(t, after, got)
}

func TestRunScriptsWritesFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "words.txt")
	require.NoError(t, os.WriteFile(path, []byte("in 1s a\n"), 0o600))
	t.Setenv("MILLRACE_UPDATE", "1")
	RunScripts(t, filepath.Join(dir, "*.txt"), countingScript)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "in 1s a\nexpect\n    a 1 at 1s\n", string(text))
	t.Setenv("MILLRACE_UPDATE", "")
	RunScripts(t, filepath.Join(dir, "*.txt"), countingScript)
}

// The flag is that of the test binary that runs the scripts: here there is none.
func TestUpdateFlagIsTheUsers(t *testing.T) {
	require.Nil(t, flag.Lookup("update"))
	require.False(t, updating())
}

func TestScriptTimes(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0s", "1h": "1h", "90m": "1h30m", "5s": "5s", "-10m": "-10m", "1h0m5s": "1h0m5s", "1.5s": "1.5s", "none": "none",
		"2024-01-01T00:00:00Z": "2024-01-01T00:00:00Z", "1969-12-31T00:00:00Z": "-24h", "10m": "10m", "20s": "20s",
	} {
		at, err := parseScriptTime(text)
		require.NoError(t, err)
		require.Equal(t, want, ScriptTime(at))
	}
}

func ExampleScriptTime() {
	fmt.Println(ScriptTime(0), ScriptTime(flow.Timestamp(90*time.Second)), ScriptTime(flow.Timestamp(-time.Hour)), ScriptTime(flow.None))
	// Output: 0s 1m30s -1h none
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRulesCheck(t *testing.T) {
	t.Parallel()
	code, out, stderr := iotCommand(t, nil, "rules", "check", "testdata/rules.yaml")
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, "4 rules, nothing wrong with them\n", out)

	const want = `2026-03-01T08:00:16Z  raised   damp  cellar  warning  cellar has 93 % humidity
2026-03-01T08:00:25Z  raised   too-hot  boiler  warning  boiler in site-000 is at 75 °C
2026-03-01T08:00:40Z  updated  too-hot  boiler  critical  boiler in site-000 is at 81.5 °C (severity)
2026-03-01T08:00:46Z  cleared  damp  cellar  warning  cellar has 93 % humidity
2026-03-01T08:01:00Z  cleared  too-hot  boiler  critical  boiler in site-000 is at 81.5 °C
4 rules, 10 records, 2 alarms raised
select nothing of these records: elsewhere
13 messages, of which rules do not see 1 heartbeats, 1 invalid readings and 1 repeats
`
	for _, args := range [][]string{{"testdata/rules.yaml", "--sample", "testdata/sample.jsonl"}, {"-sample=testdata/sample.jsonl", "testdata/rules.yaml"}} {
		code, out, stderr = iotCommand(t, nil, append([]string{"rules", "check"}, args...)...)
		require.Equal(t, exitOK, code, stderr)
		require.Equal(t, want, out)
	}
}

func TestRulesCheckSaysAllThatIsWrong(t *testing.T) {
	t.Parallel()
	code, out, stderr := iotCommand(t, nil, "rules", "check", "testdata/bad-rules.yaml", "--sample", "testdata/sample.jsonl")
	require.Equal(t, exitFailed, code)
	require.Empty(t, out)
	require.Equal(t, `iot rules: testdata/bad-rules.yaml:7:26: rule "damp": when: unexpected token EOF: mend the expression
iot rules: testdata/bad-rules.yaml:6:22: rule "damp": select.regoin: unknown field "regoin": did you mean "region"? the record has deviceId, humidity, region, seq, site, temperature, ts
iot rules: testdata/bad-rules.yaml:3:11: rule "too-hot": when: unknown name temprature: did you mean "temperature"? the record has deviceId, humidity, region, seq, site, temperature, ts
iot rules: testdata/bad-rules.yaml:4:10: rule "too-hot": for: -1s is not between 0 and 100 years: write a duration with its unit, like 30s
iot rules: testdata/bad-rules.yaml:9:11: rule "wet": when: expected bool, but got float64: make it true or false, by comparing it with something
`, stderr)
}

func TestRulesCheckUsage(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "sample.jsonl")
	require.NoError(t, os.WriteFile(bad, []byte("\n{\"deviceId\":\"d\"}\n{\"ts\":1}\n"), 0o600))
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"check"}, exitUsage, "iot rules: FILE is missing: iot rules check FILE; see iot help rules\n"},
		{[]string{}, exitUsage, "iot rules: check is missing: iot rules check FILE; see iot help rules\n"},
		{[]string{"chekc", "x"}, exitUsage, "iot rules: no iot rules chekc, there is iot rules check FILE\n"},
		{[]string{"check", "x", "y"}, exitUsage, `iot rules: unexpected argument "y"; see iot help rules` + "\n"},
		{[]string{"check", "testdata/none.yaml"}, exitFailed, "iot rules: file of rules: open testdata/none.yaml: no such file or directory\n"},
		{[]string{"check", "testdata/rules.yaml", "--sample", "none"}, exitFailed, "iot rules: sample: open none: no such file or directory\n"},
		{[]string{"check", "testdata/rules.yaml", "--sample", bad}, exitFailed, "iot rules: sample, line 3: a reading without deviceId: write one reading as JSON per line\n"},
	} {
		code, out, stderr := iotCommand(t, nil, append([]string{"rules"}, tt.args...)...)
		require.Equal(t, tt.code, code, "%v", tt.args)
		require.Empty(t, out)
		require.Equal(t, tt.want, stderr, "%v", strings.Join(tt.args, " "))
	}
}

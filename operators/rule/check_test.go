package rule_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/operators/rule"
)

const pumps = `
rules:
  - id: overheat
    when: celsius > 90
    clear: celsius < 80
    for: 30s
    levels: [{when: celsius > 110, severity: critical}]
    labels: {site: "hall {{.Key}}"}
    message: "{{.Key}} is at {{.Record.Celsius}} °C, {{.Severity}}"
  - {id: cold, when: celsius < 0, select: {device: [p9]}}
`

func TestCheck(t *testing.T) {
	t.Parallel()
	trial := rule.Trial[string, reading]{
		Name: "pumps.yaml", Rules: []byte(pumps), Key: reading.key, Time: reading.time, Device: func(r reading) string { return r.Device + "x" },
		Samples: strings.NewReader(`{"device":"p1","celsius":95,"at":0}
{"device":"p2","celsius":95,"at":5}

{"device":"p1","celsius":99,"at":20}
{"device":"p3","celsius":20,"at":40}
{"device":"p1","celsius":120,"at":41}
{"device":"p2","celsius":20,"at":42}
{"device":"p2","celsius":20,"at":41}
{"device":"p2","celsius":91,"at":43}
{"device":"p2","celsius":91,"at":42}
`),
	}
	v, err := rule.Check(trial)
	require.NoError(t, err)
	require.Equal(t, `1970-01-01T00:00:30Z  raised   overheat  p1/p1x  warning  p1 is at 99 °C, warning
1970-01-01T00:00:35Z  raised   overheat  p2/p2x  warning  p2 is at 95 °C, warning
1970-01-01T00:00:41Z  updated  overheat  p1/p1x  critical  p1 is at 120 °C, critical (severity)
1970-01-01T00:00:42Z  cleared  overheat  p2/p2x  warning  p2 is at 95 °C, warning
2 rules, 9 records, 2 alarms raised
select nothing of these records: cold
1 records passed over, since a newer one was there
`, v.String())
	a := v.Alarms[0]
	require.Equal(t, "overheat/p1/p1x/1970-01-01T00:00:00Z", a.ID)
	require.Equal(t, map[string]string{"site": "hall p1"}, a.Labels)
	require.Equal(t, reading{"p1", 99, 20}, a.Value)
	b, err := json.Marshal(v.Alarms[3])
	require.NoError(t, err)
	var back alarm
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, v.Alarms[3], back)

	trial.Samples = nil
	v, err = rule.Check(trial)
	require.NoError(t, err)
	require.Equal(t, "2 rules, 0 records, 0 alarms raised\n", v.String())
	trial.Samples = strings.NewReader("{}\n{")
	_, err = rule.Check(trial)
	require.ErrorContains(t, err, "samples, line 2: unexpected end of JSON input")
	trial.Key = nil
	_, err = rule.Check(trial)
	require.ErrorContains(t, err, "samples need Key and Time")
	trial.Rules = []byte("- {id: x, when: celsiu}")
	_, err = rule.Check(trial)
	require.ErrorContains(t, err, "pumps.yaml:1:17: rule \"x\": when: unknown name celsiu")
}

// What comes does not depend on how far the watermark lags behind, where records of a key are in order.
func TestLagDoesNotMatter(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		var rules strings.Builder
		for i := range 6 {
			fmt.Fprintf(&rules, "- {id: r%d, when: celsius > %d", i, rnd.IntN(10))
			if rnd.IntN(2) == 0 {
				fmt.Fprintf(&rules, ", clear: celsius < %d", rnd.IntN(10))
			}
			if rnd.IntN(2) == 0 {
				fmt.Fprintf(&rules, ", for: %ds", rnd.IntN(9))
			}
			if rnd.IntN(3) == 0 {
				fmt.Fprintf(&rules, ", count: %d", rnd.IntN(4))
			}
			if rnd.IntN(3) == 0 {
				fmt.Fprintf(&rules, ", cooldown: %ds", rnd.IntN(20))
			}
			if rnd.IntN(2) == 0 {
				fmt.Fprintf(&rules, ", flapping: {changes: %d, within: %ds, stable: %ds}", 2+rnd.IntN(4), 1+rnd.IntN(30), rnd.IntN(20))
			}
			if rnd.IntN(2) == 0 {
				rules.WriteString(", levels: [{when: celsius > 8, severity: high}], update: int(celsius) / 3")
			}
			rules.WriteString("}\n")
		}
		var samples bytes.Buffer
		at := int64(0)
		for range 150 {
			at += rnd.Int64N(3)
			fmt.Fprintf(&samples, `{"device":"d%d","celsius":%d,"at":%d}`+"\n", rnd.IntN(3), rnd.IntN(12), at)
		}
		for d := range 3 {
			fmt.Fprintf(&samples, `{"device":"d%d","celsius":-1,"at":%d}`+"\n", d, at+1000)
		}
		fmt.Fprintf(&samples, `{"device":"e","celsius":-1,"at":%d}`+"\n", at+9000)
		run := func(delay time.Duration) map[string][]string {
			v, err := rule.Check(rule.Trial[string, reading]{Name: "r", Rules: []byte(rules.String()), Samples: bytes.NewReader(samples.Bytes()), Key: reading.key, Time: reading.time, Delay: delay})
			require.NoError(t, err)
			by := map[string][]string{}
			for _, a := range v.Alarms {
				text, err := line(t.Context(), a)
				require.NoError(t, err)
				by[a.Key+a.Rule] = append(by[a.Key+a.Rule], fmt.Sprintf("%s %s %v %v", text, a.ID, a.Flapping, a.Value))
			}
			return by
		}
		want := run(0)
		for _, delay := range []time.Duration{time.Second, 7 * time.Second, 500 * time.Second} {
			got := run(delay)
			for id := range want {
				require.Equal(t, want[id], got[id], "seed %d, lag %v, rules:\n%s", seed, delay, rules.String())
			}
			require.Len(t, got, len(want))
		}
	}
}

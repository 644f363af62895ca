package iot

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators/rule"
)

// alarmRules are the rules of these tests.
const alarmRules = `
rules:
  - id: too-hot
    when: temperature > 70
    clear: temperature < 60
    for: 10s
    labels: {command: close-valve, clear_command: open-valve}
    message: "{{.Key}} is at {{.Record.Temperature}} °C"
`

func withAlarms(t *testing.T) Config {
	cfg := DefaultConfig()
	cfg.Alarms.Rules = filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(cfg.Alarms.Rules, []byte(alarmRules), 0o600))
	cfg.Alarms.Patterns, cfg.Alarms.OverheatCommand = true, "cool-down"
	require.NoError(t, cfg.Validate())
	return cfg
}

// TestAlarms: alarms and commands are the same whatever crashes there are.
func TestAlarms(t *testing.T) {
	t.Parallel()
	cfg := withAlarms(t)
	at := func(second int) time.Time { return midnight.Add(time.Duration(second) * time.Second) }
	var in []Reading
	seq := map[string]int64{}
	add := func(device string, second int, celsius float64) {
		seq[device]++
		in = append(in, reading(device, seq[device], time.Duration(second)*time.Second, celsius))
	}
	for minute := range 9 { // it tells what time it is
		add("clock", minute*60, 20)
		switch minute {
		case 0:
			add("a", 0, 65)
			add("b", 0, 20)
			add("a", 10, 72)
			add("a", 20, 74.5)
			in = append(in, in[len(in)-1]) // delivered again
			add("a", 30, 73)
		case 1:
			add("a", 70, 55)
		case 6:
			add("b", 360, 21)
		}
	}
	place := func(a Alarm, celsius float64) Alarm {
		a.Site, a.Region, a.Humidity, a.Temperature = "site-001", "east", 50, celsius
		return a
	}
	want := []Alarm{
		place(Alarm{ID: "too-hot/a/2024-01-01T00:00:10Z", State: rule.Raised, Rule: "too-hot", Severity: "warning", Message: "a is at 74.5 °C", Device: "a",
			Since: at(10), At: at(20), Command: "close-valve"}, 74.5),
		place(Alarm{ID: "too-hot/a/2024-01-01T00:00:10Z", State: rule.Cleared, Rule: "too-hot", Severity: "warning", Message: "a is at 74.5 °C", Device: "a",
			Since: at(10), At: at(70), Command: "open-valve"}, 55),
		place(Alarm{ID: "overheating/a/2024-01-01T00:00:00Z", State: rule.Raised, Rule: "overheating", Severity: "critical", Device: "a",
			Message: "up to 74.5 °C, and not cooled down within 2m0s", Since: at(0), At: at(120), Command: "cool-down"}, 74.5),
		{ID: "silent/b/2024-01-01T00:00:00Z", State: rule.Raised, Rule: "silent", Severity: "warning", Message: "nothing for 5m0s", Device: "b", Since: at(0), At: at(300)},
		{ID: "silent/b/2024-01-01T00:00:00Z", State: rule.Cleared, Rule: "silent", Severity: "warning", Message: "back after 6m0s", Device: "b", Since: at(0), At: at(360)},
		{ID: "silent/a/2024-01-01T00:01:10Z", State: rule.Raised, Rule: "silent", Severity: "warning", Message: "nothing for 5m0s", Device: "a", Since: at(70), At: at(370)},
	}
	commands := []string{
		"commands/site-001/a close-valve too-hot/a/2024-01-01T00:00:10Z/raised",
		"commands/site-001/a open-valve too-hot/a/2024-01-01T00:00:10Z/cleared",
		"commands/site-001/a cool-down overheating/a/2024-01-01T00:00:00Z/raised",
	}
	for _, mode := range []flow.Replay{flow.Seek, flow.Redeliver} {
		for name, crash := range map[string]func(i int) (crash, epoch bool){
			"none":               func(int) (bool, bool) { return false, false },
			"behind epochs":      func(i int) (bool, bool) { return i%2 == 1, true },
			"between two epochs": func(i int) (bool, bool) { return i%2 == 1, i%3 == 0 },
		} {
			src, alarms, sent := flowtest.NewSource[Reading](), flowtest.NewSink[Alarm](), flowtest.NewSink[Command]()
			src.Mode = mode
			r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
				top := flow.New("iot", opts...)
				clean := Clean(flow.From(top, "in", src), "clean", Sites(), cfg.Time)
				flow.To(clean.Invalid(), "invalid", flowtest.NewSink[Reading]())
				fresh := Fresh(clean, "fresh", cfg.Dedup)
				all := Alarms(fresh, "alarms", cfg.Alarms)
				flow.To(all, "out", alarms)
				flow.To(Commands(all, "commands", cfg.Alarms).Unkeyed(), "sent", sent)
				return top
			}, src)
			for i, v := range in {
				src.FeedRecords("0", flow.Record[Reading]{Value: v, Time: flow.TimestampOf(v.At())})
				ends, epoch := crash(i)
				if epoch {
					r.Epoch()
				}
				if ends {
					r.Settle()
					r.Crash()
				}
			}
			r.Epoch()
			require.ElementsMatch(t, want, alarms.Values(), "%v, crashes: %s", mode, name)
			var told []string
			for _, c := range sent.Values() {
				told = append(told, cfg.Alarms.topic(c)+" "+c.Command+" "+c.ID)
			}
			require.ElementsMatch(t, commands, told)
			r.Stop()
		}
	}
}

// TestCommandsComeOnce: an alarm that comes again, for whatever reason, commands no second time.
func TestCommandsComeOnce(t *testing.T) {
	t.Parallel()
	src, sent := flowtest.NewSource[Alarm](), flowtest.NewSink[Command]()
	cfg := DefaultConfig()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("commands", opts...)
		timed := flow.AssignTime(flow.From(top, "in", src), "time", func(a Alarm) time.Time { return a.At }, watermark.Monotonous())
		flow.To(Commands(timed, "commands", cfg.Alarms).Unkeyed(), "sent", sent)
		return top
	}, src)
	a := Alarm{ID: "x/a/1", State: rule.Raised, Device: "a", Site: "s", Command: "close", At: midnight}
	cleared := a
	cleared.State, cleared.Command = rule.Cleared, "open"
	silent := a
	silent.ID, silent.Command = "x/a/2", ""
	src.Feed(a, a, cleared, silent, a, cleared)
	r.Epoch()
	r.Crash()
	src.Feed(a)
	r.Epoch()
	var told []string
	for _, c := range sent.Values() {
		told = append(told, c.Command+" "+c.ID)
	}
	require.Equal(t, []string{"close x/a/1/raised", "open x/a/1/cleared"}, told)
	r.Flush()
}

func TestAlarmsConfig(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ yaml, want string }{
		"braces": {"alarms: {command_topic: 'x/{dev}'}", `alarms.command_topic: "x/{dev}" has a name in braces that is none of {device}, {site}, {alarm}`},
		"filter": {"alarms: {command_topic: 'x/+'}", `alarms.command_topic: "x/+" is not a topic to publish to: no +, # or leading $`},
		"loop":   {"alarms: {command_topic: 'devices/{device}/do'}", `alarms.command_topic: "devices/{device}/do" lies under mqtt.topic, so that commands would be read as readings: choose another`},
		"expiry": {"alarms: {command_expiry: 1500ms}", "alarms.command_expiry: 1.5s is no whole number of seconds"},
		"limits": {"alarms: {patterns: true, hot: 55}", "alarms.hot: alarms.cooled, warm and hot are 50, 60 and 55: each must be at least the one before"},
		"ttl":    {"alarms: {patterns: true, confirm: 20m}", "dedup.ttl: 10m0s is less than alarms.confirm + time.out_of_orderness = 20m10s: a repeat could count twice"},
	} {
		_, err := LoadConfig(write(t, tt.yaml), nil)
		require.ErrorContains(t, err, tt.want, name)
	}
}

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/mqttbroker"
)

// iotCommand runs the command in process and returns exit code, standard output and standard error.
func iotCommand(t *testing.T, environ []string, args ...string) (int, string, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), args, environment{environ: environ, stdout: &stdout, stderr: &stderr})
	return code, stdout.String(), stderr.String()
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"help"}, {"-h"}, {"--help"}} {
		code, out, _ := iotCommand(t, nil, args...)
		require.Equal(t, exitOK, code)
		for _, c := range commands() {
			require.Contains(t, out, "  "+c.name)
		}
	}
	for _, c := range commands() {
		for _, args := range [][]string{{"help", c.name}, {c.name, "-h"}} {
			code, out, _ := iotCommand(t, nil, args...)
			require.Equal(t, exitOK, code)
			require.Contains(t, out, "iot "+c.name+": "+c.summary)
			require.Contains(t, out, "-config FILE")
		}
	}
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"simulat"}, `iot: no command "simulat"; there are demo, simulate, `},
		{[]string{"config", "-nonsense"}, "iot config: flag provided but not defined: -nonsense; see iot help config\n"},
		{[]string{"config", "now"}, `iot config: unexpected argument "now"; see iot help config` + "\n"},
		{[]string{"config", "-set", "x"}, `iot config: invalid value "x" for flag -set: write KEY=VALUE; see iot help config` + "\n"},
	} {
		code, _, stderr := iotCommand(t, nil, tt.args...)
		require.Equal(t, exitUsage, code, "%v", tt.args)
		require.Contains(t, stderr, tt.want)
	}
	code, _, stderr := iotCommand(t, nil)
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "Commands:")
}

func TestConfigErrorsNameTheirPlace(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "iot.yaml")
	require.NoError(t, os.WriteFile(file, []byte("time:\n  windows: 1m\n"), 0o600))
	code, _, stderr := iotCommand(t, []string{"MILLRACE_IOT_MQTT_CLIENTS=0"}, "config", "-config", file, "-set", "epoch.interval=1")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "iot config: "+file+":2:3: time.windows: unknown key (did you mean window?); allowed here: window, out_of_orderness, allowed_lateness, idle_after, max_future_skew\n"+
		"iot config: environment variable MILLRACE_IOT_MQTT_CLIENTS: mqtt.clients: 0 is out of range: 1 to 64\n"+
		`iot config: flag -set: epoch.interval: "1" is not a duration: write a number and a unit (ms, s, m, h), for instance 10s or 1m30s`+"\n", stderr)
}

func TestConfigPrints(t *testing.T) {
	t.Parallel()
	code, out, _ := iotCommand(t, []string{"MILLRACE_IOT_CLICKHOUSE_PASSWORD=hunter2"}, "config", "-set", "simulate.rate=7")
	require.Equal(t, exitOK, code)
	require.NotContains(t, out, "hunter2")
	require.Contains(t, out, "  rate: 7  # flag -set; MILLRACE_IOT_SIMULATE_RATE\n")
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	b, err := mqttbroker.Start(context.Background(), "127.0.0.1:0", mqttbroker.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	ledger := filepath.Join(t.TempDir(), "ledger.jsonl")
	code, out, stderr := iotCommand(t, nil, "simulate", "-broker", b.URL(), "-readings", "2000", "-rate", "0", "-ledger", ledger, "-store", filepath.Dir(ledger), "-set", "simulate.settle=0s")
	require.Equal(t, exitOK, code, stderr)
	require.Regexp(t, `^published 2\d\d\d messages in .*; ledger in .*ledger.jsonl\n$`, out)
	require.FileExists(t, ledger)
}

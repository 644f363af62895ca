package conf

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type broker struct {
	URL     string        `yaml:"url" required:"true" doc:"Where the broker listens."`
	Clients int           `yaml:"clients" min:"1" max:"64"`
	Timeout time.Duration `yaml:"timeout" min:"1s"`
	Mode    string        `yaml:"mode" oneof:"http,native"`
	Pass    Secret        `yaml:"password"`
	Names   []string      `yaml:"names"`
}

type config struct {
	Broker broker  `yaml:"broker"`
	Buffer Size    `yaml:"buffer" max:"1GiB"`
	Seed   uint64  `yaml:"seed"`
	Share  float64 `yaml:"share" min:"0" max:"1"`
	On     bool    `yaml:"on"`
}

func defaults() config {
	return config{Broker: broker{URL: "tcp://127.0.0.1:1883", Clients: 2, Timeout: 10 * time.Second, Mode: "native"}, Buffer: 1 << 20}
}

func load(yaml string, environ ...string) (config, Origins, error) {
	c := defaults()
	o, err := Load(&c, Input{File: "iot.yaml", Text: []byte(yaml), Prefix: "MILLRACE_IOT_", Environ: environ})
	return c, o, err
}

func TestLoad(t *testing.T) {
	t.Parallel()
	c, origins, err := load(`
# a comment
broker:
  url: tcp://broker:1883
  timeout: 1m30s   # in words
  password: "hunter2"
  names: [a, "b c"]
buffer: 64MiB
seed: 18446744073709551615
share: 0.25
on: true
`, "MILLRACE_IOT_BROKER_CLIENTS=8", "MILLRACE_IOT_BROKER_MODE=http", "HOME=/root", "MILLRACE_OTHER=x")
	require.NoError(t, err)
	require.Equal(t, config{
		Broker: broker{URL: "tcp://broker:1883", Clients: 8, Timeout: 90 * time.Second, Mode: "http", Pass: "hunter2", Names: []string{"a", "b c"}},
		Buffer: 64 << 20, Seed: 18446744073709551615, Share: 0.25, On: true,
	}, c)
	require.Equal(t, "iot.yaml:4:8", origins.Of("broker.url"))
	require.Equal(t, "environment variable MILLRACE_IOT_BROKER_CLIENTS", origins.Of("broker.clients"))
	require.Equal(t, "default", origins.Of("missing"))
}

func TestEmptyIsValid(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "  \n", "# only a comment\n", "broker:\n", "broker:\n  url:\n"} {
		c, _, err := load(text)
		require.NoError(t, err, "%q", text)
		require.Equal(t, defaults(), c, "%q", text)
	}
}

func TestEnvironmentLists(t *testing.T) {
	t.Parallel()
	c, _, err := load("broker: {names: [x]}", "MILLRACE_IOT_BROKER_NAMES=a, b,,c")
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "c"}, c.Broker.Names)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		yaml, env, want string
	}{
		"unknown key":        {yaml: "broker:\n  ulr: x\n", want: `iot.yaml:2:3: broker.ulr: unknown key (did you mean url?); allowed here: url, clients, timeout, mode, password, names`},
		"unknown section":    {yaml: "brokers:\n  url: x\n", want: `iot.yaml:1:1: brokers: unknown key (did you mean broker?); allowed here: broker, buffer, seed, share, on`},
		"far off":            {yaml: "kafka: 1\n", want: `iot.yaml:1:1: kafka: unknown key; allowed here: broker, buffer, seed, share, on`},
		"not a section":      {yaml: "broker: tcp://x\n", want: `iot.yaml:1:9: broker: "tcp://x" is not a section: its keys are url, clients, timeout, mode, password, names`},
		"section for a text": {yaml: "broker:\n  url:\n    a: 1\n", want: `iot.yaml:3:6: broker.url: a section is not a text`},
		"list for a text":    {yaml: "broker:\n  url: [a]\n", want: `iot.yaml:2:8: broker.url: a list is not a text`},
		"text for a list":    {yaml: "broker:\n  names: a\n", want: `iot.yaml:2:10: broker.names: "a" is not a list: write names: [a, b]`},
		"list in a list":     {yaml: "broker:\n  names: [a, [b]]\n", want: `iot.yaml:2:14: broker.names[1]: a list is not a text`},
		"bare duration":      {yaml: "broker:\n  timeout: 10\n", want: `iot.yaml:2:12: broker.timeout: "10" is not a duration: write a number and a unit (ms, s, m, h), for instance 10s or 1m30s`},
		"short duration":     {yaml: "broker:\n  timeout: 10ms\n", want: `iot.yaml:2:12: broker.timeout: 10ms is too small: at least 1s`},
		"number":             {yaml: "broker:\n  clients: many\n", want: `iot.yaml:2:12: broker.clients: "many" is not a whole number`},
		"fraction":           {yaml: "broker:\n  clients: 1.5\n", want: `iot.yaml:2:12: broker.clients: "1.5" is not a whole number`},
		"range":              {yaml: "broker:\n  clients: 65\n", want: `iot.yaml:2:12: broker.clients: 65 is out of range: 1 to 64`},
		"word":               {yaml: "broker:\n  mode: grpc\n", want: `iot.yaml:2:9: broker.mode: "grpc" is not one of http, native`},
		"size":               {yaml: "buffer: 64\n", want: `iot.yaml:1:9: buffer: "64" is not a size: write a number and B, kB, MB, GB, KiB, MiB or GiB, for instance 64MiB`},
		"large size":         {yaml: "buffer: 2GiB\n", want: `iot.yaml:1:9: buffer: 2GiB is too large: at most 1GiB`},
		"negative":           {yaml: "seed: -1\n", want: `iot.yaml:1:7: seed: "-1" is not a whole number from 0`},
		"not finite":         {yaml: "share: .nan\n", want: `iot.yaml:1:8: share: ".nan" is not a number`},
		"bool":               {yaml: "on: yes\n", want: `iot.yaml:1:5: on: "yes" is not true or false`},
		"required":           {yaml: "broker:\n  url: \"\"\n", want: `iot.yaml:2:8: broker.url: must not be empty`},
		"alias":              {yaml: "buffer: &b 64MiB\n", want: `iot.yaml:1:9: buffer: anchors and aliases are not supported: write the value`},
		"second document":    {yaml: "on: true\n---\non: false\n", want: `iot.yaml:3:3: a second YAML document: only one is allowed`},
		"twice":              {yaml: "on: true\non: false\n", want: `iot.yaml:2:1: not valid YAML: mapping key "on" already defined at [1:1]`},
		"syntax":             {yaml: "broker:\n  url: [a\n", want: `iot.yaml:2:8: not valid YAML: sequence end token ']' not found`},
		"variable":           {env: "MILLRACE_IOT_BROKER_CLIENT=3", want: `environment variable MILLRACE_IOT_BROKER_CLIENT: no such setting (did you mean MILLRACE_IOT_BROKER_CLIENTS?); names are MILLRACE_IOT_ and the key in capitals, for instance MILLRACE_IOT_BROKER_URL`},
		"variable's value":   {env: "MILLRACE_IOT_BROKER_CLIENTS=x", want: `environment variable MILLRACE_IOT_BROKER_CLIENTS: broker.clients: "x" is not a whole number`},
		"variable empty":     {env: "MILLRACE_IOT_BROKER_URL=", want: `environment variable MILLRACE_IOT_BROKER_URL: broker.url: must not be empty`},
		"several at once":    {yaml: "on: 1\nseed: x\n", want: "iot.yaml:1:5: on: \"1\" is not true or false\niot.yaml:2:7: seed: \"x\" is not a whole number from 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var environ []string
			if tt.env != "" {
				environ = append(environ, tt.env)
			}
			_, _, err := load(tt.yaml, environ...)
			require.EqualError(t, err, tt.want)
		})
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	c, origins, err := load("broker: {password: hunter2}")
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, Print(&b, &c, origins, "MILLRACE_IOT_"))
	fmt.Fprintf(&b, "%v %+v %#v %s", c, c, c, c.Broker.Pass)
	require.NotContains(t, b.String(), "hunter2")
	require.Contains(t, b.String(), `password: "(redacted)"  # iot.yaml:1:20; MILLRACE_IOT_BROKER_PASSWORD`)
	require.Equal(t, "hunter2", c.Broker.Pass.Reveal())
}

func TestPrintedConfigurationReadsBack(t *testing.T) {
	t.Parallel()
	c, origins, err := load("broker: {names: [a, 'b # c'], timeout: 2m}\nbuffer: 1500B\nshare: 0.5")
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, Print(&b, &c, origins, "MILLRACE_IOT_"))
	again, _, err := load(b.String())
	require.NoError(t, err, b.String())
	require.Equal(t, c, again)
}

func TestFlagsOverrideAll(t *testing.T) {
	t.Parallel()
	c := defaults()
	in := Input{File: "iot.yaml", Text: []byte("seed: 1"), Prefix: "X_", Environ: []string{"X_SEED=2"}}
	in.Flags = []Flag{{"seed", "3", "flag -seed"}, {"broker.names", "a,b", "flag -set"}}
	o, err := Load(&c, in)
	require.NoError(t, err)
	require.EqualValues(t, 3, c.Seed)
	require.Equal(t, []string{"a", "b"}, c.Broker.Names)
	require.Equal(t, "flag -seed", o.Of("seed"))

	in.Flags = []Flag{{"sed", "3", "flag -set"}, {"seed", "x", "flag -seed"}}
	_, err = Load(&c, in)
	require.EqualError(t, err, "flag -set: sed: unknown key (did you mean seed?); allowed are broker.url, broker.clients, broker.timeout, broker.mode, broker.password, broker.names, buffer, seed, share, on\n"+
		"flag -seed: seed: \"x\" is not a whole number from 0")
}

func FuzzLoad(f *testing.F) {
	f.Add("broker: {url: x, timeout: 10s}\nbuffer: 1MiB")
	f.Add("a: &a [*a]\n? b\n: c")
	f.Fuzz(func(t *testing.T, text string) {
		c, _, err := load(text)
		if err == nil {
			require.NotEmpty(t, c.Broker.URL)
		}
	})
}

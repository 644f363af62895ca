package flow_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/name, or rewrites it under -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update to make the file")
	require.Equal(t, string(want), string(got), "run the test with -update when the change is meant")
}

func TestGraph(t *testing.T) {
	for name, build := range map[string]func() *flow.Topology{
		"per-minute": func() *flow.Topology { return perMinute() },
		"branching":  branching,
		// A diagram must help to see what is wrong, too.
		"wrong": wrongInEveryWay,
	} {
		t.Run(name, func(t *testing.T) {
			top := build()
			golden(t, name+".mermaid", []byte(top.Mermaid()))
			b, err := json.Marshal(top)
			require.NoError(t, err)
			var pretty bytes.Buffer
			require.NoError(t, json.Indent(&pretty, b, "", "  "))
			pretty.WriteByte('\n')
			golden(t, name+".json", pretty.Bytes())

			var g flow.Graph
			require.NoError(t, json.Unmarshal(b, &g))
			require.Equal(t, top.Graph(), g, "the JSON says all that Graph says")
		})
	}
}

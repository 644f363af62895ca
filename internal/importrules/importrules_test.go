package importrules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/millrace-stream/millrace"

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Standard   bool
}

// rule says what the packages of some folders must not import.
type rule struct {
	name string
	// of tells whether the rule is about a package of this module, by its path below the module's.
	of func(path string) bool
	// deny returns why an import is forbidden, "" if it is not; deep says that it is asked about indirect imports too.
	deny func(from, imported string) string
	deep bool
}

// under tells whether a path is a folder or lies below it.
func under(path string, folders ...string) bool {
	for _, f := range folders {
		if path == f || strings.HasPrefix(path, f+"/") {
			return true
		}
	}
	return false
}

// local is an import path below the module's, and false for one of another module.
func local(importPath string) (string, bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// system is the folder of one system: sources/mqtt/x is of "mqtt".
func system(path string) string {
	_, rest, _ := strings.Cut(path, "/")
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// clients are drivers of outside systems, metrics SDKs and the store: nothing of them may come with the engine.
var clients = []string{
	"github.com/ClickHouse/", "github.com/apache/rocketmq-client-go/", "github.com/eclipse/", "github.com/twmb/franz-go",
	"github.com/mochi-mqtt/", "github.com/ThreeDotsLabs/watermill-", "github.com/IBM/sarama",
	"github.com/prometheus/", "go.opentelemetry.io/", "github.com/cockroachdb/pebble",
}

func client(importPath string) bool {
	return slices.ContainsFunc(clients, func(c string) bool { return strings.HasPrefix(importPath, c) })
}

var rules = []rule{
	{
		name: "the engine imports nothing of this module but itself",
		of:   func(p string) bool { return under(p, "flow") },
		deny: func(_, to string) string {
			if p, ok := local(to); ok && !under(p, "flow") {
				return "flow knows no operators, connectors or topologies"
			}
			return ""
		},
	},
	{
		name: "importing the engine or the operators links no client, metrics SDK or store",
		of: func(p string) bool {
			return under(p, "flow", "operators") && !under(p, "flow/state/pebble", "flow/state/statetest", "flow/flowprom", "flow/flowotel")
		},
		deep: true,
		deny: func(_, to string) string {
			if client(to) {
				return "drivers belong to sources and sinks, metrics to flow/flowprom and flow/flowotel, Pebble to flow/state/pebble"
			}
			return ""
		},
	},
	{
		name: "the engine imports no adapter of its own",
		of: func(p string) bool {
			return p == "flow" || under(p, "flow/codec", "flow/watermark", "flow/internal") || p == "flow/state"
		},
		deep: true,
		deny: func(_, to string) string {
			if p, ok := local(to); ok && under(p, "flow/state/pebble", "flow/state/statetest", "flow/flowtest", "flow/flowprom", "flow/flowotel", "flow/flowui") {
				return "the store, the test kit and the adapters stand on the engine, not under it"
			}
			return ""
		},
	},
	{
		name: "operators use the engine's exported API only",
		of:   func(p string) bool { return under(p, "operators") },
		deny: func(_, to string) string {
			p, ok := local(to)
			switch {
			case !ok:
				return ""
			case under(p, "flow/internal"):
				return "a user's own operator is the built-ins' equal: export what they need"
			case !under(p, "flow", "operators"):
				return "operators know flow only"
			}
			return ""
		},
	},
	{
		name: "sources and sinks import neither operators nor each other",
		of:   func(p string) bool { return under(p, "sources", "sinks") },
		deny: func(from, to string) string {
			p, ok := local(to)
			switch {
			case !ok:
				return ""
			case under(p, "operators", "topologies", "bench"):
				return "a connector knows flow and its system's client"
			case under(p, "flow/internal"):
				return "connectors use the engine's exported API only"
			case under(p, "sources", "sinks"):
				kind, _, _ := strings.Cut(from, "/")
				if !under(p, kind) || system(p) != system(from) {
					return "what both sides of one system share goes to an internal package"
				}
			}
			return ""
		},
	},
	{
		name: "what is shared inside the module knows no topologies",
		of:   func(p string) bool { return under(p, "internal") },
		deny: func(_, to string) string {
			if p, ok := local(to); ok && under(p, "topologies", "bench") {
				return "internal packages stand below topologies and bench"
			}
			return ""
		},
	},
	{
		name: "only tests, benchmarks and commands start servers",
		of:   func(p string) bool { return under(p, "flow", "operators", "sources", "sinks") },
		deny: func(_, to string) string {
			if p, ok := local(to); ok && under(p, "internal/services") {
				return "servers are started by tests, benchmarks and commands"
			}
			return ""
		},
	},
}

// violations lists what the packages do against the rules.
func violations(packages []pkg) []string {
	var vs []string
	for _, p := range packages {
		path, ok := local(p.ImportPath)
		if !ok {
			continue
		}
		for _, r := range rules {
			if !r.of(path) {
				continue
			}
			imports := p.Imports
			if r.deep {
				imports = p.Deps
			}
			for _, to := range imports {
				if why := r.deny(path, to); why != "" {
					vs = append(vs, fmt.Sprintf("%s imports %s: %s (%s)", path, to, why, r.name))
				}
			}
		}
	}
	return vs
}

func TestImportRules(t *testing.T) {
	// go test's cache knows what a test itself has looked at, not what go list reads.
	require.NoError(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			_, err = os.Stat(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}))
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Imports,Deps,Standard", module+"/...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if !p.Standard {
			all = append(all, p)
		}
	}
	require.True(t, slices.ContainsFunc(all, func(p pkg) bool { return p.ImportPath == module+"/flow" }), "go list has not found package flow")
	require.Empty(t, violations(all))
}

// The rules themselves are tried on imports that they must refuse or allow.
func TestRulesRefuse(t *testing.T) {
	for _, c := range []struct {
		from, to string
		deep     bool
		refused  bool
	}{
		{"flow", module + "/operators", false, true},
		{"flow", module + "/sinks/clickhouse", false, true},
		{"flow", module + "/flow/state/pebble", true, true},
		{"flow", "github.com/cockroachdb/pebble/v2", true, true},
		{"flow", "github.com/prometheus/client_golang/prometheus", true, true},
		{"flow/flowprom", "github.com/prometheus/client_golang/prometheus", true, false},
		{"flow/state/pebble", "github.com/cockroachdb/pebble/v2", true, false},
		{"flow", "github.com/ThreeDotsLabs/watermill/message", true, false},
		{"operators", module + "/flow", false, false},
		{"operators", module + "/flow/internal/heap", false, true},
		{"operators/cep", module + "/operators/window", false, false},
		{"operators", module + "/sources/mqtt", false, true},
		{"operators", module + "/internal/mqttconn", false, true},
		{"sources/mqtt", module + "/flow/codec", false, false},
		{"sources/mqtt", module + "/internal/mqttconn", false, false},
		{"sources/mqtt", module + "/operators", false, true},
		{"sources/mqtt", module + "/sources/rocketmq", false, true},
		{"sources/rocketmq", module + "/sinks/rocketmq", false, true},
		{"sinks/clickhouse", module + "/sinks/clickhouse/internal/column", false, false},
		{"sinks/clickhouse", module + "/internal/services", false, true},
		{"internal/rocketmq", module + "/topologies/iot", false, true},
		{"topologies/iot", module + "/sources/mqtt", false, false},
		{"bench/peers", module + "/topologies/iot", false, false},
	} {
		p := pkg{ImportPath: module + "/" + c.from}
		if c.deep {
			p.Deps = []string{c.to}
		} else {
			p.Imports = []string{c.to}
		}
		require.Equal(t, c.refused, len(violations([]pkg{p})) > 0, "%s imports %s", c.from, c.to)
	}
}

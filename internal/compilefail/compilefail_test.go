package compilefail

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	// What the programs import, so that a change there is a change of this test to go test's cache.
	_ "github.com/millrace-stream/millrace/flow"
	_ "github.com/millrace-stream/millrace/flow/codec"
	_ "github.com/millrace-stream/millrace/flow/watermark"
	_ "github.com/millrace-stream/millrace/operators"
	_ "github.com/millrace-stream/millrace/operators/agg"
	_ "github.com/millrace-stream/millrace/operators/window"
)

// Each testdata/*.go.txt is a wrong program, compiled together with prelude.go.txt in a package of its own, which exists only in an
// overlay. Its lines "// want: text" are what the compiler must say, package paths shortened; a line of code that ends in "// here" is where.
func TestWrongPrograms(t *testing.T) {
	here, err := os.Getwd()
	require.NoError(t, err)
	prelude, err := filepath.Abs("testdata/prelude.go.txt")
	require.NoError(t, err)
	files, err := filepath.Glob("testdata/*.go.txt")
	require.NoError(t, err)

	overlay := map[string]string{}
	args := []string{"build", "-gcflags=-e", "-overlay", filepath.Join(t.TempDir(), "overlay.json")}
	var names []string
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".go.txt")
		if name == "prelude" {
			continue
		}
		abs, err := filepath.Abs(f)
		require.NoError(t, err)
		overlay[filepath.Join(here, "wrong", name, "case.go")] = abs
		overlay[filepath.Join(here, "wrong", name, "prelude.go")] = prelude
		args = append(args, "./wrong/"+name)
		names = append(names, name)
	}
	require.NotEmpty(t, names)
	// The prelude alone is right: what fails, fails by the case.
	overlay[filepath.Join(here, "wrong", "right", "prelude.go")] = prelude
	args = append(args, "./wrong/right")

	b, err := json.Marshal(map[string]any{"Replace": overlay})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(args[3], b, 0o600))
	out, _ := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	said := byPackage(string(out))
	require.Empty(t, said["right"], "the prelude does not compile")

	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile(filepath.Join("testdata", name+".go.txt"))
			require.NoError(t, err)
			var wants []string
			line := 0
			for i, l := range strings.Split(string(src), "\n") {
				if w, ok := strings.CutPrefix(l, "// want: "); ok {
					wants = append(wants, w)
				}
				if strings.HasSuffix(l, "// here") {
					line = i + 1
				}
			}
			require.NotEmpty(t, wants, "say what the compiler must say")
			got := short(said[name])
			require.NotEmpty(t, got, "the wrong program compiles; the build said:\n%s", out)
			for _, w := range wants {
				require.Contains(t, got, w)
			}
			if line > 0 {
				require.Contains(t, got, fmt.Sprintf("%s.go.txt:%d:", name, line))
			}
		})
	}
}

// byPackage cuts the output of go build at its "# package" headings.
func byPackage(out string) map[string]string {
	said := map[string]string{}
	name := ""
	for l := range strings.Lines(out) {
		if p, ok := strings.CutPrefix(l, "# "); ok {
			name = filepath.Base(strings.Fields(p)[0])
			continue
		}
		said[name] += l
	}
	return said
}

var packagePath = regexp.MustCompile(`github\.com/millrace-stream/millrace/([a-z]+/)*`)

// short cuts package paths down to package names, and joins lines.
func short(s string) string {
	return strings.Join(strings.Fields(packagePath.ReplaceAllString(s, "")), " ")
}

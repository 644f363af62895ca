package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTrapsHaveTheirTests finds every test that traps.md names, in the folder that it names, and every TestTrap of the connectors
// in traps.md.
func TestTrapsHaveTheirTests(t *testing.T) {
	text, err := os.ReadFile("traps.md")
	require.NoError(t, err)
	where := regexp.MustCompile("`([a-z0-9/]+)` ((?:Test[A-Za-z0-9]+(?:, )?)+)")
	named := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| trap") {
			continue
		}
		found := where.FindAllStringSubmatch(line, -1)
		require.NotEmpty(t, found, "no test: %s", line)
		for _, m := range found {
			tests := testsOf(t, m[1])
			for _, name := range strings.Split(strings.TrimSuffix(m[2], ", "), ", ") {
				require.Contains(t, tests, name, "%s", m[1])
				named[m[1]+" "+name] = true
			}
		}
	}
	for _, pattern := range []string{"../sources/*", "../sinks/*", "../internal/*"} {
		folders, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, f := range folders {
			folder := strings.TrimPrefix(f, "../")
			for name := range testsOf(t, folder) {
				if strings.HasPrefix(name, "TestTrap") {
					require.Contains(t, named, folder+" "+name, "a trap that is not in traps.md")
				}
			}
		}
	}
}

// testsOf are the tests of a folder.
func testsOf(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
	require.NoError(t, err)
	tests := map[string]bool{}
	for _, f := range files {
		src, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`).FindAllStringSubmatch(string(src), -1) {
			tests[m[1]] = true
		}
	}
	return tests
}

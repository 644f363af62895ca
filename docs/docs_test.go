// Package docs holds the documentation; its test holds the documentation to the code.
package docs

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/configdoc"
)

var update = flag.Bool("update", false, "rewrite the tables of configuration")

var (
	block = regexp.MustCompile("(?s)(?:<!-- (\\S+) (\\S+) -->\n)?```go\n(.*?)```")
	link  = regexp.MustCompile(`\[[^\]\n]+\]\(([^)#\s"]+)\)`)
)

func pages(t *testing.T) []string {
	p, err := filepath.Glob("*.md")
	require.NoError(t, err)
	below, err := filepath.Glob("*/*.md")
	require.NoError(t, err)
	return append(append(p, below...), "../README.md")
}

// TestGoBlocksAreCompiled checks that each block of Go in the documentation is a marked part of a file that the build compiles.
func TestGoBlocksAreCompiled(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			require.NotEmpty(t, m[1], "%s: a block of Go without the comment that names its file and part:\n%s", page, m[3])
			src, err := os.ReadFile(filepath.Join("..", m[1]))
			require.NoError(t, err, page)
			part := part(string(src), m[2])
			require.Equal(t, part, m[3], "%s: part %q of %s has changed", page, m[2], m[1])
		}
	}
}

// part returns the lines between "// [name]" and the next marker, without the empty ones around them.
func part(src, name string) string {
	_, rest, _ := strings.Cut(src, "// ["+name+"]\n")
	p, _, _ := strings.Cut(rest, "\n// [")
	return strings.Trim(p, "\n") + "\n"
}

// TestLinksLeadSomewhere checks the links between pages.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			_, err := os.Stat(filepath.Join(filepath.Dir(page), m[1]))
			require.NoError(t, err, "%s links to %s", page, m[1])
		}
	}
}

// TestConfigTables checks that the tables of configuration say what the structs say; -update rewrites them.
func TestConfigTables(t *testing.T) {
	l := configdoc.NewLoader("..")
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		filled, err := l.Fill(string(text))
		require.NoError(t, err, page)
		if filled == string(text) {
			continue
		}
		if *update {
			require.NoError(t, os.WriteFile(page, []byte(filled), 0o600))
			continue
		}
		require.Equal(t, filled, string(text), "%s: a table of configuration is old; write it anew by: make golden", page)
	}
}

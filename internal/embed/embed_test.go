package embed

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	// What the program imports, so that a change there is a change of this test to go test's cache.
	_ "github.com/millrace-stream/millrace/flow"
	_ "github.com/millrace-stream/millrace/flow/codec"
	_ "github.com/millrace-stream/millrace/flow/watermark"
	_ "github.com/millrace-stream/millrace/operators"
	_ "github.com/millrace-stream/millrace/operators/agg"
	_ "github.com/millrace-stream/millrace/operators/window"
	_ "github.com/millrace-stream/millrace/sinks/watermill"
	_ "github.com/millrace-stream/millrace/sources/watermill"
)

// The service in testdata has a module, a router, handlers and a Pub/Sub of its own, and the signals handler of Watermill. It is built
// outside this module's tree, without the network, and ended by SIGTERM while all that it has read waits for its epoch.
func TestServiceOutsideTheTree(t *testing.T) {
	t.Parallel()
	program := build(t)
	const requests = "500"
	cmd := exec.CommandContext(t.Context(), program, requests)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan(), "the service says that it is ready\n%s", &stderr)
	require.Equal(t, "ready: unacked 500 acked 0 invoices 0", lines.Text())
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	var rest []string
	for lines.Scan() {
		rest = append(rest, lines.Text())
	}
	require.NoError(t, cmd.Wait(), "%s\n%s", strings.Join(rest, "\n"), &stderr)
	// The last epoch has delivered and acked everything. A stop is not the end of the stream: windows stay open.
	require.Equal(t, []string{
		"router: <nil>",
		"topology: <nil>",
		"end: unacked 0 acked 500 invoices 500 turnovers 0",
	}, rest)
}

// build makes a module of testdata in a folder of its own and returns its program.
func build(t *testing.T) string {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	dir := t.TempDir()
	files, err := filepath.Glob("testdata/service/*.go.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		src, err := os.ReadFile(f)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, strings.TrimSuffix(filepath.Base(f), ".txt")), src, 0o600))
	}
	// The versions are those of this module, so that nothing has to be fetched.
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	_, requires, found := strings.Cut(string(mod), "\n")
	require.True(t, found)
	const module = "github.com/millrace-stream/millrace"
	mod = []byte("module service.example/orders\n" + requires + "\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + root + "\n")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), mod, 0o600))
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o600))

	program := filepath.Join(dir, "service")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -mod=mod", "GOPROXY=off", "GOWORK=off")
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, string(said))
	return program
}

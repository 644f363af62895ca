package iot

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state"
)

var picture = regexp.MustCompile("(?s)(<!-- picture alarms -->\n```mermaid\n).*?(```\n)")

// TestPicture: the page's picture is the one that the code draws. MILLRACE_UPDATE=1 draws it anew.
func TestPicture(t *testing.T) {
	t.Parallel()
	cfg := withAlarms(t)
	ch := Connect(cfg.ClickHouse)
	defer func() { require.NoError(t, ch.Close()) }()
	top := All(cfg, ch, flow.WithStore(state.InMemory()))
	require.NoError(t, top.Validate())
	const page = "../../docs/topologies/alarms.md"
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Regexp(t, picture, string(text))
	now := picture.ReplaceAllString(string(text), "${1}"+strings.TrimSpace(top.Mermaid())+"\n${2}")
	if os.Getenv("MILLRACE_UPDATE") != "" {
		require.NoError(t, os.WriteFile(page, []byte(now), 0o600))
		return
	}
	require.Equal(t, now, string(text), "the picture is old: draw it anew by MILLRACE_UPDATE=1 go test ./topologies/iot -run Picture")
}

package cep_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/operators/cep"
	chains "github.com/millrace-stream/millrace/topologies/cep"
)

var picture = regexp.MustCompile("(?s)<!-- picture (\\S+) -->\n```mermaid\n.*?```\n")

// TestPictures: the page's pictures are those that the code draws. MILLRACE_UPDATE=1 draws them anew.
func TestPictures(t *testing.T) {
	t.Parallel()
	pictures := map[string]string{
		"overheat-pattern": explained(t, chains.OverheatPattern(func(r chains.Temperature) float64 { return r.Celsius }, chains.OverheatConfig{})),
		"offline-pattern":  explained(t, chains.OfflinePattern[chains.Heartbeat](chains.OfflineConfig{})),
		"line-pattern":     explained(t, chains.LinePattern(func(s chains.Scan) string { return s.Station }, chains.LineConfig{})),
		"overheat-topology": drawn(t, chains.OverheatTopology(flowtest.NewSource[chains.Temperature](), flowtest.NewSink[chains.Overheating](),
			flowtest.NewSink[chains.AlmostOverheating](), chains.OverheatConfig{}, chains.TimeConfig{}, flow.WithStore(state.InMemory()))),
		"offline-topology": drawn(t, chains.OfflineTopology(flowtest.NewSource[chains.Heartbeat](), flowtest.NewSink[chains.Outage](),
			chains.OfflineConfig{}, chains.TimeConfig{}, flow.WithStore(state.InMemory()))),
		"line-topology": drawn(t, chains.LineTopology(flowtest.NewSource[chains.Scan](), flowtest.NewSink[chains.Finished](), flowtest.NewSink[chains.Faulty](),
			flowtest.NewSink[chains.Faulty](), chains.LineConfig{}, chains.TimeConfig{}, flow.WithStore(state.InMemory()))),
	}
	const page = "../../docs/topologies/cep.md"
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	var found int
	now := picture.ReplaceAllStringFunc(string(text), func(old string) string {
		name := picture.FindStringSubmatch(old)[1]
		require.Contains(t, pictures, name)
		found++
		return "<!-- picture " + name + " -->\n```mermaid\n" + strings.TrimSpace(pictures[name]) + "\n```\n"
	})
	require.Equal(t, len(pictures), found)
	if os.Getenv("MILLRACE_UPDATE") != "" {
		require.NoError(t, os.WriteFile(page, []byte(now), 0o600))
	} else {
		require.Equal(t, now, string(text), "a picture is old: draw it anew by MILLRACE_UPDATE=1 go test ./topologies/cep -run Pictures")
	}
}

func explained[T any](t *testing.T, p cep.Pattern[T]) string {
	s, err := p.Explain()
	require.NoError(t, err)
	return s
}

func drawn(t *testing.T, top *flow.Topology) string {
	require.NoError(t, top.Validate())
	return top.Mermaid()
}

package rules

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
)

// TestTheFileOfThePage checks that the rules on the page are those of rules.yaml, and that they are good.
func TestTheFileOfThePage(t *testing.T) {
	yaml, err := os.ReadFile("rules.yaml")
	require.NoError(t, err)
	page, err := os.ReadFile("../../operators/rules.md")
	require.NoError(t, err)
	require.Contains(t, string(page), "```yaml\n"+string(yaml)+"```")
	require.NoError(t, check("rules.yaml", yaml, strings.NewReader(
		`{"gateway":"g1","device":"p7","type":"pump","metric":"temperature","value":95,"at":"2024-05-01T12:00:00Z","site":{"name":"north"}}
{"gateway":"g1","device":"p7","type":"pump","metric":"temperature","value":101,"at":"2024-05-01T12:00:31Z","site":{"name":"north"}}`)))
	require.ErrorContains(t, check("rules.yaml", []byte(strings.Replace(string(yaml), "value < 80", "valu < 80", 1)), nil),
		`rules.yaml:12:12: rule "overheat": clear: unknown name valu: did you mean "value"? the record has at, device, gateway, maintenance, metric, site, type, value`)
}

func TestTheTopologiesAreValid(t *testing.T) {
	for name, build := range map[string]func(flow.Stream[Reading]) flow.Stream[Alarm]{
		"file": alarms,
		"rows": func(in flow.Stream[Reading]) flow.Stream[Alarm] {
			return fromRows(flow.KeyBy(flow.AssignTime(in, "time", at, watermark.BoundedOutOfOrderness(0)), gateway), flow.From(in.Topology(), "rows", flowtest.NewSource[Row]()))
		},
		"api": func(in flow.Stream[Reading]) flow.Stream[Alarm] {
			return overHTTP(flow.KeyBy(flow.AssignTime(in, "time", at, watermark.BoundedOutOfOrderness(0)), gateway), http.NewServeMux())
		},
	} {
		top := flow.New("rules", flow.WithStore(state.InMemory()))
		flow.To(commands(build(flow.From(top, "in", flowtest.NewSource[Reading]()))), "out", flowtest.NewSink[Command]())
		require.NoError(t, top.Validate(), name)
	}
}

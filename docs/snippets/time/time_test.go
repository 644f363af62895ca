package timepage

import (
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
)

// What the page says of the topology that it quotes.
func TestPage(t *testing.T) {
	src, results := flowtest.NewSource[Reading](), flowtest.NewSink[Minute]()
	late, bad := flowtest.NewSink[flow.Late[Reading]](), flowtest.NewSink[flow.Late[Reading]]()
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		top := flow.New("page", opts...)
		timed := withTime(flow.From(top, "in", src))
		connect(timed, perMinute(timed), results, late, bad)
		return top
	}, src)
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	src.Feed(Reading{"a", 20, at(5)}, Reading{"a", 30, at(69)})
	r.Epoch()
	require.Empty(t, results.Values(), "the watermark is below 59 s")
	src.Feed(Reading{"a", 30, at(71)}, Reading{"a", 40, at(6)}, Reading{"a", 30, at(131)}, Reading{"a", 50, at(7)}, Reading{"a", 1, time.Time{}})
	r.Epoch()
	require.Len(t, results.Values(), 3)
	require.EqualValues(t, 20, results.Values()[0].Value)
	require.EqualValues(t, 30, results.Values()[1].Value, "with the late one")
	require.Len(t, late.Values(), 1)
	require.Len(t, bad.Values(), 1)
	_, problem := simulated().Settings()
	require.Empty(t, problem)
	r.Stop()
}

// Each test that the page names exists.
func TestPageNamesTests(t *testing.T) {
	page, err := os.ReadFile("../../time.md")
	require.NoError(t, err)
	tests, err := os.ReadFile("../../../operators/time_failures_test.go")
	require.NoError(t, err)
	named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(page, -1)
	require.Len(t, named, 9)
	for _, n := range named {
		require.Contains(t, string(tests), "func "+string(n[1])+"(t *testing.T)")
	}
}

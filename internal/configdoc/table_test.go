package configdoc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/configdoc"
)

func TestFill(t *testing.T) {
	l := configdoc.NewLoader("../..")
	page := "before\n<!-- config: sources/rocketmq.Config -->\nold\n<!-- /config -->\nafter\n"
	filled, err := l.Fill(page)
	require.NoError(t, err)
	require.NotContains(t, filled, "old")
	require.Contains(t, filled, "| `topic` | string | required |", "a field of the struct itself")
	require.Contains(t, filled, "| `poll_timeout` | duration | 15 s | How long the broker")
	require.Contains(t, filled, "| `name_servers` |", "a field of an embedded struct, by an alias into another package")
	require.Contains(t, filled, `\|\|`, "bars do not end cells")
	again, err := l.Fill(filled)
	require.NoError(t, err)
	require.Equal(t, filled, again)

	_, err = l.Fill("<!-- config: sources/rocketmq.Nothing -->\n<!-- /config -->")
	require.ErrorContains(t, err, "no struct Nothing")
}

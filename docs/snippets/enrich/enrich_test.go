package enrich

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/operators"
)

func TestTopologiesAreValid(t *testing.T) {
	for _, enrich := range []func(flow.Stream[Reading]) (flow.Stream[Placed], error){
		fromSQL,
		func(s flow.Stream[Reading]) (flow.Stream[Placed], error) {
			return patient(s, operators.LookupFunc[string, Place](nil)), nil
		},
	} {
		top := flow.New("places", flow.WithStore(state.InMemory()))
		placed, err := enrich(flow.From(top, "readings", flowtest.NewSource[Reading]()))
		require.NoError(t, err)
		flow.To(placed, "out", flowtest.NewSink[Placed]())
		require.NoError(t, top.Validate())
	}
}

func TestLookups(t *testing.T) {
	_, err := byQuery()
	require.NoError(t, err)
	_, err = fromRedis()
	require.NoError(t, err)
	_, err = fromHTTP()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "sites.csv")
	require.NoError(t, os.WriteFile(path, []byte("site,name\na,Hall\n"), 0o600))
	sites, err := fromFile(path)
	require.NoError(t, err)
	require.Equal(t, 1, sites.Len())
	require.NoError(t, os.WriteFile(path, []byte("site,name\na,\n"), 0o600))
	_, err = fromFile(path)
	require.ErrorContains(t, err, "line 2: the site has no name")
}

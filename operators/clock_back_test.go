package operators_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A clock that is set back by an hour changes nothing for event time: watermarks follow from the records alone.
func TestClockSetBack(t *testing.T) {
	src, out, late, r := windowed(t, 2, 0)
	src.Feed(event{"a", 1, 0})
	r.Epoch()
	r.Clock.Set(r.Clock.Now().Add(-time.Hour))
	src.Feed(event{"a", 2, 30}, event{"a", 3, 70})
	r.Epoch()
	r.Clock.Advance(time.Minute)
	r.Epoch()
	require.Len(t, out.Values(), 1)
	require.Equal(t, stats{2, 3}, out.Values()[0].Value)
	require.Empty(t, late.Values())
	r.Stop()
}

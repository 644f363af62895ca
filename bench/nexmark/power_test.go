package nexmark

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPower(t *testing.T) {
	r := random{1}
	for range 1_000_000 {
		x := r.unit() * 6
		if want := math.Pow(10, x); math.Abs(power(x)-want) > 2e-15*want {
			t.Fatalf("10^%v is %v, and not %v", x, want, power(x))
		}
	}
	require.InEpsilon(t, 1, power(0), 1e-15)
	require.InEpsilon(t, 1e6, power(math.Nextafter(6, 0)), 1e-14)
}

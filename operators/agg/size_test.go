package agg

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

type sized struct{ v float64 }

func (s sized) value() float64 { return s.v }
func (s sized) name() string   { return "" }

// bytesOf is what a store allocates for one slot, without what the accumulator points to.
func bytesOf[T, R any](a placer[T, R]) int {
	s := &store[T, R]{}
	s.p = a.place(&s.l)
	n := s.l.size
	for _, b := range s.l.slabs {
		if b != s.l.rows {
			n += b.stride
		}
	}
	return int(n)
}

func ownSize[R any](t *testing.T, a Aggregate[sized, R]) int {
	p, ok := a.(placer[sized, R])
	require.True(t, ok)
	return bytesOf(p)
}

// TestSizesInTheDocumentation pins the column "bytes" of docs/operators/aggregates.md, for float64 and strings.
func TestSizesInTheDocumentation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operators/aggregates.md")
	require.NoError(t, err)
	of, name := sized.value, sized.name
	for fn, want := range map[string]int{
		"Count": ownSize(t, Count(of)), "Sum": ownSize(t, Sum(of)), "Avg": ownSize(t, Avg(of)), "StdDev": ownSize(t, StdDev(of)),
		"Variance": ownSize(t, Variance(of)), "Min": ownSize(t, Min(of)), "First": ownSize(t, First(of)), "ArgMin": ownSize(t, ArgMin(of, of)),
		"Largest": ownSize(t, Largest(of, name, 5)), "Collect": ownSize(t, Collect(of, 5, KeepFirst)),
		"TimeWeightedAvg": ownSize(t, TimeWeightedAvg(of)), "Increase": ownSize(t, Increase(of)),
		"Histogram": ownSize(t, Histogram(of, 1, 2, 3)), "Quantiles": ownSize(t, Quantiles(of, 0.01, 0.5)), "Distinct": ownSize(t, Distinct(of, 0.01)),
		"TopK": ownSize(t, TopK(name, 1, 2)),
	} {
		row := regexp.MustCompile("(?m)^\\| `" + fn + "`[^|]*\\|[^|]*\\| ([0-9]+)").FindStringSubmatch(string(page))
		require.NotNil(t, row, "docs/operators/aggregates.md has no row of %s", fn)
		got, err := strconv.Atoi(row[1])
		require.NoError(t, err)
		require.Equal(t, want, got, "docs/operators/aggregates.md on %s", fn)
	}
	require.Equal(t, 16, ownSize(t, Min(of)))
	var sizes []string
	for _, e := range []float64{0.01, 0.033} {
		p := Distinct(of, e).(*distinct[sized, float64]).precision()
		sizes = append(sizes, fmt.Sprintf("%d, then %s bytes", max(8, 1<<p/32)*8, thousands(1<<p)))
	}
	for _, s := range sizes {
		require.Contains(t, string(page), s)
	}
}

func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return strconv.Itoa(n/1000) + "," + fmt.Sprintf("%03d", n%1000)
}

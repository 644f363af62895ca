package huge_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow/huge"
)

func TestGrow(t *testing.T) {
	for _, step := range []int{1, 64, 1000, 300_000} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			var s []uint64
			for n := 0; n < 16; n++ {
				at := len(s)
				s = huge.Grow(s, step)
				require.Len(t, s, at+step)
				for i := range s[at:] {
					require.Zero(t, s[at+i])
					s[at+i] = uint64(at + i)
				}
				if n%7 == 6 { // what was there before is not there again
					s = s[:len(s)-step/2]
				}
				for i := range s {
					if s[i] != uint64(i) {
						t.Fatalf("place %d has %d", i, s[i])
					}
				}
			}
		})
	}
}

func TestMake(t *testing.T) {
	for _, n := range []int{0, 1, 1 << 10, 3 << 20} {
		s := huge.Make[[3]uint32](n)
		require.Len(t, s, n)
		for i := range s {
			if s[i] != [3]uint32{} {
				t.Fatal("not zero")
			}
			s[i][2] = uint32(i)
		}
	}
}

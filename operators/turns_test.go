package operators

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

// Keys come out by time, whatever order they were put in, each with the earliest of its times since it last came out.
func TestTurnsComeInOrder(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		var q turns
		due := map[flow.Slot]dueTime{}
		clock := flow.Timestamp(0)
		for range 2000 {
			clock += flow.Timestamp(r.IntN(3))
			key := flow.Slot(r.IntN(200))
			e := dueTime{clock + flow.Timestamp(r.IntN(1+int(seed%3)*20)), uint16(key % 7), key}
			q.add(e)
			if had, ok := due[key]; !ok || e.at < had.at {
				due[key] = e
			}
			if r.IntN(10) > 0 {
				continue
			}
			var want, got []dueTime
			for k, d := range due {
				if d.at <= clock {
					want = append(want, d)
					delete(due, k)
				}
			}
			slices.SortFunc(want, func(a, b dueTime) int {
				if a.less(b) {
					return -1
				}
				return 1
			})
			for e, ok := q.pop(clock); ok; e, ok = q.pop(clock) {
				got = append(got, e)
			}
			require.Equal(t, want, got, "seed %d", seed)
		}
		require.LessOrEqual(t, cap(q.line), 8192, "what has gone makes room")
	}
}

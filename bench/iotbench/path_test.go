package iotbench_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/iotbench"
	"github.com/millrace-stream/millrace/topologies/iot"
)

func TestPath(t *testing.T) {
	t.Parallel()
	const n = 30_000
	s := iotbench.Size{Devices: 50, Every: 10 * time.Millisecond, Seed: 5} // five minutes
	sites := iot.Sites()
	type minute struct {
		device string
		end    int64
	}
	of := map[minute][]iot.Reading{}
	seen := map[int64]bool{}
	var want []row
	heartbeats, repeats := 0, 0
	for i := range int64(n) {
		r := s.Reading(i)
		switch {
		case r.Kind == iot.KindHeartbeat:
			heartbeats++
		case r.Temperature > 85:
			want = append(want, row{Of: "invalid", Key: r.DeviceID, At: r.TS, N: r.Seq})
		case seen[r.Seq]:
			repeats++
		case r.TS < begin:
			seen[r.Seq] = true
			want = append(want, row{Of: "late", Key: r.DeviceID, At: r.TS, N: r.Seq})
		default:
			seen[r.Seq] = true
			m := minute{r.DeviceID, r.TS - r.TS%60_000 + 60_000}
			of[m] = append(of[m], r)
		}
	}
	require.InDelta(t, n/20, heartbeats, n/100)
	require.Greater(t, repeats, n/100)
	require.Greater(t, len(want), n/100, "late and invalid ones")
	for m, rs := range of {
		last := rs[len(rs)-1]
		r := row{Of: "minute", Key: m.device, At: m.end, Count: int64(len(rs)), Least: rs[0].Temperature, Most: rs[0].Temperature,
			Text: last.Site + " " + iot.RegionOf(sites, last.Site), N: min((m.end-begin)/10-1, n-1)}
		for _, x := range rs {
			r.Value += x.Temperature / float64(len(rs))
			r.Least, r.Most = min(r.Least, x.Temperature), max(r.Most, x.Temperature)
		}
		want = append(want, r)
	}
	require.Len(t, of, 50*5)
	same(t, want, results(t, "path", s, n))
}

package iotbench_test

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/iotbench"
)

func TestYahooCountsViewsPerCampaign(t *testing.T) {
	t.Parallel()
	const n = 20_000
	s := iotbench.Size{Devices: 100, Every: 3 * time.Millisecond, Seed: 5}
	ads := iotbench.NewAds(s)
	type window struct {
		campaign string
		end      int64
	}
	counts := map[window]row{}
	views := 0
	for i := range int64(n) {
		var e map[string]string
		require.NoError(t, json.Unmarshal(ads.Append(nil, i), &e))
		require.Len(t, e, 7)
		if e["event_type"] != "view" {
			continue
		}
		views++
		at, err := strconv.ParseInt(e["event_time"], 10, 64)
		require.NoError(t, err)
		w := window{ads.Campaign(e["ad_id"]), at - at%10_000 + 10_000}
		require.NotEmpty(t, w.campaign)
		r := counts[w]
		counts[w] = row{Key: w.campaign, At: w.end, Count: r.Count + 1, N: i}
	}
	require.InDelta(t, n/3, views, n/30)
	var want []row
	for _, r := range counts {
		want = append(want, r)
	}
	require.Len(t, want, 10*6, "ten campaigns, a minute")
	same(t, want, results(t, "yahoo", s, n))
}

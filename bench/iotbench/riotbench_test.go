package iotbench_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/iotbench"
)

// entry is what the tests read of SenML.
type entry struct {
	BN string  `json:"bn"`
	BT float64 `json:"bt"`
	N  string  `json:"n"`
	V  float64 `json:"v"`
	S  string  `json:"vs"`
}

// message is one of the generator, read by encoding/json.
type message struct {
	sensor string
	at, n  int64
	names  []string
	values []float64
}

func messages(t *testing.T, s iotbench.Size, n int64) []message {
	all := make([]message, n)
	for i := range all {
		var es []entry
		require.NoError(t, json.Unmarshal(s.Message(nil, int64(i)), &es))
		require.Len(t, es, 5)
		m := message{sensor: strings.TrimSuffix(es[0].BN, ":"), at: int64(math.Round(es[0].BT * 1000)), n: int64(i)}
		require.Equal(t, begin+int64(i)*s.Every.Milliseconds(), m.at)
		for _, e := range es {
			m.names, m.values = append(m.names, e.N), append(m.values, e.V)
		}
		all[i] = m
	}
	return all
}

var limits = map[string][2]float64{
	"temperature": {-12.5, 43.1}, "humidity": {10.7, 95.2}, "light": {1345, 26282}, "dust": {186.61, 5188.21}, "airquality": {17, 363},
}

func TestETL(t *testing.T) {
	t.Parallel()
	const n, devices = 4_000, 40
	s := iotbench.Size{Devices: devices, Every: time.Millisecond, Seed: 5}
	past := map[string][]float64{}
	type cleaned struct {
		at, filled, n int64
		values        map[string]float64
	}
	want := map[string]cleaned{}
	unknown, filled := 0, int64(0)
	for _, m := range messages(t, s, n) {
		var number int
		_, err := fmt.Sscanf(m.sensor, "urn:dev:sensor:%d", &number)
		require.NoError(t, err)
		if number >= devices {
			unknown++
			continue
		}
		c := cleaned{at: m.at, n: m.n, values: map[string]float64{}}
		for k, name := range m.names {
			key, v := m.sensor+name, m.values[k]
			if v >= limits[name][0] && v <= limits[name][1] {
				past[key] = append(past[key], v)
				c.values[name] = v
				continue
			}
			before := past[key]
			before = before[max(0, len(before)-5):]
			if len(before) == 0 {
				continue
			}
			sum := 0.0
			for _, b := range before {
				sum += b
			}
			c.values[name] = sum / float64(len(before))
			c.filled++
		}
		filled += c.filled
		want[fmt.Sprint(m.sensor, m.at)] = c
	}
	require.Greater(t, unknown, 20)
	require.Greater(t, filled, int64(100))
	got := results(t, "riotbench-etl", s, n)
	require.Len(t, got, len(want))
	for _, r := range got {
		w, ok := want[fmt.Sprint(r.Key, r.At)]
		require.True(t, ok, r.Key)
		require.Equal(t, w.filled, r.Count)
		require.Equal(t, w.n, r.N)
		var es []entry
		require.NoError(t, json.Unmarshal([]byte(r.Text), &es))
		require.Equal(t, r.Key+":", es[0].BN)
		require.Equal(t, float64(w.at)/1000, es[0].BT)
		require.NotEmpty(t, es[0].S, "a city")
		require.Len(t, es, 3+len(w.values))
		for _, e := range es[3:] {
			require.InDelta(t, w.values[e.N], e.V, 1e-9, e.N)
		}
	}
}

func TestSTATS(t *testing.T) {
	t.Parallel()
	const n = 3_000
	s := iotbench.Size{Devices: 30, Every: 50 * time.Millisecond, Seed: 5}
	type minute struct {
		name string
		end  int64
	}
	type series struct {
		values, estimates []float64
		estimate, err     float64
	}
	var want []row
	of := map[string]*series{}
	times := map[minute]map[float64]float64{} // how often each value
	sensors := map[minute]map[string]bool{}
	for _, m := range messages(t, s, n) {
		for k, name := range m.names {
			v, key := m.values[k], m.sensor+":"+name
			w := minute{name, m.at - m.at%60_000 + 60_000}
			if times[w] == nil {
				times[w], sensors[w] = map[float64]float64{}, map[string]bool{}
			}
			times[w][v]++
			sensors[w][m.sensor] = true
			if of[key] == nil {
				of[key] = &series{err: 30}
			}
			x := of[key]
			x.values = append(x.values, v)
			if c := len(x.values); c%10 == 0 {
				sum := 0.0
				for _, v := range x.values[c-10:] {
					sum += v
				}
				want = append(want, row{Of: "average", Key: key, At: m.at, Value: sum / 10, N: m.n})
			}
			p := x.err + 0.125
			x.estimate, x.err = x.estimate+p/(p+0.32)*(v-x.estimate), (1-p/(p+0.32))*p
			x.estimates = append(x.estimates, x.estimate)
			want = append(want, row{Of: "prediction", Key: key, At: m.at, Value: extrapolated(x.estimates[max(0, len(x.estimates)-10):]), N: m.n})
		}
	}
	var each, windows []row
	for _, r := range results(t, "riotbench-stats", s, n) {
		if r.Of == "average" || r.Of == "prediction" {
			each = append(each, r)
		} else {
			windows = append(windows, r)
		}
	}
	same(t, want, each)
	require.Len(t, windows, 2*len(times))
	for _, r := range windows {
		w := minute{r.Key, r.At}
		if r.Of == "distinct" {
			require.InEpsilon(t, len(sensors[w]), r.Count, 0.06)
			continue
		}
		exact := 0.0
		for _, c := range times[w] {
			exact += c * c
		}
		require.InEpsilon(t, exact, r.Value, 0.7, "four standard errors")
	}
}

// extrapolated is the next value of a line through some, by the distances from their means.
func extrapolated(ys []float64) float64 {
	n := float64(len(ys))
	mean := 0.0
	for _, y := range ys {
		mean += y / n
	}
	var up, down float64
	for i, y := range ys {
		dx := float64(i) - (n-1)/2
		up, down = up+dx*(y-mean), down+dx*dx
	}
	if down == 0 {
		return mean
	}
	return mean + up/down*(n-(n-1)/2)
}

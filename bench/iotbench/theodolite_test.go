package iotbench_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/bench/iotbench"
)

type power = iotbench.Power

func powers(s iotbench.Size, n int64) []power {
	all := make([]power, n)
	for i := range all {
		s.Power(int64(i), &all[i])
	}
	return all
}

func sensor(n int64) string { return "sensor-" + strconv.FormatInt(n, 10) }

func TestUC1StoresEachReading(t *testing.T) {
	t.Parallel()
	s := iotbench.Size{Devices: 70, Every: 10 * time.Millisecond, Seed: 3}
	var want []row
	for _, p := range powers(s, 5_000) {
		want = append(want, row{Key: sensor(p.Sensor), At: p.At, Value: p.Watts, N: p.N})
	}
	same(t, want, results(t, "theodolite-uc1", s, 5_000))
}

// described is what UC2 and UC3 say of some readings.
func described(key string, end int64, ps []power) row {
	r := row{Key: key, At: end, Count: int64(len(ps)), Least: ps[0].Watts, Most: ps[0].Watts}
	for _, p := range ps {
		r.Value += p.Watts / float64(len(ps))
		r.Least, r.Most, r.N = min(r.Least, p.Watts), max(r.Most, p.Watts), max(r.N, p.N)
	}
	for _, p := range ps {
		r.Variance += (p.Watts - r.Value) * (p.Watts - r.Value) / float64(len(ps))
	}
	return r
}

func TestUC2IsAMinutePerSensor(t *testing.T) {
	t.Parallel()
	s := iotbench.Size{Devices: 13, Every: 100 * time.Millisecond, Seed: 3}
	type minute struct{ sensor, end int64 }
	var want []row
	for k, ps := range group(powers(s, 10_000), func(p power) minute { return minute{p.Sensor, p.At - p.At%60_000 + 60_000} }) {
		want = append(want, described(sensor(k.sensor), k.end, ps))
	}
	require.Greater(t, len(want), 200)
	same(t, want, results(t, "theodolite-uc2", s, 10_000))
}

func TestUC3IsTheSameHourOfThirtyDays(t *testing.T) {
	t.Parallel()
	s := iotbench.Size{Devices: 3, Every: 11 * time.Minute, Seed: 3}
	const day, n = 86_400_000, 6_000 // 45 days
	type hour struct{ sensor, hour, end int64 }
	of := map[hour][]power{}
	for _, p := range powers(s, n) {
		for end := p.At - p.At%day + day; end <= p.At+30*day; end += day {
			k := hour{p.Sensor, p.At / 3_600_000 % 24, end}
			of[k] = append(of[k], p)
		}
	}
	var want []row
	for k, ps := range of {
		want = append(want, described(fmt.Sprintf("%s at %d", sensor(k.sensor), k.hour), k.end, ps))
	}
	require.Greater(t, len(want), 3*24*40)
	same(t, want, results(t, "theodolite-uc3", s, n))
}

func TestUC4IsThePowerOfGroups(t *testing.T) {
	t.Parallel()
	s := iotbench.Size{Devices: 240, Every: 7 * time.Millisecond, Seed: 3}
	places := s.Places()
	moved := 0
	where := func(p power) (groups [3]int64) {
		for _, at := range places { // the last one that is not later
			if at.Sensor == p.Sensor && at.At <= p.At {
				groups = at.Groups
			}
		}
		return groups
	}
	type window struct{ group, end int64 }
	latest := map[window]map[int64]power{}
	homes := map[int64][3]int64{}
	for _, p := range powers(s, 5_000) {
		groups := where(p)
		if old, ok := homes[p.Sensor]; ok && old != groups {
			moved++
		}
		homes[p.Sensor] = groups
		for _, g := range groups {
			w := window{g, p.At - p.At%5000 + 5000}
			if latest[w] == nil {
				latest[w] = map[int64]power{}
			}
			latest[w][p.Sensor] = p
		}
	}
	require.Greater(t, moved, 10)
	name := func(g int64) string {
		switch {
		case g == 0:
			return "building"
		case g <= 10:
			return fmt.Sprint("floor-", g)
		}
		return fmt.Sprint("room-", g-10)
	}
	var want []row
	for w, sensors := range latest {
		r := row{Key: name(w.group), At: w.end, Count: int64(len(sensors))}
		for _, p := range sensors {
			r.Value += p.Watts
			r.N = max(r.N, p.N)
		}
		want = append(want, r)
	}
	same(t, want, results(t, "theodolite-uc4", s, 5_000))
}

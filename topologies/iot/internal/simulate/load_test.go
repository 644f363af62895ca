package simulate

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/topologies/iot"
)

func load() Load {
	return Load{
		Seed: 1, Devices: 10_000, HotEvery: 1000, Duplicates: 0.02, Malformed: 0.01, Late: 0.01, Invalid: 0.005, Heartbeats: 0.05,
		LateFrom: 10_000, Recent: 1024,
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	l := load()
	const n = 200_000
	kinds := map[int]int{}
	perDevice := map[int]int{}
	heartbeats, disorder := 0, int64(0)
	for i := range int64(n) {
		m := l.message(i)
		require.Equal(t, m, l.message(i), "the same message each time")
		kinds[m.kind]++
		perDevice[m.device]++
		if l.heartbeat(i) {
			heartbeats++
		}
		if m.kind == late {
			require.GreaterOrEqual(t, i, l.LateFrom)
			require.GreaterOrEqual(t, m.behind, time.Hour.Milliseconds())
			require.Less(t, m.behind, (3 * time.Hour).Milliseconds())
			require.Zero(t, l.clock(m.device))
		} else {
			disorder = max(disorder, m.behind)
			require.GreaterOrEqual(t, m.behind, int64(0))
		}
	}
	require.InEpsilon(t, n*0.02, kinds[duplicate], 0.05)
	require.InEpsilon(t, n*0.01, kinds[malformed], 0.1)
	require.InEpsilon(t, n*0.95*0.01, kinds[late], 0.1)
	require.InEpsilon(t, n*0.005, kinds[invalid], 0.1)
	require.InEpsilon(t, n*0.05, heartbeats, 0.05)
	require.LessOrEqual(t, disorder, MaxDisorder.Milliseconds())
	require.Greater(t, disorder, int64(4900))
	require.Greater(t, len(perDevice), 9990)
	hot, cold := 0, 0
	for d, count := range perDevice {
		require.GreaterOrEqual(t, d, 0)
		require.Less(t, d, l.Devices)
		if d%1000 == 0 {
			hot += count
		} else {
			cold += count
		}
	}
	require.InEpsilon(t, 100.0, float64(hot)/10/(float64(cold)/9990), 0.05, "a hot device sends 100 times more")
	clocks := map[time.Duration]int{}
	for d := range l.Devices {
		clocks[l.clock(d)]++
	}
	require.Equal(t, map[time.Duration]int{0: 9990, twoHours: 5, year: 5}, clocks)
}

func TestEveryDeviceIsDrawnOnce(t *testing.T) {
	t.Parallel()
	for _, l := range []Load{{Devices: 1500, HotEvery: 1000}, {Devices: 1000, HotEvery: 1000}, {Devices: 7, HotEvery: 2}, {Devices: 3}} {
		seen := map[int]bool{}
		for i := range uint64(200_000) {
			seen[l.device(random(3, i))] = true
		}
		require.Len(t, seen, l.Devices)
		for d := range l.Devices {
			require.True(t, seen[d], "%+v: device %d", l, d)
		}
	}
}

func TestReadingIsWhatTheDevicesSend(t *testing.T) {
	t.Parallel()
	l := load()
	for i := range int64(20_000) {
		m := l.message(i)
		text := appendReading(nil, &m, iot.KindReading, 1_700_000_000_123)
		require.GreaterOrEqual(t, len(text), 110, "%s", text)
		require.LessOrEqual(t, len(text), 250, "%s", text)
		var r iot.Reading
		require.NoError(t, json.Unmarshal(text, &r), "%s", text)
		require.Equal(t, iot.Reading{
			DeviceID: DeviceName(m.device), Site: iot.SiteName(m.device), Kind: iot.KindReading, TS: 1_700_000_000_123, Seq: i,
			Temperature: m.temperature.Float(), Humidity: m.humidity.Float(),
		}, r)
		require.Equal(t, m.kind != invalid, r.Valid(), "%s", text)
	}
	m := message{device: 3, index: 5, temperature: -5, humidity: 7}
	require.Equal(t, `{"deviceId":"dev-0000003","site":"site-003","kind":"reading","ts":9,"seq":5,"temperature":-0.05,"humidity":0.07}`,
		string(appendReading(nil, &m, iot.KindReading, 9)))
	require.Equal(t, `{"deviceId":"dev-0000003","site":"site-003","kind":"heartbeat","ts":9,"seq":5}`,
		string(appendReading(nil, &m, iot.KindHeartbeat, 9)))
	require.Equal(t, "dev-0000000 dev-0009999 dev-1234567 dev-12345678", DeviceName(0)+" "+DeviceName(9999)+" "+DeviceName(1234567)+" "+DeviceName(12345678))
}
func TestMalformedIsRefusedAndUnique(t *testing.T) {
	t.Parallel()
	l := load()
	l.Malformed, l.Duplicates = 1, 0
	seen := map[string]int{}
	for i := range int64(20_000) {
		m := l.message(i)
		text := appendMalformed(nil, &m, 1_700_000_000_000)
		seen[string(text)]++
		var r iot.Reading
		require.Error(t, iot.ReadingCodec().Decode(text, &r), "%q", text)
	}
	require.Greater(t, seen[""], 100)
	require.Len(t, seen, 20_000-seen[""]+1)
}

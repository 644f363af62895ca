package iot

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/operators/window"
)

// bundle is the path between a scripted source and sinks that remember.
type bundle struct {
	*flowtest.Run
	src      *flowtest.Source[Reading]
	minutes  *flowtest.Sink[window.Result[string, Minute]]
	late     *flowtest.Sink[flow.Late[Placed]]
	badClock *flowtest.Sink[flow.Late[Reading]]
	invalid  *flowtest.Sink[Reading]
}

func setup(t *testing.T, mode flow.Replay) *bundle {
	b := &bundle{
		src: flowtest.NewSource[Reading](), minutes: flowtest.NewSink[window.Result[string, Minute]](),
		late: flowtest.NewSink[flow.Late[Placed]](), badClock: flowtest.NewSink[flow.Late[Reading]](), invalid: flowtest.NewSink[Reading](),
	}
	b.src.Mode = mode
	b.Run = flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
		t := flow.New("iot", opts...)
		cfg := DefaultConfig()
		clean := Clean(Accepted(flow.From(t, "readings", b.src), "accepted"), "clean", Sites(), cfg.Time)
		minutes := PerMinute(Fresh(clean, "per-minute/dedup", cfg.Dedup), "per-minute/window", cfg.Time)
		flow.To(minutes, "minutes", b.minutes)
		flow.To(minutes.Late(), "late", b.late)
		flow.To(clean.BadClock(), "bad-clock", b.badClock)
		flow.To(clean.Invalid(), "invalid", b.invalid)
		return t
	}, b.src)
	return b
}

// feed feeds readings which the broker takes at the time that at says.
func (b *bundle) feed(at time.Duration, readings ...Reading) {
	reference := flow.TimestampOf(midnight.Add(at))
	for _, r := range readings {
		b.src.FeedRecords("0", flow.Record[Reading]{Value: r, Time: reference})
	}
}

var midnight = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// reading is one of device d at the time at.
func reading(d string, seq int64, at time.Duration, temperature float64) Reading {
	return Reading{DeviceID: d, Site: "site-001", Kind: KindReading, TS: midnight.Add(at).UnixMilli(), Seq: seq, Temperature: temperature, Humidity: 50}
}

// rows are the last word on each device and minute, as ReplacingMergeTree keeps it.
func (b *bundle) rows() map[string]Minute {
	rows := map[string]Minute{}
	for _, w := range b.minutes.Values() {
		rows[w.Key+" "+w.Start.Time().Format("15:04")] = w.Value
	}
	return rows
}

func TestPath(t *testing.T) {
	t.Parallel()
	b := setup(t, flow.Seek)
	heartbeat := reading("a", 9, time.Second, 0)
	heartbeat.Kind = KindHeartbeat
	nowhere := reading("b", 1, 2*time.Second, -5)
	nowhere.Site = "site-999"
	b.feed(2*time.Second, reading("a", 1, time.Second, 20), heartbeat, nowhere, reading("a", 2, 0, 23), reading("a", 1, time.Second, 20))
	b.feed(3*time.Second, reading("a", 3, 2*time.Hour, 7)) // a fast clock makes nobody late …
	b.feed(4*time.Second, reading("a", 4, 3*time.Second, 26))
	b.feed(4*time.Second, reading("c", 5, 25*time.Hour, 7), reading("c", 6, 4*time.Second, 85.01)) // … and one that is off does not count
	b.feed(90*time.Second, reading("a", 7, 90*time.Second, 1))
	b.feed(90*time.Second, reading("a", 8, 5*time.Second, 99.9-80)) // within the allowed lateness of 10 s: not gone yet at 80 s
	b.feed(3*time.Minute, reading("a", 10, 3*time.Minute, 2))       // now it is
	b.feed(3*time.Minute, reading("a", 11, time.Second, 30))        // late
	b.feed(3*time.Minute, reading("a", 11, time.Second, 30))        // its repeat
	b.Flush()
	rows := b.rows()
	require.Len(t, rows, 5)
	first := rows["a 00:00"]
	require.InDelta(t, (20+23+26)/3.0, first.Avg, 1e-9)
	first.Avg = 0
	require.Equal(t, Minute{Count: 3, Min: 20, Max: 26, Site: "site-001", Region: "east"}, first)
	require.Equal(t, Minute{Count: 1, Avg: -5, Min: -5, Max: -5, Site: "site-999", Region: UnknownRegion}, rows["b 00:00"])
	require.Equal(t, int64(1), rows["a 02:00"].Count)
	var late []int64
	for _, l := range b.late.Values() {
		late = append(late, l.Value.Seq)
	}
	require.Equal(t, []int64{8, 11}, late)
	require.Len(t, b.badClock.Values(), 1)
	require.Equal(t, int64(5), b.badClock.Values()[0].Value.Seq)
	require.Len(t, b.invalid.Values(), 1)
	require.Equal(t, int64(6), b.invalid.Values()[0].Seq)
}

func TestAllowedLatenessCorrectsTheRow(t *testing.T) {
	t.Parallel()
	b := setup(t, flow.Seek)
	b.feed(time.Second, reading("a", 1, time.Second, 20))
	b.feed(75*time.Second, reading("a", 2, 75*time.Second, 30)) // watermark 65 s: the minute has fired
	b.Settle()
	b.Epoch()
	require.Equal(t, int64(1), b.rows()["a 00:00"].Count)
	b.feed(75*time.Second, reading("a", 3, 2*time.Second, 22))
	b.Settle()
	b.Epoch()
	require.Equal(t, int64(2), b.rows()["a 00:00"].Count)
	require.Empty(t, b.late.Values())
}

func TestCrashesChangeNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []flow.Replay{flow.Seek, flow.Redeliver} {
		var want map[string]Minute
		for crash := -1; crash < 6; crash++ {
			b := setup(t, mode)
			seq := int64(0)
			for step := range 6 {
				at := time.Duration(step) * 25 * time.Second
				for _, d := range []string{"a", "b", "c"} {
					seq++
					r := reading(d, seq, at, float64(seq))
					b.feed(at, r, r)
				}
				b.Settle()
				if step%2 == 1 {
					b.Epoch()
				}
				if step == crash {
					b.Crash()
				}
			}
			b.Flush()
			if want == nil {
				want = b.rows()
				require.Len(t, want, 9)
				continue
			}
			require.Equal(t, want, b.rows(), "mode %v, crash after step %d", mode, crash)
		}
	}
}

func TestTopologiesAreValid(t *testing.T) {
	t.Parallel()
	ch := Connect(DefaultConfig().ClickHouse)
	defer func() { require.NoError(t, ch.Close()) }()
	store := flow.WithStore(state.InMemory())
	for _, top := range []*flow.Topology{All(DefaultConfig(), ch, store), Ingest(DefaultConfig(), ch), Data(DefaultConfig(), ch, store)} {
		require.NoError(t, top.Validate())
	}
}

// TestDedupIsDemanded: MQTT delivers again after a crash, so the engine refuses a path whose repeats could count.
func TestDedupIsDemanded(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Dedup.TTL = time.Minute // less than a window and its lateness
	ch := Connect(cfg.ClickHouse)
	defer func() { require.NoError(t, ch.Close()) }()
	require.ErrorIs(t, All(cfg, ch, flow.WithStore(state.InMemory())).Validate(), flow.ErrInvalid)
}

func TestDDL(t *testing.T) {
	t.Parallel()
	statements, err := DDL()
	require.NoError(t, err)
	require.Len(t, statements, 6)
	for i, table := range []string{TableMinutes, TableLate, TableBadClock, TableInvalid, TableAlarms, TableDeadLetters} {
		require.Contains(t, statements[i], "CREATE TABLE IF NOT EXISTS `"+table+"`")
		require.Equal(t, table != TableDeadLetters, strings.Contains(statements[i], "ReplacingMergeTree(version)"))
	}
	require.Contains(t, statements[0], "ORDER BY (device, minute)")
}

func TestReadingCodec(t *testing.T) {
	t.Parallel()
	c := ReadingCodec()
	want := reading("dev-0000001", 5, time.Second, 20.25)
	text, err := c.Append(nil, &want)
	require.NoError(t, err)
	var got Reading
	require.NoError(t, c.Decode(text, &got))
	require.Equal(t, want, got)
	got = Reading{}
	require.NoError(t, c.Decode([]byte(`{"deviceId":"d","ts":1,"unknown":[{}]}`), &got))
	require.Equal(t, Reading{DeviceID: "d", TS: 1, Kind: KindReading}, got)
	for _, text := range []string{
		"", "null", "{}", "[]", `"x"`, `{"deviceId":""}`, `{"deviceId":"d"`, `{"deviceId":"d"}}`, `{"deviceId":"d"}{"deviceId":"d"}`,
		`{"deviceId":"d","ts":"now"}`, `{"deviceId":"d","ts":1.5}`, `{"deviceId":"d","kind":"x"}`, `{"deviceId":7}`, "\xff\xfe",
		`{"deviceId":"` + strings.Repeat("d", 65) + `"}`,
	} {
		require.Error(t, c.Decode([]byte(text), &Reading{}), "%q", text)
	}
}

func TestEventID(t *testing.T) {
	t.Parallel()
	ids := map[EventID]bool{}
	for _, d := range []string{"a", "b", "dev-0000001"} {
		for _, seq := range []int64{0, 1, -1, 1 << 40} {
			r := Reading{DeviceID: d, Seq: seq}
			require.Equal(t, r.EventID(), Placed{DeviceID: d, Seq: seq}.EventID())
			ids[r.EventID()] = true
		}
	}
	require.Len(t, ids, 12)
}

func TestOneSiteInTenIsUnknown(t *testing.T) {
	t.Parallel()
	sites := Sites()
	require.Len(t, sites, SiteCount-SiteCount/10)
	require.Equal(t, UnknownRegion, RegionOf(sites, SiteName(7)))
	require.True(t, slices.Contains(regions[:], RegionOf(sites, SiteName(0))))
}

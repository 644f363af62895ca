package cep_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	chains "github.com/millrace-stream/millrace/topologies/cep"
)

// start is the time of the first event.
var start = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return start.Add(d) }

// run starts a topology and sends it events. Behind each event for which crash says so it ends as by kill -9 and starts again, and behind
// each for which it says so an epoch ends, before that. Then the stream ends.
func run[T any](t *testing.T, mode flow.Replay, build func(flow.Source[T], ...flow.TopologyOption) *flow.Topology, events []T, crash func(i int) (crash, epoch bool)) {
	t.Helper()
	src := flowtest.NewSource[T]()
	src.Mode = mode
	r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology { return build(src, opts...) }, src)
	for i, e := range events {
		src.Feed(e)
		ends, epoch := crash(i)
		if epoch {
			r.Epoch()
		}
		if ends {
			r.Settle()
			r.Crash()
		}
	}
	r.Flush()
}

// way is a way to run the same events.
type way struct {
	modes []flow.Replay
	crash func(int) (bool, bool)
}

// ways are the ways that must all come to the same: without a crash, and with one behind each event, after an epoch or between two.
func ways(events int) map[string]way {
	both := []flow.Replay{flow.Seek, flow.Redeliver}
	return map[string]way{
		"no crash":                   {both[:1], func(int) (bool, bool) { return false, false }},
		"epochs":                     {both[:1], func(int) (bool, bool) { return false, true }},
		"a crash behind each epoch":  {both[:1], func(int) (bool, bool) { return true, true }},
		"crashes between two epochs": {both, func(i int) (bool, bool) { return i%3 != 0, i%2 == 0 }},
		"one replay":                 {both, func(i int) (bool, bool) { return i == events/2, i == events/3 }},
	}
}

func TestOverheat(t *testing.T) {
	t.Parallel()
	var events []chains.Temperature
	add := func(machine string, second int, celsius float64) {
		events = append(events, chains.Temperature{Machine: machine, At: at(time.Duration(second) * time.Second), Celsius: celsius})
	}
	add("press", 0, 85)
	add("lathe", 1, 85)
	add("saw", 2, 85)
	add("press", 10, 92)
	add("lathe", 11, 95)
	add("saw", 12, 93)
	add("press", 20, 96)
	add("lathe", 21, 70)
	add("press", 20, 96) // delivered again
	add("press", 30, 94)
	add("saw", 32, 92)
	add("press", 40, 75)
	add("press", 90, 75)
	add("saw", 150, 20)
	add("press", 160, 95)
	add("press", 170, 95)
	add("press", 180, 95)
	add("press", 190, 95)
	add("press", 400, 50)
	for name, w := range ways(len(events)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, mode := range w.modes {
				alarms, almost := flowtest.NewSink[chains.Overheating](), flowtest.NewSink[chains.AlmostOverheating]()
				run(t, mode, func(src flow.Source[chains.Temperature], opts ...flow.TopologyOption) *flow.Topology {
					return chains.OverheatTopology(src, alarms, almost, chains.OverheatConfig{}, chains.TimeConfig{}, opts...)
				}, events, w.crash)
				require.Equal(t, []chains.Overheating{{
					ID: "overheating/press/1772352000000", Machine: "press", Since: at(0), At: at(2 * time.Minute), Highest: 96,
				}}, alarms.Values())
				require.ElementsMatch(t, []chains.AlmostOverheating{
					{Machine: "saw", Since: at(2 * time.Second), At: at(122 * time.Second), Hot: 2},
					{Machine: "saw", Since: at(12 * time.Second), At: at(132 * time.Second), Hot: 1}, // a hot reading is a warm one, too
					{Machine: "press", Since: at(170 * time.Second), At: at(290 * time.Second), Hot: 2},
					{Machine: "press", Since: at(180 * time.Second), At: at(300 * time.Second), Hot: 1},
				}, almost.Values())
			}
		})
	}
}

func TestOffline(t *testing.T) {
	t.Parallel()
	var events []chains.Heartbeat
	for m := 0; m <= 20; m++ {
		events = append(events, chains.Heartbeat{Device: "meter", At: at(time.Duration(m) * time.Minute)})
		if m < 3 || m == 11 || m == 12 {
			events = append(events, chains.Heartbeat{Device: "valve", At: at(time.Duration(m)*time.Minute + 30*time.Second)})
		}
	}
	for name, w := range ways(len(events)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, mode := range w.modes {
				want := []chains.Outage{
					{ID: "offline/valve/1772352450000", Device: "valve", LastSeen: at(150 * time.Second), At: at(450 * time.Second)},
					{ID: "offline/valve/1772352450000", Device: "valve", LastSeen: at(150 * time.Second), At: at(690 * time.Second), Over: true},
					{ID: "offline/valve/1772353050000", Device: "valve", LastSeen: at(750 * time.Second), At: at(1050 * time.Second)},
					// The stream has ended, and with it all time.
					{ID: "offline/meter/1772353500000", Device: "meter", LastSeen: at(20 * time.Minute), At: at(25 * time.Minute)},
				}
				outages := flowtest.NewSink[chains.Outage]()
				run(t, mode, func(src flow.Source[chains.Heartbeat], opts ...flow.TopologyOption) *flow.Topology {
					return chains.OfflineTopology(src, outages, chains.OfflineConfig{}, chains.TimeConfig{}, opts...)
				}, events, w.crash)
				require.Equal(t, want, outages.Values())
			}
		})
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	var events []chains.Scan
	add := func(minute int, item, station string) {
		events = append(events, chains.Scan{Item: item, Station: station, At: at(time.Duration(minute) * time.Minute)})
	}
	add(0, "good", "cut")
	add(0, "undrilled", "cut")
	add(0, "swapped", "cut")
	add(0, "stuck", "cut")
	add(1, "good", "drill")
	add(1, "good", "drill")
	add(1, "scrapped", "cut")
	add(2, "swapped", "paint")
	add(3, "good", "paint")
	add(3, "swapped", "drill")
	add(4, "undrilled", "paint")
	add(5, "stuck", "drill")
	add(9, "late", "cut")
	add(10, "stuck", "paint")
	add(30, "next", "cut")
	for name, w := range ways(len(events)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, mode := range w.modes {
				finished, skipped, unfinished := flowtest.NewSink[chains.Finished](), flowtest.NewSink[chains.Faulty](), flowtest.NewSink[chains.Faulty]()
				run(t, mode, func(src flow.Source[chains.Scan], opts ...flow.TopologyOption) *flow.Topology {
					return chains.LineTopology(src, finished, skipped, unfinished, chains.LineConfig{}, chains.TimeConfig{}, opts...)
				}, events, w.crash)
				require.Equal(t, []chains.Finished{{Item: "good", Began: at(0), Ended: at(3 * time.Minute)}}, finished.Values())
				require.Equal(t, []chains.Faulty{
					{Item: "swapped", Missing: []string{"drill"}, Began: at(0), At: at(2 * time.Minute)},
					{Item: "undrilled", Missing: []string{"drill"}, Began: at(0), At: at(4 * time.Minute)},
				}, skipped.Values())
				require.ElementsMatch(t, []chains.Faulty{
					{Item: "stuck", Missing: []string{"paint"}, Began: at(0), At: at(10 * time.Minute)}, // painted at the very end
					{Item: "scrapped", Missing: []string{"drill", "paint"}, Began: at(time.Minute), At: at(11 * time.Minute)},
					{Item: "late", Missing: []string{"drill", "paint"}, Began: at(9 * time.Minute), At: at(19 * time.Minute)},
					{Item: "next", Missing: []string{"drill", "paint"}, Began: at(30 * time.Minute), At: at(40 * time.Minute)},
				}, unfinished.Values())
			}
		})
	}
}

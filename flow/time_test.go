package flow_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
)

func at(device string, id, second int64) reading {
	return reading{Device: device, ID: id, Temp: 1, At: second}
}

// goOn lets the clock run for d in steps of a second, each seen by the engine.
func goOn(r *flowtest.Run, d time.Duration) {
	for range d / time.Second {
		r.Clock.Advance(time.Second)
		r.Settle()
	}
}

func TestIdlePartitionHoldsNothingBack(t *testing.T) {
	w := newWindowed("busy", "silent")
	w.wm = watermark.Monotonous().Every(0).IdleAfter(30 * time.Second)
	r := w.start(t)
	w.src.FeedTo("busy", readings("a", 1, 25)...)
	goOn(r, 5*time.Minute)
	r.Epoch()
	require.Empty(t, w.out.Values(), "a partition that has not said that there is nothing is not idle")

	w.src.Idle("silent")
	r.Settle()
	eventually(t, func() bool {
		r.Clock.Advance(time.Second)
		r.Epoch()
		return len(w.out.Values()) == 2
	}, "after IdleAfter it leaves")
	require.Equal(t, map[string]float64{"a 0": 9, "a 10": 10}, w.sums())

	// Back behind the others it does not hold them back either, until it has caught up; what it brings is late.
	w.src.FeedTo("silent", at("b", 1, 3))
	w.src.FeedTo("busy", at("a", 40, 40))
	r.Epoch()
	require.Equal(t, map[string]float64{"a 0": 9, "a 10": 10, "a 20": 6}, w.sums())
	require.Len(t, w.late.Values(), 1)
	// Level with them it counts again.
	w.src.FeedTo("silent", at("b", 2, 42))
	r.Epoch()
	w.src.FeedTo("busy", at("a", 60, 60))
	r.Epoch()
	require.Len(t, w.out.Values(), 3, "42 is the least now")
	w.src.FeedTo("silent", at("b", 3, 60))
	r.Epoch()
	require.Equal(t, map[string]float64{"a 0": 9, "a 10": 10, "a 20": 6, "a 40": 1, "b 40": 1}, w.sums())
	r.Stop()
}

func TestIdleClockStartsAnewWithEachRecord(t *testing.T) {
	w := newWindowed("busy", "quiet")
	w.wm = watermark.Monotonous().Every(0).IdleAfter(30 * time.Second)
	r := w.start(t)
	w.src.FeedTo("busy", readings("a", 1, 25)...)
	for i := range int64(5) {
		w.src.FeedTo("quiet", at("b", i+1, 1))
		w.src.Idle("quiet")
		r.Settle()
		goOn(r, 20*time.Second)
	}
	r.Epoch()
	require.Empty(t, w.out.Values(), "it spoke every 20 s")
	r.Stop()
}

// A crash forgets that a partition was idle, but as it stands behind the others it holds nothing back until it has caught up.
func TestIdlePartitionBehindACrash(t *testing.T) {
	w := newWindowed("busy", "silent")
	w.wm = watermark.Monotonous().Every(0).IdleAfter(30 * time.Second)
	r := w.start(t)
	w.src.FeedTo("busy", readings("a", 1, 15)...)
	w.src.Idle("silent")
	r.Settle()
	eventually(t, func() bool {
		r.Clock.Advance(time.Second)
		r.Epoch()
		return len(w.out.Values()) == 1
	}, "it leaves")
	r.Crash()
	w.src.FeedTo("busy", readings("a", 16, 10)...)
	r.Epoch()
	require.Equal(t, map[string]float64{"a 0": 9, "a 10": 10}, w.sums())
	w.src.FeedTo("silent", at("b", 1, 27))
	w.src.FeedTo("busy", at("a", 26, 26))
	r.Epoch()
	w.src.FeedTo("busy", at("a", 100, 100))
	r.Epoch()
	require.Len(t, w.out.Values(), 2, "now it holds them at 27")
	r.Stop()
}

// feedAt feeds readings whose reference time is the clock's.
func (w *windowed) feedAt(ref time.Time, rs ...reading) {
	for _, v := range rs {
		w.src.FeedRecords("0", flow.Record[reading]{Value: v, Time: flow.TimestampOf(ref)})
	}
}

func TestFastClockMakesNobodyLate(t *testing.T) {
	w := newWindowed()
	r := w.start(t)
	for s := range int64(25) {
		w.feedAt(time.Unix(s, 0), at("a", s+1, s))
		if s == 5 { // a device whose clock is an hour fast
			w.feedAt(time.Unix(s, 0), at("fast", 1, 3605))
		}
	}
	r.Epoch()
	require.Empty(t, w.late.Values())
	require.Equal(t, map[string]float64{"a 0": 10, "a 10": 10}, w.sums())
	r.Flush()
	require.Equal(t, map[string]float64{"a 0": 10, "a 10": 10, "a 20": 5, "fast 3600": 1}, w.sums(), "its records count")
}

func TestMaxAhead(t *testing.T) {
	for name, c := range map[string]struct {
		wm   flow.WatermarkStrategy
		want map[string]float64
	}{
		"0, the default":   {watermark.Monotonous().Every(0), map[string]float64{}},
		"less than it is":  {watermark.Monotonous().Every(0).MaxAhead(19 * time.Second), map[string]float64{"a 0": 1}},
		"as much as it is": {watermark.Monotonous().Every(0).MaxAhead(25 * time.Second), map[string]float64{"a 0": 1, "a 10": 1}},
		"off":              {watermark.Monotonous().Every(0).MaxAhead(watermark.Off), map[string]float64{"a 0": 1, "a 10": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWindowed()
			w.wm = c.wm
			r := w.start(t)
			w.feedAt(time.Unix(0, 1), at("a", 1, 1), at("a", 2, 11), at("a", 3, 20))
			r.Epoch()
			require.Equal(t, c.want, w.sums())
			r.Stop()
		})
	}
}

func TestBadClocks(t *testing.T) {
	feed := func(w *windowed) {
		now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
		far := now.Add(24 * time.Hour)
		w.feedAt(now, at("a", 1, now.Unix()), at("good", 1, far.Unix()), at("bad", 1, far.Unix()+1),
			at("no year", 1, 1<<40), at("zero", 1, time.Time{}.Unix()), at("a", 2, now.Unix()+1))
	}
	t.Run("to the side output", func(t *testing.T) {
		w := newWindowed()
		w.bad = flowtest.NewSink[flow.Late[reading]]()
		r := w.start(t)
		feed(w)
		r.Epoch()
		bad := w.bad.Values()
		require.Len(t, bad, 3)
		require.Equal(t, "bad", bad[0].Value.Device)
		require.Contains(t, bad[0].Reason, "ahead of the reference time")
		require.Equal(t, "no year", bad[1].Value.Device)
		require.Contains(t, bad[1].Reason, "1678 to 2261")
		require.Equal(t, "zero", bad[2].Value.Device)
		require.EqualValues(t, 3, counter(r, "time", "bad_clock"))
		require.Empty(t, w.late.Values(), "the watermark is as it was")
		r.Flush()
		require.Len(t, w.out.Values(), 2)
	})
	t.Run("to the dead letters", func(t *testing.T) {
		w, dead := newWindowed(), flowtest.NewSink[flow.DeadLetter]()
		r := flowtest.Start(t, func(opts ...flow.TopologyOption) *flow.Topology {
			top := w.build(opts...)
			flow.To(top.DeadLetters(), "dead", dead)
			return top
		}, w.src)
		feed(w)
		r.Epoch()
		letters := dead.Values()
		require.Len(t, letters, 3)
		require.Equal(t, "time", letters[0].Node)
		require.Contains(t, letters[0].Cause, "connect BadClock()")
		r.Stop()
	})
	t.Run("to nowhere", func(t *testing.T) {
		w := newWindowed()
		r := w.start(t)
		feed(w)
		err := r.Wait()
		require.ErrorContains(t, err, `node "time": bad clock`)
		require.Zero(t, w.src.Committed("0"))
	})
	t.Run("off", func(t *testing.T) {
		w := newWindowed()
		w.wm = watermark.Monotonous().Every(0).Simulated()
		r := w.start(t)
		now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
		w.feedAt(now, at("a", 1, now.Unix()+1_000_000))
		r.Flush()
		require.Len(t, w.out.Values(), 1)
	})
}

// Marks stand where the watermark crosses a multiple of Every, wherever batches and epochs are cut; lateness is judged by the marks.
func TestMarksDoNotDependOnBatches(t *testing.T) {
	var first []reading
	for i, cut := range []struct {
		batch int
		crash bool
	}{{1, false}, {3, false}, {0, false}, {1, true}} {
		w := newWindowed()
		w.src.BatchSize = cut.batch
		w.wm = watermark.BoundedOutOfOrderness(2 * time.Second).Every(10 * time.Second)
		r := w.start(t)
		var late []reading
		for n := range int64(60) {
			w.src.Feed(at("a", n+1, n), at("b", n+1, n-n%23))
			if cut.crash {
				r.Epoch()
				r.Crash()
			}
		}
		r.Epoch()
		for _, l := range w.late.Values() {
			late = append(late, l.Value)
		}
		r.Stop()
		if i == 0 {
			first = late
			require.NotEmpty(t, late)
		}
		require.Equal(t, first, late)
	}
}

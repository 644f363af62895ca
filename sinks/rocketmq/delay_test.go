package rocketmq

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
)

func TestTagsAndPropertiesAreThoseOfTheRecord(t *testing.T) {
	t.Parallel()
	set := services.Need(t, services.RocketBroker)
	topic := topicOf(t, set, 1)
	s := Sink(Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: topic}, readings{},
		Tag(func(r reading) string {
			if r.seq == 1 {
				return ""
			}
			return "level-" + fmt.Sprint(r.seq)
		}),
		Property("seq", func(r reading) string { return fmt.Sprint(r.seq) }),
		Property("odd", func(r reading) string { return strings.Repeat("y", r.seq%2) }))
	w, _ := open(t, s)
	headers := map[string]string{"seq": "of the header", "site": "north", "TAGS": "of the source"}
	writeAll(t, s, w, []flow.Record[reading]{
		{Value: reading{"a", 1}, Meta: &flow.Meta{Headers: headers}}, {Value: reading{"a", 2}},
	})
	all := read(t, set.NameServer(), topic, 2)
	require.Equal(t, "1", all[0].props["seq"])
	require.Equal(t, "y", all[0].props["odd"])
	require.Equal(t, "north", all[0].props["site"])
	require.NotContains(t, all[0].props, "TAGS")
	require.Equal(t, "level-2", all[1].props["TAGS"])
	require.NotContains(t, all[1].props, "odd")

	for name, o := range map[string]Option[reading]{
		"property \"DELAY\"": Property("DELAY", device), "property \"\"": Property("", device), "property \"KEYS\"": Property("KEYS", device),
	} {
		s := Sink(Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: topic}, readings{}, o)
		require.ErrorContains(t, s.Open(t.Context(), runtime(t, &counters{})), name)
	}
	w, _ = open(t, Sink(Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: topic}, readings{}, Tag(device)))
	for _, bad := range []string{" a", "a||b"} {
		require.ErrorContains(t, w.Write(t.Context(), records(reading{bad, 1})), "no subscription could name it")
	}
}

func TestDelayedMessagesComeAtTheirTimeAndOthersAtOnce(t *testing.T) {
	t.Parallel()
	set := services.Need(t, services.RocketBroker)
	topic := topicOf(t, set, 2)
	began := time.Now()
	at := began.Add(4 * time.Second)
	s := Sink(Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: topic}, readings{}, Key(device),
		DelayLevel(func(r reading) int {
			if r.device == "level" {
				return 1 // a second
			}
			return 0
		}),
		DeliverAt(func(r reading) time.Time {
			switch r.device {
			case "time":
				return at
			case "past":
				return began.Add(-time.Hour)
			case "far":
				return began.Add(24 * 365 * time.Hour)
			}
			return time.Time{}
		}))
	w, _ := open(t, s)
	var batch []flow.Record[reading]
	for i := range 20 {
		batch = append(batch, records(reading{"level", i + 1}, reading{"time", i + 1}, reading{"past", i + 1}, reading{"now", i + 1})...)
	}
	batch = append(batch, records(reading{"far", 1})...)
	rejects := writeAll(t, s, w, batch)
	require.Len(t, rejects, 1)
	require.Equal(t, "far 1", string(rejects[0].Record))
	require.ErrorContains(t, rejects[0].Err, "timerMaxDelaySec")
	require.Less(t, rejects[0].Row, 81)

	here := func() map[string]int {
		n := map[string]int{}
		for _, m := range readOnce(t, set.NameServer(), topic) {
			n[strings.Fields(m.body)[0]]++
			require.Equal(t, shardOf(m.props["SHARDING_KEY"], 2), m.queue.ID)
		}
		return n
	}
	require.Eventually(t, func() bool { n := here(); return n["past"] == 20 && n["now"] == 20 }, 2*time.Second, 20*time.Millisecond)
	if time.Since(began) < 900*time.Millisecond { // else the machine is too slow to tell
		require.Zero(t, here()["level"])
	}
	require.Eventually(t, func() bool { return here()["level"] == 20 }, 10*time.Second, 50*time.Millisecond)
	if time.Now().Before(at.Add(-1500 * time.Millisecond)) { // the timer's step is a second
		require.Zero(t, here()["time"])
	}
	require.Eventually(t, func() bool { return here()["time"] == 20 }, 20*time.Second, 50*time.Millisecond)
	require.Greater(t, time.Now(), at.Add(-1500*time.Millisecond))
	require.Len(t, readOnce(t, set.NameServer(), topic), 80)
}

func TestDelaysThatMakeNoSenseAreRefusedByWrite(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1, func(int, int, []string) int { return 0 })
	s := Sink(Config{Connection: Connection{NameServers: []string{f.addr}}, Topic: "t"}, text{},
		DelayLevel(func(v string) int {
			return map[string]int{"negative": -1, "both": 2, "not utf-8": 1}[v]
		}),
		DeliverAt(func(v string) time.Time {
			if v == "both" {
				return time.Now().Add(time.Hour)
			}
			return time.Time{}
		}))
	w, _ := open(t, s)
	for v, want := range map[string]string{"negative": "delay level -1", "both": "want one of them", "not utf-8": "not UTF-8"} {
		err := w.Write(t.Context(), []flow.Record[string]{{Value: v, Meta: &flow.Meta{Headers: map[string]string{"h": "\xff"}}}})
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, w.Write(t.Context(), []flow.Record[string]{{Value: "batched", Meta: &flow.Meta{Headers: map[string]string{"h": "\xff"}}}}))
}

func TestConfirmedDelayedMessagesAreNotSentAgain(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1, func(_, n int, _ []string) int {
		if n == 5 || n == 6 {
			return -1 // the connection breaks, and with it what is under way
		}
		return 0
	})
	s := Sink(Config{Connection: Connection{NameServers: []string{f.addr}, Timeout: 5 * time.Second}, Topic: "t"}, readings{},
		DelayLevel(func(reading) int { return 3 }))
	w, c := open(t, s)
	blocks := sealed(t, w, 1, 200)
	tries := 0
	require.Eventually(t, func() bool {
		tries++
		_, err := s.Deliver(t.Context(), blocks)
		require.True(t, err == nil || flow.IsTransient(err), "%v", err)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	require.Greater(t, tries, 1)
	require.Equal(t, int64(tries-1), c.get("retries"))
	seen := map[string]int{}
	for _, b := range f.got(0) {
		seen[b]++
	}
	require.Len(t, seen, 200)
	require.LessOrEqual(t, len(f.got(0)), 200+2*underWay, "repeats: at most what was under way")
}

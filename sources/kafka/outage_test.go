package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
)

// A consumer that marks what it hands out, or drops what it holds at its end, loses records.
func TestReaderStoppedAtAnyMomentMissesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 2)
	const each = 20_000
	b.send(0, numbers(0, each)...)
	b.send(1, numbers(1_000_000, each)...)
	seen := map[int]bool{}
	repeats, rounds := 0, 0
	for done := false; !done; rounds++ {
		require.Less(t, rounds, 100)
		cfg := b.config()
		cfg.PartitionBytes = 4 << 10
		e := launch(t, cfg, nil)
		goal := 1500 + rounds*1500
		e.until("some", func(parts map[string]*partLog) bool {
			n, ended := 0, len(parts) == 2
			for _, l := range parts {
				n += len(l.values)
				ended = ended && max(l.pos.Offset, l.part.Committed.Offset) == each
			}
			done = ended
			return ended || n > goal
		})
		e.commit()
		e.close()
		for _, l := range e.parts {
			for _, v := range l.values {
				if seen[v] {
					repeats++
				}
				seen[v] = true
			}
		}
	}
	require.Equal(t, 2*each, len(seen))
	t.Logf("%d rounds, %d repeats", rounds, repeats)
}

// Watermill's subscriber has one record per partition in flight (384 a second with an ack after 10 ms), and commits by a timer.
func TestThousandsOfRecordsAreUnackedAtOnceAndCommitsAreConfirmed(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 2)
	for p := range 2 {
		b.send(p, numbers(0, 20_000)...)
	}
	e := launch(t, b.config(), nil)
	e.until("read", func(parts map[string]*partLog) bool {
		return read(parts, b.id(0), 20_000) && read(parts, b.id(1), 20_000)
	})
	require.Equal(t, int64(-1), b.committed(0), "nothing is committed that is not durable")
	e.commit()
	require.Equal(t, int64(20_000), b.committed(0), "no wait between commit and look")
	require.Equal(t, int64(20_000), b.committed(1))

	require.Error(t, e.src.Commit(t.Context(), flow.Partition{ID: "nonsense"}, flow.Position{Offset: 1}))
}

// With one queue for all partitions one that nobody takes from stands in the way of all.
func TestAPartitionThatIsNotReadHoldsBackNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 3)
	for p := range 2 {
		b.send(p, numbers(0, 50_000)...)
	}
	cfg := b.config()
	cfg.PartitionBytes = 64 << 10
	gate := make(chan struct{})
	e := prepare(t, cfg, nil)
	e.gates = map[string]chan struct{}{b.id(0): gate}
	e.run()
	e.until("the other is read", func(parts map[string]*partLog) bool { return read(parts, b.id(1), 50_000) })
	b.send(2, "1")
	e.until("the third too, at once", func(parts map[string]*partLog) bool { return read(parts, b.id(2), 1) })
	e.with(func(parts map[string]*partLog) {
		require.Empty(t, parts[b.id(0)].values)
		require.False(t, parts[b.id(0)].idle)
	})
	h := &e.src.(*source[int]).hub
	h.mu.Lock()
	box := h.boxes[keyOf(t, b.id(0))]
	h.mu.Unlock()
	box.mu.Lock()
	held := len(box.queue)
	box.mu.Unlock()
	require.Equal(t, maxChunks, held)
	close(gate)
	e.until("and then the first", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 50_000) })
	e.with(func(parts map[string]*partLog) {
		for i, v := range parts[b.id(0)].values {
			require.Equal(t, i, v)
		}
	})
}

func TestLagIsTheEndLessThePosition(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	for from := 0; from < 100; from += 25 {
		b.send(0, numbers(from, 25)...)
	}
	cfg := b.config()
	cfg.PartitionBytes = 1 << 10
	e := launch(t, cfg, nil)
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 100) && parts[b.id(0)].idle })
	e.with(func(parts map[string]*partLog) {
		l := parts[b.id(0)]
		require.Equal(t, int64(0), l.lags[len(l.lags)-1])
		require.Greater(t, l.lags[0], int64(0))
		require.Less(t, l.lags[0], int64(100))
	})
}

func TestMissingTopicStopsTheStartWithTheCure(t *testing.T) {
	t.Parallel()
	set := services.Need(t, services.Kafka)
	e := launch(t, Config{Connection: Connection{Brokers: []string{set.Kafka()}}, Topics: []string{"no-such-topic"}, Group: "g", TopicWait: 300 * time.Millisecond}, nil)
	e.all.Wait()
	require.False(t, flow.IsTransient(e.runErr))
	require.ErrorContains(t, e.runErr, "no-such-topic")
	require.ErrorContains(t, e.runErr, "kafka-topics --create")
}

func TestTopicThatComesWhileTheStartWaitsIsRead(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	b.topic += "-late"
	e := launch(t, b.config(), nil)
	b.create(b.topic, 2)
	e.until("added", func(parts map[string]*partLog) bool { return len(parts) == 2 })
}

func TestAllBrokersDownAtStartAreWaitedForWithAWarning(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 2)
	b.send(1, "5")
	cfg := b.config()
	var net switched
	net.cut()
	cfg.Dial = net.dial
	e := launch(t, cfg, nil)
	require.Eventually(t, func() bool { return len(e.logs.with("WARN", "cannot look for partitions", b.set.Kafka())) == 1 }, 5*time.Second, 10*time.Millisecond)
	net.mend()
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(1), 1) })
	require.Equal(t, 1, len(e.logs.with("WARN")), "warned once")
}

func TestAConnectionThatBreaksStopsTheIdleClockAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 2)
	b.send(0, numbers(0, 10)...)
	cfg := b.config()
	var net switched
	cfg.Dial = net.dial
	e := launch(t, cfg, nil)
	e.until("read, and idle", func(parts map[string]*partLog) bool {
		return read(parts, b.id(0), 10) && parts[b.id(0)].idle && parts[b.id(1)].idle
	})
	net.cut()
	e.until("not idle", func(parts map[string]*partLog) bool { return !parts[b.id(0)].idle && !parts[b.id(1)].idle })
	err := e.src.Commit(t.Context(), flow.Partition{ID: b.id(0)}, flow.Position{Offset: 5})
	require.True(t, flow.IsTransient(err), "%v", err)
	b.send(0, numbers(10, 10)...)
	net.mend()
	e.until("read on", func(parts map[string]*partLog) bool {
		return read(parts, b.id(0), 20) && parts[b.id(0)].idle && parts[b.id(1)].idle
	})
	e.with(func(parts map[string]*partLog) { require.Equal(t, 20, len(parts[b.id(0)].values)) })
	require.Equal(t, int64(1), e.count("outages"))
}

// What retention deleted before it was read is a gap that must not pass in silence.
func TestDeletedRecordsAreCountedAsLostByRetention(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	b.send(0, numbers(0, 1000)...)
	b.deleteUpTo(0, 400)
	e := launch(t, b.config(), map[string]flow.Position{b.id(0): {Offset: 10}})
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 1000) })
	require.Equal(t, int64(390), e.count("lost_by_retention"))
	e.with(func(parts map[string]*partLog) {
		require.Equal(t, 600, len(parts[b.id(0)].values))
		require.Equal(t, 400, parts[b.id(0)].values[0])
	})
	require.Equal(t, 1, len(e.logs.with("ERROR", "retention.ms", "from=10", "to=400", "count=390")))

	e = launch(t, b.config(), nil)
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 1000) })
	require.Zero(t, e.count("lost_by_retention"), "what nobody was going to read is not lost")
}

func TestAPositionBehindTheEndStopsThePartitionWithTheCure(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	b.send(0, numbers(0, 10)...)
	e := launch(t, b.config(), map[string]flow.Position{b.id(0): {Offset: 500}})
	e.until("ended", func(parts map[string]*partLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].err != nil })
	err := e.parts[b.id(0)].err
	require.False(t, flow.IsTransient(err))
	for _, part := range []string{b.topic, "partition 0", "offset 500", "ends at 10", "flow.DropState"} {
		require.ErrorContains(t, err, part)
	}
	require.False(t, e.parts[b.id(0)].idle)
}

// The new topic has other records at the same offsets: going on at the old position would skip as many in silence.
func TestATopicThatWasCreatedAgainStopsWithTheCure(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 1)
	b.send(0, numbers(0, 10)...)
	e := launch(t, b.config(), nil)
	e.until("read", func(parts map[string]*partLog) bool { return read(parts, b.id(0), 10) })
	pos := e.parts[b.id(0)].pos
	_, err := b.admin.DeleteTopic(t.Context(), b.topic)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(e.logs.with("WARN", "do not know the topic", b.topic)) == 1 }, 20*time.Second, 20*time.Millisecond)
	e.with(func(parts map[string]*partLog) { require.NoError(t, parts[b.id(0)].err) })
	require.NoError(t, e.src.Commit(t.Context(), flow.Partition{ID: b.id(0)}, pos), "the epoch of other topics goes on")

	b.client = b.dial()
	b.create(b.topic, 1)
	b.send(0, numbers(100, 50)...)
	e.until("ended", func(parts map[string]*partLog) bool { return parts[b.id(0)].err != nil })
	require.ErrorContains(t, e.parts[b.id(0)].err, "deleted and created again")
	e.close()

	e = launch(t, b.config(), map[string]flow.Position{b.id(0): pos})
	e.until("ended", func(parts map[string]*partLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].err != nil })
	for _, part := range []string{"deleted and created again", b.topic, "flow.DropState"} {
		require.ErrorContains(t, e.parts[b.id(0)].err, part)
	}
	require.False(t, flow.IsTransient(e.parts[b.id(0)].err))
}

func TestStopWhileTheEngineTakesNothingIsClean(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Need(t, services.Kafka), 2)
	b.send(0, numbers(0, 5000)...)
	cfg := b.config()
	cfg.PollTimeout = time.Minute
	e := prepare(t, cfg, nil)
	e.gates = map[string]chan struct{}{b.id(0): make(chan struct{})}
	e.run()
	e.until("assigned", func(parts map[string]*partLog) bool { return len(parts) == 2 })
	began := time.Now()
	e.close()
	e.close() // Close is idempotent
	require.Less(t, time.Since(began), 2*time.Second, "long polls do not hold the stop")
	require.NoError(t, e.runErr)
}

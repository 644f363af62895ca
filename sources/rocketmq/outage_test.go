package rocketmq

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
	"github.com/millrace-stream/millrace/internal/services"
)

// missing counts the values from, from+1, … that did not come.
func missing(values []int, from, n int) int {
	seen := make([]bool, n)
	for _, v := range values {
		if i := v - from; i >= 0 && i < n {
			seen[i] = true
		}
	}
	count := 0
	for _, s := range seen {
		if !s {
			count++
		}
	}
	return count
}

func TestReaderStoppedAtAnyMomentMissesNothing(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 2)
	const each = 20_000
	b.send(0, numbers(0, each)...)
	b.send(1, numbers(1_000_000, each)...)
	var all []int
	rounds := 0
	for done := false; !done; rounds++ {
		require.Less(t, rounds, 100)
		cfg := b.config()
		cfg.Batch = 100
		e := launch(t, cfg, nil)
		goal := 1500 + rounds*500
		e.until("some", func(parts map[string]*queueLog) bool {
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
			all = append(all, l.values...)
		}
	}
	require.Zero(t, missing(all, 0, each))
	require.Zero(t, missing(all, 1_000_000, each))
	t.Logf("%d rounds, %d repeats", rounds, len(all)-2*each)
}

func TestCommitIsConfirmedAndItsFailureTransient(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 1)
	b.send(0, numbers(0, 10)...)
	e := launch(t, b.config(), nil)
	e.until("read", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].pos.Offset == 10 })
	e.commit()
	offset, known, err := b.client.Committed(t.Context(), b.set.Broker(), b.config().Group, b.topic, b.queue(0))
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, int64(10), offset, "no wait between commit and look")

	err = e.src.Commit(t.Context(), flow.Partition{ID: "broker-gone/0"}, flow.Position{Offset: 1})
	require.True(t, flow.IsTransient(err))
	require.ErrorContains(t, err, "broker-gone")
	require.Error(t, e.src.Commit(t.Context(), flow.Partition{ID: "nonsense"}, flow.Position{Offset: 1}))
}

func TestLagAgreesWithMaxOffsetLessPosition(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 1)
	b.send(0, numbers(0, 100)...)
	b.visible(0, 100)
	cfg := b.config()
	cfg.Batch = 25
	e := launch(t, cfg, nil)
	e.until("read", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].idle })
	e.with(func(parts map[string]*queueLog) { require.Equal(t, []int64{75, 50, 25, 0}, parts[b.id(0)].lags[:4]) })
	require.NoError(t, e.src.Commit(t.Context(), flow.Partition{ID: b.id(0)}, flow.Position{Offset: 60}))
	m, err := b.client.MaxOffset(t.Context(), b.set.Broker(), b.topic, b.queue(0))
	require.NoError(t, err)
	c, _, err := b.client.Committed(t.Context(), b.set.Broker(), cfg.Group, b.topic, b.queue(0))
	require.NoError(t, err)
	require.Equal(t, int64(40), m-c)
}

func TestMissingTopicStopsTheStartWithTheCure(t *testing.T) {
	set := services.Need(t, services.RocketBroker)
	e := launch(t, Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: "no-such-topic", Group: "g", TopicWait: 300 * time.Millisecond}, nil)
	e.all.Wait()
	require.True(t, rocketmq.IsCode(e.runErr, rocketmq.TopicNotExist))
	require.False(t, flow.IsTransient(e.runErr))
	require.ErrorContains(t, e.runErr, `topic "no-such-topic"`)
	require.ErrorContains(t, e.runErr, "mqadmin updateTopic")
}

func TestTopicThatComesWhileTheStartWaitsIsRead(t *testing.T) {
	set := services.Need(t, services.RocketBroker)
	cfg := Config{Connection: Connection{NameServers: []string{set.NameServer()}}, Topic: fmt.Sprintf("late_%x", time.Now().UnixNano()), Group: "g", PollTimeout: time.Second}
	e := launch(t, cfg, nil)
	require.NoError(t, rocketmq.CreateTopic(t.Context(), cfg.NameServers, cfg.Topic, 2))
	e.until("added", func(parts map[string]*queueLog) bool { return len(parts) == 2 })
}

func TestAllNameServersDownAtStartIsWaitedForWithAWarning(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 2)
	b.send(1, "5")
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := hole.Addr().String()
	require.NoError(t, hole.Close())
	cfg := b.config()
	cfg.NameServers = []string{"127.0.0.1:1", addr}
	e := launch(t, cfg, nil)
	require.Eventually(t, func() bool { return len(e.logs.with("WARN", "cannot start to read yet", addr)) == 1 }, 5*time.Second, 10*time.Millisecond)
	forward(t, addr, b.set.NameServer())
	e.until("read", func(parts map[string]*queueLog) bool { return parts[b.id(1)] != nil && len(parts[b.id(1)].values) == 1 })
	require.Equal(t, 1, len(e.logs.with("WARN")), "warned once")
}

// forward lends addr to a server until the test ends.
func forward(t *testing.T, addr, server string) {
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	var all sync.WaitGroup
	var mu sync.Mutex
	conns := []io.Closer{l}
	keep := func(c io.Closer) {
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, c)
	}
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			keep(in)
			out, err := net.Dial("tcp", server)
			if err != nil {
				return
			}
			keep(out)
			all.Go(func() { _, _ = io.Copy(out, in) })
			all.Go(func() { _, _ = io.Copy(in, out) })
		}
	})
	t.Cleanup(func() {
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
}

func TestNewQueuesOfTheTopicAreAdded(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 2)
	cfg := b.config()
	cfg.RouteRefresh = 100 * time.Millisecond
	e := launch(t, cfg, nil)
	e.until("two", func(parts map[string]*queueLog) bool { return len(parts) == 2 })
	require.NoError(t, rocketmq.CreateTopic(t.Context(), cfg.NameServers, b.topic, 4))
	b.send(3, "33")
	e.until("the new one is read", func(parts map[string]*queueLog) bool { return parts[b.id(3)] != nil && len(parts[b.id(3)].values) == 1 })
	require.Equal(t, 4, len(e.parts))
}

func TestTopicCreatedAgainStopsTheQueueWithTheCure(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 1)
	b.send(0, numbers(0, 10)...)
	b.visible(0, 10)
	e := launch(t, b.config(), map[string]flow.Position{b.id(0): {Offset: 500}})
	e.until("ended", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].err != nil })
	err := e.parts[b.id(0)].err
	require.False(t, flow.IsTransient(err))
	for _, part := range []string{b.topic, b.id(0), "offset 500", "ends at 10", "flow.DropState"} {
		require.ErrorContains(t, err, part)
	}
	require.False(t, e.parts[b.id(0)].idle)
}

// What the broker deleted before it was read is a gap that must not pass in silence.
func TestDeletedMessagesAreCountedAsLostByRetention(t *testing.T) {
	t.Parallel()
	set := services.Isolated(t, services.Options{BrokerConf: map[string]string{
		"mappedFileSizeCommitLog": "1048576", "mappedFileSizeConsumeQueue": "6000", "fileReservedTime": "0", "maxMessageSize": "500000",
		"deleteWhen": "00;01;02;03;04;05;06;07;08;09;10;11;12;13;14;15;16;17;18;19;20;21;22;23", "cleanResourceInterval": "200",
		"deleteCommitLogFilesInterval": "0", "destroyMapedFileIntervalForcibly": "0",
	}}, services.RocketBroker)
	b := setup(t, set, 1)
	const n = 30_000
	b.send(0, numbers(0, n)...)
	b.visible(0, n)
	var first int64
	require.Eventually(t, func() bool {
		before := first
		var err error
		first, err = b.client.MinOffset(t.Context(), set.Broker(), b.topic, b.queue(0))
		return err == nil && first > 0 && first == before
	}, 60*time.Second, time.Second, "the broker deletes")
	e := launch(t, b.config(), map[string]flow.Position{b.id(0): {Offset: 10}})
	e.until("read", func(parts map[string]*queueLog) bool { return parts[b.id(0)] != nil && parts[b.id(0)].pos.Offset == n })
	l := e.parts[b.id(0)]
	lost := e.count("lost_by_retention")
	require.Equal(t, int64(n-10), lost+int64(len(l.values)))
	require.Greater(t, lost, int64(0))
	require.Equal(t, n-1, l.values[len(l.values)-1])
	require.Equal(t, 1, len(e.logs.with("ERROR", "fileReservedTime", b.id(0))))
}

func TestStopWhileTheEngineTakesNothingIsClean(t *testing.T) {
	b := setup(t, services.Need(t, services.RocketBroker), 2)
	b.send(0, numbers(0, 5000)...)
	e := launch(t, b.config(), nil)
	e.mu.Lock()
	e.blocked = make(chan struct{})
	e.mu.Unlock()
	e.until("assigned", func(parts map[string]*queueLog) bool { return len(parts) == 2 })
	began := time.Now()
	e.close()
	e.close() // Close is idempotent
	require.Less(t, time.Since(began), 2*time.Second, "long polls do not hold the stop")
	require.NoError(t, e.runErr)
}

func TestWrongConfigurationListsEverything(t *testing.T) {
	s := Source(Config{From: "middle", Batch: 5000, PollTimeout: time.Hour, Assignment: "group", Connection: Connection{SecretKey: "s3cr3t"}}, number{})
	err := s.Open(t.Context(), flow.SourceRuntime{})
	for _, part := range []string{"topic", "group", `from is "middle"`, "batch is 5000", "poll_timeout is 1h", "assignment", "name_servers"} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), "s3cr3t")
	require.NoError(t, s.Close(t.Context()))
}

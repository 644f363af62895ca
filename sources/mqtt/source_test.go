package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/mqttbroker"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

func config(b *mqttbroker.Broker, topics ...string) mqtt.Config {
	return mqtt.Config{Brokers: []string{b.URL()}, Topics: topics, MaxReconnectInterval: 100 * time.Millisecond}
}

const id = "millrace-test-in"

func TestOrderTimeAndMeta(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	cfg := config(b, "d/+")
	cfg.Meta = true
	before := flow.TimestampOf(time.Now())
	e := start(t, cfg)
	e.awaitIdle()
	publish(t, b, "d/1", 0, 5000)
	inOrder(t, 5000, e.await(5000))
	e.awaitIdle()
	p := e.part(id)
	last := before
	for i, r := range p.records {
		require.GreaterOrEqual(t, r.Time, last)
		require.Equal(t, &flow.Meta{Key: "d/1", Partition: id, Position: flow.Position{Offset: int64(i + 1)}}, r.Meta)
		last = r.Time
	}
	require.EqualValues(t, 5000, e.count("received"))
	e.eventually(func() bool { return b.Unacked() == 0 }, "all acked", func() any { return b.Unacked() })
	require.Zero(t, e.count("redelivered"))
}

func TestPositionsGoOnBehindTheStoredOne(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	e := start(t, config(b, "d"), stored(id, 700))
	e.awaitIdle()
	publish(t, b, "d", 0, 10)
	e.await(10)
	require.EqualValues(t, 710, e.part(id).seen())
}

func TestQueuedMessagesComeBeforeTheSubscription(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	e := start(t, config(b, "d"))
	e.awaitIdle()
	e.stop()
	publish(t, b, "d", 0, 300)
	again := start(t, config(b, "d"))
	once(t, 300, again.await(300))
	again.awaitIdle()
	require.Len(t, again.values(), 300)
}

func TestCleanStopLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	b := broker(t, mqttbroker.Options{})
	var got []int
	for round := range 5 {
		e := start(t, config(b, "d"), commitAfter(time.Millisecond))
		e.awaitIdle() // this broker loses and doubles what comes while it hands a session over
		publish(t, b, "d", round*400, round*400+400)
		e.await(100)
		e.stop()
		e.eventually(func() bool { return !b.Connected(id) }, "disconnected", func() any { return e.log })
		got = append(got, e.values()...)
	}
	e := start(t, config(b, "d"))
	e.await(2000 - len(got))
	e.awaitIdle()
	e.stop()
	once(t, 2000, append(got, e.values()...))
}

func TestCrashRepeatsOnlyTheUnacked(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	e := start(t, config(b, "d"), manual)
	e.awaitIdle()
	publish(t, b, "d", 0, 100)
	e.await(100)
	e.part(id).commit(60)
	e.eventually(func() bool { return b.Unacked() == 40 }, "60 acked", func() any { return b.Unacked() })
	e.crash()
	again := start(t, config(b, "d"))
	require.ElementsMatch(t, upTo(100)[60:], again.await(40)) // this broker repeats in no order
	again.eventually(func() bool { return again.count("redelivered") == 40 }, "counted", func() any { return again.count("redelivered") })
}

// What was read before the connection broke is neither lost nor handed on again, and the acks answer the new arrivals.
func TestReconnectRepeatsNothing(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	e := start(t, config(b, "d"), manual)
	e.awaitIdle()
	publish(t, b, "d", 0, 100)
	e.await(100)
	p := e.part(id)
	p.commit(30)
	e.eventually(func() bool { return b.Unacked() == 70 }, "30 acked", func() any { return b.Unacked() })
	require.True(t, b.Cut(id))
	e.eventually(func() bool { return e.count("reconnects") == 1 }, "reconnected", func() any { return e.log })
	publish(t, b, "d", 100, 150)
	inOrder(t, 150, e.await(150))
	e.eventually(func() bool { return e.count("redelivered") == 70 }, "redelivered", func() any { return e.count("redelivered") })
	p.commit(120)
	e.eventually(func() bool { return b.Unacked() == 30 }, "120 acked", func() any { return b.Unacked() })
	p.commit(150)
	e.eventually(func() bool { return b.Unacked() == 0 }, "all acked", func() any { return b.Unacked() })
	require.Len(t, e.values(), 150)
}

// A commit while there is no connection is caught up on when the broker sends the messages again.
func TestCommitWithoutConnection(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	cfg := config(b, "d")
	cfg.MaxReconnectInterval = 400 * time.Millisecond
	e := start(t, cfg, manual)
	e.awaitIdle()
	publish(t, b, "d", 0, 100)
	e.await(100)
	require.True(t, b.Cut(id))
	e.eventually(func() bool { return e.log.lines("connection lost") == 1 }, "noticed", func() any { return e.log })
	require.False(t, e.part(id).isIdle())
	e.part(id).commit(100)
	e.eventually(func() bool { return b.Unacked() == 0 }, "all acked", func() any { return b.Unacked() })
	e.awaitIdle()
	once(t, 100, e.values())
}

// A broker that has lost the session repeats nothing; ids that it gives again are new messages.
func TestLostSession(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	e := start(t, config(b, "d"), manual)
	e.awaitIdle()
	publish(t, b, "d", 0, 50)
	e.await(50)
	b.Forget(id)
	e.eventually(func() bool { return e.count("reconnects") == 1 }, "reconnected", func() any { return e.log })
	e.eventually(func() bool { return e.log.lines("forgotten the session") == 1 }, "warned", func() any { return e.log })
	publish(t, b, "d", 50, 100)
	inOrder(t, 100, e.await(100))
	require.True(t, b.Cut(id))
	e.eventually(func() bool { return e.count("redelivered") == 50 }, "redelivered", func() any { return e.count("redelivered") })
	e.part(id).commit(100)
	e.eventually(func() bool { return b.Unacked() == 0 }, "all acked", func() any { return b.Unacked() })
	once(t, 100, e.values())
}

func TestManyCuts(t *testing.T) {
	t.Parallel()
	b := broker(t, mqttbroker.Options{})
	cfg := config(b, "d")
	cfg.MaxReconnectInterval = 20 * time.Millisecond
	e := start(t, cfg, commitAfter(3*time.Millisecond))
	e.awaitIdle()
	for i := range 20 {
		publish(t, b, "d", i*500, i*500+500)
		b.Cut(id)
		e.eventually(func() bool { return e.count("reconnects") == int64(i+1) }, "connected", func() any { return e.log })
	}
	e.awaitAll(10000)
	e.eventually(func() bool { return b.Unacked() == 0 }, "all acked", func() any { return b.Unacked() })
	repeats := complete(t, 10000, e.values())
	t.Logf("%d repeats, %d redelivered, %d reconnects", repeats, e.count("redelivered"), e.count("reconnects"))
}

func TestMalformedPayloadsDoNotStall(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	e := start(t, config(b, "d"))
	e.awaitIdle()
	for i := range 10_000 {
		require.NoError(t, b.Publish("d", []byte("not a number "+strconv.Itoa(i)), false, 1))
	}
	require.NoError(t, b.Publish("d", []byte("panic"), false, 1))
	publish(t, b, "d", 0, 10)
	inOrder(t, 10, e.await(10))
	require.Equal(t, 10_001, e.rejected())
	rejects := e.part(id).rejects
	require.ErrorContains(t, rejects[0], `topic "d"`)
	require.ErrorIs(t, rejects[10_000], flow.ErrPanic)
	e.eventually(func() bool { return b.Unacked() == 0 }, "all acked", func() any { return b.Unacked() })
}

func TestRetained(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	require.NoError(t, b.Publish("d/old", []byte("7"), true, 1))
	e := start(t, config(b, "d/+"))
	e.eventually(func() bool { return e.count("retained_dropped") == 1 }, "dropped", func() any { return e.log })
	publish(t, b, "d/new", 0, 3)
	inOrder(t, 3, e.await(3))
	e.eventually(func() bool { return b.Unacked() == 0 }, "all acked", func() any { return b.Unacked() })
	e.stop()

	// Those nobody wants need no commit.
	e = start(t, config(b, "d/+"), manual)
	e.eventually(func() bool { return e.count("retained_dropped") == 1 && b.Unacked() == 0 }, "acked", func() any { return b.Unacked() })
	e.stop()

	cfg := config(b, "d/+")
	cfg.ClientID = "keeper"
	cfg.DropRetained = new(false)
	e = start(t, cfg)
	require.Equal(t, []int{7}, e.await(1))
}

func TestRefusedSubscription(t *testing.T) {
	b := broker(t, mqttbroker.Options{DenyFilter: "secret"})
	e := open(t, config(b, "d", "secret/#"))
	e.run()
	err := <-e.ran
	require.ErrorContains(t, err, `"secret/#"`)
	require.ErrorContains(t, err, "access rules")
	require.False(t, flow.IsTransient(err))
}

func TestWrongPassword(t *testing.T) {
	b := broker(t, mqttbroker.Options{Username: "mill", Password: "right"})
	cfg := config(b, "d")
	cfg.Username, cfg.Password = "mill", "hunter2"
	e := open(t, cfg)
	e.run()
	err := <-e.ran
	require.ErrorContains(t, err, `user "mill"`)
	require.ErrorContains(t, err, "check username and password")
	require.NotContains(t, err.Error()+e.log.String(), "hunter2")
	e.stop()

	cfg.Password = "right"
	e = start(t, cfg)
	e.awaitIdle()
}

func TestUnreachableBrokerIsAwaited(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	cfg := mqtt.Config{Brokers: []string{addr}, Topics: []string{"d"}, MaxReconnectInterval: 50 * time.Millisecond}
	e := start(t, cfg)
	e.eventually(func() bool { return e.log.lines("cannot be reached") == 1 }, "warned", func() any { return e.log })
	require.Contains(t, e.log.String(), addr)
	require.False(t, e.part(id).isIdle())
	b, err := mqttbroker.Start(context.Background(), addr, mqttbroker.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	e.awaitIdle()
	require.Equal(t, 1, e.log.lines("level=WARN"), e.log)
	publish(t, b, "d", 0, 3)
	e.await(3)
}

func TestStopWhileTheBrokerIsSilent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	accepted := make(chan net.Conn, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	e := start(t, mqtt.Config{Brokers: []string{l.Addr().String()}, Topics: []string{"d"}})
	c := <-accepted // and no word
	began := time.Now()
	e.stop()
	require.Less(t, time.Since(began), 3*time.Second)
	require.NoError(t, c.Close())
	require.NoError(t, l.Close())
	<-done
}

func TestTwoClientsWithOneID(t *testing.T) {
	t.Parallel()
	b := broker(t, mqttbroker.Options{})
	cfg := config(b, "d")
	cfg.ClientID = "twin"
	one, two := start(t, cfg), start(t, cfg)
	one.eventually(func() bool {
		return one.log.lines("give every instance its own client_id")+two.log.lines("give every instance its own client_id") > 0
	}, "warned", func() any { return one.log })
}

// A full inbox that nobody reads ends the connection for a while; nothing is lost, and nothing that was held is repeated.
func TestPause(t *testing.T) {
	t.Parallel()
	b := broker(t, mqttbroker.Options{})
	cfg := config(b, "d")
	cfg.KeepAlive, cfg.Buffer = 2*time.Second, 100
	e := open(t, cfg)
	p := e.part(id)
	p.gate = make(chan struct{})
	e.run()
	e.eventually(func() bool { return b.Connected(id) && p.isIdle() }, "connected", func() any { return e.log })
	publish(t, b, "d", 0, 3000)
	e.eventually(func() bool { return e.log.lines("paused") == 1 && !b.Connected(id) }, "paused", func() any { return e.log })
	close(p.gate)
	e.await(3000)
	e.eventually(func() bool { return b.Unacked() == 0 }, "all acked", func() any { return b.Unacked() })
	once(t, 3000, e.values())
	require.NotZero(t, e.count("dropped_by_pause"))
}

// A consumer that stands still for three keepalives keeps its connection when the inbox is larger than the window.
func TestSlowConsumerKeepsItsConnection(t *testing.T) {
	t.Parallel()
	b := broker(t, mqttbroker.Options{})
	cfg := config(b, "d")
	cfg.KeepAlive, cfg.PingTimeout = 2*time.Second, time.Second
	e := open(t, cfg)
	p := e.part(id)
	p.gate = make(chan struct{})
	e.run()
	e.eventually(func() bool { return p.isIdle() }, "connected", func() any { return e.log })
	publish(t, b, "d", 0, 1000)
	require.NoError(t, flow.SystemClock().Sleep(t.Context(), 3*cfg.KeepAlive))
	close(p.gate)
	inOrder(t, 1000, e.await(1000))
	require.Zero(t, e.count("reconnects"))
	require.Zero(t, e.count("redelivered"))
}

func TestWindowIsFoundOut(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	e := start(t, config(b, "d"), manual)
	e.awaitIdle()
	p := e.part(id)
	publish(t, b, "d", 0, 19)
	e.await(19)
	e.awaitIdle()
	publish(t, b, "d", 19, 20)
	e.await(20)
	e.eventually(func() bool { return !p.isIdle() }, "busy at 20 unacked", func() any { return nil })
	publish(t, b, "d", 20, 64)
	e.await(64)
	e.eventually(func() bool { return p.window() == 64 }, "window", func() any { return p.window() })
	p.commit(64)
	e.awaitIdle()
	require.True(t, b.Cut(id))
	e.eventually(func() bool { return p.window() == 20 }, "reset", func() any { return p.window() })
}

// A broker that gives 32 messages at once and no more until the oldest are acked.
func TestWindowIsHonoured(t *testing.T) {
	b := broker(t, mqttbroker.Options{Window: 32})
	e := start(t, config(b, "d"), manual)
	e.awaitIdle()
	publish(t, b, "d", 0, 500)
	inOrder(t, 32, e.await(32))
	p := e.part(id)
	e.eventually(func() bool { return p.window() == 32 && !p.isIdle() }, "known and full", func() any { return p.window() })
	for n := 32; n < 500; n += 10 {
		p.commit(int64(n - 22))
		inOrder(t, min(n+10, 500), e.await(min(n+10, 500)))
		require.Equal(t, 32, p.window())
	}
	p.commit(500)
	e.awaitIdle()
	e.eventually(func() bool { return b.Unacked() == 0 }, "all acked", func() any { return b.Unacked() })
}

func TestConfiguredWindow(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	cfg := config(b, "d")
	cfg.Window = 32
	e := start(t, cfg, manual)
	e.awaitIdle()
	publish(t, b, "d", 0, 31)
	e.await(31)
	e.awaitIdle()
	require.Equal(t, 32, e.part(id).window())
}

// An engine that fails in Emit calls Read again: nothing taken from the inbox is lost.
func TestReadAgain(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	e := open(t, config(b, "d"), manual)
	failing := &failOnce{part: e.part(id)}
	e.life, e.endRun = context.WithCancel(context.Background())
	e.read, e.stopRead = context.WithCancel(e.life)
	added := make(chan flow.Partition, 1)
	go func() { e.ran <- e.src.Run(e.life, addTo(added)) }()
	t.Cleanup(func() { e.stop() })
	p := <-added
	e.readers.Go(func() {
		from := flow.Position{}
		for e.read.Err() == nil {
			_ = e.src.Read(e.read, p, from, flow.NewIntake[int](failing))
			from.Offset = e.part(id).seen()
		}
	})
	e.awaitIdle()
	publish(t, b, "d", 0, 50)
	inOrder(t, 50, e.await(50))
	require.True(t, failing.failed)
}

type addTo chan flow.Partition

func (a addTo) Add(p ...flow.Partition) error {
	for _, one := range p {
		a <- one
	}
	return nil
}

func (addTo) Remove(context.Context, ...flow.Partition) error { return nil }

type failOnce struct {
	*part
	failed bool
}

func (f *failOnce) Emit(ctx context.Context, batch []flow.Record[int], upTo flow.Position) error {
	if !f.failed {
		f.failed = true
		return errors.New("not now")
	}
	return f.part.Emit(ctx, batch, upTo)
}

func TestQoS0(t *testing.T) {
	b := broker(t, mqttbroker.Options{})
	cfg := config(b, "d")
	cfg.QoS = new(byte(0))
	e := start(t, cfg)
	e.awaitIdle()
	publish(t, b, "d", 0, 100)
	inOrder(t, 100, e.await(100))
	require.Zero(t, b.Unacked())
}

func (p *part) isIdle() bool {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	return p.idle
}

func (p *part) window() int {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	if len(p.windows) == 0 {
		return 0
	}
	return p.windows[len(p.windows)-1]
}

func ExampleSource() {
	cfg := mqtt.Config{
		Brokers: []string{"ssl://broker.example:8883"}, Topics: []string{"devices/+/telemetry"},
		ClientID: "metrics-1", Clients: 3, ShareGroup: "metrics", Username: "metrics", Password: "hunter2",
	}
	src := mqtt.Source(cfg, numbers{})
	fmt.Println(cfg.Validate(), src.Replay() == flow.Redeliver, cfg.Password)
	cfg.ShareGroup = ""
	fmt.Println(cfg.Validate())
	// Output:
	// <nil> true [redacted]
	// mqtt source: share_group is empty with 3 clients, each of which would get every message: name a group, or use one client
}

package mqtt_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

// publisher publishes numbers with QoS 1 and returns when the broker has confirmed all of them, over broken connections.
type publisher struct {
	t *testing.T
	c paho.Client
}

func newPublisher(t *testing.T, addr string) *publisher {
	t.Helper()
	o := paho.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(t.Name() + "-publisher").SetCleanSession(false).
		SetOrderMatters(false).SetStore(paho.NewOrderedMemoryStore()).SetMaxReconnectInterval(100 * time.Millisecond)
	p := &publisher{t: t, c: paho.NewClient(o)}
	p.await(p.c.Connect())
	t.Cleanup(func() { p.c.Disconnect(250) })
	return p
}

func (p *publisher) await(tok paho.Token) {
	p.t.Helper()
	if !tok.WaitTimeout(patience) {
		require.FailNow(p.t, "the broker does not confirm")
	}
	require.NoError(p.t, tok.Error())
}

func (p *publisher) publish(topic string, from, to int) {
	p.t.Helper()
	window := make([]paho.Token, 0, 256)
	for i := from; i < to; i++ {
		window = append(window, p.c.Publish(topic, 1, false, strconv.Itoa(i)))
		if len(window) == cap(window) || i == to-1 {
			for _, tok := range window {
				p.await(tok)
			}
			window = window[:0]
		}
	}
}

func (p *publisher) subscribe(topic string, qos byte) *received {
	r := &received{}
	p.await(p.c.Subscribe(topic, qos, func(paho.Client, paho.Message) {
		r.mu.Lock()
		r.n++
		r.mu.Unlock()
	}))
	return r
}

// received counts what a second subscriber got.
type received struct {
	mu sync.Mutex
	n  int
}

func (r *received) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

func mosquitto(t *testing.T, window int) *services.Set {
	t.Helper()
	return services.Isolated(t, services.Options{MosquittoInflight: window}, services.Mosquitto)
}

func configFor(addr, topic string) mqtt.Config {
	return mqtt.Config{Brokers: []string{"tcp://" + addr}, Topics: []string{topic}, MaxReconnectInterval: 100 * time.Millisecond}
}

// This broker keeps to its window until the first ack, and then sends a window more for each one.
func TestMosquittoWindow(t *testing.T) {
	t.Parallel()
	s := mosquitto(t, 32)
	e := start(t, configFor(s.MQTT(), "d"), manual)
	e.awaitIdle()
	p := newPublisher(t, s.MQTT())
	seen := p.subscribe("d", 0)
	p.publish("d", 0, 500)
	e.eventually(func() bool { return seen.count() == 500 }, "broker has it all", func() any { return seen.count() })
	inOrder(t, 32, e.await(32))
	own := e.part(id)
	e.eventually(func() bool { return own.window() == 32 && !own.isIdle() }, "window known and full", func() any { return own.window() })
	for n := own.seen(); len(e.values()) < 500; n = own.seen() {
		own.commit(n)
		e.await(min(int(n)+32, 500))
	}
	own.commit(500)
	inOrder(t, 500, e.values())
	e.awaitIdle()
	e.stop()
	again := start(t, configFor(s.MQTT(), "d"))
	again.awaitIdle()
	require.Empty(t, again.values())
}

func TestMosquittoKilledLosesNothing(t *testing.T) {
	t.Parallel()
	s := mosquitto(t, 100)
	e := start(t, configFor(s.MQTT(), "d"), commitAfter(5*time.Millisecond))
	e.awaitIdle()
	p := newPublisher(t, s.MQTT())
	database := filepath.Join(filepath.Dir(s.Log(services.Mosquitto)), "mosquitto.db")
	const rounds, each = 5, 1000
	for r := range rounds {
		p.publish("d", r*each, (r+1)*each)
		published := time.Now()
		// This broker confirms before it writes to its disk, once a second: what it then lost, nobody could bring back.
		e.eventually(func() bool {
			f, err := os.Stat(database)
			return err == nil && f.ModTime().After(published)
		}, "saved", func() any { return database })
		require.NoError(t, s.Kill(t.Context(), services.Mosquitto))
		require.NoError(t, s.Start(t.Context(), services.Mosquitto))
	}
	e.awaitAll(rounds * each)
	repeats := complete(t, rounds*each, e.values())
	t.Logf("%d repeats, %d redelivered, %d reconnects", repeats, e.count("redelivered"), e.count("reconnects"))
}

// The connection breaks while the window is full and unacked, and more is published meanwhile: nothing is lost. After a reconnect
// this broker sends what is just published ahead of what has waited, so the order is another test's.
func TestMosquittoBrokenConnections(t *testing.T) {
	t.Parallel()
	s := mosquitto(t, 500)
	via := newProxy(t, s.MQTT())
	e := start(t, configFor(via.addr(), "d"), commitAfter(2*time.Millisecond))
	e.awaitIdle()
	p := newPublisher(t, s.MQTT())
	const rounds, each = 10, 2000
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.publish("d", 0, rounds*each)
	}()
	for r := range rounds {
		e.awaitAll(r * each)
		via.cut()
		e.eventually(func() bool { return e.count("reconnects") == int64(r+1) }, "reconnected", func() any { return e.log })
	}
	<-done
	e.awaitAll(rounds * each)
	t.Logf("%d repeats, %d redelivered", complete(t, rounds*each, e.values()), e.count("redelivered"))
}

func TestMosquittoCleanStopsWhilePublishing(t *testing.T) {
	t.Parallel()
	s := mosquitto(t, 100)
	p := newPublisher(t, s.MQTT())
	const total = 10_000
	e := start(t, configFor(s.MQTT(), "d"), commitAfter(time.Millisecond))
	e.awaitIdle()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.publish("d", 0, total)
	}()
	var got []int
	for len(got) < total {
		e.await(min(total-len(got), 1500))
		e.stop()
		got = append(got, e.values()...)
		e = start(t, configFor(s.MQTT(), "d"), commitAfter(time.Millisecond))
	}
	<-done
	e.awaitIdle()
	inOrder(t, total, append(got, e.values()...))
}

func TestMosquittoSharedSubscription(t *testing.T) {
	t.Parallel()
	s := mosquitto(t, 1000)
	cfg := configFor(s.MQTT(), "d/+")
	cfg.Clients, cfg.ShareGroup, cfg.ClientID = 3, "group", "member"
	e := start(t, cfg)
	e.awaitIdle()
	p := newPublisher(t, s.MQTT())
	p.publish("d/1", 0, 9000)
	once(t, 9000, e.await(9000))
	require.Len(t, e.all(), 3)
	for i := range 3 {
		require.NotEmpty(t, e.part("member-"+strconv.Itoa(i)).values)
	}
}

func TestMosquittoStartedLater(t *testing.T) {
	t.Parallel()
	s := mosquitto(t, 100)
	require.NoError(t, s.Down(t.Context(), services.Mosquitto))
	e := start(t, configFor(s.MQTT(), "d"))
	e.eventually(func() bool { return e.log.lines("cannot be reached") == 1 }, "warned", func() any { return e.log })
	require.NoError(t, s.Start(t.Context(), services.Mosquitto))
	e.awaitIdle()
	newPublisher(t, s.MQTT()).publish("d", 0, 10)
	inOrder(t, 10, e.await(10))
}

func TestMosquittoWrongPassword(t *testing.T) {
	t.Parallel()
	s := services.Isolated(t, services.Options{MosquittoUser: "mill", MosquittoPassword: "right"}, services.Mosquitto)
	cfg := configFor(s.MQTT(), "d")
	cfg.Username, cfg.Password = "mill", "wrong"
	e := open(t, cfg)
	e.run()
	require.ErrorContains(t, <-e.ran, `refuses user "mill"`)
	cfg.Password = "right"
	start(t, cfg).awaitIdle()
}

// proxy forwards connections, and breaks them on demand.
type proxy struct {
	l     net.Listener
	to    string
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{l: l, to: to}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) serve() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			p.wg.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				_ = pair[0].Close()
				_ = pair[1].Close()
			})
		}
	}
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

package mqtt_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/services"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

// onBrokers runs a test against each broker that speaks MQTT 5.
func onBrokers(t *testing.T, f func(t *testing.T, addr string)) {
	set := services.Need(t, services.Mosquitto, services.HiveMQ)
	for name, addr := range map[string]string{"mosquitto": set.MQTT(), "hivemq": set.HiveMQ()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, addr)
		})
	}
}

// config5 is a source of its own topic, whose session is gone when the test ends.
func config5(t *testing.T, addr string) mqtt.Config {
	t.Helper()
	name := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()) + strconv.FormatInt(time.Now().UnixNano(), 36)
	cfg := configFor(addr, name)
	cfg.Protocol, cfg.ClientID = mqtt.V5, name
	t.Cleanup(func() {
		c := dial5(t, addr, name)
		require.NoError(t, c.Disconnect(&paho.Disconnect{}))
	})
	return cfg
}

// dial5 is a client that is no source, with a clean session.
func dial5(t *testing.T, addr, id string) *paho.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	require.NoError(t, err)
	c := paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: patience})
	_, err = c.Connect(ctx, &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: 30})
	require.NoError(t, err)
	return c
}

// publisher5 publishes numbers with QoS 1.
type publisher5 struct {
	t   *testing.T
	c   *paho.Client
	qos byte
}

func newPublisher5(t *testing.T, addr string) *publisher5 {
	p := &publisher5{t, dial5(t, addr, "publisher-"+strconv.FormatInt(time.Now().UnixNano(), 36)), 1}
	t.Cleanup(func() { require.NoError(t, p.c.Disconnect(&paho.Disconnect{})) })
	return p
}

func (p *publisher5) publish(topic string, from, to int, properties func(i int) *paho.PublishProperties) {
	p.t.Helper()
	for i := from; i < to; i++ {
		m := &paho.Publish{Topic: topic, QoS: p.qos, Payload: []byte(strconv.Itoa(i))}
		if properties != nil {
			m.Properties = properties(i)
		}
		_, err := p.c.PublishWithOptions(context.Background(), m, paho.PublishOptions{Method: paho.PublishMethod_AsyncSend})
		require.NoError(p.t, err)
	}
	// The broker takes them in order: the last one's confirmation is that of all.
	_, err := p.c.Publish(context.Background(), &paho.Publish{Topic: topic + "/end", QoS: p.qos})
	require.NoError(p.t, err)
}

// startBehind starts a source that commits by hand behind messages of numbers, published while it was away, and waits for the first of them.
// HiveMQ gives little to a client that acks nothing when it has not seen it go before the messages came. Such a source takes all there is, to
// show that nothing is lost, and another one begins.
func startBehind(t *testing.T, addr string, published, first int, settings func(*mqtt.Config)) (*engine, mqtt.Config) {
	t.Helper()
	for range 10 {
		cfg := config5(t, addr)
		settings(&cfg)
		e := start(t, cfg)
		e.awaitIdle()
		e.stop()
		p := newPublisher5(t, addr)
		if cfg.QoS != nil {
			p.qos = *cfg.QoS
		}
		p.publish(cfg.Topics[0], 0, published, nil)
		e = start(t, cfg, manual)
		if e.has(first, patience/8) {
			return e, cfg
		}
		e.crash()
		all := start(t, cfg)
		all.awaitAll(published)
		all.awaitIdle()
		all.stop()
	}
	require.FailNow(t, "the broker gives too little", "of %d messages it gave fewer than %d, ten times", published, first)
	return nil, mqtt.Config{}
}

func TestV5OrderAndHeaders(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, addr string) {
		cfg := config5(t, addr)
		cfg.Meta = true
		e := start(t, cfg)
		e.awaitIdle()
		newPublisher5(t, addr).publish(cfg.Topics[0], 0, 2000, func(i int) *paho.PublishProperties {
			if i%2 == 0 {
				return nil
			}
			return &paho.PublishProperties{
				ContentType: "text/plain", ResponseTopic: "answers", CorrelationData: []byte{0, 255},
				User: paho.UserProperties{{Key: "traceparent", Value: "00-" + strconv.Itoa(i)}, {Key: "ü", Value: "1"}, {Key: "ü", Value: "2"}},
			}
		})
		inOrder(t, 2000, e.await(2000))
		for i, r := range e.part(cfg.ClientID).records {
			require.Equal(t, cfg.Topics[0], r.Meta.Key)
			if i%2 == 0 {
				require.Nil(t, r.Meta.Headers)
				continue
			}
			require.Equal(t, map[string]string{
				"traceparent": "00-" + strconv.Itoa(i), "ü": "2",
				"mqtt.content-type": "text/plain", "mqtt.response-topic": "answers", "mqtt.correlation-data": "\x00\xff",
			}, r.Meta.Headers)
		}
		e.stop()
		again := start(t, cfg)
		again.awaitIdle()
		require.Empty(t, again.values(), "all was acked")
	})
}

// The client sets the window. HiveMQ keeps to it; mosquitto keeps to it until the first ack.
func TestV5WindowIsTheClients(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, addr string) {
		e, cfg := startBehind(t, addr, 100, 10, func(c *mqtt.Config) { c.Window = 10 })
		inOrder(t, 10, e.values())
		p := e.part(cfg.ClientID)
		require.Equal(t, 10, p.window())
		e.eventually(func() bool { return !p.isIdle() }, "full window", func() any { return p.window() })
		for n := p.seen(); n < 100; n = p.seen() {
			p.commit(n)
			e.await(min(int(n)+1, 100))
		}
		p.commit(100)
		inOrder(t, 100, e.values())
		e.awaitIdle()
		require.Equal(t, 10, p.window())
	})
}

func TestV5CrashRepeatsOnlyTheUnacked(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, addr string) {
		for qos := byte(1); qos <= 2; qos++ {
			e, cfg := startBehind(t, addr, 100, 100, func(c *mqtt.Config) { c.QoS = &qos })
			e.part(cfg.ClientID).commit(60)
			e.crash()
			again := start(t, cfg)
			require.Equal(t, upTo(100)[60:], again.await(40), "QoS %d", qos)
			again.awaitIdle()
			require.Len(t, again.values(), 40)
			again.stop()
		}
	})
}

// The connection breaks while messages are unacked: nothing is lost, the order stays, and only acks under way can make a repeat.
func TestBrokenConnectionsKeepTheOrder(t *testing.T) {
	t.Parallel()
	for _, protocol := range []mqtt.Protocol{mqtt.V311, mqtt.V5} {
		t.Run("MQTT "+string(protocol), func(t *testing.T) { brokenConnections(t, protocol) })
	}
}

func brokenConnections(t *testing.T, protocol mqtt.Protocol) {
	onBrokers(t, func(t *testing.T, addr string) {
		via := newProxy(t, addr)
		cfg := config5(t, addr)
		cfg.Protocol, cfg.Brokers, cfg.Window = protocol, []string{"tcp://" + via.addr()}, 500
		e := start(t, cfg, commitAfter(2*time.Millisecond))
		e.awaitIdle()
		p := newPublisher5(t, addr)
		const rounds, each = 5, 600
		for r := range rounds {
			p.publish(cfg.Topics[0], r*each, (r+1)*each, nil)
			via.cut()
			e.eventually(func() bool { return e.count("reconnects") >= int64(r+1) }, "reconnected", func() any { return e.log })
		}
		e.awaitAll(rounds * each)
		repeats := complete(t, rounds*each, e.values())
		var first []int
		seen := map[int]bool{}
		for _, v := range e.values() {
			if !seen[v] {
				seen[v] = true
				first = append(first, v)
			}
		}
		inOrder(t, rounds*each, first)
		t.Logf("%d repeats, %d redelivered", repeats, e.count("redelivered"))
	})
}

func TestV5SharedSubscription(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, addr string) {
		cfg := config5(t, addr)
		topic := cfg.Topics[0]
		cfg.Topics = []string{topic + "/+"}
		cfg.Clients, cfg.ShareGroup, cfg.SessionExpiry = 3, topic, time.Second
		e := start(t, cfg)
		e.awaitIdle()
		p := newPublisher5(t, addr)
		for i := range 3 {
			p.publish(topic+"/"+strconv.Itoa(i), i*1000, (i+1)*1000, nil)
		}
		once(t, 3000, e.await(3000))
		require.Len(t, e.all(), 3)
	})
}

func TestV5Retained(t *testing.T) {
	t.Parallel()
	onBrokers(t, func(t *testing.T, addr string) {
		cfg := config5(t, addr)
		p := newPublisher5(t, addr)
		keep := func(payload string) {
			_, err := p.c.Publish(t.Context(), &paho.Publish{Topic: cfg.Topics[0], QoS: 1, Retain: true, Payload: []byte(payload)})
			require.NoError(t, err)
		}
		keep("7")
		t.Cleanup(func() {
			c := dial5(t, addr, cfg.ClientID+"-janitor")
			_, err := c.Publish(context.Background(), &paho.Publish{Topic: cfg.Topics[0], QoS: 1, Retain: true})
			require.NoError(t, err)
			require.NoError(t, c.Disconnect(&paho.Disconnect{}))
		})
		e := start(t, cfg)
		e.awaitIdle()
		p.publish(cfg.Topics[0], 0, 3, nil)
		inOrder(t, 3, e.await(3))
		e.stop()

		// With a new session it comes once, however often the source connects.
		cfg.DropRetained = new(false)
		cfg.ClientID += "-keeper"
		t.Cleanup(func() { require.NoError(t, dial5(t, addr, cfg.ClientID).Disconnect(&paho.Disconnect{})) })
		for want := 1; want >= 0; want-- {
			e = start(t, cfg)
			e.awaitIdle()
			require.Len(t, e.await(want), want)
			e.stop()
		}
	})
}

// A broker that is killed keeps what it has confirmed and what was not acked, as far as its disk has it.
func TestV5KilledBrokerLosesNothing(t *testing.T) {
	t.Parallel()
	s := mosquitto(t, 100)
	cfg := configFor(s.MQTT(), "d")
	cfg.Protocol = mqtt.V5
	e := start(t, cfg, commitAfter(5*time.Millisecond))
	e.awaitIdle()
	p := newPublisher(t, s.MQTT())
	database := filepath.Join(filepath.Dir(s.Log(services.Mosquitto)), "mosquitto.db")
	const rounds, each = 2, 1000
	for r := range rounds {
		p.publish("d", r*each, (r+1)*each)
		published := time.Now()
		e.eventually(func() bool {
			f, err := os.Stat(database)
			return err == nil && f.ModTime().After(published)
		}, "saved", func() any { return database })
		require.NoError(t, s.Kill(t.Context(), services.Mosquitto))
		require.NoError(t, s.Start(t.Context(), services.Mosquitto))
	}
	e.awaitAll(rounds * each)
	complete(t, rounds*each, e.values())
}

// What the broker refuses it says why.
func TestV5ReasonCodes(t *testing.T) {
	t.Parallel()
	acl := filepath.Join(t.TempDir(), "acl")
	require.NoError(t, os.WriteFile(acl, []byte("topic read open/#\n"), 0o644))
	s := services.Isolated(t, services.Options{
		MosquittoUser: "mill", MosquittoPassword: "right", MosquittoConf: []string{"acl_file " + acl},
	}, services.Mosquitto)
	cfg := configFor(s.MQTT(), "open/#")
	cfg.Protocol, cfg.Username, cfg.Password = mqtt.V5, "mill", "wrong"
	e := open(t, cfg)
	e.run()
	err := <-e.ran
	require.ErrorContains(t, err, `refuses user "mill": refused with code 0x87: not authorized`)
	require.ErrorContains(t, err, "check username and password")
	require.False(t, flow.IsTransient(err))

	cfg.Password = "right"
	start(t, cfg).awaitIdle()
}

// Another client of the same id takes the session over, and the broker says so.
func TestV5TakenOver(t *testing.T) {
	t.Parallel()
	cfg := config5(t, services.Need(t, services.HiveMQ).HiveMQ())
	one, two := start(t, cfg), start(t, cfg)
	told := func(e *engine) bool {
		return e.log.lines("session taken over") > 0 && e.log.lines("another client uses the id") > 0
	}
	one.eventually(func() bool { return told(one) || told(two) }, "told", func() any { return one.log })
}

func TestV5Configuration(t *testing.T) {
	good := func(change func(*mqtt.Config)) error {
		c := mqtt.Config{Brokers: []string{"tcp://h"}, Topics: []string{"d"}, Protocol: mqtt.V5, SessionExpiry: time.Hour}
		change(&c)
		return c.Validate()
	}
	require.NoError(t, good(func(*mqtt.Config) {}))
	for _, c := range []struct {
		want   string
		change func(*mqtt.Config)
	}{
		{`protocol is "6": allowed are 3.1.1 and 5`, func(c *mqtt.Config) { c.Protocol = "6" }},
		{"session_expiry is 1.5s: allowed are whole seconds", func(c *mqtt.Config) { c.SessionExpiry = 1.5e9 }},
		{"session_expiry needs MQTT 5", func(c *mqtt.Config) { c.Protocol = "" }},
		{"session_expiry is set beside clean_session", func(c *mqtt.Config) { c.CleanSession = true }},
		{"username is set beside credentials", func(c *mqtt.Config) {
			c.Username = "u"
			c.Credentials = func(context.Context) (string, mqtt.Secret, error) { return "", "", nil }
		}},
	} {
		require.ErrorContains(t, good(c.change), c.want)
	}
}

// Credentials are asked for at each attempt; what an expired token makes the broker refuse is tried again with the next one.
func TestCredentialsAreAskedForAtEachAttempt(t *testing.T) {
	t.Parallel()
	for _, protocol := range []mqtt.Protocol{mqtt.V311, mqtt.V5} {
		s := services.Isolated(t, services.Options{MosquittoUser: "mill", MosquittoPassword: "token-2"}, services.Mosquitto)
		via := newProxy(t, s.MQTT())
		var mu sync.Mutex
		asked := 0
		tokens := []string{"", "token-2", "expired", "token-2"} // the first is an outage of who gives them
		cfg := configFor(via.addr(), "d")
		cfg.Protocol = protocol
		cfg.Credentials = func(context.Context) (string, mqtt.Secret, error) {
			mu.Lock()
			defer mu.Unlock()
			token := tokens[min(asked, len(tokens)-1)]
			asked++
			if token == "" {
				return "", "", context.DeadlineExceeded
			}
			return "mill", mqtt.Secret(token), nil
		}
		e := start(t, cfg)
		e.awaitIdle()
		require.Equal(t, 1, e.log.lines("credentials:"))
		via.cut()
		e.eventually(func() bool { return e.count("reconnects") == 1 }, "reconnected", func() any { return e.log })
		mu.Lock()
		require.Equal(t, 4, asked)
		mu.Unlock()
		require.NotContains(t, e.log.String(), "token-2")
		e.stop()
	}
}

package mqtt

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	paho5 "github.com/eclipse/paho.golang/paho"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/mqttconn/certtest"
	"github.com/millrace-stream/millrace/internal/services"
)

// root is a topic of the test's own.
func root(t *testing.T) string {
	return strings.NewReplacer(" ", "-", ",", "", "/", "-").Replace(t.Name()) + strconv.FormatInt(time.Now().UnixNano(), 36)
}

func onBroker(addr string, p Protocol) Config {
	return Config{Brokers: []string{"tcp://" + addr}, Protocol: p, MaxReconnectInterval: 100 * time.Millisecond}
}

// Each message is there once, in the order of its topic.
func TestOnBrokers(t *testing.T) {
	t.Parallel()
	set := services.Need(t, services.Mosquitto, services.HiveMQ)
	for _, c := range []struct {
		name, addr string
		protocol   Protocol
		qos        byte
	}{
		{"mosquitto", set.MQTT(), V311, 0},
		{"mosquitto", set.MQTT(), V311, 1},
		{"mosquitto", set.MQTT(), V311, 2},
		{"mosquitto", set.MQTT(), V5, 0},
		{"mosquitto", set.MQTT(), V5, 1},
		{"mosquitto", set.MQTT(), V5, 2},
		{"hivemq", set.HiveMQ(), V311, 1},
		{"hivemq", set.HiveMQ(), V5, 1},
		{"hivemq", set.HiveMQ(), V5, 2},
	} {
		t.Run(fmt.Sprintf("%s, MQTT %s, QoS %d", c.name, c.protocol, c.qos), func(t *testing.T) {
			t.Parallel()
			at := root(t)
			in := subscribe(t, c.addr, at+"/#", 2)
			o := open(t, Sink(withQoS(onBroker(c.addr, c.protocol), c.protocol, c.qos), func(r reading) string { return at + "/" + r.device }, readings{}))
			const devices, each = 3, 400
			var all []reading
			for i := range each {
				for d := range devices {
					all = append(all, reading{strconv.Itoa(d), i})
				}
			}
			rejects, retries := o.deliver(o.block(all[:700]...), o.block(all[700:]...))
			require.Empty(t, rejects)
			require.Zero(t, retries, o.log)
			eventually(t, func() bool { return len(in.all()) >= len(all) }, "all there", o.log)
			in.flush(at)
			next := map[string]int{}
			for _, m := range in.all() {
				require.Equal(t, strconv.Itoa(next[m.topic]), m.payload, m.topic)
				next[m.topic]++
			}
			require.Equal(t, map[string]int{at + "/0": each, at + "/1": each, at + "/2": each}, next)
		})
	}
}

func TestRetained(t *testing.T) {
	t.Parallel()
	addr := services.Need(t, services.Mosquitto).MQTT()
	at := root(t)
	cfg := onBroker(addr, V311)
	cfg.Retained = true
	o := open(t, Sink(cfg, at+"/a", readings{}))
	o.deliver(o.block(numbersOf("", 1, 3)...))
	o = open(t, Sink(onBroker(addr, V5), func(r reading) string { return at + "/" + r.device }, readings{}, Retained(func(r reading) bool { return r.n > 10 })))
	o.deliver(o.block(reading{"b", 5}, reading{"c", 15}))
	in := subscribe(t, addr, at+"/+", 1)
	in.flush(at)
	require.ElementsMatch(t, []received{{at + "/a", "3", true}, {at + "/c", "15", true}}, in.all())
	clean := open(t, Sink(cfg, func(s string) string { return at + "/" + s }, nothing{}))
	clean.deliver(clean.block("a", "c"))
}

// nothing is a codec of empty payloads.
type nothing struct{}

func (nothing) ID() string                                 { return "nothing" }
func (nothing) Decode([]byte, *string) error               { return nil }
func (nothing) Append(b []byte, _ *string) ([]byte, error) { return b, nil }

// The will comes when the connection ends without a goodbye, and only then.
func TestWill(t *testing.T) {
	t.Parallel()
	addr := services.Need(t, services.Mosquitto).MQTT()
	for _, protocol := range versions {
		t.Run("MQTT "+string(protocol), func(t *testing.T) {
			t.Parallel()
			at := root(t)
			in := subscribe(t, addr, at+"/#", 1)
			network := faults.New(t, addr)
			cfg := onBroker(network.Addr(), protocol)
			cfg.Will = Will{Topic: at + "/gone", Payload: "adapter-7", QoS: 1}
			o := open(t, Sink(cfg, at+"/d", readings{}))
			o.deliver(o.block(reading{"", 1}))
			network.Cut()
			eventually(t, func() bool { return len(in.all()) == 2 }, "will", o.log)
			network.Restore()
			eventually(t, func() bool { return o.count("reconnects") == 1 }, "reconnected", o.log)
			o.deliver(o.block(reading{"", 2}))
			o.close()
			in.flush(at)
			require.Equal(t, []received{{at + "/d", "1", false}, {at + "/gone", "adapter-7", false}, {at + "/d", "2", false}}, in.all())
		})
	}
}

// Headers of a record are user properties of its message.
func TestUserProperties(t *testing.T) {
	t.Parallel()
	set := services.Need(t, services.Mosquitto, services.HiveMQ)
	for _, addr := range []string{set.MQTT(), set.HiveMQ()} {
		at := root(t)
		got := make(chan *paho5.Publish, 8)
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		c := paho5.NewClient(paho5.ClientConfig{Conn: conn, PacketTimeout: patience, OnPublishReceived: []func(paho5.PublishReceived) (bool, error){
			func(p paho5.PublishReceived) (bool, error) { got <- p.Packet; return true, nil },
		}})
		_, err = c.Connect(t.Context(), &paho5.Connect{ClientID: at, CleanStart: true, KeepAlive: 30})
		require.NoError(t, err)
		_, err = c.Subscribe(t.Context(), &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: at, QoS: 1}}})
		require.NoError(t, err)

		cfg := onBroker(addr, V5)
		cfg.MessageExpiry = time.Hour
		o := open(t, Sink(cfg, at, readings{}, UserProperties(func(r reading) map[string]string {
			return map[string]string{"number": strconv.Itoa(r.n)}
		})))
		batch := records(numbersOf("", 1, 2)...)
		batch[0].Meta = &flow.Meta{Headers: map[string]string{
			"traceparent": "00-1", "ü": "ö", "mqtt.content-type": "text/plain", "mqtt.response-topic": "answers", "mqtt.correlation-data": "\x00\xff",
		}}
		require.NoError(t, o.writer.Write(t.Context(), batch))
		blocks, err := o.writer.Seal(t.Context())
		require.NoError(t, err)
		_, retries := o.deliver(blocks...)
		require.Zero(t, retries)
		first, second := <-got, <-got
		require.Equal(t, paho5.UserProperties{{Key: "traceparent", Value: "00-1"}, {Key: "ü", Value: "ö"}, {Key: "number", Value: "1"}}, first.Properties.User)
		require.Equal(t, "text/plain", first.Properties.ContentType)
		require.Equal(t, "answers", first.Properties.ResponseTopic)
		require.Equal(t, []byte{0, 255}, first.Properties.CorrelationData)
		require.InDelta(t, 3600, int(*first.Properties.MessageExpiry), 5)
		require.Equal(t, paho5.UserProperties{{Key: "number", Value: "2"}}, second.Properties.User)
		require.Equal(t, "2", string(second.Payload))
		require.NoError(t, c.Disconnect(&paho5.Disconnect{}))
	}
}

// The broker is killed and started again while messages are published: every one arrives.
func TestBrokerIsKilled(t *testing.T) {
	t.Parallel()
	for _, protocol := range versions {
		t.Run("MQTT "+string(protocol), func(t *testing.T) {
			t.Parallel()
			s := services.Isolated(t, services.Options{MosquittoInflight: 65535}, services.Mosquitto)
			database := filepath.Join(filepath.Dir(s.Log(services.Mosquitto)), "mosquitto.db")
			in := subscribe(t, s.MQTT(), "d/#", 1)
			subscribed := time.Now()
			eventually(t, func() bool {
				f, err := os.Stat(database)
				return err == nil && f.ModTime().After(subscribed)
			}, "the broker's disk has the subscription", in)
			network := faults.New(t, s.MQTT())
			cfg := withQoS(onBroker(network.Addr(), protocol), protocol, 1)
			cfg.Inflight = 50
			o := open(t, Sink(cfg, "d/x", readings{}))
			const total, each = 8000, 200
			done := make(chan struct{})
			go func() {
				defer close(done)
				for from := 0; from < total; from += each {
					o.deliver(o.block(numbersOf("", from, from+each-1)...))
				}
			}()
			for round, fault := range []func(){network.DropAnswers, network.HalfOpen} {
				eventually(t, func() bool { return len(in.all()) > (round+1)*1500 && in.c.IsConnectionOpen() }, "under way", o.log)
				// It writes to its disk once a second only: what it has confirmed must have been handed on when it dies. What it has
				// and has not confirmed, and what it never gets, is the sink's affair.
				fault()
				in.flush("d")
				require.NoError(t, s.Kill(t.Context(), services.Mosquitto))
				network.Restore()
				require.NoError(t, s.Start(t.Context(), services.Mosquitto))
			}
			<-done
			seen := func() int {
				ids := map[string]bool{}
				for _, p := range in.payloads() {
					ids[p] = true
				}
				return len(ids)
			}
			eventually(t, func() bool { return seen() == total }, "all there", o.log)
			require.GreaterOrEqual(t, o.count("reconnects"), int64(2))
			t.Logf("%d repeats", len(in.all())-total)
		})
	}
}

// What a broker of MQTT 5 forbids it refuses; one of MQTT 3.1.1 confirms it and drops it, which no client can see.
func TestForbiddenTopics(t *testing.T) {
	t.Parallel()
	acl := filepath.Join(t.TempDir(), "acl")
	require.NoError(t, os.WriteFile(acl, []byte("topic readwrite open/#\ntopic read closed/#\n"), 0o644))
	s := services.Isolated(t, services.Options{MosquittoConf: []string{"acl_file " + acl}}, services.Mosquitto)
	in := subscribe(t, s.MQTT(), "#", 1)
	for _, protocol := range []Protocol{V311, V5} {
		o := open(t, Sink(onBroker(s.MQTT(), protocol), func(r reading) string { return r.device + "/" + string(protocol) }, readings{}))
		rejects, _ := o.deliver(o.block(reading{"open", 1}, reading{"closed", 2}, reading{"open", 3}))
		if protocol == V311 {
			require.Empty(t, rejects)
			continue
		}
		require.Len(t, rejects, 1)
		require.Equal(t, 1, rejects[0].Row)
		require.ErrorContains(t, rejects[0].Err, "0x87, not authorized")
	}
	in.flush("open")
	require.Equal(t, []string{"1", "3", "1", "3"}, in.payloads())
}

// A broker of MQTT 5 says how large a packet may be.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	addr := services.Need(t, services.HiveMQ).HiveMQ()
	at := root(t)
	in := subscribe(t, addr, at+"/#", 1)
	cfg := onBroker(addr, V5)
	cfg.MaxPacketBytes = 4 << 20
	o := open(t, Sink(cfg, at+"/d", text{}))
	rejects, _ := o.deliver(o.block("1", strings.Repeat("x", 900<<10), strings.Repeat("y", 2<<20), "2"))
	require.Len(t, rejects, 1)
	require.Equal(t, 2, rejects[0].Row)
	require.Len(t, rejects[0].Record, 2<<20)
	require.ErrorContains(t, rejects[0].Err, "1048576: raise the broker's limit")
	in.flush(at)
	require.Len(t, in.all(), 3)
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	for _, protocol := range versions {
		t.Run("MQTT "+string(protocol), func(t *testing.T) {
			t.Parallel()
			s := services.Isolated(t, services.Options{MosquittoUser: "mill", MosquittoPassword: "token-2"}, services.Mosquitto)
			cfg := onBroker(s.MQTT(), protocol)
			cfg.Username, cfg.Password = "mill", "hunter2"
			wrong := prepare(t, Sink(cfg, "t", readings{}))
			err := wrong.sink.Open(t.Context(), runtimeOf(wrong))
			require.ErrorContains(t, err, `refuses user "mill"`)
			require.ErrorContains(t, err, "check username and password")
			require.NotContains(t, err.Error(), "hunter2")
			require.False(t, flow.IsTransient(err))

			network := faults.New(t, s.MQTT())
			cfg = onBroker(network.Addr(), protocol)
			var mu sync.Mutex
			asked := 0
			tokens := []string{"token-2", "", "expired", "token-2"}
			cfg.Credentials = func(context.Context) (string, Secret, error) {
				mu.Lock()
				defer mu.Unlock()
				token := tokens[min(asked, len(tokens)-1)]
				asked++
				if token == "" {
					return "", "", context.DeadlineExceeded
				}
				return "mill", Secret(token), nil
			}
			o := open(t, Sink(cfg, "t", readings{}))
			network.Cut()
			eventually(t, func() bool { return o.log.lines("connection lost") == 1 }, "noticed", o.log)
			network.Restore()
			o.deliver(o.block(reading{"", 1}))
			mu.Lock()
			require.Equal(t, len(tokens), asked)
			mu.Unlock()
			require.Contains(t, o.log.String(), "credentials: context deadline exceeded")
			require.NotContains(t, o.log.String(), "token-2")
		})
	}
}

// Certificates are replaced while the sink runs, and the old one expires.
func TestCertificatesAreReplacedWhileRunning(t *testing.T) {
	t.Parallel()
	for _, protocol := range versions {
		t.Run("MQTT "+string(protocol), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := func(name string) string { return filepath.Join(dir, name) }
			brokers, clients := certtest.NewAuthority(t, "brokers"), certtest.NewAuthority(t, "clients")
			brokers.WriteCA(file("ca.pem"))
			clients.WriteCA(file("clients.pem"))
			brokers.Write("broker", file("broker.pem"), file("broker.key"), time.Hour)
			const life = 2 * time.Second
			clients.Write("sink", file("sink.pem"), file("sink.key"), life)
			expired := time.Now().Add(life + time.Second)
			s := services.Isolated(t, services.Options{MosquittoConf: []string{
				"cafile " + file("clients.pem"), "certfile " + file("broker.pem"), "keyfile " + file("broker.key"), "require_certificate true",
			}}, services.Mosquitto)
			network := faults.New(t, s.MQTT())
			cfg := onBroker("", protocol)
			cfg.Brokers = []string{"ssl://" + network.Addr()}
			cfg.TLS = TLS{CAFile: file("ca.pem"), CertFile: file("sink.pem"), KeyFile: file("sink.key")}
			o := open(t, Sink(cfg, "t", readings{}))
			o.deliver(o.block(reading{"", 1}))

			eventually(t, func() bool { return time.Now().After(expired) }, "expired", o.log)
			o.deliver(o.block(reading{"", 2})) // a connection outlives its certificate
			network.Cut()
			network.Restore()
			eventually(t, func() bool { return o.log.lines("not connected") == 1 }, "refused", o.log)
			clients.Write("sink", file("sink.pem"), file("sink.key"), time.Hour)
			o.deliver(o.block(reading{"", 3}))
			require.EqualValues(t, 1, o.count("reconnects"))
		})
	}
	stranger := certtest.NewAuthority(t, "strangers")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	stranger.WriteCA(ca)
	require.NoError(t, os.WriteFile(ca+".bad", []byte("no certificate"), 0o600))
	cfg := Config{Brokers: []string{"ssl://127.0.0.1:1"}, TLS: TLS{CAFile: ca + ".bad"}}
	require.ErrorContains(t, cfg.Validate(), "holds no certificate in PEM form")
}

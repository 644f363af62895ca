package mqtt

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/faults"
	"github.com/millrace-stream/millrace/internal/services"
)

// The sink keeps the contract of flow.Sink on a real broker, whatever the network does: with QoS 1 at least once, with QoS 2 once.
func TestContract(t *testing.T) {
	set := services.Need(t, services.Mosquitto)
	for _, c := range []struct {
		protocol Protocol
		qos      byte
	}{{V311, 1}, {V311, 2}, {V5, 2}} {
		t.Run(fmt.Sprintf("MQTT %s, QoS %d", c.protocol, c.qos), func(t *testing.T) { contract(t, set.MQTT(), c.protocol, c.qos) })
	}
}

func contract(t *testing.T, addr string, protocol Protocol, qos byte) {
	var place atomic.Int64
	withDefaults := func(change func(*Config)) func() flow.Sink[reading] {
		return func() flow.Sink[reading] {
			cfg := Config{Brokers: []string{"tcp://127.0.0.1:1"}, Protocol: protocol}
			change(&cfg)
			return Sink(cfg, topicOf, readings{})
		}
	}
	flowtest.SinkContract(t, flowtest.SinkSetup[reading]{
		New: func(t testing.TB) flowtest.SinkCase[reading] {
			root := fmt.Sprintf("contract/%x/%d", time.Now().UnixNano(), place.Add(1))
			network := faults.New(t, addr)
			cfg := Config{
				Brokers: []string{"tcp://" + network.Addr()}, Protocol: protocol, QoS: &qos, ClientID: strings.ReplaceAll(root, "/", "-"),
				KeepAlive: time.Second, PingTimeout: time.Second, ConnectTimeout: time.Second, WriteTimeout: time.Second, AckTimeout: time.Second,
				MaxReconnectInterval: 100 * time.Millisecond,
			}
			in := subscribe(t, addr, root+"/#", 2)
			return flowtest.SinkCase[reading]{
				Sink: func() flow.Sink[reading] {
					return Sink(cfg, func(r reading) string { return root + "/" + r.device }, readings{})
				},
				Stored: func(testing.TB) []int {
					in.flush(root)
					var ids []int
					for _, m := range in.all() {
						id, err := strconv.Atoi(m.payload)
						require.NoError(t, err)
						ids = append(ids, id)
					}
					return ids
				},
				Network: network,
			}
		},
		Record: func(id int) reading { return reading{"d", id} },
		Refused: map[string]func(int) reading{
			"codec":         func(int) reading { return reading{"d", -1} },
			"invalid topic": func(id int) reading { return reading{"d/#", id} },
			"large topic":   func(id int) reading { return reading{strings.Repeat("x", 1<<16), id} },
		},
		Wrong: map[string]func() flow.Sink[reading]{
			"brokers":  withDefaults(func(c *Config) { c.Brokers = nil }),
			"qos":      withDefaults(func(c *Config) { c.QoS = new(byte(3)) }),
			"inflight": withDefaults(func(c *Config) { c.Inflight = -1 }),
		},
		Repeats: qos == 1,
	})
}

// subscriber is a client of the library that collects what it gets, over broken connections.
type subscriber struct {
	t testing.TB
	c paho.Client

	mu    sync.Mutex
	got   []received
	ends  map[string]bool
	marks atomic.Int64
}

type received struct {
	topic, payload string
	retained       bool
}

const endMark = "/end-mark"

func subscribe(t testing.TB, addr, filter string, qos byte) *subscriber {
	t.Helper()
	s := &subscriber{t: t, ends: map[string]bool{}}
	id := "subscriber-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	o := paho.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetCleanSession(false).
		SetMaxReconnectInterval(100 * time.Millisecond).SetDefaultPublishHandler(s.receive)
	s.c = paho.NewClient(o)
	s.await(s.c.Connect())
	s.await(s.c.Subscribe(filter, qos, nil))
	t.Cleanup(func() {
		s.c.Disconnect(250)
		janitor := paho.NewClient(o.SetCleanSession(true)) // so that the broker keeps nothing
		s.await(janitor.Connect())
		janitor.Disconnect(250)
	})
	return s
}

func (s *subscriber) await(tok paho.Token) {
	s.t.Helper()
	require.True(s.t, tok.WaitTimeout(patience), "the broker does not answer")
	require.NoError(s.t, tok.Error())
}

func (s *subscriber) receive(_ paho.Client, m paho.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasSuffix(m.Topic(), endMark) {
		s.ends[string(m.Payload())] = true
		return
	}
	s.got = append(s.got, received{m.Topic(), string(m.Payload()), m.Retained()})
}

// flush waits until everything that the broker has is here.
func (s *subscriber) flush(root string) {
	s.t.Helper()
	mark := strconv.FormatInt(s.marks.Add(1), 10)
	s.await(s.c.Publish(root+endMark, 1, false, mark))
	require.Eventually(s.t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.ends[mark]
	}, patience, time.Millisecond)
}

func (s *subscriber) all() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.got...)
}

func (s *subscriber) payloads() []string {
	var p []string
	for _, m := range s.all() {
		p = append(p, m.payload)
	}
	return p
}

func (s *subscriber) String() string { return strings.Join(s.payloads(), " ") }

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/state"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/internal/mqttclient"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
	mqttsink "github.com/millrace-stream/millrace/sinks/mqtt"
	mqttsource "github.com/millrace-stream/millrace/sources/mqtt"
	"github.com/millrace-stream/millrace/topologies/iot"
)

// The rule that eKuiper and Millrace run beside each other: of the readings with a humidity below 50, each second of the clock, how many there
// were and the sum of their temperatures in Fahrenheit, from MQTT at QoS 0 to MQTT.
const (
	ruleSQL   = "SELECT count(*) AS n, sum(temperature * 1.8 + 32) AS total FROM readings WHERE humidity < 50 GROUP BY TUMBLINGWINDOW(ss, 1)"
	ruleAbout = "MQTT QoS 0, mosquitto: filter, count and sum of a conversion each second, back to MQTT"
	// ruleAhead is how many messages the publisher may be ahead of who reads them: a broker drops what is published at QoS 0 and does not
	// leave soon.
	ruleAhead = 8_000
)

// second is what the rule says of one second.
type second struct {
	N     int64   `json:"n"`
	Total float64 `json:"total"`
}

// Rule are eKuiper, from a folder with its program kuiperd and its folder etc, and a topology that does the same.
func Rule(s Servers, ekuiper string) (peer, path Bench) {
	topic := name("rule")
	p := &rule{servers: s, topic: topic, engine: &kuiper{dir: ekuiper, mqtt: s.MQTT, topic: topic}, label: "e2e/mqtt-rule-ekuiper", what: "eKuiper: "}
	m := &rule{servers: s, topic: topic, engine: &ruleTopology{mqtt: s.MQTT, topic: topic}, label: "e2e/mqtt-rule", what: ""}
	return p, m
}

// ruleEngine is a program that has the rule.
type ruleEngine interface {
	// start returns when the program reads.
	start(ctx context.Context) error
	// received is how many readings it has read, at least.
	received() int64
	// cpu is its processor time so far, as far as it is not this process's.
	cpu() time.Duration
	// failed is closed when it has ended by itself.
	failed() <-chan struct{}
	stop(ctx context.Context) error
}

type rule struct {
	servers  Servers
	topic    string
	engine   ruleEngine
	label    string
	what     string
	readings *readings

	// Of one run.
	n       int64
	results *seconds
	conn    *mqttclient.Conn
}

func (r *rule) Name() string  { return r.label }
func (r *rule) About() string { return r.what + ruleAbout }

func (r *rule) Prepare(ctx context.Context, _ harness.Settings) error {
	if r.readings == nil {
		r.readings = newReadings(r.topic + "/in")
	}
	r.results = &seconds{progress: newProgress()}
	var err error
	if r.conn, err = dial(ctx, r.servers.MQTT, r.topic+"-results", true, r.results, func(c *mqttclient.Conn) { r.results.conn = c }); err != nil {
		return err
	}
	if err := subscribe(ctx, r.conn, r.topic+"/out"); err != nil {
		return err
	}
	return r.engine.start(ctx)
}

// fits are how many of the first n readings the rule takes, and what it makes of them.
func (r *rule) fits(n int64) (s second) {
	type fields struct{ Temperature, Humidity float64 }
	pool := make([]fields, len(r.readings.pool))
	for i := range pool {
		if err := json.Unmarshal(r.readings.pool[i], &pool[i]); err != nil {
			panic(err) // this package has made it
		}
	}
	for i := range n {
		if f := &pool[i%readingsPool]; f.Humidity < 50 {
			s.N++
			s.Total += f.Temperature*1.8 + 32
		}
	}
	return s
}

func (r *rule) Run(ctx context.Context, l *harness.Load, m *harness.Meter) error {
	pub, err := newPublisher(ctx, r.servers.MQTT, r.topic+"-publisher")
	if err != nil {
		return err
	}
	defer pub.conn.Goodbye(false)
	m.Outside(r.engine.cpu)
	out := make([]int64, 0, 64)
	for {
		first, n := l.Take(ctx, 64)
		if n == 0 {
			break
		}
		for first-r.engine.received() > ruleAhead && ctx.Err() == nil {
			select {
			case <-r.engine.failed():
				return errors.New("the program that has the rule has ended")
			case <-time.After(200 * time.Microsecond):
			}
		}
		out = out[:0]
		for i := first; i < first+int64(n); i++ {
			pub.once(r.readings, i)
			out = append(out, i)
		}
		m.Done(out...)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.n = l.Taken()
	want := r.fits(r.n).N
	return r.results.until(ctx, nil, func() string {
		return fmt.Sprintf("%d readings published, %d read; %d of %d are in results: a broker drops messages of QoS 0 where the reader does not keep up", r.n, r.engine.received(), r.results.sum().N, want)
	}, func() bool { return r.results.sum().N >= want })
}

// Check compares all seconds together with what a loop makes of the same readings.
func (r *rule) Check(context.Context) error {
	want, got := r.fits(r.n), r.results.sum()
	if got.N != want.N || math.Abs(got.Total-want.Total) > 1e-6*want.Total {
		return fmt.Errorf("%d readings fit the rule, with a sum of %.3f; the results have %d and %.3f", want.N, want.Total, got.N, got.Total)
	}
	return nil
}

func (r *rule) Drop(ctx context.Context) error {
	if r.conn != nil {
		r.conn.Goodbye(false)
		r.conn = nil
	}
	return r.engine.stop(ctx)
}

func (r *rule) Close(context.Context) error { return nil }

// once publishes a reading at QoS 0.
func (p *publisher) once(r *readings, i int64) {
	topic, payload := r.append(p.buf[:0], i)
	p.buf = payload
	p.out = mqttclient.Out{Topic: topic, Payload: payload}
	p.conn.Publish(&p.out)
}

// seconds adds up results.
type seconds struct {
	deaf
	progress
	conn *mqttclient.Conn
	mu   sync.Mutex
	all  second
	acks []mqttclient.Ack
}

func (s *seconds) sum() second {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

func (s *seconds) Receive(m mqttclient.Message) {
	var r second
	if err := json.Unmarshal(m.Payload, &r); err == nil {
		s.mu.Lock()
		s.all.N += r.N
		s.all.Total += r.Total
		s.mu.Unlock()
	}
	if m.QoS > 0 {
		s.acks = append(s.acks, mqttclient.Ack{Kind: mqttclient.Puback, ID: m.ID})
	}
}

func (s *seconds) Caught() bool {
	s.conn.Acks(s.acks)
	s.acks = s.acks[:0]
	s.tell()
	return true
}

// ruleTopology is the rule as a topology.
type ruleTopology struct {
	mqtt, topic string
	codec       *counted
	run         *running
}

func (t *ruleTopology) cpu() time.Duration      { return 0 }
func (t *ruleTopology) received() int64         { return t.codec.n.Load() }
func (t *ruleTopology) failed() <-chan struct{} { return t.run.Done() }

func (t *ruleTopology) topology() *flow.Topology {
	broker := []string{"tcp://" + t.mqtt}
	top := flow.New("rule", quiet(), flow.WithParallelism(1), flow.WithStore(state.InMemory()), flow.AcceptRepeats())
	raw := flow.From(top, "mqtt", mqttsource.Source(mqttsource.Config{
		Brokers: broker, Topics: []string{t.topic + "/in/#"}, ClientID: t.topic + "-source", QoS: new(byte(0)), CleanSession: true, Buffer: 2 * ruleAhead,
	}, t.codec))
	timed := flow.AssignTime(raw, "time", iot.Reading.At, watermark.BoundedOutOfOrderness(0))
	dry := operators.Filter(timed, "dry", func(r iot.Reading) bool { return r.Humidity < 50 })
	each := operators.Window(flow.KeyBy(dry, flow.Whole[iot.Reading]), "each-second", window.Global(), agg.Into(
		agg.To(func(s *second) *int64 { return &s.N }, agg.Count[iot.Reading, int64](nil)),
		agg.To(func(s *second) *float64 { return &s.Total }, agg.Sum(func(r iot.Reading) float64 { return r.Temperature*1.8 + 32 })),
	), window.EarlyClock(time.Second), window.Discarding())
	out := operators.Map(each, "second", func(_ context.Context, r window.Result[struct{}, second]) (second, error) { return r.Value, nil })
	flow.To(out, "mqtt-results", mqttsink.Sink(mqttsink.Config{Brokers: broker, ClientID: t.topic + "-sink"},
		t.topic+"/out", codec.JSON[second]()))
	return top
}

func (t *ruleTopology) start(ctx context.Context) (err error) {
	t.codec = &counted{Codec: iot.ReadingCodec()}
	t.run, err = start(ctx, t.topology())
	return err
}

func (t *ruleTopology) stop(ctx context.Context) error {
	if t.run == nil {
		return nil
	}
	err := t.run.stop(ctx)
	t.run = nil
	return err
}

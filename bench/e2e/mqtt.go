package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/internal/mqttclient"
	"github.com/millrace-stream/millrace/operators/window"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
	mqttsource "github.com/millrace-stream/millrace/sources/mqtt"
	"github.com/millrace-stream/millrace/topologies/iot"
)

// MQTT are the bare subscriber, which acks what it is sent and does nothing else, and the main job: MQTT at QoS 1 by the boxes of topologies/iot
// into a row per reading and a row per device and minute, with durable state and an epoch a second.
func MQTT(s Servers) (bare, path Bench) {
	topic := name("mqtt")
	return &mqttBare{servers: s, topic: topic}, &mqttPath{servers: s, topic: topic}
}

type mqttBare struct {
	servers  Servers
	topic    string
	readings *readings
}

func (b *mqttBare) Name() string { return "e2e/mqtt-bare" }
func (b *mqttBare) About() string {
	return "MQTT QoS 1, mosquitto: a subscriber that acks and does nothing else"
}

func (b *mqttBare) Prepare(context.Context, harness.Settings) error {
	if b.readings == nil {
		b.readings = newReadings(b.topic)
	}
	return nil
}
func (b *mqttBare) Check(context.Context) error { return nil }
func (b *mqttBare) Drop(context.Context) error  { return nil }
func (b *mqttBare) Close(context.Context) error { return nil }

// Run counts what is received, once: the broker does not repeat on one connection.
func (b *mqttBare) Run(ctx context.Context, l *harness.Load, m *harness.Meter) error {
	if l.Open() {
		return errors.New("the bare subscriber does not look at what it gets, so it has no latency: measure it without a rate")
	}
	sub := &subscriber{progress: newProgress(), meter: m}
	conn, err := dial(ctx, b.servers.MQTT, b.topic+"-bare", true, sub, func(c *mqttclient.Conn) { sub.conn = c })
	if err != nil {
		return err
	}
	defer conn.Goodbye(false)
	if err := subscribe(ctx, conn, b.topic+"/#"); err != nil {
		return err
	}
	pub, err := newPublisher(ctx, b.servers.MQTT, b.topic+"-publisher")
	if err != nil {
		return err
	}
	defer pub.conn.Goodbye(false)
	if err := pub.load(ctx, l, b.readings, &sub.n); err != nil {
		return err
	}
	n := l.Taken()
	return sub.until(ctx, nil, func() string { return fmt.Sprintf("%d of %d messages received", sub.n.Load(), n) }, func() bool { return sub.n.Load() >= n })
}

// subscriber acks in bulk.
type subscriber struct {
	deaf
	progress
	conn  *mqttclient.Conn
	meter *harness.Meter
	acks  []mqttclient.Ack
	out   []int64
	n     atomic.Int64
}

func (s *subscriber) Receive(m mqttclient.Message) {
	s.acks = append(s.acks, mqttclient.Ack{Kind: mqttclient.Puback, ID: m.ID})
	s.out = append(s.out, 0)
}

func (s *subscriber) Caught() bool {
	s.conn.Acks(s.acks)
	s.n.Add(int64(len(s.acks)))
	s.meter.Done(s.out...)
	s.acks, s.out = s.acks[:0], s.out[:0]
	s.tell()
	return true
}

type mqttPath struct {
	servers  Servers
	topic    string
	readings *readings

	// Of one run.
	tables iot.ClickHouseConfig
	dir    string
	n      int64
}

func (p *mqttPath) Name() string { return "e2e/mqtt-clickhouse" }
func (p *mqttPath) About() string {
	return "MQTT QoS 1, mosquitto, to ClickHouse: the main job, a row per reading and per device and minute, durable state, epochs of 1 s"
}

const tableReadings = "readings"

// readingRow is a row per reading. The table keeps repeats, so that they can be counted.
type readingRow struct {
	Device      string         `ch:"device"`
	Seq         int64          `ch:"seq"`
	At          flow.Timestamp `ch:"at"`
	Site        string         `ch:"site,LowCardinality(String)"`
	Region      string         `ch:"region,LowCardinality(String)"`
	Temperature float64        `ch:"temperature"`
	Humidity    float64        `ch:"humidity"`
}

func toReading(p iot.Placed) readingRow {
	return readingRow{p.DeviceID, p.Seq, flow.Timestamp(p.TS * int64(time.Millisecond)), p.Site, p.Region, p.Temperature, p.Humidity}
}

func toMinute(w window.Result[string, iot.Minute]) iot.MinuteRow {
	m := w.Value
	return iot.MinuteRow{Device: w.Key, Minute: w.Start, Site: m.Site, Region: m.Region, Count: m.Count, Avg: m.Avg, Min: m.Min, Max: m.Max}
}

func toEvent(device string, seq int64, reason string) iot.EventRow {
	return iot.EventRow{Device: device, Seq: seq, Reason: reason}
}

func (p *mqttPath) client() string { return p.topic + "-source" }

func (p *mqttPath) Prepare(ctx context.Context, _ harness.Settings) error {
	if p.readings == nil {
		p.readings = newReadings(p.topic)
	}
	p.tables = iot.DefaultConfig().ClickHouse
	p.tables.Addr, p.tables.Database = []string{p.servers.ClickHouse}, name("mqtt")
	var err error
	if p.dir, err = os.MkdirTemp("", "e2e-"); err != nil {
		return err
	}
	if err := session(ctx, p.servers.MQTT, p.client(), p.topic+"/#"); err != nil {
		return err
	}
	if err := iot.CreateTables(ctx, p.tables); err != nil {
		return err
	}
	ch := iot.Connect(p.tables)
	return errors.Join(clickhouse.CreateTable[readingRow](ctx, ch, tableReadings, clickhouse.OrderBy("device", "at")), ch.Close())
}

// counted counts what is decoded.
type counted struct {
	codec.Codec[iot.Reading]
	n atomic.Int64
}

func (c *counted) Decode(data []byte, r *iot.Reading) error {
	c.n.Add(1)
	return c.Codec.Decode(data, r)
}

// topology is the main job, with a row per reading beside its results.
func (p *mqttPath) topology(c codec.Codec[iot.Reading], ch *clickhouse.Conn, m *harness.Meter, done func(table string, notes []int64)) *flow.Topology {
	cfg := iot.DefaultConfig()
	t := flow.New("e2e", quiet(), flow.WithStore(pebble.Dir(p.dir)), flow.WithHooks(m), flow.WithEpochInterval(time.Second),
		flow.WithParallelism(1)) // what a broker sends over one connection needs no second task
	raw := flow.From(t, "mqtt", mqttsource.Source(mqttsource.Config{
		Brokers: []string{"tcp://" + p.servers.MQTT}, Topics: []string{p.topic + "/#"}, ClientID: p.client(), Window: p.servers.MQTTWindow,
	}, c))
	clean := iot.Clean(iot.Accepted(raw, "accepted"), "clean", iot.Sites(), cfg.Time)
	fresh := iot.Fresh(clean, "per-minute/dedup", cfg.Dedup)
	minutes := iot.PerMinute(fresh, "per-minute/window", cfg.Time)
	flow.To(fresh.Unkeyed(), "readings", harness.Watch(clickhouse.Sink(ch, tableReadings, toReading), func(p *iot.Placed) int64 {
		if p.DeviceID == closing {
			return -1
		}
		return p.Seq - firstSeq
	}, func(notes []int64) { done(tableReadings, notes) }))
	version := clickhouse.Version("version")
	flow.To(minutes, "device-minute", harness.Watch(clickhouse.Sink(ch, iot.TableMinutes, toMinute, version), func(w *window.Result[string, iot.Minute]) int64 {
		return w.Value.Count
	}, func(notes []int64) { done(iot.TableMinutes, notes) }))
	flow.To(minutes.Late(), "late", clickhouse.Sink(ch, iot.TableLate, func(l flow.Late[iot.Placed]) iot.EventRow {
		return toEvent(l.Value.DeviceID, l.Value.Seq, l.Reason)
	}, version))
	flow.To(clean.BadClock(), "bad-clock", clickhouse.Sink(ch, iot.TableBadClock, func(l flow.Late[iot.Reading]) iot.EventRow {
		return toEvent(l.Value.DeviceID, l.Value.Seq, l.Reason)
	}, version))
	flow.To(clean.Invalid(), "invalid", clickhouse.Sink(ch, iot.TableInvalid, func(r iot.Reading) iot.EventRow {
		return toEvent(r.DeviceID, r.Seq, "invalid")
	}, version))
	flow.To(t.DeadLetters(), "dead-letters", clickhouse.DeadLetters(ch, iot.TableDeadLetters))
	return t
}

func (p *mqttPath) Run(ctx context.Context, l *harness.Load, m *harness.Meter) (err error) {
	m.EachOnce()
	ch := iot.Connect(p.tables)
	defer func() { err = errors.Join(err, ch.Close()) }()
	c := &counted{Codec: iot.ReadingCodec()}
	come := newProgress()
	var rows, inMinutes atomic.Int64
	t := p.topology(c, ch, m, func(table string, notes []int64) {
		if table == tableReadings {
			for len(notes) > 0 && notes[len(notes)-1] < 0 { // the closing message is the last of its task
				notes = notes[:len(notes)-1]
			}
			m.Done(notes...)
			rows.Add(int64(len(notes)))
		} else {
			var sum int64
			for _, n := range notes {
				sum += n
			}
			inMinutes.Add(sum)
		}
		come.tell()
	})
	r, err := start(ctx, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop(ctx)) }()
	pub, err := newPublisher(ctx, p.servers.MQTT, p.topic+"-publisher")
	if err != nil {
		return err
	}
	defer pub.conn.Goodbye(false)
	publishing, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a topology that fails takes nothing more
		select {
		case <-r.Running.Done():
			cancel()
		case <-publishing.Done():
		}
	}()
	if err := pub.load(publishing, l, p.readings, &c.n); err != nil {
		return errors.Join(err, r.Err())
	}
	p.n = l.Taken()
	if err := errors.Join(pub.publish(ctx, []byte(p.topic+"/closing"), p.readings.last(p.n)), pub.await(ctx, 0)); err != nil {
		return err
	}
	return come.until(ctx, r, func() string {
		return fmt.Sprintf("%d readings published, %d read, %d in rows, %d in minutes", p.n, c.n.Load(), rows.Load(), inMinutes.Load())
	}, func() bool { return rows.Load() >= p.n && inMinutes.Load() >= p.n })
}

// Check finds every reading in ClickHouse, once, and has ClickHouse work out the minutes from the readings: they must be the same.
func (p *mqttPath) Check(ctx context.Context) (err error) {
	ch := iot.Connect(p.tables)
	defer func() { err = errors.Join(err, ch.Close()) }()
	var rows, distinct uint64
	var first, last int64
	if err := numbers(ctx, ch, "SELECT count(), uniqExact(seq), min(seq), max(seq) FROM "+tableReadings+" WHERE device != '"+closing+"'", &rows, &distinct, &first, &last); err != nil {
		return err
	}
	if n := uint64(p.n); rows != n || distinct != n || first != firstSeq || last != firstSeq+p.n-1 {
		return fmt.Errorf("%d readings were published; the table has %d rows of %d, from number %d to %d", n, rows, distinct, first-firstSeq, last-firstSeq)
	}
	var total int64
	var minutes, wrong uint64
	if err := numbers(ctx, ch, `SELECT sum(m.count), count(), countIf(m.count != r.n OR m.min != r.low OR m.max != r.high OR abs(m.avg - r.mean) > 1e-9)
		FROM (SELECT * FROM `+iot.TableMinutes+` FINAL) AS m LEFT JOIN (
			SELECT device, toStartOfMinute(at) AS minute, toInt64(count()) AS n, min(temperature) AS low, max(temperature) AS high, avg(temperature) AS mean
			FROM `+tableReadings+` GROUP BY device, minute) AS r ON m.device = r.device AND m.minute = r.minute`, &total, &minutes, &wrong); err != nil {
		return err
	}
	if total != p.n || wrong != 0 {
		return fmt.Errorf("%d readings were published; %d minutes have %d, and %d minutes are not what the readings say", p.n, minutes, total, wrong)
	}
	for _, table := range []string{iot.TableLate, iot.TableBadClock, iot.TableInvalid, iot.TableDeadLetters} {
		var n uint64
		if err := numbers(ctx, ch, "SELECT count() FROM "+table, &n); err != nil {
			return err
		}
		if n != 0 {
			return fmt.Errorf("%d rows in table %s, where there must be none", n, table)
		}
	}
	return nil
}

func (p *mqttPath) Drop(ctx context.Context) error {
	if p.tables.Database == "" {
		return nil
	}
	return errors.Join(os.RemoveAll(p.dir), session(ctx, p.servers.MQTT, p.client(), ""), iot.DropTables(ctx, p.tables))
}

func (p *mqttPath) Close(context.Context) error { return nil }

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace-stream/millrace/bench/harness"
	"github.com/millrace-stream/millrace/bench/jobs"
	"github.com/millrace-stream/millrace/bench/workload"
	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
	"github.com/millrace-stream/millrace/sinks/clickhouse"
)

// log is a topic of a broker that keeps what was read.
type log interface {
	// label is the broker's name.
	label() string
	// fill makes the topic, with the payloads of n events by device and the closing one at the end of each partition.
	fill(ctx context.Context, p *workload.Payloads, n int64, closing []byte) error
	// bare reads the topic, n records, by a loop over the client, and looks at the length of each.
	bare(ctx context.Context, n int64) error
	// source reads the topic from its beginning in the name of a group.
	source(group string) flow.Source[jobs.Reading]
	close(ctx context.Context) error
}

// partitions is how many a topic has.
const partitions = 4

// deviceOf is the device of one of the workload's payloads, which all have the same shape.
func deviceOf(payload []byte) []byte {
	const at, size = len(`{"deviceId":"`), len("dev-0000000")
	return payload[at : at+size]
}

// partitionOf is where a device's events are.
func partitionOf(device []byte) int { return int(xxhash.Sum64(device) % partitions) }

// closingReading is the record behind all events, which closes their windows. Its device has no other.
func closingReading(n int64) []byte {
	return fmt.Appendf(nil, `{"deviceId":"%s","ts":%d,"temperature":20.00,"humidity":50.00,"fw":"1.4","seq":0}`, closing, workload.Start+n+24*3600*1000)
}

// prepared is what the bare loop and the path of a topic share.
type prepared struct {
	log
	servers Servers
	g       *workload.Generator
	n       int64 // events in the topic
}

// Prepare fills the topic, once.
func (p *prepared) Prepare(ctx context.Context, set harness.Settings) error {
	switch {
	case set.Events <= 0:
		return errors.New("a topic that lies ready needs to know how many events it has: set Events")
	case set.Rate > 0:
		return errors.New("a topic that lies ready has no rate: leave Rate out")
	case p.n == set.Events:
		return nil
	case p.n != 0:
		return fmt.Errorf("the topic has %d events already: take another one for %d", p.n, set.Events)
	}
	p.n, p.g = set.Events, workload.New(workload.F())
	return p.fill(ctx, workload.NewPayloads(p.g), p.n, closingReading(p.n))
}

// take takes all of a load's events at once: they lie ready.
func (p *prepared) take(ctx context.Context, l *harness.Load) error {
	if first, n := l.Take(ctx, int(p.n)); first != 0 || int64(n) != p.n {
		return fmt.Errorf("the load has events %d to %d, and the topic %d", first, first+int64(n), p.n)
	}
	return ctx.Err()
}

type bareLog struct{ *prepared }

func (b bareLog) Name() string { return "e2e/" + b.label() + "-bare" }
func (b bareLog) About() string {
	return b.label() + ": a loop over the client that reads a topic and does nothing else"
}
func (b bareLog) Check(context.Context) error     { return nil }
func (b bareLog) Drop(context.Context) error      { return nil }
func (b bareLog) Close(ctx context.Context) error { return b.prepared.close(ctx) }

func (b bareLog) Run(ctx context.Context, l *harness.Load, m *harness.Meter) error {
	if err := b.take(ctx, l); err != nil {
		return err
	}
	if err := b.bare(ctx, b.n+partitions); err != nil {
		return err
	}
	m.Done(make([]int64, b.n)...)
	return nil
}

// minuteRow is a device's minute. Numbers sums the events' numbers, so that one lost and one repeated cannot make up for each other.
type minuteRow struct {
	Device  string         `ch:"device"`
	Minute  flow.Timestamp `ch:"minute,DateTime('UTC')"`
	Count   int64          `ch:"count"`
	Avg     float64        `ch:"avg"`
	Max     float64        `ch:"max"`
	Min     float64        `ch:"min"`
	Numbers int64          `ch:"numbers"`
}

type stats struct {
	Count, Numbers int64
	Avg, Max, Min  float64
}

func toMinuteRow(w window.Result[string, stats]) minuteRow {
	v := w.Value
	return minuteRow{w.Key, w.Start, v.Count, v.Avg, v.Max, v.Min, v.Numbers}
}

const tableMinutes = "minutes"

// maxPending is what a second brings and more, so that it is the interval that ends an epoch.
const maxPending = 2_000_000

// pathLog is job F of the reference workload between a topic and ClickHouse.
type pathLog struct {
	*prepared

	// Of one run.
	conn clickhouse.Config
	dir  string
}

func (p *pathLog) Name() string { return "e2e/" + p.label() + "-clickhouse" }
func (p *pathLog) About() string {
	return p.label() + " to ClickHouse: JSON, average, maximum and minimum per device and minute (job F), durable state, epochs of 1 s"
}
func (p *pathLog) Close(context.Context) error { return nil }

func (p *pathLog) Prepare(ctx context.Context, set harness.Settings) error {
	if err := p.prepared.Prepare(ctx, set); err != nil {
		return err
	}
	p.conn = clickhouse.Config{Addr: []string{p.servers.ClickHouse}, Database: name(p.label())}
	var err error
	if p.dir, err = os.MkdirTemp("", "e2e-"); err != nil {
		return err
	}
	if err := p.admin(ctx, "CREATE DATABASE "+p.conn.Database); err != nil {
		return err
	}
	ch := clickhouse.New(p.conn)
	return errors.Join(clickhouse.CreateTable[minuteRow](ctx, ch, tableMinutes, clickhouse.Replacing("version"), clickhouse.OrderBy("device", "minute")), ch.Close())
}

func (p *pathLog) admin(ctx context.Context, sql string) error {
	server := p.conn
	server.Database = ""
	ch := clickhouse.New(server)
	return errors.Join(ch.Exec(ctx, sql), ch.Close())
}

func (p *pathLog) topology(ch *clickhouse.Conn, m *harness.Meter, done func([]int64)) *flow.Topology {
	t := flow.New("e2e", quiet(), flow.WithStore(pebble.Dir(p.dir)), flow.WithHooks(m), flow.WithEpochInterval(time.Second),
		flow.WithMaxPending(maxPending))
	in := flow.From(t, p.label(), p.source(p.conn.Database))
	timed := flow.AssignTime(in, "event-time", jobs.Reading.At, watermark.Monotonous().Simulated())
	fahrenheit := operators.Update(timed, "fahrenheit", func(_ context.Context, r *jobs.Reading) error {
		r.Temperature = r.Temperature*1.8 + 32
		return nil
	})
	temperature := func(r jobs.Reading) float64 { return r.Temperature }
	byDevice := flow.KeyBy(fahrenheit, func(r jobs.Reading) string { return r.DeviceID }, flow.CoPartitioned())
	minutes := operators.Window(byDevice, "per-minute", window.Tumbling(time.Minute), agg.Into(
		agg.To(func(s *stats) *float64 { return &s.Avg }, agg.Avg(temperature)),
		agg.To(func(s *stats) *float64 { return &s.Max }, agg.Max(temperature)),
		agg.To(func(s *stats) *float64 { return &s.Min }, agg.Min(temperature)),
		agg.To(func(s *stats) *int64 { return &s.Count }, agg.Count(temperature)),
		agg.To(func(s *stats) *int64 { return &s.Numbers }, agg.Sum(func(r jobs.Reading) int64 { return r.Seq - firstSeq })),
	))
	flow.To(minutes, "minutes", harness.Watch(clickhouse.Sink(ch, tableMinutes, toMinuteRow, clickhouse.Version("version")),
		func(w *window.Result[string, stats]) int64 { return w.Value.Count }, done))
	return t
}

func (p *pathLog) Run(ctx context.Context, l *harness.Load, m *harness.Meter) (err error) {
	if err := p.take(ctx, l); err != nil {
		return err
	}
	ch := clickhouse.New(p.conn)
	defer func() { err = errors.Join(err, ch.Close()) }()
	come := newProgress()
	var rows, events atomic.Int64
	r, err := start(ctx, p.topology(ch, m, func(counts []int64) {
		for _, n := range counts {
			events.Add(n)
		}
		rows.Add(int64(len(counts)))
		come.tell()
	}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop(ctx)) }()
	err = come.until(ctx, r, func() string {
		return fmt.Sprintf("%d events in the topic, %d in %d rows", p.n, events.Load(), rows.Load())
	}, func() bool { return events.Load() >= p.n })
	m.Done(make([]int64, events.Load())...)
	return err
}

func (p *pathLog) Drop(ctx context.Context) error {
	if p.conn.Database == "" {
		return nil
	}
	return errors.Join(os.RemoveAll(p.dir), p.admin(ctx, "DROP DATABASE IF EXISTS "+p.conn.Database+" SYNC"))
}

// Check compares the table with what a hand-written loop makes of the same payloads: rows, sum of all values, events, and the sum of their
// numbers.
func (p *pathLog) Check(ctx context.Context) (err error) {
	ch := clickhouse.New(p.conn)
	defer func() { err = errors.Join(err, ch.Close()) }()
	var out, written uint64
	var events, nums int64
	var sum float64
	if err := numbers(ctx, ch, "SELECT count(), sum(avg + max + min + count), sum(count), sum(numbers) FROM "+tableMinutes+" FINAL", &out, &sum, &events, &nums); err != nil {
		return err
	}
	if err := numbers(ctx, ch, "SELECT count() FROM "+tableMinutes, &written); err != nil {
		return err
	}
	want := workload.FloorF(p.g, p.n)
	if int64(out) != want.Out || written != out || events != p.n || nums != p.n*(p.n-1)/2 || math.Abs(sum-want.Sum) > 1e-9*want.Sum {
		return fmt.Errorf("%d events: want %d rows, sum %.3f; got %d rows, %d with repeats, of %d events with numbers' sum %d (want %d), sum %.3f",
			p.n, want.Out, want.Sum, out, written, events, nums, p.n*(p.n-1)/2, sum)
	}
	return workload.F().Verify(p.n, workload.Result{Out: int64(out), Sum: sum})
}

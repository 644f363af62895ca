package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
	"github.com/millrace-stream/millrace/internal/services"
)

// number is the codec of the tests: an int in decimal.
type number struct{}

func (number) ID() string                              { return "test" }
func (number) Append(b []byte, v *int) ([]byte, error) { return fmt.Append(b, *v), nil }

func (number) Decode(b []byte, v *int) error {
	if len(b) == 0 {
		return errors.New("no digits")
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return fmt.Errorf("%q is not a number", b)
		}
		*v = *v*10 + int(c-'0')
	}
	return nil
}

// engine stands in for the one that drives sources: it runs a source's partitions, remembers what came and commits on demand.
type engine struct {
	t    testing.TB
	src  flow.Source[int]
	ctx  context.Context
	stop context.CancelFunc
	all  sync.WaitGroup
	logs *logs

	mu     sync.Mutex
	resume map[string]flow.Position // given to Read instead of nothing
	parts  map[string]*partLog
	counts map[string]int64
	adds   [][]flow.Partition
	runErr error
	gates  map[string]chan struct{} // Emit of these partitions waits
}

// partLog is what one partition did.
type partLog struct {
	part    flow.Partition
	values  []int
	times   []flow.Timestamp
	metas   []*flow.Meta
	pos     flow.Position
	last    time.Time // of the last batch
	rejects []string
	causes  []error
	idle    bool
	busy    int
	lag     int64
	lags    []int64
	err     error
}

func launch(t testing.TB, cfg Config, resume map[string]flow.Position) *engine {
	t.Helper()
	e := prepare(t, cfg, resume)
	e.run()
	return e
}

// prepare opens a source without running it.
func prepare(t testing.TB, cfg Config, resume map[string]flow.Position) *engine {
	t.Helper()
	e := &engine{t: t, src: Source(cfg, number{}), resume: resume, parts: map[string]*partLog{}, counts: map[string]int64{}, logs: &logs{}}
	e.ctx, e.stop = context.WithCancel(context.Background())
	require.NoError(t, e.src.Open(e.ctx, flow.SourceRuntime{
		Topology: "test", Node: "in", Clock: flow.SystemClock(), Log: slog.New(e.logs),
		Count: func(name string, n int64) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.counts[name] += n
		},
	}))
	t.Cleanup(e.close)
	return e
}

func (e *engine) run() {
	e.all.Go(func() {
		err := e.src.Run(e.ctx, e)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.runErr = err
		if err != nil {
			e.stop()
		}
	})
}

// close ends the source as the engine would.
func (e *engine) close() {
	e.stop()
	e.all.Wait()
	require.NoError(e.t, e.src.Close(context.Background()))
}

func (e *engine) Add(parts ...flow.Partition) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.adds = append(e.adds, parts)
	for _, p := range parts {
		if e.parts[p.ID] != nil {
			return fmt.Errorf("%s is there", p.ID)
		}
		l := &partLog{part: p}
		e.parts[p.ID] = l
		e.all.Go(func() {
			err := e.src.Read(e.ctx, p, e.resume[p.ID], flow.NewIntake[int](&intakeDouble{e: e, l: l}))
			e.mu.Lock()
			defer e.mu.Unlock()
			l.err = err
		})
	}
	return nil
}

func (e *engine) Remove(context.Context, ...flow.Partition) error { return errors.New("not used") }

// with looks at all partitions under the lock.
func (e *engine) with(f func(parts map[string]*partLog)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e.parts)
}

func (e *engine) until(what string, f func(parts map[string]*partLog) bool) {
	e.t.Helper()
	require.Eventually(e.t, func() (ok bool) {
		e.with(func(parts map[string]*partLog) { ok = f(parts) })
		return ok
	}, 30*time.Second, 10*time.Millisecond, what)
}

// commit commits what every partition has emitted.
func (e *engine) commit() {
	e.t.Helper()
	var parts []flow.Partition
	pos := map[string]flow.Position{}
	e.with(func(all map[string]*partLog) {
		for id, l := range all {
			parts = append(parts, l.part)
			pos[id] = l.pos
		}
	})
	for _, p := range parts {
		require.Eventually(e.t, func() bool {
			err := e.src.Commit(e.ctx, p, pos[p.ID])
			require.True(e.t, err == nil || flow.IsTransient(err), "%v", err)
			return err == nil
		}, 30*time.Second, 20*time.Millisecond)
	}
}

func (e *engine) count(name string) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts[name]
}

type intakeDouble struct {
	e *engine
	l *partLog
}

func (d *intakeDouble) Buffer() []flow.Record[int] { return make([]flow.Record[int], 0, flow.MaxBatch) }

func (d *intakeDouble) Emit(ctx context.Context, batch []flow.Record[int], upTo flow.Position) error {
	if gate := d.e.gates[d.l.part.ID]; gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.e.mu.Lock()
	defer d.e.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(batch) > flow.MaxBatch || upTo.Offset < d.l.pos.Offset {
		return fmt.Errorf("batch of %d, position %d behind %d", len(batch), upTo.Offset, d.l.pos.Offset)
	}
	for _, r := range batch {
		d.l.values = append(d.l.values, r.Value)
		d.l.times = append(d.l.times, r.Time)
		d.l.metas = append(d.l.metas, r.Meta)
	}
	d.l.pos, d.l.idle, d.l.last = upTo, false, time.Now()
	return nil
}

func (d *intakeDouble) Reject(raw []byte, cause error, at flow.Position) {
	d.e.mu.Lock()
	defer d.e.mu.Unlock()
	d.l.rejects = append(d.l.rejects, fmt.Sprintf("%d %s", at.Offset, raw))
	d.l.causes = append(d.l.causes, cause)
}

func (d *intakeDouble) Reference(time.Time) {}
func (d *intakeDouble) Window(int)          {}
func (d *intakeDouble) Idle()               { d.e.with(func(map[string]*partLog) { d.l.idle = true }) }
func (d *intakeDouble) Lag(n int64) {
	d.e.with(func(map[string]*partLog) { d.l.lag = n; d.l.lags = append(d.l.lags, n) })
}

func (d *intakeDouble) Busy() {
	d.e.with(func(map[string]*partLog) { d.l.idle = false; d.l.busy++ })
}

// logs keeps the messages of warnings and errors.
type logs struct {
	mu   sync.Mutex
	text []string
}

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logs) WithGroup(string) slog.Handler            { return l }

func (l *logs) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.Level, r.Message)
	r.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&b, " %s", a); return true })
	l.text = append(l.text, b.String())
	return nil
}

// with returns the lines that hold all parts.
func (l *logs) with(parts ...string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
next:
	for _, s := range l.text {
		for _, p := range parts {
			if !strings.Contains(s, p) {
				continue next
			}
		}
		lines = append(lines, s)
	}
	return lines
}

// bench is a topic on a running broker, with what tests do to it.
type bench struct {
	t      testing.TB
	set    *services.Set
	client *kgo.Client
	admin  *kadm.Client
	topic  string
	addrs  []string
}

func setup(t testing.TB, set *services.Set, partitions int, config ...string) *bench {
	t.Helper()
	b := &bench{t: t, set: set, addrs: []string{set.Kafka()}, topic: fmt.Sprintf("%s-%x", strings.ReplaceAll(t.Name(), "/", "_"), time.Now().UnixNano())}
	b.client = b.dial()
	b.admin = kadm.NewClient(b.client)
	b.create(b.topic, partitions, config...)
	return b
}

func (b *bench) dial(more ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	c, err := kafka.Open(kafka.Connection{Brokers: b.addrs, Timeout: 10 * time.Second},
		append(more, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))...)
	require.NoError(b.t, err)
	b.t.Cleanup(c.Close)
	return c
}

// create makes a topic; config is name, value, name, value …
func (b *bench) create(topic string, partitions int, config ...string) {
	b.t.Helper()
	set := map[string]string{}
	for i := 0; i < len(config); i += 2 {
		set[config[i]] = config[i+1]
	}
	require.NoError(b.t, kafka.CreateTopic(b.t.Context(), b.client, flow.SystemClock(), 20*time.Second, topic, partitions, set))
	client := b.client
	b.t.Cleanup(func() { // a broker that keeps the topics of all runs grows slow
		_ = kafka.DeleteTopics(context.Background(), client, 10*time.Second, topic)
	})
}

func (b *bench) config() Config {
	return Config{Connection: Connection{Brokers: b.addrs}, Topics: []string{b.topic}, Group: "g-" + b.topic, PollTimeout: 100 * time.Millisecond}
}

func (b *bench) id(i int) string { return fmt.Sprintf("%s/%d", b.topic, i) }

// trySend sends values to a partition.
func (b *bench) trySend(ctx context.Context, partition int, values ...string) error {
	recs := make([]*kgo.Record, len(values))
	for i, v := range values {
		recs[i] = &kgo.Record{Topic: b.topic, Partition: int32(partition), Key: []byte("k" + v), Value: []byte(v),
			Headers: []kgo.RecordHeader{{Key: "color", Value: []byte("red")}}}
	}
	return b.client.ProduceSync(ctx, recs...).FirstErr()
}

func (b *bench) send(partition int, values ...string) {
	b.t.Helper()
	require.NoError(b.t, b.trySend(b.t.Context(), partition, values...))
}

// end is the offset of the next record.
func (b *bench) end(partition int) int64 {
	b.t.Helper()
	n, err := kafka.ListOffset(b.t.Context(), b.client, 10*time.Second, b.topic, int32(partition), kafka.Latest, false)
	require.NoError(b.t, err)
	return n
}

// committed is what the group knows of a partition, -1 for nothing.
func (b *bench) committed(partition int) int64 {
	b.t.Helper()
	all, err := kafka.Committed(b.t.Context(), b.client, 10*time.Second, b.config().Group, b.topic)
	require.NoError(b.t, err)
	if o, ok := all[kafka.Key{Topic: b.topic, Partition: int32(partition)}]; ok {
		return o.At
	}
	return -1
}

// deleteUpTo deletes what is before an offset, as retention does.
func (b *bench) deleteUpTo(partition int, offset int64) {
	b.t.Helper()
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: b.topic, Partition: int32(partition), At: offset})
	r, err := b.admin.DeleteRecords(b.t.Context(), o)
	require.NoError(b.t, err)
	require.NoError(b.t, r.Error())
}

// numbers are from, from+1, … in decimal.
func numbers(from, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprint(from + i)
	}
	return s
}

func keyOf(t *testing.T, id string) kafka.Key {
	k, err := parsePartition(id)
	require.NoError(t, err)
	return k
}

// switched is a network that can be cut.
type switched struct {
	mu    sync.Mutex
	off   bool
	conns []net.Conn
}

func (s *switched) dial(ctx context.Context, network, address string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off {
		return nil, errors.New("cut")
	}
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		s.conns = append(s.conns, c)
	}
	return c, err
}

func (s *switched) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = true
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

func (s *switched) mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = false
}

// read tells whether a partition has been read up to an offset.
func read(parts map[string]*partLog, id string, offset int64) bool {
	return parts[id] != nil && parts[id].pos.Offset >= offset
}

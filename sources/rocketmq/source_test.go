package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/rocketmq"
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

	mu      sync.Mutex
	resume  map[string]flow.Position // given to Read instead of nothing
	parts   map[string]*queueLog
	counts  map[string]int64
	adds    [][]flow.Partition
	runErr  error
	blocked chan struct{} // when not nil, Emit waits for it
}

// queueLog is what one partition did.
type queueLog struct {
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
	e := &engine{t: t, src: Source(cfg, number{}), resume: resume, parts: map[string]*queueLog{}, counts: map[string]int64{}, logs: &logs{}}
	e.ctx, e.stop = context.WithCancel(context.Background())
	require.NoError(t, e.src.Open(e.ctx, flow.SourceRuntime{
		Topology: "test", Node: "in", Clock: flow.SystemClock(), Log: slog.New(e.logs),
		Count: func(name string, n int64) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.counts[name] += n
		},
	}))
	e.all.Go(func() {
		err := e.src.Run(e.ctx, e)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.runErr = err
		if err != nil {
			e.stop()
		}
	})
	t.Cleanup(e.close)
	return e
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
		l := &queueLog{part: p}
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
func (e *engine) with(f func(parts map[string]*queueLog)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e.parts)
}

func (e *engine) total() (n int) {
	e.with(func(parts map[string]*queueLog) {
		for _, l := range parts {
			n += len(l.values)
		}
	})
	return n
}

func (e *engine) until(what string, f func(parts map[string]*queueLog) bool) {
	e.t.Helper()
	require.Eventually(e.t, func() (ok bool) {
		e.with(func(parts map[string]*queueLog) { ok = f(parts) })
		return ok
	}, 30*time.Second, 10*time.Millisecond, what)
}

// commit commits what every partition has emitted.
func (e *engine) commit() {
	e.t.Helper()
	var parts []flow.Partition
	pos := map[string]flow.Position{}
	e.with(func(all map[string]*queueLog) {
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
	l *queueLog
}

func (d *intakeDouble) Buffer() []flow.Record[int] { return make([]flow.Record[int], 0, flow.MaxBatch) }

func (d *intakeDouble) Emit(ctx context.Context, batch []flow.Record[int], upTo flow.Position) error {
	d.e.mu.Lock()
	blocked := d.e.blocked
	d.e.mu.Unlock()
	if blocked != nil {
		select {
		case <-blocked:
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
func (d *intakeDouble) Idle()               { d.e.with(func(map[string]*queueLog) { d.l.idle = true }) }
func (d *intakeDouble) Lag(n int64) {
	d.e.with(func(map[string]*queueLog) { d.l.lag = n; d.l.lags = append(d.l.lags, n) })
}

func (d *intakeDouble) Busy() {
	d.e.with(func(map[string]*queueLog) { d.l.idle = false; d.l.busy++ })
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
	client *rocketmq.Client
	topic  string
	queues int
}

func setup(t testing.TB, set *services.Set, queues int) *bench {
	t.Helper()
	b := &bench{t: t, set: set, queues: queues, topic: fmt.Sprintf("%s_%x", strings.ReplaceAll(t.Name(), "/", "_"), time.Now().UnixNano())}
	var err error
	b.client, err = rocketmq.New(rocketmq.Options{NameServers: []string{set.NameServer()}})
	require.NoError(t, err)
	t.Cleanup(b.client.Close)
	require.NoError(t, b.client.CreateTopic(t.Context(), flow.SystemClock(), b.topic, queues))
	return b
}

func (b *bench) config() Config {
	return Config{Connection: Connection{NameServers: []string{b.set.NameServer()}}, Topic: b.topic, Group: "g-" + b.topic, PollTimeout: time.Second}
}

func (b *bench) queue(i int) rocketmq.Queue { return rocketmq.Queue{Broker: "broker-a", ID: i} }
func (b *bench) id(i int) string            { return b.queue(i).String() }

// trySend sends bodies to a queue in batches.
func (b *bench) trySend(ctx context.Context, queue int, bodies ...string) error {
	for len(bodies) > 0 {
		n := min(len(bodies), 1000)
		var data []byte
		var err error
		for _, s := range bodies[:n] {
			if data, err = rocketmq.AppendMessage(data, []byte(s), []byte("color\x01red\x02SHARDING_KEY\x01k"+s+"\x02")); err != nil {
				return err
			}
		}
		resp, err := b.client.Call(ctx, b.set.Broker(), rocketmq.SendBatch("test", b.topic, b.queue(queue), time.Now(), data))
		if err != nil {
			return err
		}
		if err := resp.Err(); err != nil {
			return err
		}
		bodies = bodies[n:]
	}
	return nil
}

func (b *bench) send(queue int, bodies ...string) {
	b.t.Helper()
	require.NoError(b.t, b.trySend(b.t.Context(), queue, bodies...))
}

// numbers are from, from+1, … in decimal.
func numbers(from, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprint(from + i)
	}
	return s
}

// visible waits until readers can see n messages in the queue.
func (b *bench) visible(queue int, n int64) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		m, err := b.client.MaxOffset(b.t.Context(), b.set.Broker(), b.topic, b.queue(queue))
		return err == nil && m >= n
	}, 20*time.Second, 20*time.Millisecond)
}

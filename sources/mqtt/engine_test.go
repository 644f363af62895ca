package mqtt_test

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/mqttbroker"
	"github.com/millrace-stream/millrace/sources/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// numbers reads payloads that are decimal numbers, with anything behind a space ignored.
type numbers struct{}

func (numbers) Decode(data []byte, v *int) (err error) {
	text, _, _ := strings.Cut(string(data), " ")
	if text == "panic" {
		panic("asked for")
	}
	*v, err = strconv.Atoi(text)
	return err
}

func (numbers) Append(b []byte, v *int) ([]byte, error) {
	return strconv.AppendInt(b, int64(*v), 10), nil
}
func (numbers) ID() string { return "number" }

// engine runs a source as the real one does: a goroutine per partition, commits behind what was emitted.
type engine struct {
	t     *testing.T
	src   flow.Source[int]
	log   *logBook
	after time.Duration // what a commit waits

	read, life       context.Context
	stopRead, endRun context.CancelFunc
	readers          sync.WaitGroup
	ran              chan error

	mu     sync.Mutex
	parts  map[string]*part
	counts map[string]int64
	manual bool
}

type part struct {
	e    *engine
	id   string
	wake chan struct{}
	gate chan struct{} // when set, Emit takes one of it before each batch

	// Guarded by e.mu.
	values    []int
	records   []flow.Record[int]
	rejects   []error
	emitted   int64
	committed int64
	windows   []int
	idle      bool
	batches   []int
}

type option func(*engine)

func manual(e *engine)                   { e.manual = true }
func commitAfter(d time.Duration) option { return func(e *engine) { e.after = d } }
func stored(id string, offset int64) option {
	return func(e *engine) { e.part(id).emitted, e.part(id).committed = offset, offset }
}

func (e *engine) part(id string) *part {
	p := e.parts[id]
	if p == nil {
		p = &part{e: e, id: id, wake: make(chan struct{}, 1)}
		e.parts[id] = p
	}
	return p
}

// open opens the source and starts nothing.
func open(t *testing.T, cfg mqtt.Config, opts ...option) *engine {
	t.Helper()
	e := &engine{
		t: t, src: mqtt.Source(cfg, numbers{}), log: &logBook{}, parts: map[string]*part{}, counts: map[string]int64{},
		ran: make(chan error, 1),
	}
	for _, o := range opts {
		o(e)
	}
	require.NoError(t, e.src.Open(t.Context(), flow.SourceRuntime{
		Topology: "test", Node: "in", Clock: flow.SystemClock(), Log: slog.New(slog.NewTextHandler(e.log, nil)),
		Count: func(name string, n int64) {
			e.mu.Lock()
			e.counts[name] += n
			e.mu.Unlock()
		},
	}))
	return e
}

// start opens and runs the source until the test ends.
func start(t *testing.T, cfg mqtt.Config, opts ...option) *engine {
	t.Helper()
	e := open(t, cfg, opts...)
	e.run()
	return e
}

func (e *engine) run() {
	e.life, e.endRun = context.WithCancel(context.Background())
	e.read, e.stopRead = context.WithCancel(e.life)
	go func() { e.ran <- e.src.Run(e.life, e) }()
	e.t.Cleanup(func() { e.stop() })
}

// stop is a clean stop: no further reading, the last commit, close.
func (e *engine) stop() {
	if e.stopRead == nil {
		return
	}
	e.stopRead()
	e.readers.Wait()
	e.endRun()
	e.stopRead = nil
	if !e.manual {
		for _, p := range e.all() {
			p.commit(p.seen())
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(e.t, e.src.Close(ctx))
	require.NoError(e.t, e.src.Close(ctx))
}

// crash stops without the last commit and without a goodbye to what is unacked.
func (e *engine) crash() {
	e.manual = true
	e.stop()
}

func (e *engine) all() []*part {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Values(e.parts))
}

func (e *engine) Add(parts ...flow.Partition) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, fp := range parts {
		p := e.part(fp.ID)
		from := flow.Position{Offset: p.committed}
		e.readers.Go(func() {
			err := e.src.Read(e.read, fp, from, flow.NewIntake[int](p))
			if e.read.Err() == nil {
				e.t.Errorf("read of %s ended: %v", fp.ID, err)
			}
		})
		if !e.manual {
			e.readers.Go(p.commits)
		}
	}
	return nil
}

func (e *engine) Remove(context.Context, ...flow.Partition) error { return nil }

func (e *engine) count(name string) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts[name]
}

// values of all partitions, in order per partition.
func (e *engine) values() []int {
	var v []int
	for _, p := range e.all() {
		e.mu.Lock()
		v = append(v, p.values...)
		e.mu.Unlock()
	}
	return v
}

func (e *engine) rejected() int {
	n := 0
	for _, p := range e.all() {
		e.mu.Lock()
		n += len(p.rejects)
		e.mu.Unlock()
	}
	return n
}

// await waits until n values have come.
func (e *engine) await(n int) []int {
	e.t.Helper()
	e.eventually(func() bool { return len(e.values()) >= n }, "values", func() any { return len(e.values()) })
	return e.values()
}

// has tells whether n values come within a time.
func (e *engine) has(n int, within time.Duration) bool {
	tick, end := time.NewTicker(10*time.Millisecond), time.After(within)
	defer tick.Stop()
	for len(e.values()) < n {
		select {
		case <-tick.C:
		case <-end:
			return false
		}
	}
	return true
}

// awaitAll waits until every number below n has come, with or without repeats.
func (e *engine) awaitAll(n int) {
	e.t.Helper()
	seen, looked, distinct := make([]bool, n), map[*part]int{}, 0
	e.eventually(func() bool {
		for _, p := range e.all() {
			e.mu.Lock()
			for _, v := range p.values[looked[p]:] {
				if v < n && !seen[v] {
					seen[v] = true
					distinct++
				}
			}
			looked[p] = len(p.values)
			e.mu.Unlock()
		}
		return distinct == n
	}, "all values", func() any { return distinct })
}

func (e *engine) eventually(f func() bool, what string, have func() any) {
	e.t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			require.FailNow(e.t, "did not happen: "+what, "have %v\nlog:\n%s", have(), e.log)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (e *engine) awaitIdle() {
	e.t.Helper()
	e.eventually(func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, p := range e.parts {
			if !p.idle {
				return false
			}
		}
		return len(e.parts) > 0
	}, "idle", func() any { return nil })
}

func (p *part) commits() {
	for {
		select {
		case <-p.e.read.Done():
			return
		case <-p.wake:
		}
		if p.e.after > 0 && flow.SystemClock().Sleep(p.e.read, p.e.after) != nil {
			return
		}
		p.commit(p.seen())
	}
}

func (p *part) seen() int64 {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	return p.emitted
}

func (p *part) commit(upTo int64) {
	if upTo == 0 {
		return
	}
	if err := p.e.src.Commit(context.Background(), flow.Partition{ID: p.id}, flow.Position{Offset: upTo}); err != nil {
		p.e.t.Errorf("commit: %v", err)
	}
	p.e.mu.Lock()
	p.committed = max(p.committed, upTo)
	p.e.mu.Unlock()
}

func (p *part) Buffer() []flow.Record[int] { return make([]flow.Record[int], 0, flow.MaxBatch) }

func (p *part) Emit(ctx context.Context, batch []flow.Record[int], upTo flow.Position) error {
	if p.gate != nil {
		select {
		case <-p.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	if len(batch) > flow.MaxBatch || upTo.Offset <= p.emitted {
		p.e.t.Errorf("batch of %d up to %d after %d", len(batch), upTo.Offset, p.emitted)
	}
	p.emitted = upTo.Offset
	p.idle = false
	p.batches = append(p.batches, len(batch))
	for _, r := range batch {
		p.values = append(p.values, r.Value)
	}
	p.records = append(p.records, batch...)
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return ctx.Err()
}

func (p *part) Reject(_ []byte, cause error, at flow.Position) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	if at.Offset <= p.emitted {
		p.e.t.Errorf("reject at %d after %d", at.Offset, p.emitted)
	}
	p.rejects = append(p.rejects, cause)
}

func (p *part) Reference(time.Time) {}
func (p *part) Lag(int64)           {}

func (p *part) Idle() { p.setIdle(true) }
func (p *part) Busy() { p.setIdle(false) }

func (p *part) setIdle(v bool) {
	p.e.mu.Lock()
	p.idle = v
	p.e.mu.Unlock()
}

func (p *part) Window(n int) {
	p.e.mu.Lock()
	p.windows = append(p.windows, n)
	p.e.mu.Unlock()
}

// logBook keeps what was logged.
type logBook struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBook) lines(with string) int { return strings.Count(l.String(), with) }

func broker(t *testing.T, opts mqttbroker.Options) *mqttbroker.Broker {
	t.Helper()
	b, err := mqttbroker.Start(context.Background(), "127.0.0.1:0", opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func publish(t *testing.T, b *mqttbroker.Broker, topic string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		require.NoError(t, b.Publish(topic, []byte(strconv.Itoa(i)), false, 1))
	}
}

// upTo is 0 to n-1.
func upTo(n int) []int {
	v := make([]int, n)
	for i := range v {
		v[i] = i
	}
	return v
}

// complete demands every number below n at least once, and tells how many came again.
func complete(t *testing.T, n int, got []int) (repeats int) {
	t.Helper()
	times := make([]int, n)
	for _, v := range got {
		require.Less(t, v, n)
		times[v]++
	}
	missing := 0
	for _, c := range times {
		if c == 0 {
			missing++
		}
		repeats += max(0, c-1)
	}
	require.Zero(t, missing, "missing of %d", n)
	return repeats
}

// once demands every number below n exactly once, in any order.
func once(t *testing.T, n int, got []int) {
	t.Helper()
	require.Zero(t, complete(t, n, got), "repeats")
	require.Len(t, got, n)
}

// inOrder demands 0 to n-1 in order.
func inOrder(t *testing.T, n int, got []int) {
	t.Helper()
	require.GreaterOrEqual(t, len(got), n)
	for i := range n {
		if got[i] != i {
			require.FailNow(t, "out of order", "at %d: %d", i, got[i])
		}
	}
	once(t, n, got)
}

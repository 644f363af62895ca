package interop

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/internal/kafka"
	"github.com/millrace-stream/millrace/internal/services"
	kafkasink "github.com/millrace-stream/millrace/sinks/kafka"
	"github.com/millrace-stream/millrace/sources/gen"
	kafkasource "github.com/millrace-stream/millrace/sources/kafka"
)

const (
	devices    = 97
	partitions = 4
)

// reading is number n of a device.
type reading struct{ device, n int }

func numbered(i int64) reading { return reading{int(i % devices), int(i / devices)} }

func key(r reading) string { return "d" + strconv.Itoa(r.device) }

type readings struct{}

func (readings) ID() string { return "readings" }

func (readings) Append(b []byte, v *reading) ([]byte, error) {
	return fmt.Appendf(b, "%d %d", v.device, v.n), nil
}

func (readings) Decode(b []byte, v *reading) (err error) {
	device, n, _ := strings.Cut(string(b), " ")
	if v.device, err = strconv.Atoi(device); err == nil {
		v.n, err = strconv.Atoi(n)
	}
	return err
}

// bench is a broker with a topic.
type bench struct {
	t     testing.TB
	set   *services.Set
	topic string
}

func setup(t testing.TB, set *services.Set) *bench {
	t.Helper()
	b := &bench{t: t, set: set, topic: fmt.Sprintf("%s-%x", strings.ReplaceAll(t.Name(), "/", "-"), time.Now().UnixNano())}
	b.create(b.topic)
	return b
}

func (b *bench) create(topic string) {
	b.t.Helper()
	require.NoError(b.t, kafkasink.CreateTopic(b.t.Context(), b.connection(), topic, partitions))
	b.t.Cleanup(func() { // a broker that keeps the topics of all runs grows slow
		client, err := kafka.Open(b.connection().WithDefaults())
		require.NoError(b.t, err)
		defer client.Close()
		_ = kafka.DeleteTopics(context.Background(), client, 10*time.Second, topic)
	})
}

func (b *bench) connection() kafkasink.Connection {
	return kafkasink.Connection{Brokers: []string{b.set.Kafka()}, Timeout: 2 * time.Second}
}

func (b *bench) source(topic string) flow.Source[reading] {
	return kafkasource.Source(kafkasource.Config{Connection: b.connection(), Topics: []string{topic}, Group: "g-" + topic, Meta: true, PollTimeout: 100 * time.Millisecond}, readings{})
}

func (b *bench) sink(topic, transaction string) flow.Sink[reading] {
	return kafkasink.Sink(kafkasink.Config{Connection: b.connection(), Topic: topic, TransactionalID: transaction}, readings{}, kafkasink.Key(key))
}

// start runs a topology on a router of its own; stop ends it in order, kill as kill -9 would.
func start(t testing.TB, build func(t *flow.Topology), name string, opts ...flow.TopologyOption) (running *flow.Running, end func()) {
	t.Helper()
	top := flow.New(name, append(opts, flow.WithLogger(slog.New(slog.NewTextHandler(t.Output(), nil))), flow.WithEpochInterval(50*time.Millisecond))...)
	build(top)
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	running, err = top.AddTo(context.Background(), router)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- router.Run(ctx) }()
	var once sync.Once
	end = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}
	t.Cleanup(end)
	return running, end
}

// seen is a sink that remembers what came, in its order per device.
type seen struct {
	flow.Sink[reading]
	*memory
}

type memory struct {
	mu    sync.Mutex
	next  [devices]int
	total int
	wrong []string
	last  map[string]time.Time
}

func remember() seen {
	return seen{flow.SinkFunc(func(context.Context, []flow.Record[reading]) error { return nil }), &memory{last: map[string]time.Time{}}}
}

func (s seen) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[reading], error) { return s, nil }

func (s seen) Seal(context.Context) ([]flow.Block, error) { return nil, nil }

// Write notes each record that is not the next of its device.
func (s seen) Write(_ context.Context, batch []flow.Record[reading]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range batch {
		v := r.Value
		if s.next[v.device] != v.n && len(s.wrong) < 10 {
			s.wrong = append(s.wrong, fmt.Sprintf("device %d: %d instead of %d", v.device, v.n, s.next[v.device]))
		}
		s.next[v.device] = v.n + 1
		s.total++
		s.last[r.Meta.Partition] = time.Now()
	}
	return nil
}

func (s seen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

func (s seen) until(t testing.TB, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return s.count() >= n }, 60*time.Second, 5*time.Millisecond, "%d of %d", s.count(), n)
}

// Every partition goes on within 5 s of the broker's return; nothing is missing, and nothing comes twice: the sink's client sends again
// under the same sequence numbers, and the source reads on behind what it has.
func TestABrokerThatIsKilledCostsNothingAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, services.Isolated(t, services.Options{}, services.Kafka))
	out := remember()
	_, endReader := start(t, func(top *flow.Topology) { flow.To(flow.From(top, "in", b.source(b.topic)), "out", out) }, "reader")
	writer, endWriter := start(t, func(top *flow.Topology) {
		flow.To(flow.From(top, "in", gen.Source(numbered, gen.Rate(4000))), "out", b.sink(b.topic, ""))
	}, "writer", flow.WithStopTimeout(2*time.Minute), flow.WithMaxPending(10_000_000)) // the load goes on however long the broker takes to start
	out.until(t, 8000)
	require.NoError(t, b.set.Kill(t.Context(), services.Kafka))
	require.NoError(t, b.set.Start(t.Context(), services.Kafka))
	up := time.Now()
	require.Eventually(t, func() bool {
		out.mu.Lock()
		defer out.mu.Unlock()
		on := 0
		for _, at := range out.last {
			if at.After(up) {
				on++
			}
		}
		return on == partitions
	}, 30*time.Second, time.Millisecond)
	went := time.Since(up)
	t.Logf("all partitions went on %v after the broker's start", went)
	require.Less(t, went, 5*time.Second*slow(t))
	require.NoError(t, writer.Stop(context.Background()))
	t.Logf("the writer ended %v later, with %d records", time.Since(up)-went, written(writer))
	endWriter()
	total := written(writer)
	out.until(t, total)
	endReader()
	require.Empty(t, out.wrong, "each record once, in its device's order")
	require.Equal(t, total, out.count())
}

// slow is by how much everything takes longer here: beside other tests a starting broker has little of the machine.
func slow(t testing.TB) time.Duration {
	t.Helper()
	v := os.Getenv("E2E_SLOW")
	if v == "" {
		return 1
	}
	n, err := strconv.Atoi(v)
	require.NoError(t, err, "E2E_SLOW")
	return time.Duration(n)
}

// written is how many records have come to the sink named out.
func written(r *flow.Running) int {
	for _, c := range r.Counters() {
		if c.Node == "out" && c.Name == "in" {
			return int(c.Value)
		}
	}
	return 0
}

// A topology from topic to topic is killed again and again, each time somewhere in an epoch. Nothing is missing.
func TestATopologyThatIsKilledLosesNothing(t *testing.T) {
	t.Parallel()
	for name, transaction := range map[string]string{"plain": "", "transactional": "copy"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, services.Need(t, services.Kafka))
			copied := b.topic + "-copy"
			b.create(copied)
			if transaction != "" {
				transaction += b.topic
			}
			const total = 40_000
			writer, _ := start(t, func(top *flow.Topology) {
				flow.To(flow.From(top, "in", gen.Source(numbered, gen.Count(total))), "out", b.sink(b.topic, ""))
			}, "writer")
			<-writer.Done()
			require.NoError(t, writer.Err())

			store := flowtest.NewStore()
			for kill := range 4 {
				running, end := start(t, func(top *flow.Topology) {
					flow.To(flow.From(top, "in", b.source(b.topic)), "out", b.sink(copied, transaction))
				}, "copy", flow.WithStore(store))
				if kill < 3 {
					require.Eventually(t, func() bool { return written(running) > 3000+2000*kill }, 30*time.Second, time.Millisecond)
					running.Abort()
					end()
					continue
				}
				require.Eventually(t, func() bool { return running.Lag() == 0 && running.Unacked() == 0 && len(running.Counters()) > 0 }, 30*time.Second, 10*time.Millisecond)
				require.NoError(t, running.Stop(context.Background()))
				end()
			}
			out := remember()
			got := map[reading]int{}
			_, end := start(t, func(top *flow.Topology) {
				flow.To(flow.From(top, "in", b.source(copied)), "out", counting{out, got})
			}, "reader")
			require.Eventually(t, func() bool {
				out.mu.Lock()
				defer out.mu.Unlock()
				return len(got) == total
			}, 30*time.Second, 10*time.Millisecond, "%d", len(got))
			end()
			t.Logf("%d records, %d of them repeats", out.count(), out.count()-total)
		})
	}
}

// counting counts what comes, by record.
type counting struct {
	seen
	got map[reading]int
}

func (c counting) Writer(context.Context, flow.TaskInfo) (flow.SinkWriter[reading], error) {
	return c, nil
}

func (c counting) Write(ctx context.Context, batch []flow.Record[reading]) error {
	c.mu.Lock()
	for _, r := range batch {
		c.got[r.Value]++
	}
	c.mu.Unlock()
	return c.seen.Write(ctx, batch)
}

package interop

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/flowtest"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
	sink "github.com/millrace-stream/millrace/sinks/watermill"
	source "github.com/millrace-stream/millrace/sources/watermill"
)

func quiet() flow.TopologyOption {
	return flow.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
}

func eventually(t testing.TB, is func() bool, why string) {
	t.Helper()
	require.Eventually(t, is, 60*time.Second, 5*time.Millisecond, why)
}

func number(m *message.Message) (int, error) { return strconv.Atoi(string(m.Payload)) }

func encode(n int) (*message.Message, error) {
	return message.NewMessage("", message.Payload(strconv.Itoa(n))), nil
}

func id(n int) string  { return fmt.Sprint("id-", n) }
func key(n int) string { return fmt.Sprint("key-", n%13) }
func self(n int) int   { return n }
func one(int) int      { return 1 }

// write publishes from, from+1, … by a topology of its own.
func write(t *testing.T, pub message.Publisher, topic string, from, n int, opts ...sink.Option[int]) {
	t.Helper()
	src := flowtest.NewSource[int]()
	for i := range n {
		src.Feed(from + i)
	}
	src.End()
	top := flow.New("write", quiet())
	opts = append([]sink.Option[int]{sink.ID(id), sink.Key(key)}, opts...)
	flow.To(flow.From(top, "in", src), "out", sink.Sink(pub, topic, encode, opts...))
	require.NoError(t, top.Run(t.Context()))
}

// reading is a topology that counts what it reads by key, behind a Dedup, and notes every number that passed. Its store and sinks outlast
// it.
type reading struct {
	store *flowtest.Store
	got   *flowtest.Sink[int]
	sums  *flowtest.Sink[window.Result[string, int]]
	// raw are the numbers as they came, repeats included.
	mu  sync.Mutex
	raw []int
}

func newReading() *reading {
	return &reading{store: flowtest.NewStore(), got: flowtest.NewSink[int](), sums: flowtest.NewSink[window.Result[string, int]]()}
}

// topology is built anew for each start.
func (r *reading) topology(sub message.Subscriber, topic string, opts ...source.Option) *flow.Topology {
	top := flow.New("read", quiet(), flow.WithStore(r.store), flow.WithEpochInterval(100*time.Millisecond))
	in := operators.Update(flow.From(top, "in", source.Source(sub, topic, number, opts...)), "note", func(_ context.Context, n *int) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw = append(r.raw, *n)
		return nil
	})
	timed := flow.AssignTime(in, "time", func(int) time.Time { return time.Unix(1000, 0) }, watermark.BoundedOutOfOrderness(time.Hour))
	fresh := operators.Dedup(flow.KeyBy(timed, key), "dedup", self, 10*time.Hour)
	flow.To(fresh.Unkeyed(), "got", r.got)
	flow.To(operators.Window(fresh, "count", window.Tumbling(time.Hour), agg.Sum(one)), "sums", r.sums)
	return top
}

// run runs the topology until is says so, and then stops it; with flush its stream ends.
func (r *reading) run(t *testing.T, top *flow.Topology, is func() bool, why string, opts ...flow.StopOption) {
	t.Helper()
	running, stop := r.start(t, top)
	eventually(t, func() bool { return running.Err() != nil || is() }, why)
	require.NoError(t, running.Err())
	require.NoError(t, running.Stop(t.Context(), opts...))
	stop()
}

// start starts the topology on a router of its own.
func (r *reading) start(t *testing.T, top *flow.Topology) (*flow.Running, func()) {
	t.Helper()
	router, err := message.NewRouter(message.RouterConfig{}, nil)
	require.NoError(t, err)
	running, err := top.AddTo(t.Context(), router)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- router.Run(context.WithoutCancel(t.Context())) }()
	return running, func() {
		<-running.Done()
		require.NoError(t, <-done)
	}
}

func (r *reading) has(n int) func() bool { return func() bool { return len(r.got.Values()) >= n } }

// exactly checks that 0 to n-1 have passed and were counted, each once.
func (r *reading) exactly(t *testing.T, n int) {
	t.Helper()
	want := make([]int, n)
	for i := range want {
		want[i] = i
	}
	require.ElementsMatch(t, want, r.got.Values(), "each once")
	sum := 0
	for _, s := range r.sums.Values() {
		sum += s.Value
	}
	require.Equal(t, n, sum, "each counted once")
}

// inOrder checks that the numbers of each key came in their order, but for repeats.
func (r *reading) inOrder(t *testing.T) {
	t.Helper()
	last := map[string]int{}
	for _, n := range r.got.Values() {
		if before, ok := last[key(n)]; ok {
			require.Greater(t, n, before)
		}
		last[key(n)] = n
	}
}

func (r *reading) repeats() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.raw) - len(r.got.Values())
}

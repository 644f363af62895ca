package rocketmq

import (
	"context"
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

// reading is a record of the tests; its encoding is "device sequence".
type reading struct {
	device string
	seq    int
}

func device(r reading) string  { return r.device }
func eventID(r reading) string { return fmt.Sprintf("%s-%d", r.device, r.seq) }

type readings struct{}

func (readings) ID() string { return "test" }

func (readings) Append(b []byte, r *reading) ([]byte, error) {
	if r.device == "" && r.seq == 0 {
		return b, nil
	}
	return fmt.Appendf(b, "%s %d", r.device, r.seq), nil
}

func (readings) Decode(b []byte, r *reading) error {
	_, err := fmt.Sscanf(string(b), "%s %d", &r.device, &r.seq)
	return err
}

// counters stand behind SinkRuntime.Count.
type counters struct {
	mu sync.Mutex
	n  map[string]int64
}

func (c *counters) add(name string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int64{}
	}
	c.n[name] += n
}

func (c *counters) get(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}

func runtime(t testing.TB, c *counters) flow.SinkRuntime {
	return flow.SinkRuntime{
		Topology: "test", Node: "out", Clock: flow.SystemClock(), Count: c.add,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), RequestEpoch: func() {},
	}
}

// topicOf makes a topic named after the test.
func topicOf(t testing.TB, set *services.Set, queues int) string {
	t.Helper()
	topic := strings.NewReplacer("/", "_", "#", "_").Replace(t.Name()) + fmt.Sprintf("_%x", time.Now().UnixNano())
	require.NoError(t, CreateTopic(t.Context(), []string{set.NameServer()}, topic, queues))
	return topic
}

// open opens a sink and closes it with the test.
func open[T any](t testing.TB, s flow.Sink[T]) (flow.SinkWriter[T], *counters) {
	t.Helper()
	c := &counters{}
	require.NoError(t, s.Open(t.Context(), runtime(t, c)))
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	w, err := s.Writer(t.Context(), flow.TaskInfo{})
	require.NoError(t, err)
	return w, c
}

func records[T any](values ...T) []flow.Record[T] {
	out := make([]flow.Record[T], len(values))
	for i, v := range values {
		out[i] = flow.Record[T]{Value: v, Time: flow.None}
	}
	return out
}

// writeAll writes, seals and delivers; every block goes through its encoding.
func writeAll[T any](t testing.TB, s flow.Sink[T], w flow.SinkWriter[T], batch []flow.Record[T]) []flow.Reject {
	t.Helper()
	for len(batch) > 0 {
		n := min(len(batch), flow.MaxBatch)
		require.NoError(t, w.Write(t.Context(), batch[:n]))
		batch = batch[n:]
	}
	blocks, err := w.Seal(t.Context())
	require.NoError(t, err)
	for i, b := range blocks {
		data, err := b.AppendBinary(nil)
		require.NoError(t, err)
		again, err := s.DecodeBlock(data)
		require.NoError(t, err)
		require.Equal(t, b, again)
		blocks[i] = again
	}
	rejects, err := s.Deliver(t.Context(), blocks)
	require.NoError(t, err)
	return rejects
}

// stored is one message as a reader finds it.
type stored struct {
	queue  rocketmq.Queue
	offset int64
	body   string
	props  map[string]string
}

// read pulls what the topic holds, queue by queue, when it holds as many messages as wanted: a broker confirms a message a
// moment before readers can see it.
func read(t testing.TB, nameServer, topic string, want int) []stored {
	t.Helper()
	var all []stored
	require.Eventually(t, func() bool { all = readOnce(t, nameServer, topic); return len(all) >= want }, 20*time.Second, 50*time.Millisecond)
	require.Equal(t, want, len(all))
	return all
}

func readOnce(t testing.TB, nameServer, topic string) []stored {
	c, err := rocketmq.New(rocketmq.Options{NameServers: []string{nameServer}})
	require.NoError(t, err)
	defer c.Close()
	route, err := c.Route(t.Context(), topic)
	require.NoError(t, err)
	var all []stored
	for _, q := range route.Readable {
		addr := route.Masters[q.Broker]
		end, err := c.MaxOffset(t.Context(), addr, topic, q)
		require.NoError(t, err)
		for at := int64(0); at < end; {
			resp, err := c.Call(t.Context(), addr, rocketmq.Pull{Group: "test", Topic: topic, Queue: q, Offset: at, Max: 1024}.Request())
			require.NoError(t, err)
			require.NoError(t, resp.Err())
			p, err := resp.Pulled()
			require.NoError(t, err)
			var m rocketmq.Message
			for msgs := rocketmq.NewMessages(resp.Body); msgs.More(); {
				require.NoError(t, msgs.Next(&m))
				all = append(all, stored{queue: q, offset: m.Offset, body: string(m.Body), props: m.Properties.Map()})
			}
			at = p.Next
			resp.Release()
		}
	}
	return all
}

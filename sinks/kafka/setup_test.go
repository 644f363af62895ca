package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/internal/kafka"
	"github.com/millrace-stream/millrace/internal/services"
)

// reading is what the tests write, as "device n".
type reading struct {
	device string
	n      int
}

type readings struct{}

func (readings) ID() string { return "readings" }

func (readings) Append(b []byte, v *reading) ([]byte, error) {
	if v.n < 0 {
		return b, errors.New("negative")
	}
	return fmt.Appendf(b, "%s %d", v.device, v.n), nil
}

func (readings) Decode(b []byte, v *reading) error {
	_, err := fmt.Sscanf(string(b), "%s %d", &v.device, &v.n)
	return err
}

func device(r reading) string { return r.device }

func records[T any](values ...T) []flow.Record[T] {
	rs := make([]flow.Record[T], len(values))
	for i, v := range values {
		rs[i] = flow.Record[T]{Value: v}
	}
	return rs
}

func series(device string, from, n int) []reading {
	rs := make([]reading, n)
	for i := range rs {
		rs[i] = reading{device, from + i}
	}
	return rs
}

// bench is a topic on a running broker.
type bench struct {
	t      testing.TB
	set    *services.Set
	client *kgo.Client
	admin  *kadm.Client
	topic  string
}

// setup makes a topic; config is name, value, name, value …
func setup(t testing.TB, set *services.Set, partitions int, config ...string) *bench {
	t.Helper()
	b := &bench{t: t, set: set, topic: fmt.Sprintf("%s-%x", strings.ReplaceAll(t.Name(), "/", "_"), time.Now().UnixNano())}
	var err error
	b.client, err = kafka.Open(kafka.Connection{Brokers: []string{set.Kafka()}, Timeout: 10 * time.Second}, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	t.Cleanup(b.client.Close)
	b.admin = kadm.NewClient(b.client)
	b.create(b.topic, partitions, config...)
	return b
}

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
	return Config{Connection: Connection{Brokers: []string{b.set.Kafka()}, Timeout: 2 * time.Second}, Topic: b.topic}
}

// stored reads a topic up to its end, by partition. Open and aborted transactions are left out unless dirty.
func (b *bench) stored(topic string, dirty ...bool) map[int32][]*kgo.Record {
	b.t.Helper()
	b.settled()
	level := kgo.ReadCommitted()
	if len(dirty) > 0 {
		level = kgo.ReadUncommitted()
	}
	ends, err := b.admin.ListEndOffsets(b.t.Context(), topic)
	if len(dirty) == 0 {
		ends, err = b.admin.ListCommittedOffsets(b.t.Context(), topic)
	}
	require.NoError(b.t, err)
	at := map[int32]kgo.Offset{}
	want := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		require.NoError(b.t, o.Err)
		if o.Offset > 0 {
			at[o.Partition], want[o.Partition] = kgo.NewOffset().At(0), o.Offset
		}
	})
	c, err := kafka.Open(kafka.Connection{Brokers: []string{b.set.Kafka()}, Timeout: 10 * time.Second},
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords())
	require.NoError(b.t, err)
	defer c.Close()
	got := map[int32][]*kgo.Record{}
	for len(want) > 0 {
		fs := c.PollFetches(b.t.Context())
		require.NoError(b.t, fs.Err())
		fs.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= want[r.Partition] {
				delete(want, r.Partition)
			}
			if !r.Attrs.IsControl() {
				got[r.Partition] = append(got[r.Partition], r)
			}
		})
	}
	return got
}

// settled waits until a transaction that is being committed or aborted is so in all partitions: the brokers answer before that.
func (b *bench) settled() {
	b.t.Helper()
	id := "tx-" + b.topic
	require.Eventually(b.t, func() bool {
		all, err := b.admin.DescribeTransactions(b.t.Context(), id)
		return err == nil && !strings.HasPrefix(all[id].State, "Prepare")
	}, 20*time.Second, time.Millisecond)
}

// values are the values of a topic's records, partition by partition.
func (b *bench) values() (all []string) {
	b.t.Helper()
	got := b.stored(b.topic)
	for p := range int32(len(got)) + 16 {
		for _, r := range got[p] {
			all = append(all, string(r.Value))
		}
	}
	return all
}

func lines(rs []reading) (l []string) {
	for _, r := range rs {
		l = append(l, fmt.Sprintf("%s %d", r.device, r.n))
	}
	return l
}

// opened is a sink that is in use.
type opened[T any] struct {
	t      testing.TB
	sink   flow.Sink[T]
	writer flow.SinkWriter[T]
	mu     sync.Mutex
	counts map[string]int64
	epochs atomic.Int32
}

func open[T any](t testing.TB, s flow.Sink[T]) *opened[T] {
	t.Helper()
	o := &opened[T]{t: t, sink: s, counts: map[string]int64{}}
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	require.NoError(t, s.Open(t.Context(), o.runtime()))
	var err error
	o.writer, err = s.Writer(t.Context(), flow.TaskInfo{})
	require.NoError(t, err)
	return o
}

func (o *opened[T]) runtime() flow.SinkRuntime {
	return flow.SinkRuntime{
		Topology: "test", Node: "out", Clock: flow.SystemClock(), Log: slog.New(slog.DiscardHandler),
		RequestEpoch: func() { o.epochs.Add(1) },
		Count: func(name string, n int64) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.counts[name] += n
		},
	}
}

func (o *opened[T]) count(name string) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[name]
}

// block is what one epoch has written.
func (o *opened[T]) block(values ...T) flow.Block {
	o.t.Helper()
	require.NoError(o.t, o.writer.Write(o.t.Context(), records(values...)))
	bs, err := o.writer.Seal(o.t.Context())
	require.NoError(o.t, err)
	require.Equal(o.t, 1, len(bs))
	return bs[0]
}

func (o *opened[T]) deliver(blocks ...flow.Block) []flow.Reject {
	o.t.Helper()
	rejects, err := o.sink.Deliver(o.t.Context(), blocks)
	require.NoError(o.t, err)
	return rejects
}

// network is one that can lose what brokers answer, and be cut.
type network struct {
	mu    sync.Mutex
	off   bool
	deaf  atomic.Bool
	conns []*deafConn
}

type deafConn struct {
	net.Conn
	n *network
}

// Read loses what comes while the network is deaf, and waits until the connection is closed.
func (c *deafConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.n.deaf.Load() {
			return n, err
		}
	}
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.off {
		return nil, errors.New("cut")
	}
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d := &deafConn{c, n}
	n.conns = append(n.conns, d)
	return d, nil
}

// set cuts the network, or mends it for new connections.
func (n *network) set(off bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.off = off
	n.deaf.Store(false)
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.conns = nil
}

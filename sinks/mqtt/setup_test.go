package mqtt

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
)

const patience = 20 * time.Second

// reading is what the tests publish: "device number".
type reading struct {
	device string
	n      int
}

func topicOf(r reading) string { return "devices/" + r.device }

// readings is a codec of readings.
type readings struct{}

func (readings) ID() string { return "reading" }

func (readings) Append(b []byte, r *reading) ([]byte, error) {
	if r.n < 0 {
		return nil, fmt.Errorf("number %d", r.n)
	}
	return strconv.AppendInt(b, int64(r.n), 10), nil
}

func (readings) Decode(b []byte, r *reading) (err error) {
	r.n, err = strconv.Atoi(string(b))
	return err
}

// open is a sink that runs as the engine runs it.
type opened[T any] struct {
	t      *testing.T
	sink   flow.Sink[T]
	writer flow.SinkWriter[T]
	log    *logBook

	mu     sync.Mutex
	counts map[string]int64
}

func runtimeOf[T any](o *opened[T]) flow.SinkRuntime {
	return flow.SinkRuntime{
		Topology: "test", Node: "out", Clock: flow.SystemClock(), Log: slog.New(slog.NewTextHandler(o.log, nil)),
		StoreID: strings.ToLower(rand.Text()),
		Count: func(name string, n int64) {
			o.mu.Lock()
			o.counts[name] += n
			o.mu.Unlock()
		},
	}
}

func prepare[T any](t *testing.T, s flow.Sink[T]) *opened[T] {
	t.Helper()
	return &opened[T]{t: t, sink: s, log: &logBook{}, counts: map[string]int64{}}
}

func open[T any](t *testing.T, s flow.Sink[T]) *opened[T] {
	t.Helper()
	o := prepare(t, s)
	require.NoError(t, s.Open(t.Context(), runtimeOf(o)))
	t.Cleanup(o.close)
	var err error
	o.writer, err = s.Writer(t.Context(), flow.TaskInfo{})
	require.NoError(t, err)
	return o
}

func (o *opened[T]) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(o.t, o.sink.Close(ctx))
	require.NoError(o.t, o.sink.Close(ctx))
}

func (o *opened[T]) count(name string) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[name]
}

func records[T any](values ...T) []flow.Record[T] {
	r := make([]flow.Record[T], len(values))
	for i, v := range values {
		r[i] = flow.Record[T]{Value: v, Time: flow.Timestamp(i + 1)}
	}
	return r
}

// block seals values as one block.
func (o *opened[T]) block(values ...T) flow.Block {
	o.t.Helper()
	require.NoError(o.t, o.writer.Write(o.t.Context(), records(values...)))
	b, err := o.writer.Seal(o.t.Context())
	require.NoError(o.t, err)
	require.Len(o.t, b, 1)
	return b[0]
}

// deliver calls Deliver as the engine does: again after each transient error.
func (o *opened[T]) deliver(blocks ...flow.Block) (rejects []flow.Reject, retries int) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	defer cancel()
	for ; ; retries++ {
		rejects, err := o.sink.Deliver(ctx, blocks)
		if err == nil {
			return rejects, retries
		}
		require.True(o.t, flow.IsTransient(err), "%v\n%s", err, o.log)
		o.log.note("retry: %v", err)
		require.NoError(o.t, flow.SystemClock().Sleep(ctx, 10*time.Millisecond), o.log)
	}
}

func numbersOf(device string, from, to int) []reading {
	var r []reading
	for i := from; i <= to; i++ {
		r = append(r, reading{device, i})
	}
	return r
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

func (l *logBook) note(format string, args ...any) { fmt.Fprintf(l, format+"\n", args...) }

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBook) lines(with string) int { return strings.Count(l.String(), with) }

func eventually(t *testing.T, f func() bool, what string, have fmt.Stringer) {
	t.Helper()
	require.Eventually(t, f, patience, 2*time.Millisecond, "%s\n%s", what, have)
}

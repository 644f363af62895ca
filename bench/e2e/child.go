package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/state/pebble"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/operators/agg"
	"github.com/millrace-stream/millrace/operators/window"
)

// rounds is how many records each device has: two before the kill is allowed, the third around it and behind it.
const rounds = 3

// Child is the process that Recovery kills, and the one that comes after it: a topology with a window of a minute in which all devices have
// records. Started over an empty folder it commits two rounds and says so, and goes on slowly, to be killed; started again it says when it is
// back, goes on to the end of the third round, closes the window and says how many devices came out wrong. out gets lines of JSON.
func Child(ctx context.Context, dir string, keys int64, out io.Writer) error {
	c := &child{keys: keys, names: make([]string, keys), out: json.NewEncoder(out)}
	for i := range c.names {
		c.names[i] = "dev-" + strconv.Itoa(10_000_000 + i)[1:]
	}
	t := flow.New("recovery", quiet(), flow.WithStore(pebble.Dir(dir)), flow.WithEpochInterval(time.Second), flow.WithMaxPending(2*rounds*keys+maxPending))
	timed := flow.AssignTime(flow.From(t, "records", c), "event-time", record.time, watermark.Monotonous().Simulated())
	seen := flow.ApplyKept[string, record](flow.KeyBy(timed, func(r record) string { return r.Device }), "seen", func() *seen { return &seen{c} })
	seq := func(r record) int64 { return r.Seq }
	minutes := operators.Window(seen, "per-minute", window.Tumbling(time.Minute), agg.Into(
		agg.To(func(s *sums) *int64 { return &s.Count }, agg.Count(seq)),
		agg.To(func(s *sums) *int64 { return &s.Min }, agg.Min(seq)),
		agg.To(func(s *sums) *int64 { return &s.Sum }, agg.Sum(seq)),
	))
	flow.To(minutes, "rows", flow.SinkFunc(c.rows))
	r, err := start(ctx, t)
	if err != nil {
		return err
	}
	select { // a partition that is ready is about to be read
	case <-c.reads:
	case <-ctx.Done():
		return ctx.Err()
	}
	if from := c.from.Load(); from > 0 {
		c.say(said{What: saidRestored, At: from})
	}
	select {
	case <-c.ended:
	case <-c.two:
		if err := errors.Join(r.Idle(ctx), r.Epoch(ctx)); err != nil { // what was emitted may still be on its way
			return err
		}
		c.say(said{What: saidCommitted, At: 2 * keys})
		<-c.ended
	case <-r.Running.Done():
		return r.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
	return errors.Join(c.failed, r.stop(ctx))
}

// record is one of a device: record i is of device i % keys.
type record struct {
	Device string
	Seq    int64
	At     int64 // ms
}

func (r record) time() time.Time { return time.UnixMilli(r.At) }

type sums struct{ Count, Min, Sum int64 }

type child struct {
	keys  int64
	names []string
	mu    sync.Mutex
	out   *json.Encoder

	from       atomic.Int64 // where reading began
	first      atomic.Bool
	two, ended chan struct{}
	reads      chan struct{} // closed once from is there
	failed     error

	devices, wrong int64
}

func (c *child) say(s said) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = errors.Join(c.failed, c.out.Encode(s))
}

// The child is its source.

func (c *child) Partitions() int { return 1 }
func (c *child) Open(context.Context, flow.SourceRuntime) error {
	c.two, c.ended, c.reads = make(chan struct{}), make(chan struct{}), make(chan struct{})
	return nil
}
func (c *child) Commit(context.Context, flow.Partition, flow.Position) error { return nil }
func (c *child) Replay() flow.Replay                                         { return flow.Seek }
func (c *child) Close(context.Context) error                                 { return nil }
func (c *child) Run(_ context.Context, a flow.Assign) error                  { return a.Add(flow.Partition{ID: "0"}) }

func (c *child) Read(ctx context.Context, _ flow.Partition, from flow.Position, in *flow.Intake[record]) error {
	c.from.Store(from.Offset)
	close(c.reads)
	const begin = 1_700_000_040_000 // of a minute
	for i := from.Offset; i < rounds*c.keys; {
		b := in.Buffer()
		b = b[:min(int64(cap(b)), rounds*c.keys-i)]
		for j := range b {
			b[j] = flow.Record[record]{Time: flow.None, Value: record{c.names[i%c.keys], i, begin + 59_000*i/(rounds*c.keys)}}
			i++
		}
		if err := in.Emit(ctx, b, flow.Position{Offset: i}); err != nil {
			return err
		}
		if from.Offset == 0 && i >= 2*c.keys { // to be killed
			select {
			case <-c.two:
			default:
				close(c.two)
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	last := append(in.Buffer(), flow.Record[record]{Time: flow.None, Value: record{closing, 0, begin + 3_600_000}})
	if err := in.Emit(ctx, last, flow.Position{Offset: rounds*c.keys + 1}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// seen says when the first record is through.
type seen struct{ c *child }

func (s *seen) Process(_ context.Context, _ string, r *flow.Record[record], out *flow.Output[record]) error {
	if c := s.c; c.from.Load() > 0 && !c.first.Load() && c.first.CompareAndSwap(false, true) {
		c.say(said{What: saidFirst, At: c.from.Load()})
	}
	out.Emit(*r)
	return nil
}

// rows checks what each device has: its number, and all of its records once.
func (c *child) rows(_ context.Context, batch []flow.Record[window.Result[string, sums]]) error {
	for i := range batch {
		w := &batch[i].Value
		k, err := strconv.ParseInt(w.Key[len("dev-"):], 10, 64)
		if err != nil {
			return fmt.Errorf("device %q: %w", w.Key, err)
		}
		if w.Value != (sums{rounds, k, rounds*k + c.keys*rounds*(rounds-1)/2}) {
			c.wrong++
		}
		c.devices++
	}
	if c.devices == c.keys {
		c.say(said{What: saidEnd, Rows: c.devices, Wrong: c.wrong})
		close(c.ended)
	}
	return nil
}

package operators

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// ReduceOption configures Reduce and Scan.
type ReduceOption func(flow.Configurable)

type reduceConfig struct {
	flow.NodeConfig
	idle time.Duration
}

func (c *reduceConfig) setIdle(d time.Duration) { c.idle = d }

// IdleTTL makes Reduce, Scan and the outlier filters forget a key without records for d of event time: when the watermark reaches
// max(time of the last record, watermark on its arrival) + d. What comes for the key later begins anew. Defaults to never.
func IdleTTL(d time.Duration) flow.Option {
	return flow.SetOption(func(c interface {
		flow.Configurable
		setIdle(d time.Duration)
	}) {
		c.setIdle(d)
		if d <= 0 {
			c.Node().Problem(fmt.Sprintf("IdleTTL(%v) is not positive", d), "leave it out to keep keys for ever")
		}
	})
}

// Reduce folds each key's records into one and emits the fold so far for every record: the first record as it is, then f(what was
// emitted last, record). It is the reduce of Apache Flink's keyed streams. Results carry time and Meta of the record that made them,
// in the order of arrival, which is not that of event time: records that come late are folded like any other.
//
// f must be pure, and must not change what acc refers to (slices, maps, pointers): it has been emitted. NaN is passed to f like any number.
// When f panics the record goes to the dead letters and the fold stays as it was.
//
// State: one T per key, kept for ever without IdleTTL. It lies in flat memory stored by pages where T consists of numbers, bools, strings,
// times, arrays and structs of them, unexported fields too; else it is an entry of its own as CBOR by field name, and then costs a search
// and, per epoch and changed key, an encoding. A crash rolls back to the last epoch together with the sources; results of the replayed part
// are emitted again, and are the same.
func Reduce[K comparable, T any](s flow.KeyedStream[K, T], name string, f func(acc, v T) T, opts ...ReduceOption) flow.Stream[T] {
	return fold(s, name, "reduce", f, func(v T) T { return v }, opts)
}

func fold[K comparable, T, A any](s flow.KeyedStream[K, T], name, kind string, f func(A, T) A, first func(T) A, opts []ReduceOption) flow.Stream[A] {
	cfg := flow.Configure(&reduceConfig{}, opts)
	cfg.Traits = flow.Traits{Kind: kind, EventTime: cfg.idle > 0, Stateful: true, Counts: true, Loses: "what was folded so far"}
	if f == nil {
		cfg.Problem("its function is nil", "pass a function of what was folded so far and the record")
	}
	storable[A](&cfg.NodeConfig)
	return flow.ApplyKeyed[K, T, A](s, name, func() *folding[K, T, A] {
		return &folding[K, T, A]{f: f, first: first, own: newOwnStrings[A](), cells: cells[K, A]{ttl: cfg.idle, timed: cfg.idle > 0}}
	}, flow.With(cfg))
}

// folding is Reduce and Scan.
type folding[K comparable, T, A any] struct {
	cells[K, A]
	f     func(A, T) A
	first func(T) A // nil: the zero A is the beginning
	own   ownStrings[A]
}

// Open implements flow.Opener.
func (o *folding[K, T, A]) Open(_ context.Context, rt flow.Runtime) error { return o.open(rt) }

// Process implements flow.KeyedOperator.
func (o *folding[K, T, A]) Process(_ context.Context, key K, r *flow.Record[T], out *flow.Output[A]) error {
	o.fold(o.keys.Find(key), r, out)
	return nil
}

// ProcessBatch is the same for a slice.
func (o *folding[K, T, A]) ProcessBatch(_ context.Context, keys []flow.Slot, in []flow.Record[T], out *flow.Output[A]) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
	}()
	for ; n < len(in); n++ {
		o.fold(keys[n], &in[n], out)
	}
	return n, nil
}

func (o *folding[K, T, A]) fold(key flow.Slot, r *flow.Record[T], out *flow.Output[A]) {
	var v A
	switch {
	case o.has(key):
		v = o.f(*o.get(key), r.Value)
	case o.first != nil:
		v = o.first(r.Value)
	default:
		v = o.f(v, r.Value)
	}
	acc := o.get(key)
	if len(o.own.at) > 0 {
		o.own.cut(&v, acc)
	}
	*acc = v
	o.touch(key, max(r.Time, o.wm))
	*out.Next(r.Time, r.Meta) = v
}

// OnWatermark implements flow.WatermarkHandler.
func (o *folding[K, T, A]) OnWatermark(_ context.Context, wm flow.Timestamp, _ *flow.Output[A]) error {
	o.expire(wm)
	return nil
}

// panicked makes an error of what user code panicked with.
func panicked(p any) error { return fmt.Errorf("%w: %v\n%s", flow.ErrPanic, p, debug.Stack()) }

package operators

import (
	"cmp"
	"context"
	"iter"
	"slices"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// BroadcastOption configures Broadcast; V is what the control stream carries.
type BroadcastOption[V any] func(flow.Configurable)

type broadcastConfig struct {
	flow.NodeConfig
	deletes any
	code    any
}

// Deletes tells which values of the control stream delete what stands under their id. Without it nothing is ever deleted.
func Deletes[V any](is func(V) bool) BroadcastOption[V] {
	return flow.SetOption(func(c *broadcastConfig) {
		c.deletes = is
		if is == nil {
			c.Problem("the function of Deletes is nil", "pass a function from value to bool")
		}
	})
}

// ControlCodec says how what the control stream has set is stored. Defaults to CBOR by field name.
func ControlCodec[V any](c codec.Codec[V]) BroadcastOption[V] {
	return flow.SetOption(func(cfg *broadcastConfig) { cfg.code = c })
}

// Broadcast gives each record of a keyed stream to f, together with all that a small control stream has set so far: rules, thresholds,
// metadata. Every value of the control stream stands under its id, for all keys and in every task; a later one of the same id replaces it,
// and Deletes says which ones delete it. It is the broadcast state pattern of Apache Flink.
//
// Order: every task takes the control stream in the order of its partition, so all come to the same values. Where it has several partitions,
// an id must keep to one of them. Between control values and records there is no order within an epoch. What an epoch has committed of the
// control stream is seen by every record behind that epoch, and stays seen after a crash. So a rule works within about one epoch interval (1 s
// by default), in some tasks before others, and records before the first control value find nothing: see docs/operators/broadcast.md for
// what to do where that matters. Results of a key come in the order of its records, with their time and Meta. Event time is the keyed
// stream's alone; the control stream needs none, and may be silent for ever.
//
// Errors: a record whose f fails or panics goes to the dead letters, and what it emitted is taken back. A control value whose id function
// panics goes there once, and changes nothing.
//
// State: all values of the control stream that were not deleted, in the memory of every task and once in the store; nothing per key.
// Where f needs memory of its key, let it emit what it found, and put a Stateful behind it. A crash rolls back to the last epoch
// together with both sources, and the results of the replayed part come again: with the control values of that time, or later ones.
//
// f must be safe for concurrent use, as all functions are, and must not change values that c gives it.
func Broadcast[K comparable, ID cmp.Ordered, T, V, R any](s flow.KeyedStream[K, T], control flow.Stream[V], name string, id func(V) ID,
	f func(ctx context.Context, c *Control[K, ID, V, R], v T) error, opts ...BroadcastOption[V]) flow.Stream[R] {
	cfg := flow.Configure(&broadcastConfig{}, opts)
	cfg.Traits = flow.Traits{Kind: "broadcast", Stateful: true, Loses: "what the control stream has set"}
	switch {
	case id == nil:
		cfg.Problem("its id function is nil", "pass a function from control value to id")
	case f == nil:
		cfg.Problem("its function is nil", "pass a function of the control values and the record")
	}
	deletes, _ := cfg.deletes.(func(V) bool)
	code, _ := cfg.code.(codec.Codec[V])
	if code == nil {
		code = codec.CBOR[V]()
		if _, err := code.Append(nil, new(V)); err != nil {
			cfg.Problem("its control values cannot be stored: "+err.Error(), "give operators.ControlCodec")
		}
	}
	return flow.ApplyBroadcast[K, T, V, R](s, control, name, func() *broadcast[K, ID, T, V, R] {
		return &broadcast[K, ID, T, V, R]{id: id, deletes: deletes, f: f, code: code}
	}, flow.With(cfg))
}

// Control is what a record meets in a Broadcast. It is good during the call only.
type Control[K comparable, ID cmp.Ordered, V, R any] struct {
	set flow.Shared[ID, V]
	ids []ID // sorted
	key K
	r   flow.Timestamp
	m   *flow.Meta
	out *flow.Output[R]
}

// Key is the record's key.
func (c *Control[K, ID, V, R]) Key() K { return c.key }

// Time is the record's event time.
func (c *Control[K, ID, V, R]) Time() flow.Timestamp { return c.r }

// Meta is the record's.
func (c *Control[K, ID, V, R]) Meta() *flow.Meta { return c.m }

// Get returns the value of an id.
func (c *Control[K, ID, V, R]) Get(id ID) (V, bool) { return c.set.Get(id) }

// Len is the number of values.
func (c *Control[K, ID, V, R]) Len() int { return len(c.ids) }

// All visits the values in order of their ids.
func (c *Control[K, ID, V, R]) All() iter.Seq2[ID, V] {
	return func(yield func(ID, V) bool) {
		for _, id := range c.ids {
			if v, ok := c.set.Get(id); ok && !yield(id, v) {
				return
			}
		}
	}
}

// Emit adds a result, with the record's time and Meta.
func (c *Control[K, ID, V, R]) Emit(v R) { *c.out.Next(c.r, c.m) = v }

// broadcast is Broadcast.
type broadcast[K comparable, ID cmp.Ordered, T, V, R any] struct {
	id      func(V) ID
	deletes func(V) bool
	f       func(context.Context, *Control[K, ID, V, R], T) error
	code    codec.Codec[V]
	c       Control[K, ID, V, R]
}

// Open implements flow.Opener.
func (b *broadcast[K, ID, T, V, R]) Open(_ context.Context, rt flow.Runtime) error {
	if err := flow.OpenShared(rt, "control", &b.c.set, flow.StateCodec(b.code)); err != nil {
		return err
	}
	for id := range b.c.set.All() {
		b.c.ids = append(b.c.ids, id)
	}
	slices.Sort(b.c.ids)
	return nil
}

// Process implements flow.BroadcastOperator.
func (b *broadcast[K, ID, T, V, R]) Process(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[R]) error {
	c := &b.c
	c.key, c.r, c.m, c.out = key, r.Time, r.Meta, out
	return b.f(ctx, c, r.Value)
}

// ProcessBroadcast implements flow.BroadcastOperator.
func (b *broadcast[K, ID, T, V, R]) ProcessBroadcast(_ context.Context, r *flow.Record[V], _ *flow.Output[R]) error {
	c, id := &b.c, b.id(r.Value)
	gone := b.deletes != nil && b.deletes(r.Value)
	i, found := slices.BinarySearch(c.ids, id)
	switch {
	case gone && found:
		c.set.Delete(id)
		c.ids = slices.Delete(c.ids, i, i+1)
	case !gone:
		c.set.Put(id, r.Value)
		if !found {
			c.ids = slices.Insert(c.ids, i, id)
		}
	}
	return nil
}

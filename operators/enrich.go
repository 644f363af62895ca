package operators

import (
	"context"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// Lookup finds values by key, many at once. It is shared by all tasks and must be safe for concurrent use.
type Lookup[K comparable, V any] interface {
	// Lookup fills vals[i] and found[i] for keys[i]; both come zeroed. An error is that of the whole call: a transient one is tried
	// again in place, a permanent one key by key.
	Lookup(ctx context.Context, keys []K, vals []V, found []bool) error
}

// Table is a Lookup in a map that does not change: it is asked within the task, without waiting.
type Table[K comparable, V any] map[K]V

// Lookup implements Lookup.
func (t Table[K, V]) Lookup(_ context.Context, keys []K, vals []V, found []bool) error {
	for i, k := range keys {
		vals[i], found[i] = t[k]
	}
	return nil
}

// LookupFunc is a Lookup of one key at a time: a batch asks for its keys one after another.
type LookupFunc[K comparable, V any] func(ctx context.Context, key K) (V, bool, error)

// Lookup implements Lookup.
func (f LookupFunc[K, V]) Lookup(ctx context.Context, keys []K, vals []V, found []bool) error {
	for i, k := range keys {
		v, ok, err := f(ctx, k)
		if err != nil {
			return err
		}
		vals[i], found[i] = v, ok
	}
	return nil
}

// EnrichOption configures Enrich.
type EnrichOption func(flow.Configurable)

type enrichConfig struct {
	flow.AsyncConfig
	ttl  time.Duration
	size int
}

// Cache keeps answers, those of missing keys included, for ttl after they were found, at most size of them. Without it every
// record asks. It is shared by the node's tasks.
func Cache(ttl time.Duration, size int) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) {
		c.ttl, c.size = ttl, size
		if ttl <= 0 || size < 1 {
			c.Problem("the cache's ttl and size must be positive", "leave Cache out to have none")
		}
	})
}

// Capacity is how many records may wait for answers per task. At it the task takes no more: backpressure. Defaults to 1,024.
func Capacity(n int) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) { c.Capacity = n })
}

// Concurrency is how many lookups are under way per task. Defaults to 4.
func Concurrency(n int) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) { c.Concurrency = n })
}

// LookupBatch is the most records that one lookup asks for. Defaults to 128.
func LookupBatch(n int) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) { c.BatchSize = n })
}

// Timeout bounds one lookup; what takes longer is asked again. Defaults to 10 s.
func Timeout(d time.Duration) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) { c.Timeout = d })
}

// WaitingCodec sets how records that wait for an answer are stored with an epoch. Defaults to CBOR by field name.
func WaitingCodec[T any](c codec.Codec[T]) EnrichOption {
	return flow.SetOption(func(cfg *enrichConfig) { cfg.Codec = c })
}

// Enrich joins each record with what a lookup knows under its key. join says what to make of a missing key (found is false), an error
// of it concerns the record alone. The order of the records stays.
//
// A Table is asked within the task. Any other lookup is asked by goroutines of the node, in batches: a slow one holds up this node
// and, at its capacity, what is before it, and nothing else. Records that wait are state: they are written with the epoch, which
// does not wait for answers, and asked for again after a restart, so calls are at least once. A lookup that fails for a while loses
// nothing.
//
// State: the waiting records, at most Capacity per task, beyond which only the queues in front are taken in at an epoch.
func Enrich[T any, K comparable, V, R any](s flow.Stream[T], name string, from Lookup[K, V], key func(T) K,
	join func(v T, with V, found bool) (R, error), opts ...EnrichOption) flow.Stream[R] {
	cfg := flow.Configure(&enrichConfig{}, opts)
	if from == nil || key == nil || join == nil {
		cfg.Problem("the lookup, the key or the join function is nil", "give all three")
	}
	if t, ok := from.(Table[K, V]); ok {
		cfg.Traits = flow.Traits{Kind: "enrich"}
		return flow.Apply[T, R](s, name, func() *enrichTable[T, K, V, R] { return &enrichTable[T, K, V, R]{t, key, join} }, flow.With(cfg))
	}
	cfg.Traits = flow.Traits{Kind: "enrich", Stateful: true, Loses: "nothing beyond what its source delivers again"}
	var cache *otter.Cache[K, cached[V]]
	if cfg.size > 0 {
		c, err := otter.New(&otter.Options[K, cached[V]]{
			MaximumSize:      cfg.size,
			ExpiryCalculator: otter.ExpiryWriting[K, cached[V]](cfg.ttl),
		})
		if err != nil {
			cfg.Problem(err.Error(), "mend the cache's settings")
		}
		cache = c
	}
	return flow.ApplyAsync[T, R](s, name, func() *enrich[T, K, V, R] {
		return &enrich[T, K, V, R]{from: from, key: key, join: join, cache: cache}
	}, cfg.AsyncConfig)
}

type enrichTable[T any, K comparable, V, R any] struct {
	table Table[K, V]
	key   func(T) K
	join  func(T, V, bool) (R, error)
}

func (e *enrichTable[T, K, V, R]) Process(_ context.Context, r *flow.Record[T], out *flow.Output[R]) error {
	v, ok := e.table[e.key(r.Value)]
	j, err := e.join(r.Value, v, ok)
	if err != nil {
		return err
	}
	*out.Next(r.Time, r.Meta) = j
	return nil
}

type cached[V any] struct {
	v     V
	found bool
}

type enrich[T any, K comparable, V, R any] struct {
	from  Lookup[K, V]
	key   func(T) K
	join  func(T, V, bool) (R, error)
	cache *otter.Cache[K, cached[V]]
	rt    flow.Runtime
}

func (e *enrich[T, K, V, R]) Open(_ context.Context, rt flow.Runtime) error {
	e.rt = rt
	return nil
}

// Try answers from the cache.
func (e *enrich[T, K, V, R]) Try(_ context.Context, r *flow.Record[T], out *flow.Output[R]) (bool, error) {
	if e.cache == nil {
		return false, nil
	}
	c, ok := e.cache.GetIfPresent(e.key(r.Value))
	if !ok {
		return false, nil
	}
	v, err := e.join(r.Value, c.v, c.found)
	if err != nil {
		return true, err
	}
	*out.Next(r.Time, r.Meta) = v
	return true, nil
}

// Call asks for the distinct keys that the cache does not have.
func (e *enrich[T, K, V, R]) Call(ctx context.Context, in []flow.Record[T], answers []flow.Answer[R]) error {
	var ask []K
	at := make(map[K]int, len(in)) // place in ask
	have := make(map[K]cached[V])
	for i := range in {
		k := e.key(in[i].Value)
		if _, ok := at[k]; ok {
			continue
		}
		if e.cache != nil {
			if c, ok := e.cache.GetIfPresent(k); ok {
				have[k] = c
				continue
			}
		}
		at[k] = len(ask)
		ask = append(ask, k)
	}
	vals, found := make([]V, len(ask)), make([]bool, len(ask))
	if len(ask) > 0 {
		e.rt.Count("lookups", int64(len(ask)))
		if err := e.from.Lookup(ctx, ask, vals, found); err != nil {
			return err
		}
	}
	for k, i := range at {
		have[k] = cached[V]{vals[i], found[i]}
		if e.cache != nil {
			e.cache.Set(k, have[k])
		}
	}
	for i := range in {
		c := have[e.key(in[i].Value)]
		answers[i].Value, answers[i].Err = e.join(in[i].Value, c.v, c.found)
	}
	return nil
}

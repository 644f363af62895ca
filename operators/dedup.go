package operators

import (
	"context"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// DedupOption configures Dedup.
type DedupOption func(flow.Configurable)

type dedupConfig struct {
	flow.NodeConfig
	maxEntries int
}

// MaxEntries caps the ids that a Dedup remembers per task. Defaults to 20,000,000.
func MaxEntries(n int) DedupOption {
	return flow.SetOption(func(c *dedupConfig) {
		c.maxEntries = n
		if n < 1 {
			c.Problem("MaxEntries must be positive", "leave it out for the default")
		}
	})
}

// Dedup drops records whose id was seen under their key within ttl of event time; all others pass unchanged, in order.
//
// State: one entry of 24 bytes per distinct id, freed when the watermark passes max(record time, watermark on arrival) + ttl, so that
// repeats of late records are found too. Ids are compared by 128-bit seeded fingerprints. MaxEntries caps the set: a full one evicts
// the oldest ids, counts them (dedup_evicted) and warns, since an evicted id can count twice.
//
// An id is seen from the moment it passes; after a crash it is forgotten together with the source positions, so a record that failed
// downstream and comes again is not lost. A dropped duplicate is acked with the epoch it came in.
func Dedup[K, ID comparable, T any](s flow.KeyedStream[K, T], name string, id func(T) ID, ttl time.Duration, opts ...DedupOption) flow.KeyedStream[K, T] {
	cfg := flow.Configure(&dedupConfig{maxEntries: flow.DefaultMaxEntries}, opts)
	cfg.Traits = flow.Traits{Kind: "dedup", EventTime: true, Stateful: true, DedupTTL: ttl, Loses: "the ids seen: repeats pass once more"}
	if id == nil {
		cfg.Problem("the id function is nil", "pass a function from record to id")
	}
	if ttl <= 0 {
		cfg.Problem("the ttl is not positive", "give at least the window size plus its lateness")
	}
	if !flow.HasKeyBytes[ID]() {
		cfg.Problem("ids of this type have no natural bytes", "use a string, a number or a byte array as id")
	}
	return flow.ApplyKept[K, T](s, name, func() *dedup[K, ID, T] {
		return &dedup[K, ID, T]{id: id, ttl: ttl, wm: flow.None, set: flow.Set[ID]{MaxEntries: cfg.maxEntries}}
	}, flow.With(cfg))
}

type dedup[K, ID comparable, T any] struct {
	id   func(T) ID
	ttl  time.Duration
	wm   flow.Timestamp
	keys flow.Keys[K]
	set  flow.Set[ID]
	rt   flow.Runtime
	ids  []ID
	one  [1]bool
}

func (d *dedup[K, ID, T]) Open(_ context.Context, rt flow.Runtime) error {
	d.rt = rt
	if err := flow.OpenKeys(rt, &d.keys); err != nil {
		return err
	}
	return flow.OpenSet(rt, "seen", &d.set, d.ttl)
}

// Keep is the batch path: hash all, then look all up.
func (d *dedup[K, ID, T]) Keep(_ context.Context, keys []flow.Slot, in []flow.Record[T], keep []bool) (int, error) {
	ids := d.ids[:0]
	for i := range in {
		ids = append(ids, d.id(in[i].Value))
	}
	d.ids = ids
	flow.AddToSet(&d.set, keys, ids, in, d.wm, keep)
	dropped := int64(0)
	for i, seen := range keep {
		keep[i] = !seen
		if seen {
			dropped++
		}
	}
	if dropped > 0 {
		d.rt.Count("duplicates", dropped)
	}
	return len(in), nil
}

// Process is the same for one record.
func (d *dedup[K, ID, T]) Process(ctx context.Context, key K, r *flow.Record[T], out *flow.Output[T]) error {
	slot := [1]flow.Slot{d.keys.Find(key)}
	in := []flow.Record[T]{*r}
	if _, err := d.Keep(ctx, slot[:], in, d.one[:]); err != nil {
		return err
	}
	if d.one[0] {
		out.Emit(*r)
	}
	return nil
}

func (d *dedup[K, ID, T]) OnWatermark(_ context.Context, wm flow.Timestamp, _ *flow.Output[T]) error {
	d.wm = wm
	d.set.Advance(wm)
	return nil
}

package operators

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Enrich joins each record with what a lookup knows under its key. join says what to make of a missing key (found is false), an error
// of it concerns the record alone. The order of the records stays, unless Unordered gives it up.
//
// A lookup that has its values in memory (Table, or any with a method Get(K) (V, bool)) is asked within the task. Any other is asked by
// goroutines of the node, in batches of distinct keys; a key that is being asked for is not asked for again meanwhile. A slow lookup
// holds up this node and, at its capacity, what is before it, and nothing else. Records that wait are state: they are written with the
// epoch, which does not wait for answers, and asked for again after a restart, so calls are at least once. A lookup that fails for a
// while loses nothing: it is tried again, with pauses of 20 ms to 5 s, until it answers, or until Attempts when there is a Fallback.
//
// State: the waiting records, at most Capacity per task, beyond which only the queues in front are taken in at an epoch. The cache is
// not state: after a restart it is empty.
//
// Counters: lookups (keys asked for), lookup_calls, lookup_errors, shared (keys that another call was asking for), cache_hits,
// cache_negative_hits, cache_stale (all three in records), cache_misses (records that had to ask), refreshes, refresh_errors, fallbacks
// (records), breaker_opened, and breaker_open, which is 1 while the circuit breaker keeps calls back.
func Enrich[T any, K comparable, V, R any](s flow.Stream[T], name string, from Lookup[K, V], key func(T) K,
	join func(v T, with V, found bool) (R, error), opts ...EnrichOption) flow.Stream[R] {
	cfg := flow.Configure(&enrichConfig{timeout: 10 * time.Second}, opts)
	if from == nil || key == nil || join == nil {
		cfg.Problem("the lookup, the key or the join function is nil", "give all three")
	}
	cfg.check()
	e := &enricher[T, K, V, R]{from: from, key: key, join: join, cfg: cfg}
	if l, ok := from.(inMemory[K, V]); ok {
		cfg.Traits = flow.Traits{Kind: "enrich"}
		return flow.Apply[T, R](s, name, func() *enrichLocal[T, K, V, R] { return &enrichLocal[T, K, V, R]{e: e, local: l} }, flow.With(cfg))
	}
	cfg.Traits = flow.Traits{Kind: "enrich", Stateful: true, Loses: "nothing beyond what its source delivers again"}
	cfg.AsyncConfig.Timeout = -1 // each try has its own
	e.answers = newAnswers[K, V](cfg)
	e.flights.under = map[K]place[V]{}
	if cfg.failures > 0 {
		e.breaker = newBreaker(cfg.failures, cfg.pause)
	}
	switch f := cfg.fallback.(type) {
	case nil:
	case func(K, error) (V, bool, error):
		e.fallback = f
	case fallbackValue[V]:
		e.fallback = func(K, error) (V, bool, error) { return f.v, true, nil }
	default:
		cfg.Problem(fmt.Sprintf("the fallback is %T", f), fmt.Sprintf("give one for keys of type %T and values of type %T", *new(K), *new(V)))
	}
	return flow.ApplyAsync[T, R](s, name, func() *enrichAsync[T, K, V, R] {
		return &enrichAsync[T, K, V, R]{enricher: e}
	}, cfg.AsyncConfig)
}

// enrichLocal asks within the task.
type enrichLocal[T any, K comparable, V, R any] struct {
	e     *enricher[T, K, V, R]
	local inMemory[K, V]
}

func (o *enrichLocal[T, K, V, R]) Open(ctx context.Context, rt flow.Runtime) error {
	return o.e.open(ctx, rt)
}

func (o *enrichLocal[T, K, V, R]) Close() error {
	o.e.close()
	return nil
}

func (o *enrichLocal[T, K, V, R]) Process(_ context.Context, r *flow.Record[T], out *flow.Output[R]) error {
	v, ok := o.local.Get(o.e.key(r.Value))
	j, err := o.e.join(r.Value, v, ok)
	if err != nil {
		return err
	}
	*out.Next(r.Time, r.Meta) = j
	return nil
}

// enrichAsync is one task's part of an enricher.
type enrichAsync[T any, K comparable, V, R any] struct {
	*enricher[T, K, V, R]
	rt flow.Runtime
	// seen are the records that Try answered since the last EndBatch.
	seen tally
}

// tally counts records by how the cache answered them.
type tally struct{ hits, negative, stale, misses int64 }

func (t *tally) add(how freshness) {
	switch how {
	case fresh:
		t.hits++
	case negative:
		t.negative++
	case stale:
		t.stale++
	case missing:
		t.misses++
	}
}

func (t *tally) count(rt flow.Runtime) {
	for _, c := range [...]struct {
		name string
		n    int64
	}{{"cache_hits", t.hits}, {"cache_negative_hits", t.negative}, {"cache_stale", t.stale}, {"cache_misses", t.misses}} {
		if c.n > 0 {
			rt.Count(c.name, c.n)
		}
	}
	*t = tally{}
}

func (o *enrichAsync[T, K, V, R]) Open(ctx context.Context, rt flow.Runtime) error {
	o.rt = rt
	return o.open(ctx, rt)
}

func (o *enrichAsync[T, K, V, R]) Close() error {
	o.close()
	return nil
}

// Try answers from the cache.
func (o *enrichAsync[T, K, V, R]) Try(_ context.Context, r *flow.Record[T], out *flow.Output[R]) (bool, error) {
	if o.answers == nil {
		return false, nil
	}
	a, how := o.cached(o.key(r.Value))
	if how == missing {
		return false, nil // Call counts it
	}
	v, err := o.join(r.Value, a.v, a.found)
	if err != nil {
		return true, err
	}
	o.seen.add(how)
	*out.Next(r.Time, r.Meta) = v
	return true, nil
}

// EndBatch counts what Try answered.
func (o *enrichAsync[T, K, V, R]) EndBatch() { o.seen.count(o.rt) }

// Call asks for the distinct keys that the cache does not have.
func (o *enrichAsync[T, K, V, R]) Call(ctx context.Context, in []flow.Record[T], answers []flow.Answer[R]) error {
	have := make(map[K]answer[V], len(in))
	keys := make([]K, len(in))
	var ask []K
	var seen tally
	for i := range in {
		k := o.key(in[i].Value)
		keys[i] = k
		if _, ok := have[k]; ok {
			continue
		}
		a, how := o.cached(k)
		if how == missing {
			ask = append(ask, k)
		}
		a.how = how
		have[k] = a
	}
	var fallen error
	if len(ask) > 0 {
		left, err := o.resolve(ctx, ask, have)
		if err != nil && (o.fallback == nil || ctx.Err() != nil || !flow.IsTransient(err) && len(ask) > 1) {
			return err
		}
		fallen = err
		for _, k := range left {
			have[k] = answer[V]{how: unanswered}
		}
	}
	var fallbacks int64
	for i := range in {
		a := have[keys[i]]
		if a.how == unanswered {
			fallbacks++
			if a.v, a.found, answers[i].Err = o.fallback(keys[i], fallen); answers[i].Err != nil {
				continue
			}
		} else {
			seen.add(a.how)
		}
		answers[i].Value, answers[i].Err = o.join(in[i].Value, a.v, a.found)
	}
	seen.count(o.rt)
	if fallbacks > 0 {
		o.rt.Count("fallbacks", fallbacks)
	}
	return nil
}

// resolve asks for keys until have holds their answers, or the tries are used up; left are those without one then. Without a fallback
// it tries once: the engine tries again.
func (o *enrichAsync[T, K, V, R]) resolve(ctx context.Context, keys []K, have map[K]answer[V]) (left []K, err error) {
	for try := 1; ; {
		if keys, err = o.ask(ctx, keys, have); len(keys) == 0 || ctx.Err() != nil {
			return keys, errors.Join(err, ctx.Err())
		}
		if err == nil { // another call's batch was at fault, perhaps by a key that is not among ours
			continue
		}
		if !flow.IsTransient(err) || errors.Is(err, errOpen) {
			return keys, err
		}
		if o.fallback != nil && try >= o.cfg.attempts {
			return keys, err
		}
		pause := backoff(try)
		if after := (retryAfter)(nil); errors.As(err, &after) {
			pause = max(pause, min(after.RetryAfter(), time.Minute))
		} else if o.fallback == nil {
			return keys, err
		}
		if err := o.clock.Sleep(ctx, pause); err != nil {
			return keys, err
		}
		if o.fallback == nil {
			return keys, err
		}
		try++
	}
}

// retryAfter is an error of a lookup that was told when to come again.
type retryAfter interface {
	error
	RetryAfter() time.Duration
}

// backoff is the pause before try n+1: 20 ms doubling to 5 s.
func backoff(n int) time.Duration { return min(20*time.Millisecond<<min(n-1, 8), 5*time.Second) }

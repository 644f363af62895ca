package operators

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/millrace-stream/millrace/flow"
)

// enricher is what the tasks of a node share.
type enricher[T any, K comparable, V, R any] struct {
	from     Lookup[K, V]
	key      func(T) K
	join     func(T, V, bool) (R, error)
	cfg      *enrichConfig
	fallback func(K, error) (V, bool, error)
	answers  *answers[K, V] // nil without a cache
	breaker  *breaker       // nil without one
	flights  flights[K, V]
	refresh  refresher[K]

	mu    sync.Mutex
	tasks int
	rt    flow.Runtime
	clock flow.Clock
	stop  func()
}

func (e *enricher[T, K, V, R]) open(ctx context.Context, rt flow.Runtime) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.tasks == 0 {
		e.rt, e.clock = rt, rt.Clock()
		if e.breaker != nil {
			e.breaker.reset(rt)
		}
		e.stop = func() {}
		if s, ok := e.from.(starter); ok {
			stop, err := s.Start(ctx, rt)
			if err != nil {
				return fmt.Errorf("the lookup: %w", err)
			}
			if stop != nil {
				e.stop = stop
			}
		}
		e.refresh.open()
	}
	e.tasks++
	return nil
}

func (e *enricher[T, K, V, R]) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.tasks == 0 { // its Open failed
		return
	}
	if e.tasks--; e.tasks == 0 {
		e.refresh.close()
		e.stop()
	}
}

// cached answers from the cache. A stale answer makes it ask in the background.
func (e *enricher[T, K, V, R]) cached(k K) (answer[V], freshness) {
	if e.answers == nil {
		return answer[V]{}, missing
	}
	a, how := e.answers.get(k, e.clock.Now())
	if how == stale && e.refresh.add(e.answers.own, k) {
		go e.refreshAll()
	}
	return a, how
}

// flights are the keys that are being asked for.
type flights[K comparable, V any] struct {
	mu    sync.Mutex
	under map[K]place[V]
}

// flight is one call of the lookup.
type flight[V any] struct {
	landed chan struct{}
	vals   []V
	found  []bool
	err    error
}

// place is a key's place in a flight.
type place[V any] struct {
	*flight[V]
	at int
}

// ask asks once for the keys, waiting for those that others ask for already, and puts the answers into have. left are the keys without
// one. The error is that of our own call, or a transient one of others.
func (e *enricher[T, K, V, R]) ask(ctx context.Context, keys []K, have map[K]answer[V]) (left []K, err error) {
	var own []K
	theirs := map[K]place[V]{}
	f := &flight[V]{landed: make(chan struct{})}
	e.flights.mu.Lock()
	for _, k := range keys {
		if p, ok := e.flights.under[k]; ok {
			theirs[k] = p
			continue
		}
		e.flights.under[k] = place[V]{f, len(own)}
		own = append(own, k)
	}
	e.flights.mu.Unlock()
	if len(theirs) > 0 {
		e.rt.Count("shared", int64(len(theirs)))
	}
	if len(own) > 0 {
		e.fly(ctx, f, own, e.fallback == nil)
		if err = f.err; err != nil {
			left = own
		} else {
			for i, k := range own {
				have[k] = answer[V]{v: f.vals[i], found: f.found[i]}
			}
		}
	}
	for k, p := range theirs {
		select {
		case <-p.landed:
		case <-ctx.Done():
			return append(left, k), ctx.Err()
		}
		if p.err == nil {
			have[k] = answer[V]{v: p.vals[p.at], found: p.found[p.at]}
			continue
		}
		left = append(left, k)
		if err == nil && flow.IsTransient(p.err) {
			err = p.err
		}
	}
	return left, err
}

// fly calls the lookup for keys that are registered under f, and takes them off again. wait says whether to wait for the breaker.
func (e *enricher[T, K, V, R]) fly(ctx context.Context, f *flight[V], keys []K, wait bool) {
	defer func() {
		e.flights.mu.Lock()
		for _, k := range keys {
			delete(e.flights.under, k)
		}
		e.flights.mu.Unlock()
		close(f.landed)
	}()
	f.vals, f.found = make([]V, len(keys)), make([]bool, len(keys))
	f.err = e.lookup(ctx, keys, f.vals, f.found, wait)
	if f.err == nil && e.answers != nil {
		now := e.clock.Now()
		for i, k := range keys {
			e.answers.put(k, f.vals[i], f.found[i], now)
		}
	}
}

// lookup is one call, within the timeout and as the breaker allows.
func (e *enricher[T, K, V, R]) lookup(ctx context.Context, keys []K, vals []V, found []bool, wait bool) error {
	var p pass
	if e.breaker != nil {
		var err error
		if p, err = e.breaker.enter(ctx, wait); err != nil {
			return err
		}
	}
	e.rt.Count("lookups", int64(len(keys)))
	e.rt.Count("lookup_calls", 1)
	err := e.call(ctx, keys, vals, found)
	if err != nil {
		clear(vals)
		clear(found)
		if ctx.Err() == nil {
			e.rt.Count("lookup_errors", 1)
		}
	}
	switch {
	case e.breaker == nil:
	case ctx.Err() != nil:
		e.breaker.cancel(p)
	default:
		e.breaker.leave(p, err)
	}
	return err
}

func (e *enricher[T, K, V, R]) call(ctx context.Context, keys []K, vals []V, found []bool) (err error) {
	within, cancel := context.WithTimeout(ctx, e.cfg.timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w in a lookup: %v\n%s", flow.ErrPanic, p, debug.Stack())
		}
	}()
	err = e.from.Lookup(within, keys, vals, found)
	if err != nil && ctx.Err() == nil && (within.Err() != nil || errors.Is(err, context.DeadlineExceeded)) {
		err = flow.Transient(fmt.Errorf("no answer within %v: %w", e.cfg.timeout, err))
	}
	return err
}

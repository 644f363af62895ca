package operators

import (
	"context"
	"errors"
	"sync"

	"github.com/millrace-stream/millrace/flow"
)

// refresher holds the stale keys that are to be asked for in the background: only keys of the cache, each once, so that it is bounded by
// the cache. At most one goroutine asks; it ends when nothing is left to ask.
type refresher[K comparable] struct {
	mu      sync.Mutex
	waiting map[K]struct{}
	order   []K
	running bool
	ctx     context.Context
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

func (r *refresher[K]) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = map[K]struct{}{}
	r.ctx, r.cancel = context.WithCancel(context.Background())
}

func (r *refresher[K]) close() {
	r.mu.Lock()
	r.cancel()
	r.mu.Unlock()
	r.done.Wait()
}

// add takes a key and tells whether the goroutine must be started.
func (r *refresher[K]) add(own func(K) K, k K) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.waiting[k]; ok || r.ctx.Err() != nil {
		return false
	}
	k = own(k)
	r.waiting[k] = struct{}{}
	r.order = append(r.order, k)
	if r.running {
		return false
	}
	r.running = true
	r.done.Add(1)
	return true
}

// next returns the keys to ask for; before are those that were asked. With none left the goroutine has to end.
func (r *refresher[K]) next(before []K, most int) []K {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range before {
		delete(r.waiting, k)
	}
	n := min(most, len(r.order))
	keys := append(make([]K, 0, n), r.order[:n]...)
	r.order = r.order[:copy(r.order, r.order[n:])]
	if n == 0 || r.ctx.Err() != nil {
		clear(r.waiting)
		r.order = nil
		r.running = false
		return nil
	}
	return keys
}

// refreshAll asks for stale keys until there are none. What fails stays stale and comes again with its next record, after a pause.
func (e *enricher[T, K, V, R]) refreshAll() {
	r := &e.refresh
	defer r.done.Done()
	most := e.cfg.BatchSize
	if most == 0 {
		most = 128
	}
	failures := 0
	for keys := r.next(nil, most); keys != nil; keys = r.next(keys, most) {
		err := e.refreshKeys(r.ctx, keys)
		if err == nil {
			failures = 0
			continue
		}
		if r.ctx.Err() != nil {
			continue
		}
		failures++
		if !errors.Is(err, errOpen) && (failures == 1 || failures%20 == 0) {
			e.rt.Log().Warn("a refresh of stale answers failed, the old ones are served meanwhile", "err", err, "count", len(keys))
		}
		_ = e.clock.Sleep(r.ctx, backoff(failures))
	}
}

// refreshKeys asks for keys that nobody asks for; a permanent error makes it ask one by one, since it may be that of one key.
func (e *enricher[T, K, V, R]) refreshKeys(ctx context.Context, keys []K) error {
	var own []K
	f := &flight[V]{landed: make(chan struct{})}
	e.flights.mu.Lock()
	for _, k := range keys {
		if _, ok := e.flights.under[k]; !ok {
			e.flights.under[k] = place[V]{f, len(own)}
			own = append(own, k)
		}
	}
	e.flights.mu.Unlock()
	if len(own) == 0 {
		return nil
	}
	e.rt.Count("refreshes", int64(len(own)))
	e.fly(ctx, f, own, false)
	if f.err == nil {
		return nil
	}
	if flow.IsTransient(f.err) || len(own) == 1 || ctx.Err() != nil {
		if !errors.Is(f.err, errOpen) {
			e.rt.Count("refresh_errors", 1)
		}
		return f.err
	}
	var err error
	for _, k := range own {
		if one := e.refreshKeys(ctx, []K{k}); one != nil {
			err = one
		}
	}
	return err
}

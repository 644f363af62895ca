package operators

import (
	"reflect"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"
)

// answer is what a lookup knows of a key.
type answer[V any] struct {
	v     V
	found bool
	// at is when it was found, in nanoseconds of the topology's clock.
	at  int64
	how freshness
}

// freshness says where an answer came from.
type freshness uint8

const (
	missing    freshness = iota // not in the cache: asked for
	fresh                       // in the cache
	negative                    // in the cache: the key is missing
	stale                       // in the cache, older than its ttl
	unanswered                  // the fallback's
)

// answers is the cache of a node.
type answers[K comparable, V any] struct {
	cache                      *otter.Cache[K, answer[V]]
	ttl, maxStale, negativeTTL int64
	// own makes a key that does not alias a payload.
	own func(K) K
}

func newAnswers[K comparable, V any](cfg *enrichConfig) *answers[K, V] {
	if cfg.size == 0 {
		return nil
	}
	// Age is judged here, by the topology's clock, and not by the cache.
	cache, err := otter.New(&otter.Options[K, answer[V]]{MaximumSize: cfg.size})
	if err != nil {
		cfg.Problem(err.Error(), "mend the cache's settings")
	}
	return &answers[K, V]{cache, int64(cfg.ttl), int64(cfg.maxStale), int64(cfg.negativeTTL), ownKey[K]()}
}

func (c *answers[K, V]) get(k K, now time.Time) (answer[V], freshness) {
	a, ok := c.cache.GetIfPresent(k)
	if !ok {
		return a, missing
	}
	age := now.UnixNano() - a.at
	switch {
	case !a.found && age < c.negativeTTL:
		return a, negative
	case !a.found:
	case age < c.ttl:
		return a, fresh
	case age-c.ttl < c.maxStale:
		return a, stale
	}
	return answer[V]{}, missing
}

func (c *answers[K, V]) put(k K, v V, found bool, now time.Time) {
	if !found && c.negativeTTL == 0 {
		c.cache.Invalidate(k) // it may have been there
		return
	}
	c.cache.Set(c.own(k), answer[V]{v: v, found: found, at: now.UnixNano()})
}

// ownKey copies keys that are strings.
func ownKey[K comparable]() func(K) K {
	if f, ok := any(strings.Clone).(func(K) K); ok {
		return f
	}
	if reflect.TypeFor[K]().Kind() == reflect.String {
		return func(k K) K {
			v := reflect.ValueOf(&k).Elem()
			v.SetString(strings.Clone(v.String()))
			return k
		}
	}
	return func(k K) K { return k }
}

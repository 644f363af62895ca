package operators

import (
	"context"

	"github.com/millrace-stream/millrace/flow"
)

// Lookup finds values by key, many at once. It is shared by all tasks and must be safe for concurrent use. It needs no type of this
// package: those of sources/lookup (Redis, SQL, files, HTTP) fit by their methods.
//
// A Lookup may also have
//
//	Get(key K) (V, bool)
//	Start(ctx context.Context, rt flow.Runtime) (stop func(), err error)
//
// Get says that it has its values in memory and answers without waiting: it is asked within the task. Start is called once per node
// before the first record, for what the lookup does by itself, such as reading a file again; stop waits for its end.
type Lookup[K comparable, V any] interface {
	// Lookup fills vals[i] and found[i] for keys[i]; both come zeroed, and what it fills must not change afterwards. Keys are distinct.
	// An error is that of the whole call: a transient one is tried again in place, a permanent one key by key, and is then that of the
	// records with that key. An error with a method RetryAfter() time.Duration says when to try again, within a minute.
	Lookup(ctx context.Context, keys []K, vals []V, found []bool) error
}

// inMemory is a Lookup that answers without waiting.
type inMemory[K comparable, V any] interface{ Get(key K) (V, bool) }

// starter is a Lookup that does something by itself.
type starter interface {
	Start(ctx context.Context, rt flow.Runtime) (stop func(), err error)
}

// Table is a Lookup in a map that does not change.
type Table[K comparable, V any] map[K]V

// Get answers without waiting.
func (t Table[K, V]) Get(key K) (V, bool) {
	v, ok := t[key]
	return v, ok
}

// Lookup implements Lookup.
func (t Table[K, V]) Lookup(_ context.Context, keys []K, vals []V, found []bool) error {
	for i, k := range keys {
		vals[i], found[i] = t[k]
	}
	return nil
}

// LookupFunc is a Lookup of one key at a time: a batch asks for its keys one after another, so raise Concurrency. It must return when
// ctx ends: a call that does not keeps its goroutine.
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

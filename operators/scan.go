package operators

import "github.com/millrace-stream/millrace/flow"

// Scan folds each key's records into a value of another type and emits the fold so far for every record: f(zero A, first record), then
// f(what was emitted last, record). Order, errors, state and what a crash does are those of Reduce.
func Scan[K comparable, T, A any](s flow.KeyedStream[K, T], name string, f func(acc A, v T) A, opts ...ReduceOption) flow.Stream[A] {
	return fold(s, name, "scan", f, nil, opts)
}

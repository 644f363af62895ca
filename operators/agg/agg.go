// Package agg holds the aggregates of windows and other keyed operators:
//
//   - of values: Count, Sum, Avg, StdDev, Variance, Min, Max, Histogram, Quantiles, Quantile;
//   - of records: First, Last, ArgMin, ArgMax, Largest, Smallest, Collect;
//   - over time: TimeWeightedAvg, Increase, Rate;
//   - of sets: Distinct, TopK;
//   - a user's own by Func, and several at once by Into.
//
// An aggregate is a value without data. The data live in its stores: flat chunks of memory addressed by slot, one store per
// task, in which nothing is copied when it grows and, where the accumulators hold no pointers, the garbage collector has
// nothing to follow. An aggregate with its own layout of memory implements Aggregate and Store and is then their equal.
package agg

import (
	"errors"

	"github.com/millrace-stream/millrace/flow"
)

// Slot is the number of an accumulator within a store.
type Slot = uint32

// BlockSize is how many slots are allocated and freed together.
const BlockSize = 16

// Aggregate folds many values of type T into one R. It is shared by all tasks, each of which makes a store of its own. The
// functions that it was made of must be pure and safe for concurrent use.
type Aggregate[T, R any] interface {
	NewStore() Store[T, R]
}

// Store holds accumulators by slot. It belongs to one task and is not safe for concurrent use. A slot is empty after
// AllocBlock; the result of an empty slot is the zero R, for Histogram its buckets without a count, for Func what its result function
// makes of a zero accumulator.
// Using a slot that is not allocated is a mistake of the caller: it may panic or spoil another slot.
type Store[T, R any] interface {
	// AllocBlock returns the first of BlockSize contiguous empty slots, a multiple of BlockSize. Freed blocks are reused.
	AllocBlock() Slot
	// FreeBlock empties the block and gives it back. The memory is kept for the next AllocBlock.
	FreeBlock(first Slot)
	// Empty empties one slot, which stays allocated.
	Empty(s Slot)
	// Add folds a record into a slot. It copies what it keeps.
	Add(s Slot, r *flow.Record[T])
	// AddBatch folds in[i] into slot s[i], in order. A slot may occur many times. It does the same as a loop over Add, faster.
	AddBatch(s []Slot, in []flow.Record[T])
	// Merge folds from into into, as if the elements of from had arrived behind those of into. It leaves from as it is: sliding
	// windows merge a slice into each window that it lies in.
	Merge(into, from Slot)
	// Result reads a slot. It does not change it.
	Result(s Slot) R
	// Append encodes slots to b, column by column, little endian and of fixed size where the types allow it. It panics when a
	// user's type cannot be encoded, which Check finds before the start.
	Append(b []byte, slots []Slot) []byte
	// Read decodes what Append wrote for the same number of slots into these, and returns the rest of b. Input that Append did
	// not write is an error, after which the slots hold anything.
	Read(b []byte, slots []Slot) ([]byte, error)
	// Fingerprint names the aggregate and its encoding. It changes when Read could no longer read what Append wrote.
	Fingerprint() string
}

// Number is what can be summed. Named types (time.Duration) are numbers too.
type Number interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr | ~float32 | ~float64
}

// Check reports what would go wrong when a is used: a nil function, or an accumulator that cannot be encoded. Operators call
// it when the topology is built, so that Validate can say it.
func Check[T, R any](a Aggregate[T, R]) error {
	if a == nil {
		return errors.New("aggregate is nil: use one of package agg")
	}
	if c, ok := a.(checker); ok {
		return c.check()
	}
	return nil
}

type checker interface{ check() error }

// errRead says that the bytes are not what Append wrote.
var errRead = errors.New("aggregate: stored accumulators are damaged or were written by another aggregate")

func nilFunc(what string) error {
	return errors.New(what + " is nil: give a function")
}

// Package state is the interface between the engine and the store that makes its state durable.
//
// A store is an ordered map from bytes to bytes with atomic, synced batches. What keys mean is the engine's business.
package state

import "errors"

// ErrLocked says that another process, or another topology of this one, holds the store. The error that wraps it names the pid.
var ErrLocked = errors.New("store is locked")

// Store opens the database of one topology.
type Store interface {
	// Open opens the database of the named topology and locks it: a second Open, from whatever process, is an ErrLocked until
	// Close. Transient errors (flow.Transient) do not exist here: what cannot be opened stops the topology.
	Open(topology string) (DB, error)
	// Durable tells whether what was committed is still there after a crash of the process.
	Durable() bool
}

// DB is an open database. Reads and NewBatch are safe for concurrent use; batches are committed by one goroutine.
type DB interface {
	// Get returns a copy of the value, and false if there is none.
	Get(key []byte) ([]byte, bool, error)
	// Scan calls f for every key in [lo, hi), in order; hi nil means to the end. Key and value are valid during the call only. An
	// error of f ends the scan and is returned.
	Scan(lo, hi []byte, f func(key, value []byte) error) error
	NewBatch() Batch
	// Close closes the database and releases the lock.
	Close() error
}

// Batch is a set of changes, applied in order, all or none.
type Batch interface {
	// Put, Delete and DeleteRange ([lo, hi)) copy their arguments.
	Put(key, value []byte)
	Delete(key []byte)
	DeleteRange(lo, hi []byte)
	// Commit applies the batch. It returns when the changes are on disk and synced. An error is final for this batch: nothing of
	// it is there, and the same changes may be put in a new one (full disk).
	Commit() error
	// Close releases the batch, committed or not.
	Close() error
}

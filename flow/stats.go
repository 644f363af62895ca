package flow

import (
	"math/rand/v2"
	"sync/atomic"

	"github.com/fxamacker/cbor/v2"
)

// nodeStats are a node's counters over all its tasks, added to once per batch.
type nodeStats struct {
	in, out, errors, retries, dropped, deadLetters atomic.Int64
}

func jitter(n uint64) uint64 {
	if n == 0 {
		return 0
	}
	return rand.Uint64N(n)
}

func encodeValue(v any) ([]byte, error) { return cbor.Marshal(v) }

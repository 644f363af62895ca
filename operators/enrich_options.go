package operators

import (
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
)

// EnrichOption configures Enrich. Options other than Capacity's have no meaning for a lookup in memory.
type EnrichOption func(flow.Configurable)

type enrichConfig struct {
	flow.AsyncConfig
	timeout       time.Duration
	ttl, maxStale time.Duration
	negativeTTL   time.Duration
	negativeSet   bool
	size          int
	attempts      int
	fallback      any
	failures      int
	pause         time.Duration
}

func (c *enrichConfig) check() {
	if c.timeout <= 0 {
		c.Problem("the timeout is not positive", "leave Timeout out for 10 s")
	}
	if c.size == 0 && (c.negativeSet || c.maxStale > 0) {
		c.Problem("NegativeTTL or StaleFor without a Cache", "add Cache, or take them off")
	}
	if c.attempts > 0 && c.fallback == nil {
		c.Problem("Attempts without a Fallback", "add Fallback or FallbackValue; without one a lookup is tried until it answers")
	}
	if c.attempts == 0 {
		c.attempts = 3
	}
	if !c.negativeSet {
		c.negativeTTL = c.ttl
	}
}

// Cache keeps answers for ttl after they were found, at most size of them: beyond it, those that are less likely to be asked for again
// make room. Answers that are too old are kept until then. Without it every record asks. It is shared by the node's tasks.
func Cache(ttl time.Duration, size int) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) {
		c.ttl, c.size = ttl, size
		if ttl <= 0 || size < 1 {
			c.Problem("the cache's ttl and size must be positive", "leave Cache out to have none")
		}
	})
}

// NegativeTTL is how long the cache keeps that a key is missing: short, if keys are added while records with them come already; 0 keeps
// none, so that each record of a missing key asks. Defaults to the ttl of the Cache.
func NegativeTTL(ttl time.Duration) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) {
		c.negativeTTL, c.negativeSet = ttl, true
		if ttl < 0 {
			c.Problem("NegativeTTL is negative", "give 0 to keep no missing keys")
		}
	})
}

// StaleFor lets the cache answer with a value that is up to d older than its ttl, while the key is asked for again in the background, by
// one call at a time. So a record does not wait for a key that is known, and an outage of the lookup is bridged for ttl + d. Missing
// keys are not answered so. Defaults to 0: a value older than its ttl is asked for while the record waits.
func StaleFor(d time.Duration) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) {
		c.maxStale = d
		if d <= 0 {
			c.Problem("StaleFor is not positive", "leave it out")
		}
	})
}

// Fallback answers for a key when its lookup fails for good: by a permanent error, by Attempts transient errors or timeouts, or at once
// while a CircuitBreaker is open. cause is that failure. found goes to join with v; an error is the record's, as one of join would be.
// What f answers is not cached. Without a fallback the lookup is tried until it answers, and a permanent error is the record's.
func Fallback[K comparable, V any](f func(key K, cause error) (v V, found bool, err error)) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) {
		c.fallback = f
		if f == nil {
			c.Problem("the fallback function is nil", "leave Fallback out")
		}
	})
}

// FallbackValue is Fallback with one value for all keys, as found.
func FallbackValue[V any](v V) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) { c.fallback = fallbackValue[V]{v} })
}

type fallbackValue[V any] struct{ v V }

// Attempts is how often a lookup that fails by transient errors or timeouts is tried before the Fallback answers. Defaults to 3.
func Attempts(n int) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) {
		c.attempts = n
		if n < 1 {
			c.Problem("Attempts is less than 1", "leave it out for 3")
		}
	})
}

// CircuitBreaker stops calling a lookup after that many transient failures (timeouts included) in a row. It is open then: for the pause
// nothing calls; then one call goes as a probe, whose success closes it and whose failure opens it for another pause. While it is open
// records get their Fallback at once, or wait where there is none: nothing is lost, and the node fills up to its Capacity. It is shared
// by the node's tasks. Defaults to none.
func CircuitBreaker(failures int, pause time.Duration) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) {
		c.failures, c.pause = failures, pause
		if failures < 1 || pause <= 0 {
			c.Problem("the circuit breaker's failures and pause must be positive", "leave CircuitBreaker out to have none")
		}
	})
}

// Unordered lets records go on as soon as their answers are there: a slow key does not hold up the others. Watermarks wait for all
// records before them, so that none becomes late; the order of one key's records is lost. Defaults to order of arrival.
func Unordered() EnrichOption {
	return flow.SetOption(func(c *enrichConfig) { c.Unordered = true })
}

// Capacity is how many records may wait for answers per task. At it the task takes no more: backpressure. Defaults to 1,024.
func Capacity(n int) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) { c.Capacity = n })
}

// Concurrency is how many lookups are under way per task. Defaults to 4.
func Concurrency(n int) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) { c.Concurrency = n })
}

// LookupBatch is the most records that one lookup asks for. Defaults to 128.
func LookupBatch(n int) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) { c.BatchSize = n })
}

// Timeout bounds one lookup; what takes longer is a transient failure. Defaults to 10 s.
func Timeout(d time.Duration) EnrichOption {
	return flow.SetOption(func(c *enrichConfig) { c.timeout = d })
}

// WaitingCodec sets how records that wait for an answer are stored with an epoch. Defaults to CBOR by field name.
func WaitingCodec[T any](c codec.Codec[T]) EnrichOption {
	return flow.SetOption(func(cfg *enrichConfig) { cfg.Codec = c })
}

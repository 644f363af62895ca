package cep

import (
	"fmt"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/operators/internal/nfa"
)

// Option configures operators.CEP.
type Option func(flow.Configurable)

// Config is what options fill. It is for the operator.
type Config struct {
	flow.NodeConfig
	// PerKey and Total bound partial matches, of a key and of a task.
	PerKey, Total int
	Full          nfa.Full
	// Waiting bounds the events of a task that wait for the watermark.
	Waiting int
	// Clock takes processing time instead of event time.
	Clock bool
	// Codec is a codec.Codec[T], Order a func(a, b T) int, Traces are Tracing[K, T]; nil where not set.
	Codec, Order any
	Traces       []any
	Version      string
}

// DefaultPerKey and the others are the limits that hold where no option says otherwise.
const (
	DefaultPerKey  = 1_000
	DefaultTotal   = 1_000_000
	DefaultWaiting = 10_000_000
)

// Policy says what happens at a limit of partial matches.
type Policy struct{ full nfa.Full }

// DropOldest ends the partial match that began first. It is counted (partials_dropped).
func DropOldest() Policy { return Policy{nfa.DropOldest} }

// RefuseNew keeps what there is: of each partial match one goes on, and what an event would add is not begun. It is counted (partials_dropped).
func RefuseNew() Policy { return Policy{nfa.RefuseStarts} }

// FailWhenFull stops the topology with an error that names the limit.
func FailWhenFull() Policy { return Policy{nfa.Fail} }

// MaxPartials bounds the partial matches of a key, and says what happens at the limit. Defaults to 1,000 and DropOldest: with FollowedByAny or
// AllowCombinations their number can double with each event.
func MaxPartials(perKey int, at Policy) Option {
	return flow.SetOption(func(c *Config) {
		c.PerKey, c.Full = perKey, at.full
		if perKey <= 0 {
			c.Problem(fmt.Sprintf("%d partial matches per key at most", perKey), "give 1 or more")
		}
	})
}

// MaxTotal bounds the partial matches of all keys of a task, with the policy of MaxPartials; DropOldest drops those of the key in work.
// Defaults to 1,000,000.
func MaxTotal(n int) Option {
	return flow.SetOption(func(c *Config) {
		c.Total = n
		if n <= 0 {
			c.Problem(fmt.Sprintf("%d partial matches at most", n), "give 1 or more")
		}
	})
}

// MaxWaiting bounds the events of a task that wait for the watermark to reach them; those that can change nothing do not wait. What comes above goes to Late with the reason, and is
// counted (over_limit). Defaults to 10,000,000.
func MaxWaiting(n int) Option {
	return flow.SetOption(func(c *Config) {
		c.Waiting = n
		if n <= 0 {
			c.Problem(fmt.Sprintf("%d waiting events at most", n), "give 1 or more")
		}
	})
}

// ProcessingTime takes events as they come, at the time of the clock; the input needs no event time. Matches then depend on when events
// arrive, and a replay after a crash may find others.
func ProcessingTime() Option { return flow.SetOption(func(c *Config) { c.Clock = true }) }

// OrderBy orders events of equal times; those it finds equal stay in order of arrival. Defaults to order of arrival.
func OrderBy[T any](order func(a, b T) int) Option {
	return flow.SetOption(func(c *Config) {
		if c.Order = order; order == nil {
			c.Order = nil
			c.Problem("the function of cep.OrderBy is nil", "pass one like cmp.Compare")
		}
	})
}

// EventCodec sets how events are stored that wait or are part of a partial match. Defaults to columns for types of numbers, strings, times,
// arrays and structs of them, and to CBOR by field name for others.
func EventCodec[T any](c codec.Codec[T]) Option {
	return flow.SetOption(func(cfg *Config) { cfg.Codec = c })
}

// Version names the pattern in its state: partial matches stored under another version are refused at start, with the cure. Change it when
// conditions change their meaning, which the structure of the pattern does not show.
func Version(v string) Option { return flow.SetOption(func(c *Config) { c.Version = v }) }

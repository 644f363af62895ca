// Package cep holds three chains of complex event processing, ready to use and to read: machines that overheat (Overheat), devices that go
// silent and come back (Offline), and items that miss a step of a production line (Line).
//
// Each is an ordinary function from a keyed stream of any record type to its results, so it fits into a topology of yours; and each has
// a topology around it, from a source to sinks (OverheatTopology, OfflineTopology, LineTopology). The patterns alone are there too, to be
// drawn (Explain), changed and used with operators.CEP. docs/topologies/cep.md shows them with pictures.
//
// The package shares its name with operators/cep, the vocabulary of patterns: import it under a name like chains.
package cep

import (
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/watermark"
	"github.com/millrace-stream/millrace/operators"
)

// TimeConfig says how event time is understood by the topologies.
type TimeConfig struct {
	// OutOfOrderness is how far an event may lie behind the latest one of its partition without being late. Defaults to 10 s.
	OutOfOrderness time.Duration `yaml:"out_of_orderness"`
	// IdleAfter is how long a partition must be without events to hold the others back no longer. Defaults to 30 s.
	IdleAfter time.Duration `yaml:"idle_after"`
}

// timed gives events their time.
func timed[T any](s flow.Stream[T], at func(T) time.Time, cfg TimeConfig) flow.Stream[T] {
	return flow.AssignTime(s, "event-time", at,
		watermark.BoundedOutOfOrderness(or(cfg.OutOfOrderness, 10*time.Second)).IdleAfter(or(cfg.IdleAfter, 30*time.Second)))
}

// fresh drops events that a broker has delivered before: those of one key and one moment. It remembers them for as long as a pattern may
// take, and as they may be late.
func fresh[T any](s flow.KeyedStream[string, T], at func(T) time.Time, within time.Duration, cfg TimeConfig) flow.KeyedStream[string, T] {
	moment := func(v T) int64 { return at(v).UnixNano() }
	return operators.Dedup(s, "fresh", moment, within+or(cfg.OutOfOrderness, 10*time.Second))
}

// or is v, or the default where v is zero.
func or[V comparable](v, otherwise V) V {
	var zero V
	if v == zero {
		return otherwise
	}
	return v
}

// moment is a time as alarms tell it.
func moment(t flow.Timestamp) time.Time { return t.Time().UTC() }

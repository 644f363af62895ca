package operators

import (
	"cmp"
	"context"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/cep"
)

// Matched is the result of CEP: a stream of what was made of matches, with two side outputs.
type Matched[K comparable, T, R any] struct {
	flow.Stream[R]
	timedOut flow.Stream[cep.Match[K, T]]
	late     flow.Stream[flow.Late[T]]
}

// TimedOut is the stream of partial matches whose time was up, with what they had.
func (m Matched[K, T, R]) TimedOut() flow.Stream[cep.Match[K, T]] { return m.timedOut }

// Late is the stream of events that came when the watermark had reached their time. Unconnected, they are counted (late) and dropped.
func (m Matched[K, T, R]) Late() flow.Stream[flow.Late[T]] { return m.late }

// CEP finds the matches of a pattern in the events of each key, and calls f for each: see package cep for patterns. The rules are those of
// Apache Flink, case by case, as far as docs/operators/cep.md does not say otherwise.
//
// Order: events wait until the watermark reaches their time, and are then taken in order of time, equal times in order of arrival (or of
// cep.OrderBy). Matches of a key come in order of the time at which they are complete; those of different keys as events follow each other
// in time. The time of a result is that of the match.
//
// State: each waiting event, written once to a log by stretches of a second; and per key with partial matches those, with the events that they
// have taken, each kept once however many share it. A key without partial matches has no state. cep.MaxPartials, MaxTotal and MaxWaiting
// bound it; a pattern without Within, whose last steps never come, keeps partial matches until they are pushed out there. Checkpoints
// write the keys whose partial matches have changed.
//
// A crash rolls back to the last epoch, sources included, so matches are those of a run without it; those of the replayed part are emitted
// again.
//
// Errors: f that fails for good, and conditions that panic, stop the topology, since time, and no record, has called them; a transient
// error of f is tried again, and nothing is lost. With cep.ProcessingTime the record that completed the match takes the blame. So does an event
// at which a condition panics that is asked when it comes: where all conditions ask the event alone.
//
// Where nothing but CEP stands behind the KeyBy, the key of an event that no step can take is not asked for.
func CEP[K comparable, T, R any](s flow.KeyedStream[K, T], name string, p cep.Pattern[T], f func(ctx context.Context, m cep.Match[K, T]) (R, error), opts ...cep.Option) Matched[K, T, R] {
	prog, problems := p.Compile()
	b := configurePatterns(s, name, []program[T]{{prog: prog, inForce: true}}, problems, f, opts)
	if prog != nil {
		b.cfg.Traits.Horizon = prog.Within()
	}
	if b.cfg.Clock {
		out := flow.ApplyKeyed[K, T, R](s, name, func() *clockPatterns[K, T, R] { return &clockPatterns[K, T, R]{p: b.make()} }, flow.With(b.cfg))
		return Matched[K, T, R]{out, b.almost, b.late}
	}
	return Matched[K, T, R]{flow.ApplyKeyed[K, T, R](s, name, b.make, flow.With(b.cfg)), b.almost, b.late}
}

// byTime orders waiting events.
func byTime[T any](values []T, order func(a, b T) int) func(a, b turn) int {
	return func(a, b turn) int {
		if c := cmp.Compare(a.at, b.at); c != 0 {
			return c
		}
		if order != nil {
			if c := order(values[a.value], values[b.value]); c != 0 {
				return c
			}
		}
		return cmp.Compare(a.i, b.i)
	}
}

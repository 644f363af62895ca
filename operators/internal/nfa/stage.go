// Package nfa runs patterns over the events of one key as a non-deterministic automaton: what operators.CEP is made of. The meaning of
// patterns is Apache Flink's, with stages that it does not have.
package nfa

import (
	"time"

	"github.com/millrace-stream/millrace/flow"
)

// Kind is what a stage of a pattern is.
type Kind uint8

// Kinds of stages.
const (
	// Single takes an event that meets a condition.
	Single Kind = iota
	// Group is a sequence of stages.
	Group
	// AllOf takes one event for each of its stages, in any order.
	AllOf
	// AnyOf takes one event for one of its stages.
	AnyOf
	// Absence lets time go by in which no event meets a condition.
	Absence
)

// Link is the contiguity of a stage to the one before, or of a repetition to the one before.
type Link uint8

// Kinds of contiguity.
const (
	// Relaxed skips events that do not fit.
	Relaxed Link = iota
	// Strict skips none.
	Strict
	// AnySkip skips those that fit, too.
	AnySkip
	// NotNext: the very next event must not fit.
	NotNext
	// NotFollowed: no event may fit until the following stage takes its first.
	NotFollowed
)

// Stage is one stage of a pattern.
type Stage[T any] struct {
	Name string
	Kind Kind
	Link Link
	// Where and Until are conditions; nil Where fits every event, nil Until none.
	Where, Until *Condition[T]
	// Min and Max are set with Repeats; Max 0 has no bound.
	Repeats  bool
	Min, Max int
	Inner    Link
	Greedy   bool
	Optional bool
	// Gap bounds the time between two repetitions, Bound that since the event before the stage; 0 does not.
	Gap, Bound time.Duration
	// Wait is how long an absence lasts.
	Wait time.Duration
	// Stages are those of a group, AllOf or AnyOf.
	Stages []Stage[T]
}

// Condition is asked of an event: either by the event alone, or also by what was taken so far.
type Condition[T any] struct {
	Is    func(T) bool
	Given func(v T, sofar *Taken[T]) bool
}

// Skip is what a match removes.
type Skip uint8

// Strategies after a match.
const (
	SkipNone Skip = iota
	SkipToNext
	SkipPastLast
	SkipToFirst
	SkipToLast
)

// Full is what happens when there are more partial matches than may be.
type Full uint8

// Policies at a limit.
const (
	DropOldest Full = iota
	RefuseStarts
	Fail
)

// Pattern is a complete pattern.
type Pattern[T any] struct {
	Stages []Stage[T]
	// Within bounds the time from the first event to the last, 0 does not.
	Within time.Duration
	Skip   Skip
	// Target is the stage of SkipToFirst and SkipToLast; Strict makes a match without it an error.
	Target string
	Strict bool
}

// Event is an event that was taken.
type Event[T any] struct {
	At    flow.Timestamp
	seq   uint64
	Value T
}

// id orders the events of a key.
type id struct {
	at  flow.Timestamp
	seq uint64
}

func (a id) less(b id) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

// link is one event of a partial match, with those before it, which partial matches share.
type link[T any] struct {
	ev    *Event[T]
	prev  *link[T]
	stage int32
	depth int32
}

// Taken are the events that a partial match has taken so far.
type Taken[T any] struct {
	m    *Machine[T]
	last *link[T]
}

// Of calls yield for the events that a stage has taken, in order.
func (t *Taken[T]) Of(stage string) func(yield func(T) bool) {
	return func(yield func(T) bool) { t.each(t.last, t.m.stageNamed(stage), yield) }
}

func (t *Taken[T]) each(l *link[T], stage int32, yield func(T) bool) bool {
	if l == nil {
		return true
	}
	return t.each(l.prev, stage, yield) && (l.stage != stage || yield(l.ev.Value))
}

// Last is the last event that a stage has taken.
func (t *Taken[T]) Last(stage string) (v T, ok bool) {
	want := t.m.stageNamed(stage)
	for l := t.last; l != nil; l = l.prev {
		if l.stage == want {
			return l.ev.Value, true
		}
	}
	return v, false
}

// Count is how many events a stage has taken.
func (t *Taken[T]) Count(stage string) (n int) {
	want := t.m.stageNamed(stage)
	for l := t.last; l != nil; l = l.prev {
		if l.stage == want {
			n++
		}
	}
	return n
}

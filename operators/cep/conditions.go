package cep

import (
	"fmt"
	"time"

	"github.com/millrace-stream/millrace/operators/internal/nfa"
)

// Taken are the events that a partial match has taken so far, by step.
type Taken[T any] = nfa.Taken[T]

// Where takes events that fit. Several Where must all hold. A step without takes every event. A condition must depend on the event alone,
// and is asked at most once per event and pattern.
func Where[T any](is func(v T) bool) StepOption[T] {
	return func(s *Step) { s.where = append(s.where, checked(s, "Where", is != nil, &nfa.Condition[T]{Is: is})) }
}

// WhereGiven takes events that fit what the partial match has taken so far: it is asked of each partial match.
func WhereGiven[T any](is func(v T, sofar *Taken[T]) bool) StepOption[T] {
	return func(s *Step) {
		s.where = append(s.where, checked(s, "WhereGiven", is != nil, &nfa.Condition[T]{Given: is}))
	}
}

// Or takes events, too, that do not meet the conditions of Where and WhereGiven but this one.
func Or[T any](is func(v T) bool) StepOption[T] {
	return func(s *Step) { s.or = append(s.or, checked(s, "Or", is != nil, &nfa.Condition[T]{Is: is})) }
}

// As takes events of an interface type T that are a V, and meet a condition, which may be nil.
func As[T, V any](is func(v V) bool) StepOption[T] {
	return func(s *Step) {
		s.where = append(s.where, &nfa.Condition[T]{Is: func(v T) bool {
			narrow, ok := any(v).(V)
			return ok && (is == nil || is(narrow))
		}})
	}
}

// Until ends a repetition without bound at an event that fits, which it neither takes nor skips.
func Until[T any](is func(v T) bool) StepOption[T] {
	return func(s *Step) { s.until = append(s.until, checked(s, "Until", is != nil, &nfa.Condition[T]{Is: is})) }
}

// UntilGiven is Until with a condition on what the partial match has taken so far.
func UntilGiven[T any](is func(v T, sofar *Taken[T]) bool) StepOption[T] {
	return func(s *Step) {
		s.until = append(s.until, checked(s, "UntilGiven", is != nil, &nfa.Condition[T]{Given: is}))
	}
}

func checked[T any](s *Step, name string, ok bool, c *nfa.Condition[T]) *nfa.Condition[T] {
	if !ok {
		s.problem(fmt.Sprintf("the function of %s is nil", name), "pass a function of the event")
	}
	return c
}

// condition makes one condition of those that must all hold, or else one of the others. All are of T: the options are typed.
func condition[T any](all, or []any) *nfa.Condition[T] {
	if len(all)+len(or) == 0 {
		return nil
	}
	var c *nfa.Condition[T]
	for _, a := range all {
		c = join(c, a.(*nfa.Condition[T]), true)
	}
	for _, a := range or {
		c = join(c, a.(*nfa.Condition[T]), false)
	}
	if len(all)+len(or) == 1 {
		return &nfa.Condition[T]{Is: c.Is, Given: c.Given}
	}
	return c
}

func join[T any](a, b *nfa.Condition[T], and bool) *nfa.Condition[T] {
	if a == nil {
		return b
	}
	if a.Given == nil && b.Given == nil {
		left, right := a.Is, b.Is
		if and {
			return &nfa.Condition[T]{Is: func(v T) bool { return left(v) && right(v) }}
		}
		return &nfa.Condition[T]{Is: func(v T) bool { return left(v) || right(v) }}
	}
	left, right := given(a), given(b)
	if and {
		return &nfa.Condition[T]{Given: func(v T, sofar *Taken[T]) bool { return left(v, sofar) && right(v, sofar) }}
	}
	return &nfa.Condition[T]{Given: func(v T, sofar *Taken[T]) bool { return left(v, sofar) || right(v, sofar) }}
}

func given[T any](c *nfa.Condition[T]) func(T, *Taken[T]) bool {
	if c.Given != nil {
		return c.Given
	}
	is := c.Is
	return func(v T, _ *Taken[T]) bool { return is(v) }
}

// Times makes a step come n times; 0 times or more than n is Range.
func Times(n int) Quantifier { return Range(n, n) }

// Range makes a step come min to max times: each number of times reached goes on to the next step. With min 0 it may be left out.
func Range(from, to int) Quantifier {
	return func(s *Step) {
		switch {
		case from < 0 || to < 1:
			s.problem(fmt.Sprintf("%d to %d times", from, to), "give positive numbers; cep.Range(0, n) may be left out")
		case to < from:
			s.problem(fmt.Sprintf("%d to %d times", from, to), "give the smaller number first")
		}
		s.times(from, to)
	}
}

// OneOrMore makes a step come once or more often: each number of times reached goes on to the next step.
func OneOrMore() Quantifier { return TimesOrMore(1) }

// TimesOrMore makes a step come n times or more often.
func TimesOrMore(n int) Quantifier {
	return func(s *Step) {
		if n < 1 {
			s.problem(fmt.Sprintf("%d times or more", n), "give a positive number; add cep.Optional where none at all will do")
		}
		s.times(n, 0)
	}
}

func (s *Step) times(from, to int) {
	if s.repeats {
		s.problem("two quantifiers", "keep one of Times, Range, OneOrMore, TimesOrMore")
	}
	if from <= 0 {
		s.optional, from = true, 1
	}
	s.repeats, s.min, s.max = true, from, to
}

// Optional lets a step be left out.
func Optional() Quantifier { return func(s *Step) { s.optional = true } }

// Greedy makes a repetition take as many as it can: an event that fits it cannot be used to go on to the next step.
func Greedy() Quantifier { return func(s *Step) { s.greedy = true } }

// Consecutive ends a repetition at the first event that does not fit. Without it, such events are skipped.
func Consecutive() Quantifier {
	return func(s *Step) { s.inner = append(s.inner, "Consecutive") }
}

// AllowCombinations lets a repetition skip events that fit, too.
func AllowCombinations() Quantifier {
	return func(s *Step) { s.inner = append(s.inner, "AllowCombinations") }
}

// Gap bounds the time from one repetition to the next: a partial match ends when time reaches the event before + d.
func Gap(d time.Duration) Quantifier {
	return func(s *Step) {
		if s.gap = d; d <= 0 {
			s.problem(fmt.Sprintf("Gap(%v)", d), "give a positive duration")
		}
	}
}

// WithinPrevious bounds the time from the event before to the step's: a partial match ends when time reaches that event + d. A step that
// repeats is bounded by Gap.
func WithinPrevious(d time.Duration) Quantifier {
	return func(s *Step) {
		if s.bound = d; d <= 0 {
			s.problem(fmt.Sprintf("WithinPrevious(%v)", d), "give a positive duration")
		}
	}
}

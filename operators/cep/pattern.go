// Package cep is the vocabulary of operators.CEP: patterns over the events of a key, in order of event time. What they mean is what they mean
// in Apache Flink's CEP library, computed case by case, with steps that it does not have: timed absence, and steps in any order.
package cep

import (
	"fmt"
	"slices"
	"time"

	"github.com/millrace-stream/millrace/operators/internal/nfa"
)

// Pattern is a sequence of steps that events of one key may go through. It is a value: each method returns a longer one, and what is wrong
// with it is reported, all of it at once, when the operator is built (see Problems).
//
// A partial match begins with each event that fits the first step, and a pattern finds all its matches: an event may be part of many.
// AfterMatch says which of them are left out, Within how long one may take.
type Pattern[T any] struct {
	p        nfa.Pattern[T]
	problems []problem
}

type problem struct{ what, cure string }

// StepOption configures a step of events of type T: its conditions.
type StepOption[T any] func(*Step)

// Quantifier configures a step or a group of any type: how often it comes.
type Quantifier = func(*Step)

// Step is what options fill.
type Step struct {
	where, or, until []any
	repeats          bool
	min, max         int
	inner            []string
	greedy           bool
	optional         bool
	gap, bound       time.Duration
	problems         []problem
}

func (s *Step) problem(what, cure string) { s.problems = append(s.problems, problem{what, cure}) }

// Begin starts a pattern with a step.
func Begin[T any](name string, opts ...StepOption[T]) Pattern[T] {
	return Pattern[T]{}.step(name, nfa.Strict, nfa.Single, opts)
}

// BeginGroup starts a pattern with a group.
func BeginGroup[T any](g Pattern[T], q ...Quantifier) Pattern[T] {
	return Pattern[T]{}.group(g, nfa.Strict, q)
}

// BeginAbsent starts a pattern with the absence of events that fit: it holds when d has gone by since the last one that did, for each
// key that had one, without any further event. It holds once until the next event that fits. Event times end it when the watermark
// reaches them. A partial match begins at that moment.
func BeginAbsent[T any](name string, d time.Duration, opts ...StepOption[T]) Pattern[T] {
	return Pattern[T]{}.absent(name, d, opts)
}

// AllOf takes one event for each of its steps, in any order. The steps are patterns of one step each, without quantifiers; an event that
// fits several of them is taken as each. Events that fit none of those still to come are skipped. It is a pattern by itself, or a group
// in another (FollowedByGroup).
func AllOf[T any](steps ...Pattern[T]) Pattern[T] { return choice("AllOf", nfa.AllOf, steps) }

// AnyOf takes one event that fits one of its steps.
func AnyOf[T any](steps ...Pattern[T]) Pattern[T] { return choice("AnyOf", nfa.AnyOf, steps) }

// maxChoice bounds AllOf, which has a state for each set of its steps.
const maxChoice = 10

func choice[T any](kind string, k nfa.Kind, steps []Pattern[T]) (p Pattern[T]) {
	all := nfa.Stage[T]{Kind: k}
	for _, s := range steps {
		p.problems = append(p.problems, s.problems...)
		if len(s.p.Stages) != 1 || s.p.Stages[0].Kind != nfa.Single || s.p.Stages[0].Repeats || s.p.Stages[0].Optional || s.p.Stages[0].Bound != 0 || s.p.Within != 0 {
			p.problem(kind+" takes steps without quantifiers, each as a pattern of its own, like cep.Begin(name, cep.Where(…))", "put quantifiers on the group that it is in")
			continue
		}
		all.Stages = append(all.Stages, s.p.Stages[0])
	}
	if n := len(steps); n == 0 || k == nfa.AllOf && n > maxChoice {
		p.problem(fmt.Sprintf("%s of %d steps", kind, n), fmt.Sprintf("give 1 to %d", maxChoice))
		all.Stages = nil
	}
	p.p.Stages = append(p.p.Stages, all)
	return p
}

// Next adds a step that takes the very next event, or the partial match ends.
func (p Pattern[T]) Next(name string, opts ...StepOption[T]) Pattern[T] {
	return p.step(name, nfa.Strict, nfa.Single, opts)
}

// FollowedBy adds a step that takes the next event that fits; others are skipped.
func (p Pattern[T]) FollowedBy(name string, opts ...StepOption[T]) Pattern[T] {
	return p.step(name, nfa.Relaxed, nfa.Single, opts)
}

// FollowedByAny adds a step that takes each later event that fits, in a partial match of its own.
func (p Pattern[T]) FollowedByAny(name string, opts ...StepOption[T]) Pattern[T] {
	return p.step(name, nfa.AnySkip, nfa.Single, opts)
}

// NotNext demands that the very next event does not fit.
func (p Pattern[T]) NotNext(name string, opts ...StepOption[T]) Pattern[T] {
	return p.step(name, nfa.NotNext, nfa.Single, opts)
}

// NotFollowedBy demands that no event fits until the step behind it takes its first. At the end of a pattern it needs Within, and matches
// when that time is up.
func (p Pattern[T]) NotFollowedBy(name string, opts ...StepOption[T]) Pattern[T] {
	return p.step(name, nfa.NotFollowed, nfa.Single, opts)
}

// NextGroup adds a group whose first step is as in Next. A group repeats as a whole.
func (p Pattern[T]) NextGroup(g Pattern[T], q ...Quantifier) Pattern[T] {
	return p.group(g, nfa.Strict, q)
}

// FollowedByGroup adds a group whose first step is as in FollowedBy.
func (p Pattern[T]) FollowedByGroup(g Pattern[T], q ...Quantifier) Pattern[T] {
	return p.group(g, nfa.Relaxed, q)
}

// FollowedByAnyGroup adds a group whose first step is as in FollowedByAny.
func (p Pattern[T]) FollowedByAnyGroup(g Pattern[T], q ...Quantifier) Pattern[T] {
	return p.group(g, nfa.AnySkip, q)
}

// Absent adds a stretch of d since the event before, or since the absence before, in which no event fits; one that does ends the partial
// match. An event at its very end comes too late to. At the end of a pattern the match comes at that moment, without any further event.
func (p Pattern[T]) Absent(name string, d time.Duration, opts ...StepOption[T]) Pattern[T] {
	return p.absent(name, d, opts)
}

// Within bounds the time from the first event to the last: a partial match ends, and goes to TimedOut, when time reaches its first event + d,
// so that an event exactly there comes too late.
func (p Pattern[T]) Within(d time.Duration) Pattern[T] {
	p = p.clone()
	p.p.Within = d
	if d <= 0 {
		p.problem(fmt.Sprintf("Within(%v)", d), "give a positive duration")
	}
	return p
}

// AfterMatch says what a match removes. Defaults to NoSkip.
func (p Pattern[T]) AfterMatch(s Skip) Pattern[T] {
	p = p.clone()
	p.p.Skip, p.p.Target, p.p.Strict = s.how, s.step, s.strict
	return p
}

// Skip is what a match removes. With any but NoSkip, matches come in order of their first event: one that is finished waits while a partial
// match that began before it is alive.
type Skip struct {
	how    nfa.Skip
	step   string
	strict bool
}

// NoSkip removes nothing: every match there is comes out.
func NoSkip() Skip { return Skip{} }

// SkipToNext removes partial and finished matches that begin with the match's first event.
func SkipToNext() Skip { return Skip{how: nfa.SkipToNext} }

// SkipPastLast removes those that began at or before the match's last event.
func SkipPastLast() Skip { return Skip{how: nfa.SkipPastLast} }

// SkipToFirst removes those that began before the first event that the match took as a step. Where it took none, nothing is removed.
func SkipToFirst(step string) Skip { return Skip{how: nfa.SkipToFirst, step: step} }

// SkipToLast removes those that began before the last event that the match took as a step.
func SkipToLast(step string) Skip { return Skip{how: nfa.SkipToLast, step: step} }

// OrFail makes a match an error, which stops the topology, that has no event of the step to skip to, or whose first event it is.
func (s Skip) OrFail() Skip { s.strict = true; return s }

func (p Pattern[T]) clone() Pattern[T] {
	p.p.Stages, p.problems = slices.Clip(p.p.Stages), slices.Clip(p.problems)
	return p
}

func (p *Pattern[T]) problem(what, cure string) { p.problems = append(p.problems, problem{what, cure}) }

func (p Pattern[T]) step(name string, link nfa.Link, kind nfa.Kind, opts []StepOption[T]) Pattern[T] {
	q := make([]Quantifier, len(opts))
	for i, o := range opts {
		q[i] = o
	}
	return p.add(nfa.Stage[T]{Name: name, Kind: kind, Link: link}, q)
}

func (p Pattern[T]) absent(name string, d time.Duration, opts []StepOption[T]) Pattern[T] {
	p = p.step(name, nfa.Relaxed, nfa.Absence, opts)
	s := &p.p.Stages[len(p.p.Stages)-1]
	s.Wait = d
	if d <= 0 {
		p.problem(fmt.Sprintf("step %q: an absence of %v", name, d), "give a positive duration")
	}
	if s.Repeats || s.Optional || s.Until != nil || s.Gap != 0 || s.Bound != 0 {
		p.problem(fmt.Sprintf("step %q: an absence cannot repeat, be optional or bounded", name), "leave the quantifiers out; its duration bounds it")
	}
	if s.Where != nil && s.Where.Given != nil && len(p.p.Stages) == 1 {
		p.problem(fmt.Sprintf("step %q: a condition on what was taken, where nothing can have been", name), "use cep.Where")
	}
	return p
}

func (p Pattern[T]) group(g Pattern[T], link nfa.Link, q []Quantifier) Pattern[T] {
	p = p.clone()
	p.problems = append(p.problems, g.problems...)
	name := "a group"
	if len(g.p.Stages) == 0 {
		p.problem("an empty group", "make it with cep.Begin")
		return p
	}
	if first := g.p.Stages[0]; first.Name != "" {
		name = fmt.Sprintf("the group of %q", first.Name)
	}
	if g.p.Within != 0 || g.p.Skip != nfa.SkipNone {
		p.problem(name+" has Within or AfterMatch of its own", "set them on the whole pattern")
	}
	if g.p.Stages[0].Kind == nfa.Absence {
		p.problem(name+" begins with an absence", "only a pattern can; put it behind a step")
	}
	return p.add(nfa.Stage[T]{Kind: nfa.Group, Link: link, Stages: g.p.Stages}, q)
}

// add applies options to a stage and appends it.
func (p Pattern[T]) add(s nfa.Stage[T], q []Quantifier) Pattern[T] {
	p = p.clone()
	cfg := &Step{}
	for _, o := range q {
		if o != nil {
			o(cfg)
		}
	}
	for _, b := range cfg.problems {
		p.problem(label(&s)+": "+b.what, b.cure)
	}
	s.Where, s.Until = condition[T](cfg.where, cfg.or), condition[T](cfg.until, nil)
	s.Repeats, s.Min, s.Max, s.Greedy, s.Optional, s.Gap, s.Bound = cfg.repeats, cfg.min, cfg.max, cfg.greedy, cfg.optional, cfg.gap, cfg.bound
	s.Inner = nfa.Relaxed
	for _, in := range cfg.inner {
		if !s.Repeats {
			p.problem(fmt.Sprintf("%s: %s on a step that comes once", label(&s), in), "add a quantifier like cep.OneOrMore or cep.Times")
		}
		if s.Inner = nfa.AnySkip; in == "Consecutive" {
			s.Inner = nfa.Strict
		}
	}
	if len(cfg.inner) > 1 {
		p.problem(label(&s)+": Consecutive and AllowCombinations together", "choose one")
	}
	if s.Kind == nfa.Group && s.Where != nil {
		p.problem(label(&s)+": a condition on a group", "set it on its steps")
	}
	p.p.Stages = append(p.p.Stages, s)
	return p
}

func label[T any](s *nfa.Stage[T]) string {
	switch {
	case s.Kind == nfa.Group && s.Stages[0].Name != "":
		return fmt.Sprintf("the group of step %q", s.Stages[0].Name)
	case s.Kind == nfa.Group:
		return "a group"
	case s.Kind == nfa.AllOf:
		return "AllOf"
	case s.Kind == nfa.AnyOf:
		return "AnyOf"
	}
	return fmt.Sprintf("step %q", s.Name)
}

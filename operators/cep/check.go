package cep

import (
	"errors"
	"fmt"
	"strings"

	"github.com/millrace-stream/millrace/operators/internal/nfa"
)

// Problems are all that is wrong with a pattern, each with the step and the cure; nil if it is right.
func (p Pattern[T]) Problems() []string {
	c := &checker[T]{pattern: &p.p}
	for _, b := range p.problems {
		c.add(b.what, b.cure)
	}
	if len(p.p.Stages) == 0 {
		c.add("an empty pattern", "make it with cep.Begin")
		return c.found
	}
	names, times := nfa.Names(p.p.Stages)
	for _, n := range names {
		if n != "" && times[n] > 1 {
			c.add(fmt.Sprintf("step %q is there %d times", n, times[n]), "give each step a name of its own")
		}
	}
	if first := &p.p.Stages[0]; first.Link == nfa.NotNext || first.Link == nfa.NotFollowed {
		c.add(label(first)+": a NOT step with nothing before it", "begin with cep.Begin, or with cep.BeginAbsent")
	}
	c.stages(p.p.Stages, true)
	c.end()
	return c.found
}

// Compile makes the pattern a program, or says what is wrong with it. It is for operators.
func (p Pattern[T]) Compile() (*nfa.Program[T], []string) {
	if found := p.Problems(); len(found) > 0 {
		return nil, found
	}
	prog := nfa.Compile(p.p)
	return prog, nil
}

// Explain draws the pattern as a Mermaid state diagram, as the operator runs it: a partial match is in one of its states. It is for looking at;
// the text may change.
func (p Pattern[T]) Explain() (string, error) {
	prog, problems := p.Compile()
	if len(problems) > 0 {
		return "", errors.New(strings.Join(problems, "; "))
	}
	return prog.Explain(), nil
}

type checker[T any] struct {
	pattern *nfa.Pattern[T]
	found   []string
}

func (c *checker[T]) add(what, cure string) {
	if cure != "" {
		what += ": " + cure
	}
	c.found = append(c.found, what)
}

func (c *checker[T]) stages(stages []nfa.Stage[T], top bool) {
	for i := range stages {
		s := &stages[i]
		name := label(s)
		if (s.Kind == nfa.Single || s.Kind == nfa.Absence) && strings.TrimSpace(s.Name) == "" {
			c.add("a step without a name", "give each step a name")
		}
		switch not := s.Link == nfa.NotNext || s.Link == nfa.NotFollowed; {
		case not && (s.Repeats || s.Until != nil):
			c.add(name+": a NOT step cannot have a quantifier", "take it out: one event that fits is enough")
		case not && s.Optional:
			c.add(name+": a NOT step cannot be optional", "take Optional out, or the step")
		case not && i > 0 && stages[i-1].Optional:
			c.add(fmt.Sprintf("%s: a NOT step after %s, which is optional", name, label(&stages[i-1])), "put a step between that must come")
		}
		switch {
		case s.Greedy && s.Kind == nfa.Group:
			c.add(name+" cannot be greedy", "make its steps greedy")
		case s.Greedy && !s.Repeats:
			c.add(name+": Greedy on a step that comes once", "add a quantifier like cep.OneOrMore or cep.Range")
		case s.Greedy && s.Inner == nfa.AnySkip:
			c.add(name+": Greedy with AllowCombinations", "choose one")
		}
		if s.Kind == nfa.Absence && i > 0 {
			c.beforeAbsence(stages, i, top)
		}
		if s.Optional && i > 0 && stages[i-1].Greedy {
			c.add(fmt.Sprintf("%s: an optional step after %s, which is greedy", name, label(&stages[i-1])), "make one of them neither")
		}
		if s.Until != nil && (!s.Repeats || s.Max > 0) {
			c.add(name+": Until on a step whose number of repetitions is bounded", "use it with cep.OneOrMore or cep.TimesOrMore")
		}
		if s.Gap > 0 && !s.Repeats && s.Kind != nfa.Group {
			c.add(name+": Gap on a step that comes once", "use cep.WithinPrevious")
		}
		for _, d := range []struct {
			name string
			on   bool
		}{{"Gap", s.Gap > c.pattern.Within}, {"WithinPrevious", s.Bound > c.pattern.Within}} {
			if d.on && c.pattern.Within > 0 {
				c.add(fmt.Sprintf("%s: its %s is longer than Within(%v)", name, d.name, c.pattern.Within), "make it shorter, or leave it out")
			}
		}
		switch {
		case s.Kind == nfa.Group && s.Bound > 0:
			c.add(name+": WithinPrevious on a group", "set it on its first step")
		case s.Kind == nfa.Group && s.Gap > 0:
			c.add(name+": Gap on a group", "bound its steps by Gap and WithinPrevious")
		}
		if s.Kind != nfa.Group && s.Bound > 0 && (s.Repeats || i == 0 && top) {
			c.add(name+": WithinPrevious on a step that repeats or has none before it", "use cep.Gap for repetitions")
		}
		if len(s.Stages) > 0 {
			c.stages(s.Stages, false)
		}
		if s.Kind == nfa.Group && s.Stages[len(s.Stages)-1].Link == nfa.NotFollowed {
			c.add(fmt.Sprintf("%s ends with NotFollowedBy, which holds until a step behind it", name), "put it behind the group")
		}
	}
}

// beforeAbsence checks what an absence stands behind.
func (c *checker[T]) beforeAbsence(stages []nfa.Stage[T], i int, top bool) {
	name := label(&stages[i])
	for i--; i >= 0; i-- {
		switch s := &stages[i]; {
		case s.Link == nfa.NotNext || s.Link == nfa.NotFollowed:
			c.add(fmt.Sprintf("%s: an absence behind %s, a NOT step that no step ends before it", name, label(s)), "put both conditions into the absence, or a step between")
			return
		case !s.Optional:
			return
		}
	}
	if top {
		c.add(name+": an absence with nothing before it that must come", "make a step before it come, or begin with cep.BeginAbsent")
	}
}

// end checks what concerns the whole pattern.
func (c *checker[T]) end() {
	p := c.pattern
	last := &p.Stages[len(p.Stages)-1]
	if last.Link == nfa.NotFollowed && p.Within == 0 && last.Bound == 0 {
		c.add(label(last)+": a pattern that ends with NotFollowedBy would wait for ever", "add Within, or use Absent")
	}
	if p.Skip != nfa.SkipToFirst && p.Skip != nfa.SkipToLast {
		return
	}
	for i := range p.Stages {
		s := &p.Stages[i]
		if s.Name == p.Target && s.Kind == nfa.Single && s.Link != nfa.NotNext && s.Link != nfa.NotFollowed {
			return
		}
	}
	c.add(fmt.Sprintf("AfterMatch skips to step %q, which is not a step of the pattern that takes events", p.Target), "name one, outside of groups")
}

package cep

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace-stream/millrace/operators/internal/nfa"
)

// Set is the patterns that operators.CEPSet may run, by name and version: patterns are code, and a Change says which of them are in force.
// Keep a version in the set as long as partial matches of it may be stored.
type Set[T any] struct {
	patterns []versioned[T]
	problems []string
}

type versioned[T any] struct {
	name, version string
	pattern       Pattern[T]
	off           bool
}

// Add adds a version of a pattern. Of those of one name, the last added is in force until a Change says otherwise.
func (s Set[T]) Add(name, version string, p Pattern[T]) Set[T] { return s.add(name, version, p, false) }

// AddOff adds a version that is not in force until a Change says so.
func (s Set[T]) AddOff(name, version string, p Pattern[T]) Set[T] {
	return s.add(name, version, p, true)
}

func (s Set[T]) add(name, version string, p Pattern[T], off bool) Set[T] {
	s.patterns, s.problems = slices.Clip(s.patterns), slices.Clip(s.problems)
	switch {
	case strings.TrimSpace(name) == "" || strings.TrimSpace(version) == "":
		s.problems = append(s.problems, fmt.Sprintf("a pattern with the name %q and version %q: give both", name, version))
	case s.has(name, version):
		s.problems = append(s.problems, fmt.Sprintf("pattern %q has version %q twice: give each a version of its own", name, version))
	}
	s.patterns = append(s.patterns, versioned[T]{name, version, p, off})
	return s
}

func (s Set[T]) has(name, version string) bool {
	return slices.ContainsFunc(s.patterns, func(v versioned[T]) bool { return v.name == name && (version == "" || v.version == version) })
}

// Change says which version of a pattern is in force. It comes in force in all tasks at the end of the epoch that it came in, survives a
// restart, and does nothing where it changes nothing.
type Change struct {
	// Name is that of the pattern. A Change without one changes nothing.
	Name string `json:"name" cbor:"name"`
	// Version is in force from then on; "" takes the pattern out of force.
	Version string `json:"version,omitempty" cbor:"version,omitempty"`
	// Drop ends the partial matches of other versions at once. Otherwise they are drained: they go on to match or to run out of time, and no new
	// ones begin.
	Drop bool `json:"drop,omitempty" cbor:"drop,omitempty"`
}

// Check says why a change cannot be.
func (s Set[T]) Check(c Change) error {
	switch {
	case c.Name == "":
		return nil
	case !s.has(c.Name, ""):
		return fmt.Errorf("there is no pattern %q; there are %s", c.Name, s.list(func(v versioned[T]) string { return v.name }))
	case c.Version != "" && !s.has(c.Name, c.Version):
		return fmt.Errorf("pattern %q has no version %q; it has %s", c.Name, c.Version, s.list(func(v versioned[T]) string {
			if v.name == c.Name {
				return v.version
			}
			return ""
		}))
	}
	return nil
}

func (s Set[T]) list(of func(versioned[T]) string) string {
	var names []string
	for _, v := range s.patterns {
		if n := of(v); n != "" {
			names = append(names, fmt.Sprintf("%q", n))
		}
	}
	slices.SortFunc(names, cmp.Compare[string])
	return strings.Join(slices.Compact(names), ", ")
}

// Compiled is a pattern of a set as a program. It is for the operator.
type Compiled[T any] struct {
	Name, Version string
	Program       *nfa.Program[T]
	// InForce at the beginning.
	InForce bool
}

// Compile makes programs of the patterns, or says all that is wrong with them. It is for the operator.
func (s Set[T]) Compile() (all []Compiled[T], problems []string) {
	problems = slices.Clone(s.problems)
	if len(s.patterns) == 0 {
		problems = append(problems, "a set without patterns: add one with Add")
	}
	last := map[string]int{}
	for i, v := range s.patterns {
		prog, found := v.pattern.Compile()
		for _, p := range found {
			problems = append(problems, fmt.Sprintf("pattern %q version %q: %s", v.name, v.version, p))
		}
		if !v.off {
			last[v.name] = i
		}
		all = append(all, Compiled[T]{Name: v.name, Version: v.version, Program: prog})
	}
	for _, i := range last {
		all[i].InForce = true
	}
	return all, problems
}

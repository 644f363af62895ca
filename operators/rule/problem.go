package rule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a rule.
type Problem struct {
	// File is the file's name, "" where there is none.
	File string
	// Line and Column say where, from 1; 0 is unknown. Without a file they count within the field.
	Line, Column int
	// Rule is the rule's id, Field the field of it.
	Rule, Field string
	// What is wrong, and Cure what to do.
	What, Cure string

	// line and col are the place within an expression, from 1.
	line, col int
}

// Error is file:line:column: rule, field: what: cure.
func (p *Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		b.WriteByte(':')
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, max(p.Column, 1))
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Rule != "" {
		fmt.Fprintf(&b, "rule %q: ", p.Rule)
	}
	if p.Field != "" {
		b.WriteString(p.Field)
		b.WriteString(": ")
	}
	b.WriteString(p.What)
	if p.Cure != "" {
		b.WriteString(": ")
		b.WriteString(p.Cure)
	}
	return b.String()
}

// Problems are all that is wrong with a set of rules.
type Problems []*Problem

// Error has a line for each.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// err is nil where there is none.
func (ps Problems) err() error {
	// In order of place, as one mends them.
	slices.SortStableFunc(ps, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if len(ps) == 0 {
		return nil
	}
	return ps
}

package cep_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/operators/cep"
)

// testCase is a run of Apache Flink's CEP operator: what went in, what came out, one tick per ms. testdata/cep.jsonl holds them;
// MILLRACE_CONFORMANCE_DIR names a folder with another file of that name, to run instead.
type testCase struct {
	ID      string
	Pattern []stage
	Within  *within
	Skip    struct {
		Strategy    string
		Pattern     string
		ThrowOnMiss bool
	}
	WithinAlso *within
	Input      []event
	CanBeEmpty bool
	Matches    []result
	Timeouts   []result
	Late       []string
	Invalid    string
	After      int
	Tags       []string
}

type within struct {
	Ms   int64
	Mode string
	On   string
}

type stage struct {
	Name       string
	Contiguity string
	Where      *where
	Until      *where
	Times      *struct{ Min, Max *int }
	Inner      string
	Greedy     bool
	Optional   bool
	GapMs      int64
	Group      []stage
}

type where struct {
	Type    string
	Types   []string
	Any     bool
	Op      string
	Value   int64
	SumLess *struct {
		Of    string
		Limit int64
	}
	GreaterThanLast string
}

// event is an event, or a watermark where WM is set.
type event struct {
	E    string
	Type string
	V    int64
	TS   int64
	WM   *int64
}

type result struct {
	After  int
	TS     int64
	Events []events
}

type events struct {
	step string
	ids  []string
}

// UnmarshalJSON reads [stage, [ids]].
func (e *events) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&e.step, &e.ids})
}

func (c *testCase) tagged(tag string) bool { return slices.Contains(c.Tags, tag) }

func cases(t testing.TB) (cs []*testCase) {
	dir := os.Getenv("MILLRACE_CONFORMANCE_DIR")
	if dir == "" {
		dir = "testdata"
	}
	f, err := os.Open(filepath.Join(dir, "cep.jsonl"))
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		c := &testCase{}
		require.NoError(t, json.Unmarshal(lines.Bytes(), c))
		cs = append(cs, c)
	}
	require.NoError(t, lines.Err())
	if dir == "testdata" {
		require.Len(t, cs, 1715)
	}
	return cs
}

func ticks(ms int64) time.Duration { return time.Duration(ms) }

// build is the case's pattern in this project's words.
func (c *testCase) build() cep.Pattern[event] {
	p := c.sequence(c.Pattern, true)
	if c.Within != nil && c.Within.Mode == "firstAndLast" {
		p = p.Within(ticks(c.Within.Ms))
	}
	var s cep.Skip
	switch c.Skip.Strategy {
	case "toNext":
		s = cep.SkipToNext()
	case "pastLast":
		s = cep.SkipPastLast()
	case "toFirst":
		s = cep.SkipToFirst(c.Skip.Pattern)
	case "toLast":
		s = cep.SkipToLast(c.Skip.Pattern)
	default:
		return p
	}
	if c.Skip.ThrowOnMiss {
		s = s.OrFail()
	}
	return p.AfterMatch(s)
}

func (c *testCase) bounds(i int) (bound int64) {
	for _, w := range []*within{c.Within, c.WithinAlso} {
		if w != nil && w.Mode == "previousAndCurrent" && (w.On == "all" || i == len(c.Pattern)-1) {
			bound = w.Ms
		}
	}
	return bound
}

func (c *testCase) sequence(stages []stage, top bool) (p cep.Pattern[event]) {
	for i := range stages {
		s := &stages[i]
		var opts []cep.StepOption[event]
		q := s.quantifiers()
		if bound := c.bounds(i); bound > 0 && top && i > 0 && s.Times == nil && s.Group == nil {
			q = append(q, cep.WithinPrevious(ticks(bound)))
		}
		for _, f := range q {
			opts = append(opts, f)
		}
		if s.Where != nil {
			opts = append(opts, cep.WhereGiven(s.Where.holds))
			if !s.Where.given() {
				opts[len(opts)-1] = cep.Where(func(e event) bool { return s.Where.holds(e, nil) })
			}
		}
		if s.Until != nil {
			if s.Until.given() {
				opts = append(opts, cep.UntilGiven(s.Until.holds))
			} else {
				opts = append(opts, cep.Until(func(e event) bool { return s.Until.holds(e, nil) }))
			}
		}
		g := cep.Pattern[event]{}
		if s.Group != nil {
			g = c.sequence(s.Group, false)
		}
		switch {
		case i == 0 && s.Group != nil:
			p = cep.BeginGroup(g, q...)
		case i == 0:
			p = cep.Begin(s.Name, opts...)
		case s.Group != nil && s.Contiguity == "next":
			p = p.NextGroup(g, q...)
		case s.Group != nil && s.Contiguity == "followedBy":
			p = p.FollowedByGroup(g, q...)
		case s.Group != nil:
			p = p.FollowedByAnyGroup(g, q...)
		case s.Contiguity == "next":
			p = p.Next(s.Name, opts...)
		case s.Contiguity == "followedBy":
			p = p.FollowedBy(s.Name, opts...)
		case s.Contiguity == "followedByAny":
			p = p.FollowedByAny(s.Name, opts...)
		case s.Contiguity == "notNext":
			p = p.NotNext(s.Name, opts...)
		default:
			p = p.NotFollowedBy(s.Name, opts...)
		}
	}
	return p
}

func (s *stage) quantifiers() (q []cep.Quantifier) {
	if s.Times != nil {
		switch {
		case s.Times.Max != nil:
			q = append(q, cep.Range(*s.Times.Min, *s.Times.Max))
		default:
			q = append(q, cep.TimesOrMore(*s.Times.Min))
		}
	}
	if s.GapMs > 0 {
		q = append(q, cep.Gap(ticks(s.GapMs)))
	}
	switch s.Inner {
	case "consecutive":
		q = append(q, cep.Consecutive())
	case "combinations":
		q = append(q, cep.AllowCombinations())
	}
	if s.Greedy {
		q = append(q, cep.Greedy())
	}
	if s.Optional {
		q = append(q, cep.Optional())
	}
	return q
}

func (w *where) given() bool { return w.SumLess != nil || w.GreaterThanLast != "" }

// holds is the condition.
func (w *where) holds(e event, sofar *cep.Taken[event]) bool {
	if w.Type != "" && e.Type != w.Type || len(w.Types) > 0 && !slices.Contains(w.Types, e.Type) || !compare(e.V, w.Op, w.Value) {
		return false
	}
	if w.SumLess != nil {
		sum := e.V
		for t := range sofar.Of(w.SumLess.Of) {
			sum += t.V
		}
		if sum >= w.SumLess.Limit {
			return false
		}
	}
	if w.GreaterThanLast != "" {
		if last, ok := sofar.Last(w.GreaterThanLast); ok && e.V <= last.V {
			return false
		}
	}
	return true
}

func compare(v int64, op string, with int64) bool {
	switch op {
	case "":
		return true
	case "<":
		return v < with
	case "<=":
		return v <= with
	case ">":
		return v > with
	case ">=":
		return v >= with
	case "=":
		return v == with
	}
	panic("operator " + op)
}

package rule

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/millrace-stream/millrace/flow"
)

const (
	maxID        = 200
	maxSelect    = 4
	maxChoices   = 10_000
	maxChanges   = 100
	maxDuration  = 100 * 365 * 24 * time.Hour
	warning      = "warning"
	changesCount = "flapping.changes"
)

// compiled is a rule compiled against a record type. It belongs to no set.
type compiled struct {
	Rule
	hash    uint64
	choice  uint64
	version string
	need    uint32
	when    *expression
	clear   *expression
	levels  []level
	update  *expression
	labels  []label
	message text
	selects []selection
	stable  time.Duration
}

type level struct {
	when     *expression
	severity string
}

type label struct {
	name  string
	value text
}

// member is a rule in its set.
type member struct {
	*compiled
	// ord is its place: parents stand before their children.
	ord    int
	parent *member
	// depth is how many parents it has above it.
	depth    int
	isParent bool
}

// under tells whether m is p or one of its parents.
func (m *member) under(p *member) bool {
	for ; m != nil; m = m.parent {
		if m == p {
			return true
		}
	}
	return false
}

// Set is a set of rules, compiled against the record type T, with the index that chooses among them. It is immutable.
type Set[T any] struct {
	rules []*member
	byID  map[string]*member
	index index
	depth int // the greatest of a rule
	shape *shape
	print string
}

// Len is the number of rules that are not off.
func (s *Set[T]) Len() int { return len(s.rules) }

// Compile compiles rules against the record type T, a struct or a pointer to one. All that is wrong is in the error, which is Problems.
func Compile[T any](rules []Rule) (*Set[T], error) { return NewCompiler[T]().Set(rules) }

// Load is Parse and Compile. Problems have line and column.
func Load[T any](name string, data []byte) (*Set[T], error) {
	d, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	s, err := Compile[T](d.rules)
	return s, d.locate(err)
}

// Compiler compiles sets of rules one after the other, and compiles what is in several of them once. It is safe for concurrent use.
//
// State: the rules of the last two sets.
type Compiler[T any] struct {
	mu       sync.Mutex
	shape    *shape
	err      error
	now, old map[uint64]*compiled
	last     *Set[T]
}

// NewCompiler returns a compiler without rules.
func NewCompiler[T any]() *Compiler[T] {
	c := &Compiler[T]{now: map[uint64]*compiled{}}
	c.shape, c.err = shapeOf(reflect.TypeFor[T]())
	return c
}

// Check says what is wrong with rules of a change by themselves.
func (c *Compiler[T]) Check(change Change) error {
	if change.Whole {
		_, err := c.Set(change.Put)
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	var ps Problems
	for i := range change.Put {
		_, p := c.rule(&change.Put[i], c.now)
		ps = append(ps, p...)
	}
	return ps.err()
}

// Set compiles a set.
func (c *Compiler[T]) Set(rules []Rule) (*Set[T], error) { return c.set(rules, false) }

// Merged compiles a set that has come rule by rule: a parent that is not there, or not yet, or that would close a circle is none.
func (c *Compiler[T]) Merged(rules []Rule) (*Set[T], error) { return c.set(rules, true) }

func (c *Compiler[T]) set(rules []Rule, merged bool) (*Set[T], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	var ps Problems
	next := make(map[uint64]*compiled, len(rules))
	s := &Set[T]{byID: make(map[string]*member, len(rules)), shape: c.shape}
	ids := make(map[string]bool, len(rules))
	for i := range rules {
		r := &rules[i]
		if ids[r.ID] {
			ps = append(ps, &Problem{Rule: r.ID, Field: "id", What: "there are two rules of this id", Cure: "give one of them another"})
			continue
		}
		ids[r.ID] = true
		k, problems := c.rule(r, next)
		if len(problems) > 0 {
			ps = append(ps, problems...)
			continue
		}
		if !r.Off {
			s.byID[r.ID] = &member{compiled: k}
		}
	}
	for _, r := range rules {
		if r.Parent == "" || len(ps) > 0 {
			continue
		}
		m, p := s.byID[r.ID], s.byID[r.Parent]
		problem := ""
		switch {
		case !ids[r.Parent]:
			problem = fmt.Sprintf("there is no rule %q", r.Parent)
		case m == nil || p == nil: // one of them is off
			continue
		case p.under(m):
			problem = "its parents go round in a circle"
		default:
			m.parent, p.isParent = p, true
		}
		if problem != "" && !merged {
			ps = append(ps, &Problem{Rule: r.ID, Field: "parent", What: problem, Cure: "name a rule of this set that is not below this one, or take the parent out"})
		}
	}
	for _, m := range s.byID {
		for p := m.parent; p != nil; p = p.parent {
			m.depth++
		}
		s.depth = max(s.depth, m.depth)
		s.rules = append(s.rules, m)
	}
	if len(ps) > 0 {
		slices.SortStableFunc(ps, func(a, b *Problem) int { return cmp.Compare(a.Rule, b.Rule) })
		return nil, ps
	}
	slices.SortFunc(s.rules, func(a, b *member) int {
		return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.ID, b.ID))
	})
	hash := uint64(len(s.rules))
	for i, m := range s.rules {
		m.ord = i
		hash = hash*0x9E3779B97F4A7C15 ^ m.hash
		if m.parent != nil {
			hash = hash*31 + 1
		}
	}
	s.print = strconv.FormatUint(hash, 16)
	if c.last != nil && c.last.print == s.print {
		return c.last, nil
	}
	s.index = newIndex(s.rules)
	c.old, c.now, c.last = c.now, next, s
	return s, nil
}

// rule compiles a rule, or takes it from an earlier set.
func (c *Compiler[T]) rule(r *Rule, next map[uint64]*compiled) (*compiled, Problems) {
	hash := r.hash()
	for _, had := range []map[uint64]*compiled{next, c.now, c.old} {
		if k := had[hash]; k != nil && k.ID == r.ID {
			next[hash] = k
			return k, nil
		}
	}
	k := &compiled{Rule: *r, hash: hash, choice: r.choice(), version: r.Version, need: uint32(max(r.Count, 1))}
	if k.version == "" {
		k.version = fmt.Sprintf("%08x", uint32(hash))
	}
	if k.Severity == "" {
		k.Severity = warning
	}
	b := builder[T]{k: k, shape: c.shape}
	b.build()
	if len(b.ps) == 0 {
		next[hash] = k
	}
	return k, b.ps
}

// builder compiles one rule.
type builder[T any] struct {
	k     *compiled
	shape *shape
	ps    Problems
}

func (b *builder[T]) problem(field, what, cure string) {
	b.ps = append(b.ps, &Problem{Rule: b.k.ID, Field: field, What: what, Cure: cure})
}

func (b *builder[T]) expr(field, text string, boolean bool) *expression {
	e, p := compileExpr(b.shape, text, boolean)
	if p != nil {
		p.Rule, p.Field = b.k.ID, field
		p.Line, p.Column = p.line, p.col
		b.ps = append(b.ps, p)
	}
	return e
}

func (b *builder[T]) text(field, s string) text {
	t, p := compileText[T](field, s)
	if p != nil {
		p.Rule = b.k.ID
		p.Line, p.Column = p.line, p.col
		b.ps = append(b.ps, p)
	}
	return t
}

func (b *builder[T]) build() {
	k := b.k
	switch {
	case k.ID == "":
		b.problem("id", "the rule has no id", "give it one: alarms and state are named after it")
	case len(k.ID) > maxID:
		b.problem("id", fmt.Sprintf("it is longer than %d bytes", maxID), "give a shorter one")
	case k.Parent == k.ID:
		b.problem("parent", "the rule is its own parent", "name another rule")
	}
	if k.When == "" {
		b.problem("when", "the rule has no condition", "write one, like: when: celsius > 90")
	} else {
		k.when = b.expr("when", k.When, true)
	}
	if k.Clear != "" {
		k.clear = b.expr("clear", k.Clear, true)
	}
	if k.Update != "" {
		k.update = b.expr("update", k.Update, false)
	}
	for i, l := range k.Levels {
		field := fmt.Sprintf("levels[%d].", i)
		if l.Severity == "" {
			b.problem(field+"severity", "the level has no severity", "give it one, like critical")
		}
		if l.When == "" {
			b.problem(field+"when", "the level has no condition", "write one, or set the rule's severity instead")
			continue
		}
		k.levels = append(k.levels, level{b.expr(field+"when", l.When, true), l.Severity})
	}
	for name := range k.Labels {
		k.labels = append(k.labels, label{name, b.text("labels."+name, k.Labels[name])})
	}
	if k.Message == "" {
		k.message = text{fixed: k.ID + ": " + k.When}
	} else {
		k.message = b.text("message", k.Message)
	}
	b.times()
	b.selects()
}

func (b *builder[T]) times() {
	k := b.k
	for _, d := range []struct {
		field string
		d     time.Duration
	}{{"for", k.For}, {"cooldown", k.Cooldown}} {
		if d.d < 0 || d.d > maxDuration {
			b.problem(d.field, fmt.Sprintf("%v is not between 0 and 100 years", d.d), "write a duration with its unit, like 30s")
		}
	}
	if k.Count < 0 {
		b.problem("count", fmt.Sprintf("%d is negative", k.Count), "write how many records in a row it takes")
	}
	f := k.Flapping
	if f == nil {
		return
	}
	if f.Changes < 2 || f.Changes > maxChanges {
		b.problem(changesCount, fmt.Sprintf("%d is not between 2 and %d", f.Changes, maxChanges), "write how many raisings and clearings are too many")
	}
	if f.Within <= 0 || f.Within > maxDuration {
		b.problem("flapping.within", fmt.Sprintf("%v is not a time to count changes in", f.Within), "write a duration with its unit, like 10m")
	}
	if f.Stable < 0 || f.Stable > maxDuration {
		b.problem("flapping.stable", fmt.Sprintf("%v is not a time to wait for", f.Stable), "write a duration with its unit, like 10m")
	}
	k.stable = f.Stable
	if k.stable == 0 {
		k.stable = f.Within
	}
}

// ripe is the time from which on what is true since then is an alarm.
func (k *compiled) ripe(since, cool flow.Timestamp) flow.Timestamp {
	return max(since.Add(k.For), cool)
}

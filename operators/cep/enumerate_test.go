package cep_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/cep"
	"github.com/millrace-stream/millrace/operators/internal/nfa"
)

// What a pattern means is said here a second time, in the plainest way: all assignments of events to steps are listed, and each is held
// against the rules. The automaton must find the same.

// spec is a pattern, drawn at random.
type spec struct {
	steps  []specStep
	within int64 // 0: none
}

type specLink uint8

const (
	next specLink = iota
	followedBy
	followedByAny
	notNext
	notFollowedBy
	absent
)

var linkNames = []string{"next", "followedBy", "followedByAny", "notNext", "notFollowedBy", "absent"}

type specStep struct {
	link     specLink
	kinds    string   // it takes
	all      []string // AllOf steps that take these kinds
	min, max int      // max 0: no bound
	repeats  bool
	inner    specLink
	optional bool
	wait     int64 // of an absence
}

func (s specStep) name(i int) string { return string(rune('a' + i)) }

func (s *spec) String() string {
	var b strings.Builder
	for i, st := range s.steps {
		fmt.Fprintf(&b, "%s(%s %s", linkNames[st.link], st.name(i), st.kinds)
		if st.all != nil {
			fmt.Fprintf(&b, " all of %q", st.all)
		}
		if st.repeats {
			fmt.Fprintf(&b, " {%d,%d} %s", st.min, st.max, linkNames[st.inner])
		}
		if st.optional {
			b.WriteString(" optional")
		}
		if st.wait > 0 {
			fmt.Fprintf(&b, " for %d", st.wait)
		}
		b.WriteString(") ")
	}
	return fmt.Sprintf("%swithin %d", b.String(), s.within)
}

// draw reads choices from bytes; behind their end all are 0.
type draw struct{ b []byte }

func (d *draw) n(n int) int {
	if len(d.b) == 0 {
		return 0
	}
	v := int(d.b[0])
	d.b = d.b[1:]
	return v % n
}

func (d *draw) kinds() string {
	return []string{"x", "y", "z", "xy", "yz", "xz", "x", "y", "xyz"}[d.n(9)]
}

// spec draws a pattern of those whose meaning the rules say without exception.
func (d *draw) spec() *spec {
	s := &spec{}
	for range 1 + d.n(4) {
		st := specStep{link: specLink(d.n(6)), kinds: d.kinds()}
		if len(s.steps) == 0 && st.link >= notNext {
			st.link = next
		}
		switch {
		case st.link == absent:
			st.wait = int64(1 + d.n(4))
		case st.link < notNext:
			switch d.n(8) {
			case 0:
				st.repeats, st.min, st.max = true, 1, 0
			case 1:
				st.repeats, st.min, st.max = true, 2, 0
			case 2:
				st.repeats, st.min, st.max = true, 2, 2
			case 3:
				st.repeats, st.min, st.max = true, 1, 1+d.n(3)
			case 4:
				if len(s.steps) > 0 {
					st.all, st.link = [][]string{{"x", "y"}, {"x", "yz"}, {"xy", "yz"}, {"x", "y", "z"}}[d.n(4)], followedBy
				}
			}
			if st.repeats {
				st.inner = specLink(d.n(3))
			}
			st.optional = d.n(4) == 0
		}
		s.steps = append(s.steps, st)
	}
	if d.n(2) == 1 {
		s.within = int64(1 + d.n(9))
	}
	return s
}

// clear tells whether the rules say what the pattern means: a NOT step stands between steps that must come, the following one takes nothing
// that must not come, and what is before notNext has one number of repetitions, before notFollowedBy one or no bound.
func (s *spec) clear() bool {
	for i, st := range s.steps {
		if st.link != notNext && st.link != notFollowedBy {
			continue
		}
		if i+1 == len(s.steps) {
			return false
		}
		before, after := s.steps[i-1], s.steps[i+1]
		if after.link >= notNext || after.optional || before.link >= notNext || before.optional || before.repeats && before.min != before.max && before.max > 0 {
			return false
		}
		if st.link == notNext && before.repeats && before.max != before.min || strings.ContainsAny(after.kinds+strings.Join(after.all, ""), st.kinds) {
			return false
		}
	}
	return true
}

func fits(kinds string) cep.StepOption[event] {
	return cep.Where(func(e event) bool { return strings.Contains(kinds, e.Type) })
}

func (s *spec) pattern() (p cep.Pattern[event]) {
	for i, st := range s.steps {
		opts := []cep.StepOption[event]{fits(st.kinds)}
		var q []cep.Quantifier
		if st.repeats {
			if st.max == 0 {
				q = append(q, cep.TimesOrMore(st.min))
			} else {
				q = append(q, cep.Range(st.min, st.max))
			}
			switch st.inner {
			case next:
				q = append(q, cep.Consecutive())
			case followedByAny:
				q = append(q, cep.AllowCombinations())
			}
		}
		if st.optional {
			q = append(q, cep.Optional())
		}
		for _, f := range q {
			opts = append(opts, f)
		}
		name := st.name(i)
		switch {
		case st.all != nil:
			var all []cep.Pattern[event]
			for k, kinds := range st.all {
				all = append(all, cep.Begin(fmt.Sprint(name, k), fits(kinds)))
			}
			p = p.FollowedByGroup(cep.AllOf(all...), q...)
		case i == 0:
			p = cep.Begin(name, opts...)
		case st.link == next:
			p = p.Next(name, opts...)
		case st.link == followedBy:
			p = p.FollowedBy(name, opts...)
		case st.link == followedByAny:
			p = p.FollowedByAny(name, opts...)
		case st.link == notNext:
			p = p.NotNext(name, opts...)
		case st.link == notFollowedBy:
			p = p.NotFollowedBy(name, opts...)
		default:
			p = p.Absent(name, time.Duration(st.wait), opts...)
		}
	}
	if s.within > 0 {
		p = p.Within(time.Duration(s.within))
	}
	return p
}

// taken is an event taken as a step, or as one of its AllOf steps.
type taken struct{ event, step, sub int }

// matches lists all assignments of events to steps that follow the rules.
func (s *spec) matches(in []event) (texts []string) {
	var assign func(from int, as []taken)
	assign = func(from int, as []taken) {
		if text, ok := s.match(in, as); ok {
			texts = append(texts, text)
		}
		for e := from; e < len(in); e++ {
			for i, st := range s.steps {
				if st.link >= notNext || len(as) > 0 && i < as[len(as)-1].step {
					continue
				}
				if st.all == nil {
					if strings.Contains(st.kinds, in[e].Type) {
						assign(e+1, append(slices.Clip(as), taken{e, i, 0}))
					}
					continue
				}
				for k, kinds := range st.all {
					if strings.Contains(kinds, in[e].Type) {
						assign(e+1, append(slices.Clip(as), taken{e, i, k}))
					}
				}
			}
		}
	}
	assign(0, nil)
	slices.Sort(texts)
	return append([]string{}, texts...)
}

// none tells whether no event of in[i:j] is of the kinds.
func none(in []event, i, j int, kinds string) bool {
	for ; i < j; i++ {
		if strings.Contains(kinds, in[i].Type) {
			return false
		}
	}
	return true
}

// linked tells whether an event may follow the one at pos: next has none between, followedBy none that fits, followedByAny whatever.
func linked(in []event, link specLink, pos, e int, kinds string) bool {
	return link == followedByAny || link == next && e == pos+1 || link == followedBy && none(in, pos+1, e, kinds)
}

// match holds an assignment against the rules, and prints it.
func (s *spec) match(in []event, as []taken) (string, bool) {
	if len(as) == 0 {
		return "", false
	}
	first := as[0].event
	dies := int64(math.MaxInt64)
	if s.within > 0 {
		dies = in[first].TS + s.within
	}
	// The place in the sequence of events and the time that the match has come to.
	pos, now, started := first-1, in[first].TS, false
	before := first // first event of the step before
	for i, st := range s.steps {
		var own []taken
		for _, a := range as {
			if a.step == i {
				own = append(own, a)
			}
		}
		switch st.link {
		case notNext:
			if pos+1 >= len(in) || strings.Contains(st.kinds, in[pos+1].Type) {
				return "", false
			}
			continue
		case notFollowedBy:
			until := slices.IndexFunc(as, func(a taken) bool { return a.step > i })
			if until < 0 || !none(in, before+1, as[until].event, st.kinds) {
				return "", false
			}
			continue
		case absent:
			if !started {
				return "", false
			}
			now += st.wait
			for ; pos+1 < len(in) && in[pos+1].TS < now; pos++ {
				if strings.Contains(st.kinds, in[pos+1].Type) {
					return "", false
				}
			}
			if now > dies {
				return "", false
			}
			continue
		}
		if len(own) == 0 {
			if !st.optional {
				return "", false
			}
			continue
		}
		least, most := 1, 1
		switch {
		case st.all != nil:
			least, most = len(st.all), len(st.all)
		case st.repeats:
			least, most = st.min, st.max
		}
		if len(own) < least || most > 0 && len(own) > most {
			return "", false
		}
		for k, a := range own {
			link, kinds := st.link, st.kinds
			if k > 0 {
				link = st.inner
			}
			if st.all != nil {
				kinds = strings.Join(st.all, "")
				if k > 0 { // those still to come
					link, kinds = followedBy, ""
					for sub := range st.all {
						if !slices.ContainsFunc(own[:k], func(b taken) bool { return b.sub == sub }) {
							kinds += st.all[sub]
						}
					}
				}
				if slices.ContainsFunc(own[:k], func(b taken) bool { return b.sub == a.sub }) {
					return "", false
				}
			}
			if started && !linked(in, link, pos, a.event, kinds) || a.event <= pos || in[a.event].TS >= dies {
				return "", false
			}
			pos, now, started = a.event, in[a.event].TS, true
		}
		before = own[0].event
	}
	return s.text(in, as, now), true
}

func (s *spec) text(in []event, as []taken, at int64) string {
	var order []string
	ids := map[string][]string{}
	for _, a := range as {
		name := s.steps[a.step].name(a.step)
		if s.steps[a.step].all != nil {
			name = fmt.Sprint(name, a.sub)
		}
		if ids[name] == nil {
			order = append(order, name)
		}
		ids[name] = append(ids[name], in[a.event].E)
	}
	var b strings.Builder
	for _, name := range order {
		fmt.Fprintf(&b, "%s=%s ", name, strings.Join(ids[name], ","))
	}
	return fmt.Sprintf("%sat %d", b.String(), at)
}

// compareWithRules draws a pattern and events, and holds the automaton against the rules. It tells whether the pattern is one.
func compareWithRules(t testing.TB, data []byte) bool {
	d := &draw{data}
	s := d.spec()
	p, problems := s.pattern().Compile()
	if len(problems) > 0 || !s.clear() {
		return false
	}
	var in []event
	at := int64(1)
	for i := range 1 + d.n(7) {
		at += int64(d.n(3))
		in = append(in, event{E: fmt.Sprint(i), Type: string("xyz"[d.n(3)]), TS: at})
	}
	m := nfa.NewMachine(p)
	out, r := &collector{m: m}, nfa.NewRun[event]()
	for i := range in {
		_, err := m.Advance(r, flow.Timestamp(in[i].TS), out)
		require.NoError(t, err)
		_, err = process(m, r, flow.Timestamp(in[i].TS), &in[i], out)
		require.NoError(t, err)
		if len(data)%8 == 0 {
			b, err := r.Append(nil, cborValues{})
			require.NoError(t, err)
			r, err = m.Read(b, cborValues{})
			require.NoError(t, err)
		}
	}
	_, err := m.Advance(r, flow.EndOfTime, out)
	require.NoError(t, err)
	got := sorted(out.matches)
	if want := s.matches(in); !slices.Equal(want, got) {
		var events []string
		for _, e := range in {
			events = append(events, fmt.Sprintf("%s:%s@%d", e.E, e.Type, e.TS))
		}
		t.Fatalf("%s\nover %s\nby the rules:     %q\nby the automaton: %q\ndata %#v", s, strings.Join(events, " "), want, got, data)
	}
	return true
}

func TestPatternsFollowTheRules(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	held := 0
	for range 6000 {
		data := make([]byte, 24+rnd.IntN(40))
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		if compareWithRules(t, data) {
			held++
		}
	}
	require.Greater(t, held, 2000, "patterns that are ones")
}

func FuzzPattern(f *testing.F) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		data := make([]byte, 24+rnd.IntN(40))
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { compareWithRules(t, data) })
}

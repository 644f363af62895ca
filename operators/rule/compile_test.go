package rule

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/expr-lang/expr/vm"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type site struct {
	Name  string `yaml:"name"`
	Floor int    `json:"floor"`
	Level stage  `json:"level"`
}

type embedded struct {
	Group string `json:"group"`
}

type (
	celsius float64
	kind    string
	stage   uint16
	yes     bool
)

func (k kind) Upper() string { return strings.ToUpper(string(k)) }

type reading struct {
	embedded
	Type    string   `json:"type" yaml:"type"`
	Metric  string   `yaml:"metric"`
	Temp    float64  `json:"celsius"`
	Low     float32  `json:"low"`
	N       int      `json:"n"`
	Small   int8     `json:"small"`
	Big     uint64   `json:"big"`
	On      bool     `json:"on"`
	Site    site     `json:"site"`
	Owner   *site    `json:"owner"`
	Tags    []string `json:"tags"`
	Named   celsius  `json:"named"`
	Kind    kind     `json:"kind"`
	Yes     yes      `json:"yes"`
	private int
}

func (r *reading) Hot() bool { return r.Temp > 90 }

func TestProblemsNameLineColumnAndCure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"", `f.yaml:1:1: it is empty: begin it with "rules:"`},
		{"a: 1", `f.yaml:1:1: unknown field "a"`},
		{"rules: 7", "f.yaml:1:8: rules is not a sequence"},
		{"rules: []\n---\nrules: []", "f.yaml:3:6: there is a second document"},
		{"rules:\n  - id: a\n    wen: on", `f.yaml:3:5: rule "a": unknown field "wen": a rule has id,`},
		{"rules:\n  - id: a\n    when: on\n    for: 30", "f.yaml:4:10: "},
		{"rules:\n  - id: a\n    when: [", "f.yaml:3:"},
		{"- id: a\n  when: celsiu > 7", `f.yaml:2:9: rule "a": when: unknown name celsiu: did you mean "celsius"? the record has big,`},
		{"- id: a\n  when: \"on && celsiu > 7\"", `f.yaml:2:16: rule "a": when: unknown name celsiu`},
		{"- id: a\n  when: |\n    on &&\n      celsiu > 7", `f.yaml:4:7: rule "a": when: unknown name celsiu`},
		{"- id: a\n  when: on\n  clear: type > 7", `f.yaml:3:15: rule "a": clear: invalid operation: > (mismatched types string and int): compare values of one type`},
		{"- id: a\n  when: n + 1", `rule "a": when: expected bool, but got int: make it true or false`},
		{"- id: a\n  when: now() > date('2020-01-01')", `f.yaml:2:9: rule "a": when: unknown name now: compare fields`},
		{"- id: a\n  when: on &&", `f.yaml:2:`},
		{"- id: a\n  when: site.roof == 3", "has no field roof"},
		{"- when: on", "f.yaml:1:7: id: the rule has no id: give it one"},
		{"- id: a", `f.yaml:1:5: rule "a": when: the rule has no condition`},
		{"- {id: a, when: on}\n- {id: a, when: on}", `f.yaml:2:8: rule "a": id: there are two rules of this id`},
		{"- {id: a, when: on, parent: b}", `f.yaml:1:29: rule "a": parent: there is no rule "b"`},
		{"- {id: a, when: on, parent: a}", `rule "a": parent: the rule is its own parent`},
		{"- {id: a, when: on, parent: b}\n- {id: b, when: on, parent: a}", `rule "b": parent: its parents go round in a circle`},
		{"- {id: a, when: on, select: {typ: pump}}", `f.yaml:1:35: rule "a": select.typ: unknown field "typ": did you mean "type"?`},
		{"- {id: a, when: on, select: {n: pump}}", `select.n: "pump" is not a value of the field, which is a int`},
		{"- {id: a, when: on, select: {tags: pump}}", `select.tags: the field is a []string, not a string`},
		{"- {id: a, when: on, select: {owner.name: pump}}", `select.owner.name: a pointer leads to the field`},
		{"- {id: a, when: on, select: {type: []}}", `select.type: it has no values`},
		{"- {id: a, when: on, select: {type: {a: b}}}", `is not a string, a number or a bool`},
		{"- {id: a, when: on, select: {type: a, n: 1, on: true, metric: x, low: 1}}", `select: it has 5 fields, more than 4`},
		{"- {id: a, when: on, message: '{{.Record.Celsiu}}'}", `f.yaml:1:`},
		{"- {id: a, when: on, message: '{{.Nothing'}", `rule "a": message: unclosed action`},
		{"- {id: a, when: on, labels: {x: '{{.Foo}}'}}", `rule "a": labels.x: <.Foo>: can't evaluate field Foo`},
		{"- {id: a, when: on, for: -1s, cooldown: -2s, count: -3}", "rule \"a\": for: -1s is not between"},
		{"- {id: a, when: on, for: -1s, cooldown: -2s, count: -3}", "rule \"a\": count: -3 is negative"},
		{"- {id: a, when: on, flapping: {changes: 1, within: 0s}}", `flapping.changes: 1 is not between 2 and 100`},
		{"- {id: a, when: on, flapping: {changes: 1, within: 0s}}", `flapping.within: 0s is not a time`},
		{"- {id: a, when: on, levels: [{when: n}]}", `levels[0].severity: the level has no severity`},
		{"- {id: a, when: on, levels: [{when: n, severity: x}]}", `rule "a": levels[0].when: expected bool`},
		{"- {id: " + strings.Repeat("a", 201) + ", when: on}", "it is longer than 200 bytes"},
	} {
		_, err := Load[reading]("f.yaml", []byte(c.text))
		require.ErrorContains(t, err, c.want, c.text)
		var ps Problems
		require.ErrorAs(t, err, &ps)
		for _, p := range ps {
			require.NotEmpty(t, p.What, c.text)
			require.NotEmpty(t, p.Cure, c.text)
			require.Positive(t, p.Line, "%s: %v", c.text, p)
		}
	}
	_, err := Load[int]("f.yaml", []byte("- {id: a, when: on}"))
	require.ErrorContains(t, err, "a record must be a struct")
	_, err = Load[map[string]any]("f.yaml", []byte("rules:"))
	require.ErrorContains(t, err, "a record must be a struct")
}

// rng gives a value to each field that conditions look at.
func sampleReading(r *rand.Rand) reading {
	floats := []float64{0, math.Copysign(0, -1), 1, -1, 2.5, 90, 91, math.NaN(), math.Inf(1), 1e18}
	return reading{
		embedded: embedded{[]string{"", "a", "b"}[r.IntN(3)]}, Type: []string{"pump", "fan", ""}[r.IntN(3)], Temp: floats[r.IntN(len(floats))],
		Low: float32(floats[r.IntN(len(floats))]), N: r.IntN(7) - 3, Small: int8(r.IntN(256) - 128), Big: r.Uint64(), On: r.IntN(2) == 0,
		Site: site{"roof", r.IntN(5), stage(r.IntN(5))}, Owner: &site{"x", 1, 1}, Named: celsius(r.IntN(100)),
		Kind: []kind{"a", "bb", ""}[r.IntN(3)], Yes: r.IntN(2) == 0,
	}
}

var conditions = []string{
	"on", "!on", "not on", "true", "celsius > 90", "celsius >= 90", "celsius < 1", "celsius <= 0", "celsius == 0", "celsius != 0", "0 == celsius",
	"n > 1", "n == 2", "n != 2", "-n > 1", "-celsius > 1", "n < celsius", "celsius > n", "low > celsius", "low == 2.5", "small > 100", "small + n > 3",
	"small * n <= 3", "n - small < 0", "n / 2 > 0.4", "celsius / n > 3", "celsius * 2 + 1 > 5", "celsius - 1 >= n * 2", "type == 'pump'", "type != 'pump'",
	"type < 'pump'", "type in ['pump', 'fan']", "n in [1, 2, 3]", "small in [1, 2]", "n in 1..3", "on && n > 1", "on and n > 1 or type == 'fan'",
	"on == (n > 1)", "on != (n > 1)", "site.floor > 2", "site.name == 'roof'", "group == 'a'", "Temp > 90", "Site.Floor > 2 && celsius > 0", "!(celsius > 1)",
	"n % 2 == 1", "big > 7", "named > 50", "named < celsius", "kind == 'a'", "kind in ['a']", "site.level == 3", "kind.Upper() == 'A'", "len(kind) > 1", "yes && on", "on && yes && celsius > -1 && 2 > n && n >= 1.5 && 3 != small && low <= 91", "on == true && yes != false", "n > 1 && owner.floor < 3", "owner.name == 'x'", "Hot()", "len(type) > 3", "any(['pump'], # == type)", "type matches '^p'", "abs(n) > 2",
}

// Conditions that are evaluated without the expression library's machine say what that says.
func TestFastConditionsAgree(t *testing.T) {
	t.Parallel()
	s, err := shapeOf(typeOf[reading]())
	require.NoError(t, err)
	rnd := rand.New(rand.NewPCG(1, 2))
	fast, exact := 0, 0
	var m vm.VM
	for _, text := range conditions {
		e, p := compileExpr(s, text, true)
		require.Nil(t, p, text)
		if e.fast == nil {
			continue
		}
		fast++
		if e.exact {
			exact++
		}
		for range 300 {
			r := sampleReading(rnd)
			want, err := m.Run(e.program, &r)
			require.NoError(t, err, text)
			require.Equal(t, want, e.fast(unsafe.Pointer(&r)), "%s of %+v", text, r)
			guarded := true
			for _, g := range e.guards {
				guarded = guarded && g.holds(unsafe.Pointer(&r))
			}
			require.True(t, guarded || want == false, "%s of %+v", text, r)
			require.True(t, !e.exact || want == guarded, "%s of %+v", text, r)
		}
	}
	require.GreaterOrEqual(t, fast, 48)
	require.GreaterOrEqual(t, exact, 25)
}

func TestConditionsThatAreNotFast(t *testing.T) {
	t.Parallel()
	s, err := shapeOf(typeOf[reading]())
	require.NoError(t, err)
	var m vm.VM
	for _, text := range conditions {
		e, p := compileExpr(s, text, true)
		require.Nil(t, p, text)
		e.fast = nil
		r := sampleReading(rand.New(rand.NewPCG(3, 4)))
		_, err := e.holds(&m, record{unsafe.Pointer(&r), &r})
		require.NoError(t, err, text)
	}
}

// The index chooses what trying each rule would choose.
func TestIndexAgrees(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	values := map[string][]string{
		"type": {"pump", "fan", "door"}, "n": {"-3", "0", "2"}, "on": {"true", "false"}, "celsius": {"0", "2.5", "90"}, "site.floor": {"1", "3"},
		"big": {"7"}, "group": {"a"}, "small": {"-1", "5"}, "low": {"1"},
	}
	names := []string{"type", "n", "on", "celsius", "site.floor", "big", "group", "small", "low"}
	var rules []Rule
	for i := range 300 {
		r := Rule{ID: fmt.Sprint("r", i), When: "true", Select: map[string]Values{}}
		for range rnd.IntN(4) {
			name := names[rnd.IntN(len(names))]
			for range 1 + rnd.IntN(2) {
				r.Select[name] = append(r.Select[name], values[name][rnd.IntN(len(values[name]))])
			}
		}
		rules = append(rules, r)
	}
	s, err := Compile[reading](rules)
	require.NoError(t, err)
	is := func(r *reading, name, v string) bool {
		switch name {
		case "type":
			return r.Type == v
		case "n":
			return fmt.Sprint(r.N) == v
		case "on":
			return fmt.Sprint(r.On) == v
		case "celsius":
			return fmt.Sprint(r.Temp+0) == v
		case "site.floor":
			return fmt.Sprint(r.Site.Floor) == v
		case "big":
			return fmt.Sprint(r.Big) == v
		case "group":
			return r.Group == v
		case "small":
			return fmt.Sprint(r.Small) == v
		}
		return fmt.Sprint(r.Low+0) == v
	}
	hits := 0
	for range 300 {
		r := sampleReading(rnd)
		if r.Temp == 0 {
			r.Temp = 0
		}
		var got, want []string
		_, lists := s.index.match(unsafe.Pointer(&r), nil, nil)
		for _, l := range lists {
			for i := range l.rules {
				got = append(got, l.rules[i].m.ID)
			}
		}
		for _, rule := range rules {
			all := true
			for name, vs := range rule.Select {
				one := false
				for _, v := range vs {
					one = one || is(&r, name, v)
				}
				all = all && one
			}
			if all {
				want = append(want, rule.ID)
			}
		}
		require.ElementsMatch(t, want, got)
		hits += len(want)
	}
	require.Greater(t, hits, 3000)
}

func TestCompilerCompilesOnce(t *testing.T) {
	t.Parallel()
	c := NewCompiler[*reading]()
	a, b := Rule{ID: "a", When: "on"}, Rule{ID: "b", When: "celsius > 1", Parent: "a"}
	one, err := c.Set([]Rule{b, a})
	require.NoError(t, err)
	require.Equal(t, 2, one.Len())
	require.Equal(t, "a", one.rules[0].ID, "parents come first")
	same, err := c.Set([]Rule{a, b})
	require.NoError(t, err)
	require.Same(t, one, same)
	b.Severity = "critical"
	two, err := c.Set([]Rule{a, b, {ID: "c", When: "on", Off: true}})
	require.NoError(t, err)
	require.Equal(t, 2, two.Len(), "what is off is not in it")
	require.Same(t, one.byID["a"].compiled, two.byID["a"].compiled)
	require.NotSame(t, one.byID["b"].compiled, two.byID["b"].compiled)
	require.NotEqual(t, one.byID["b"].version, two.byID["b"].version)
	require.Error(t, c.Check(Change{Put: []Rule{{ID: "x", When: "nothing"}}}))
	require.NoError(t, c.Check(Change{Put: []Rule{{ID: "x", When: "on", Parent: "elsewhere"}}}))
	require.Error(t, c.Check(Change{Whole: true, Put: []Rule{{ID: "x", When: "on", Parent: "elsewhere"}}}))
	var ps Problems
	require.False(t, errors.As(nil, &ps))
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("rules:\n  - {id: a, when: on, select: {type: [pump]}, for: 30s, levels: [{when: n > 1, severity: x}], labels: {a: '{{.Key}}'}}\n"))
	f.Add([]byte("- id: a\n  when: |\n    on &&\n     celsius > 7\n  flapping: {changes: 3, within: 10m}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Load[reading]("f", data)
		require.True(t, err != nil || s != nil)
	})
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

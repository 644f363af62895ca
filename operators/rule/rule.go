// Package rule is the vocabulary of operators.Rules: threshold and state rules that people write as YAML and change while a topology runs,
// and the alarms that come of them.
//
//	rules:
//	  - id: overheat
//	    select: {type: [pump, fan], metric: temperature}
//	    when: celsius > 90 && !maintenance
//	    clear: celsius < 80
//	    for: 30s
//	    severity: warning
//	    levels: [{when: celsius > 110, severity: critical}]
//	    message: "{{.Key}} is at {{.Record.Celsius}} °C"
//
// Expressions are those of github.com/expr-lang/expr, compiled against the record's type: a name or a type that does not fit is found when
// the rules are read. See docs/operators/rules.md for what each field means.
package rule

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Rule says when an alarm is raised and when it is cleared. The zero value of a field is as if it were not there.
type Rule struct {
	// ID names the rule: in alarms, in the state, as a parent. Required, unique, at most 200 bytes.
	ID string `yaml:"id" json:"id"`
	// Description is for people.
	Description string `yaml:"description,omitempty" json:"description,omitempty"`
	// Version is shown in alarms. Defaults to a hash of the rule.
	Version string `yaml:"version,omitempty" json:"version,omitempty"`
	// Off takes the rule out of force without deleting it.
	Off bool `yaml:"off,omitempty" json:"off,omitempty"`
	// Select chooses the records that the rule is evaluated for: fields of the record and the values that they may have, all of which must
	// fit. It is looked up in an index, so that rules for other devices cost nothing. A field is a string, a number or a bool, at most 4 of them.
	Select map[string]Values `yaml:"select,omitempty" json:"select,omitempty"`
	// When is the condition, an expression that is true or false. Required.
	When string `yaml:"when" json:"when"`
	// Clear is the condition that clears a raised alarm, where When is not true at the same time. Defaults to When not being true.
	Clear string `yaml:"clear,omitempty" json:"clear,omitempty"`
	// For is how long When must have been true, without a record in between for which it was not. Defaults to 0.
	For time.Duration `yaml:"for,omitempty" json:"for,omitempty"`
	// Count is for how many records in a row When must have been true. Defaults to 1.
	Count int `yaml:"count,omitempty" json:"count,omitempty"`
	// Cooldown is how long after it was cleared an alarm is not raised again; what still holds then is raised then. Defaults to 0.
	Cooldown time.Duration `yaml:"cooldown,omitempty" json:"cooldown,omitempty"`
	// Flapping replaces alarms that come and go by one that says so.
	Flapping *Flapping `yaml:"flapping,omitempty" json:"flapping,omitempty"`
	// Parent is the id of a rule that suppresses this one: while it has an alarm under the same key, this one raises and updates none.
	Parent string `yaml:"parent,omitempty" json:"parent,omitempty"`
	// Severity is any word. Defaults to "warning".
	Severity string `yaml:"severity,omitempty" json:"severity,omitempty"`
	// Levels are severities by condition: the first whose condition is true counts instead of Severity. It can change while the alarm lasts.
	Levels []Level `yaml:"levels,omitempty" json:"levels,omitempty"`
	// Update is an expression: when its result changes while the alarm lasts, the alarm is updated. Without it only another severity,
	// version or flapping updates an alarm.
	Update string `yaml:"update,omitempty" json:"update,omitempty"`
	// Labels are given to the alarm. Values may be templates, as Message.
	Labels map[string]string `yaml:"labels,omitempty" json:"labels,omitempty"`
	// Message is a template of package text/template over a Message. Defaults to the id and the condition.
	Message string `yaml:"message,omitempty" json:"message,omitempty"`
}

// Level is a severity for when a condition is true.
type Level struct {
	When     string `yaml:"when" json:"when"`
	Severity string `yaml:"severity,omitempty" json:"severity"`
}

// Flapping says when an alarm comes and goes too often.
type Flapping struct {
	// Changes is how many times the alarm must have been raised or cleared. At least 2, at most 100.
	Changes int `yaml:"changes,omitempty" json:"changes"`
	// Within is the time in which.
	Within time.Duration `yaml:"within,omitempty" json:"within"`
	// Stable is how long the condition must not have changed for the flapping to be over. Defaults to Within.
	Stable time.Duration `yaml:"stable,omitempty" json:"stable,omitempty"`
}

// Values are one or several values of a field, as text.
type Values []string

// UnmarshalYAML takes a scalar or a sequence of scalars.
func (v *Values) UnmarshalYAML(unmarshal func(any) error) error {
	var one any
	if err := unmarshal(&one); err != nil {
		return err
	}
	return v.of(one)
}

// UnmarshalJSON takes a scalar or an array of scalars.
func (v *Values) UnmarshalJSON(b []byte) error {
	var one any
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	return v.of(one)
}

func (v *Values) of(one any) error {
	list, ok := one.([]any)
	if !ok {
		list = []any{one}
	}
	*v = make(Values, 0, len(list))
	for _, x := range list {
		switch x := x.(type) {
		case string:
			*v = append(*v, x)
		case float64:
			*v = append(*v, strconv.FormatFloat(x, 'g', -1, 64))
		case bool, int, int64, uint64:
			*v = append(*v, fmt.Sprint(x))
		default:
			return fmt.Errorf("%v is not a string, a number or a bool: list the values that the field may have", x)
		}
	}
	return nil
}

// hash identifies what the rule says.
func (r *Rule) hash() uint64 {
	b := make([]byte, 0, 512)
	str := func(texts ...string) {
		for _, s := range texts {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	num := func(ns ...int64) {
		for _, n := range ns {
			b = binary.AppendVarint(b, n)
		}
	}
	str(r.ID, r.Description, r.Version, r.When, r.Clear, r.Parent, r.Severity, r.Update, r.Message)
	num(int64(r.For), int64(r.Count), int64(r.Cooldown), int64(boolBits(r.Off)))
	if f := r.Flapping; f != nil {
		num(int64(f.Changes), int64(f.Within), int64(f.Stable))
	}
	num(int64(len(r.Levels)))
	for _, l := range r.Levels {
		str(l.When, l.Severity)
	}
	num(int64(len(r.Select)))
	for _, k := range slices.Sorted(maps.Keys(r.Select)) {
		str(k)
		num(int64(len(r.Select[k])))
		str(r.Select[k]...)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
		str(k, r.Labels[k])
	}
	return xxhash.Sum64(b)
}

// choice identifies what the rule selects.
func (r *Rule) choice() uint64 {
	b, err := json.Marshal(r.Select)
	if err != nil {
		return 0
	}
	return xxhash.Sum64(b)
}

// Change is what a control stream of rules carries. The zero value changes nothing.
type Change struct {
	// Whole says that Put is the whole set: rules that are not in it are removed.
	Whole bool `yaml:"whole" json:"whole,omitempty"`
	// Put adds rules; one with the id of a rule that is there takes its place.
	Put []Rule `yaml:"put" json:"put,omitempty"`
	// Remove takes rules out, by id. An id that is not there is passed over.
	Remove []string `yaml:"remove" json:"remove,omitempty"`
}

// Apply gives the rules that a change makes of others.
func (c *Change) Apply(to []Rule) []Rule {
	if c.Whole {
		return slices.Clone(c.Put)
	}
	at := make(map[string]int, len(to))
	rules := make([]Rule, 0, len(to)+len(c.Put))
	put := func(r Rule) {
		if i, ok := at[r.ID]; ok {
			rules[i] = r
			return
		}
		at[r.ID] = len(rules)
		rules = append(rules, r)
	}
	for _, r := range to {
		if !slices.Contains(c.Remove, r.ID) {
			put(r)
		}
	}
	for _, r := range c.Put {
		put(r)
	}
	return rules
}

// Equal tells whether two rules say the same.
func (r *Rule) Equal(other *Rule) bool { return r.hash() == other.hash() }

package rule

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unsafe"
)

// selection is one field of a rule's Select with the values it may have.
type selection struct {
	name  string // of the field, the Go path
	field plain
	texts []string // for strings
	bits  []uint64 // for numbers and bools
}

// selects compiles Select.
func (b *builder[T]) selects() {
	k := b.k
	if len(k.Select) > maxSelect {
		b.problem("select", fmt.Sprintf("it has %d fields, more than %d", len(k.Select), maxSelect), `move the others to "when"`)
		return
	}
	choices := 1
	for name, values := range k.Select {
		field := "select." + name
		s, problem := b.shape.selection(name)
		if problem != "" {
			b.problem(field, problem, b.shape.unknown(b.shape.t, name))
			continue
		}
		if len(values) == 0 {
			b.problem(field, "it has no values", "list the values that the field may have, or take it out")
		}
		choices *= max(len(values), 1)
		for _, v := range values {
			if err := s.add(v); err != nil {
				b.problem(field, fmt.Sprintf("%q is not a value of the field, which is a %v", v, s.field.t), "write one of its type")
			}
		}
		k.selects = append(k.selects, s)
	}
	if choices > maxChoices {
		b.problem("select", fmt.Sprintf("it has %d combinations of values, more than %d", choices, maxChoices), `move a field to "when"`)
	}
	slices.SortFunc(k.selects, func(a, b selection) int { return strings.Compare(a.name, b.name) })
}

// selection finds a field by its path.
func (s *shape) selection(path string) (selection, string) {
	at := plain{0, s.t}
	var names []string
	for _, name := range strings.Split(path, ".") {
		f, ok := s.lookup(at.t, name)
		if !ok {
			return selection{}, fmt.Sprintf("unknown field %q", name)
		}
		if at, ok = s.plainIn(at, name); !ok {
			return selection{}, "a pointer leads to the field"
		}
		names = append(names, f.Name)
	}
	switch at.t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return selection{name: strings.Join(names, "."), field: at}, ""
	}
	return selection{}, fmt.Sprintf("the field is a %v, not a string, a number or a bool", at.t)
}

// add takes a value that the field may have.
func (s *selection) add(v string) error {
	switch k := s.field.t.Kind(); {
	case k == reflect.String:
		s.texts = append(s.texts, v)
	case k == reflect.Bool:
		b, err := strconv.ParseBool(v)
		if err != nil {
			return err
		}
		s.bits = append(s.bits, boolBits(b))
	case k == reflect.Float32 || k == reflect.Float64:
		f, err := strconv.ParseFloat(v, s.field.t.Bits())
		if err != nil {
			return err
		}
		s.bits = append(s.bits, floatBits(f))
	case k >= reflect.Uint && k <= reflect.Uint64:
		n, err := strconv.ParseUint(v, 10, s.field.t.Bits())
		if err != nil {
			return err
		}
		s.bits = append(s.bits, n)
	default:
		n, err := strconv.ParseInt(v, 10, s.field.t.Bits())
		if err != nil {
			return err
		}
		s.bits = append(s.bits, uint64(n))
	}
	return nil
}

func boolBits(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func floatBits(f float64) uint64 {
	if f == 0 { // both zeros
		return 0
	}
	return math.Float64bits(f)
}

// bitsAt reads a field that is not a string.
func bitsAt(k reflect.Kind, p unsafe.Pointer) uint64 {
	switch k {
	case reflect.Bool:
		return boolBits(*(*bool)(p))
	case reflect.Float32:
		return floatBits(float64(*(*float32)(p)))
	case reflect.Float64:
		return floatBits(*(*float64)(p))
	case reflect.Int8:
		return uint64(int64(*(*int8)(p)))
	case reflect.Int16:
		return uint64(int64(*(*int16)(p)))
	case reflect.Int32:
		return uint64(int64(*(*int32)(p)))
	case reflect.Int:
		return uint64(*(*int)(p))
	case reflect.Int64:
		return uint64(*(*int64)(p))
	case reflect.Uint8:
		return uint64(*(*uint8)(p))
	case reflect.Uint16:
		return uint64(*(*uint16)(p))
	case reflect.Uint32:
		return uint64(*(*uint32)(p))
	case reflect.Uint:
		return uint64(*(*uint)(p))
	default:
		return *(*uint64)(p)
	}
}

// index chooses the rules that select a record. Rules that select by the same fields share a table from the fields' values to the rules;
// a record is looked up once per such combination of fields, however many rules there are.
type index struct {
	fields []indexed
	tables []table
}

// indexed is a field that rules select by. Its values have numbers, from 1.
type indexed struct {
	offset uintptr
	kind   reflect.Kind
	texts  map[string]uint32
	bits   map[uint64]uint32
}

type choice [maxSelect]uint32

type table struct {
	fields []int
	rules  map[choice]*list
	all    *list // of the table without fields
}

// list are rules to be evaluated together, in order.
type list struct {
	rules  []candidate
	guards []guard
	// parents: one of them is another rule's parent.
	parents bool
}

// candidate is a rule of a list, with its share of the list's guards.
type candidate struct {
	m      *member
	ord    int32
	guards int32
	depth  int32
	exact  bool
}

func (l *list) add(m *member) *list {
	if l == nil {
		l = &list{}
	}
	if n := len(l.rules); n > 0 && l.rules[n-1].m == m { // a value may be listed twice
		return l
	}
	l.rules = append(l.rules, candidate{m, int32(m.ord), int32(len(m.when.guards)), int32(m.depth), m.when.exact})
	l.parents = l.parents || m.isParent
	l.guards = append(l.guards, m.when.guards...)
	return l
}

// newIndex makes the index of rules, which are in order.
func newIndex(rules []*member) index {
	var x index
	fields, tables := map[string]int{}, map[string]int{}
	for _, m := range rules {
		var name strings.Builder
		for _, s := range m.selects {
			name.WriteString(s.name + ",")
		}
		t, ok := tables[name.String()]
		if !ok {
			t = len(x.tables)
			tables[name.String()] = t
			x.tables = append(x.tables, table{rules: map[choice]*list{}})
			for _, s := range m.selects {
				f, ok := fields[s.name]
				if !ok {
					f = len(x.fields)
					fields[s.name] = f
					x.fields = append(x.fields, indexed{s.field.offset, s.field.t.Kind(), map[string]uint32{}, map[uint64]uint32{}})
				}
				x.tables[t].fields = append(x.tables[t].fields, f)
			}
		}
		x.add(&x.tables[t], m, 0, choice{})
	}
	return x
}

// add puts a rule under each combination of its values.
func (x *index) add(t *table, m *member, field int, c choice) {
	if len(m.selects) == 0 {
		t.all = t.all.add(m)
		return
	}
	if field == len(m.selects) {
		t.rules[c] = t.rules[c].add(m)
		return
	}
	f, s := &x.fields[t.fields[field]], &m.selects[field]
	for _, v := range s.texts {
		n, ok := f.texts[v]
		if !ok {
			n = uint32(len(f.texts) + 1)
			f.texts[v] = n
		}
		c[field] = n
		x.add(t, m, field+1, c)
	}
	for _, v := range s.bits {
		n, ok := f.bits[v]
		if !ok {
			n = uint32(len(f.bits) + 1)
			f.bits[v] = n
		}
		c[field] = n
		x.add(t, m, field+1, c)
	}
}

// match appends the lists of rules that select a record.
func (x *index) match(p unsafe.Pointer, ids []uint32, lists []*list) ([]uint32, []*list) {
	ids = ids[:0]
	for i := range x.fields {
		f := &x.fields[i]
		at := unsafe.Add(p, f.offset)
		if f.kind == reflect.String {
			ids = append(ids, f.texts[*(*string)(at)])
		} else {
			ids = append(ids, f.bits[bitsAt(f.kind, at)])
		}
	}
next:
	for i := range x.tables {
		t := &x.tables[i]
		if len(t.fields) == 0 {
			lists = append(lists, t.all)
			continue
		}
		var c choice
		for j, f := range t.fields {
			if ids[f] == 0 {
				continue next
			}
			c[j] = ids[f]
		}
		if l := t.rules[c]; l != nil {
			lists = append(lists, l)
		}
	}
	return ids, lists
}

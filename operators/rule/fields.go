package rule

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// fieldsOf are the names that expressions may use for the fields of a struct: the Go name, and those of the tags expr, yaml and json.
type fields struct {
	byName map[string]reflect.StructField
	names  []string // one per field, for messages
}

// shape is what is known of a record type: its struct, and whether records are pointers to it.
type shape struct {
	t       reflect.Type
	pointer bool
	cache   map[reflect.Type]*fields
}

func shapeOf(t reflect.Type) (*shape, error) {
	s := &shape{t: t, cache: map[reflect.Type]*fields{}}
	if t.Kind() == reflect.Pointer {
		s.t, s.pointer = t.Elem(), true
	}
	if s.t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("rules over %v: a record must be a struct, or a pointer to one", t)
	}
	return s, nil
}

func tagName(f *reflect.StructField, tag string) string {
	name, _, _ := strings.Cut(f.Tag.Get(tag), ",")
	if name == "-" {
		return ""
	}
	return name
}

// of gives the fields of a type, nil if it has none.
func (s *shape) of(t reflect.Type) *fields {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	if fs := s.cache[t]; fs != nil {
		return fs
	}
	fs := &fields{byName: map[string]reflect.StructField{}}
	visible := reflect.VisibleFields(t)
	for _, f := range visible {
		if !f.IsExported() {
			continue
		}
		fs.byName[f.Name] = f
		name := f.Name
		for _, tag := range []string{"json", "yaml"} {
			if n := tagName(&f, tag); n != "" {
				name = n
			}
		}
		if !f.Anonymous {
			fs.names = append(fs.names, name)
		}
	}
	for _, tag := range []string{"expr", "yaml", "json"} {
		for _, f := range visible {
			if n := tagName(&f, tag); n != "" && f.IsExported() {
				if _, ok := fs.byName[n]; !ok {
					fs.byName[n] = f
				}
			}
		}
	}
	s.cache[t] = fs
	return fs
}

// lookup finds the field of a struct by any of its names.
func (s *shape) lookup(t reflect.Type, name string) (reflect.StructField, bool) {
	fs := s.of(t)
	if fs == nil {
		return reflect.StructField{}, false
	}
	f, ok := fs.byName[name]
	return f, ok
}

// exprName is the name that the expression library knows a field by.
func exprName(f *reflect.StructField) string {
	if n := f.Tag.Get("expr"); n != "" {
		return n
	}
	return f.Name
}

// unknown says which names there are.
func (s *shape) unknown(t reflect.Type, name string) string {
	fs := s.of(t)
	if fs == nil || len(fs.names) == 0 {
		return "it has no fields"
	}
	names := slices.Clone(fs.names)
	slices.Sort(names)
	best, dist := "", 3
	for _, n := range names {
		if d := distance(strings.ToLower(n), strings.ToLower(name)); d < dist {
			best, dist = n, d
		}
	}
	has := "the record has " + strings.Join(names, ", ")
	if best != "" {
		return fmt.Sprintf("did you mean %q? %s", best, has)
	}
	return has
}

// distance is how many letters have to change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

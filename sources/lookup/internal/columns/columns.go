// Package columns finds the fields of a struct by the names of columns: of a table, a CSV file or a hash.
package columns

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Plan says where values of V take their columns from. A V that is no struct of columns takes one column, of any name.
type Plan struct {
	fields []Field
	single bool
}

// Field is one field of a struct, those of embedded structs included.
type Field struct {
	// Name is the column's: that of the tag, or the field's in snake case (DeviceID is device_id).
	Name  string
	index []int
	goes  string // the field's name in Go
}

// Of makes the plan of V, whose tags have the given key. A field with the tag "-" has no column.
func Of[V any](tag string) (*Plan, error) {
	t := reflect.TypeFor[V]()
	if !isRow(t) {
		return &Plan{single: true}, nil
	}
	p := &Plan{}
	if err := p.add(t, tag, nil); err != nil {
		return nil, err
	}
	if len(p.fields) == 0 {
		return nil, fmt.Errorf("%v has no exported field to fill", t)
	}
	seen := map[string]string{}
	for _, f := range p.fields {
		if other, ok := seen[f.Name]; ok {
			return nil, fmt.Errorf("fields %s and %s of %v have the same column %q: name them by the tag %s", other, f.goes, t, f.Name, tag)
		}
		seen[f.Name] = f.goes
	}
	return p, nil
}

// isRow tells structs of columns from structs that are one value.
func isRow(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]() &&
		!p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) && !p.Implements(reflect.TypeFor[scanner]())
}

// scanner is database/sql's Scanner.
type scanner interface{ Scan(src any) error }

func (p *Plan) add(t reflect.Type, tag string, at []int) error {
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(append([]int(nil), at...), i)
		name, tagged := f.Tag.Lookup(tag)
		if name == "-" {
			continue
		}
		if f.Anonymous && !tagged && isRow(f.Type) {
			if err := p.add(f.Type, tag, index); err != nil {
				return err
			}
			continue
		}
		if !f.IsExported() {
			if tagged {
				return fmt.Errorf("field %s of %v has a tag %s but is not exported: export it", f.Name, t, tag)
			}
			continue
		}
		if name == "" {
			name = snake(f.Name)
		}
		p.fields = append(p.fields, Field{name, index, f.Name})
	}
	return nil
}

// snake writes DeviceID as device_id.
func snake(s string) string {
	var b strings.Builder
	r := []rune(s)
	for i, c := range r {
		if unicode.IsUpper(c) && i > 0 && (!unicode.IsUpper(r[i-1]) || i+1 < len(r) && unicode.IsLower(r[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// Single tells whether V takes one column of any name.
func (p *Plan) Single() bool { return p.single }

// Names are the columns.
func (p *Plan) Names() []string {
	names := make([]string, len(p.fields))
	for i, f := range p.fields {
		names[i] = f.Name
	}
	return names
}

// Row says for each column of an answer which field it goes to.
type Row struct {
	fields []*Field // nil for a column that is not wanted
	single bool
}

// Resolve finds the fields of an answer's columns. A field without a column is an error, and so is a column without a field, unless
// more allows them.
func (p *Plan) Resolve(names []string, more bool) (*Row, error) {
	if p.single {
		if len(names) != 1 {
			return nil, fmt.Errorf("the columns are %s, but a value takes one: name it, or use a struct", strings.Join(names, ", "))
		}
		return &Row{single: true}, nil
	}
	row := &Row{fields: make([]*Field, len(names))}
	had := map[string]bool{}
	for i, n := range names {
		for j := range p.fields {
			if p.fields[j].Name == n {
				row.fields[i] = &p.fields[j]
			}
		}
		switch {
		case had[n] && row.fields[i] != nil:
			return nil, fmt.Errorf("column %q comes twice: leave one out", n)
		case row.fields[i] == nil && !more:
			return nil, fmt.Errorf("no field takes column %q: add one, or leave the column out (fields take %s)", n, strings.Join(p.Names(), ", "))
		}
		had[n] = true
	}
	for _, f := range p.fields {
		if !had[f.Name] {
			return nil, fmt.Errorf("field %s has no column %q among %s: add it, name another by the field's tag, or tag the field with \"-\"",
				f.goes, f.Name, strings.Join(names, ", "))
		}
	}
	return row, nil
}

// Pointers appends pointers to where the columns go in *v, a struct's fields or v itself.
func (r *Row) Pointers(v any, to []any) []any {
	if r.single {
		return append(to, v)
	}
	s := reflect.ValueOf(v).Elem()
	for _, f := range r.fields {
		if f == nil {
			to = append(to, new(any))
			continue
		}
		to = append(to, s.FieldByIndex(f.index).Addr().Interface())
	}
	return to
}

// SetText fills *v from the texts of the columns.
func (r *Row) SetText(v any, texts []string) error {
	s := reflect.ValueOf(v).Elem()
	if r.single {
		return setText(s, texts[0])
	}
	for i, f := range r.fields {
		if f == nil {
			continue
		}
		if err := setText(s.FieldByIndex(f.index), texts[i]); err != nil {
			return fmt.Errorf("column %q: %w", f.Name, err)
		}
	}
	return nil
}

// SetFields fills *v from a hash: names that no field takes are left out, fields without a name stay zero.
func (p *Plan) SetFields(v any, hash map[string]string) error {
	s := reflect.ValueOf(v).Elem()
	for i := range p.fields {
		f := &p.fields[i]
		text, ok := hash[f.Name]
		if !ok {
			continue
		}
		if err := setText(s.FieldByIndex(f.index), text); err != nil {
			return fmt.Errorf("field %q: %w", f.Name, err)
		}
	}
	return nil
}

func setText(v reflect.Value, text string) error {
	if v.Kind() == reflect.Pointer {
		if text == "" {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return setText(v.Elem(), text)
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("%q is no %v: %w", text, v.Type(), err)
		}
		return nil
	}
	var err error
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		var d time.Duration
		d, err = time.ParseDuration(text)
		v.SetInt(int64(d))
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		var is bool
		is, err = strconv.ParseBool(text)
		v.SetBool(is)
	case v.CanInt():
		var n int64
		n, err = strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(n)
	case v.CanUint():
		var n uint64
		n, err = strconv.ParseUint(text, 10, v.Type().Bits())
		v.SetUint(n)
	case v.CanFloat():
		var x float64
		x, err = strconv.ParseFloat(text, v.Type().Bits())
		v.SetFloat(x)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		v.SetBytes([]byte(text))
	default:
		return fmt.Errorf("a %v cannot be read from text: give it a method UnmarshalText", v.Type())
	}
	if ne := (*strconv.NumError)(nil); errors.As(err, &ne) {
		err = ne.Err
	}
	if err != nil {
		return fmt.Errorf("%q is no %v: %w", text, v.Type(), err)
	}
	return nil
}

// Textual finds fields that SetText cannot fill.
func (p *Plan) Textual(t reflect.Type) error {
	if p.single {
		return textual(t)
	}
	for _, f := range p.fields {
		if err := textual(t.FieldByIndex(f.index).Type); err != nil {
			return fmt.Errorf("field %s: %w", f.goes, err)
		}
	}
	return nil
}

func textual(t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	v := reflect.New(t).Elem()
	if _, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok || v.CanInt() || v.CanUint() || v.CanFloat() {
		return nil
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool:
		return nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return nil
		}
	}
	return fmt.Errorf("a %v cannot be read from text: give it a method UnmarshalText", t)
}

package rule

import (
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"text/template"
)

// text is a fixed text or a template.
type text struct {
	fixed string
	tmpl  *template.Template
}

// templateAt finds the place in the messages of package text/template: "template: name:line:column: what".
var templateAt = regexp.MustCompile(`^template: [^:]*:(\d+)(?::(\d+))?: (?:executing "[^"]*" at )?`)

func compileText[T any](field, s string) (text, *Problem) {
	if !strings.Contains(s, "{{") {
		return text{fixed: s}, nil
	}
	bad := func(err error) *Problem {
		p := &Problem{Field: field, What: err.Error(), Cure: "a template has .Record with the Go names of its fields, .Key, .Device, .Rule, .Severity, .Labels, .Since, .At"}
		if m := templateAt.FindStringSubmatch(p.What); m != nil {
			p.What = p.What[len(m[0]):]
			p.line, p.col = number(m[1]), number(m[2])+1
		}
		return p
	}
	t, err := template.New("message").Parse(s)
	if err != nil {
		return text{}, bad(err)
	}
	// A name that the record does not have is found by trying.
	sample := Message[T]{Key: "", Labels: map[string]string{}}
	fill(reflect.ValueOf(&sample.Record).Elem(), 0)
	if err := t.Execute(io.Discard, sample); err != nil && strings.Contains(err.Error(), "can't evaluate field") {
		return text{}, bad(err)
	}
	return text{tmpl: t}, nil
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// fill makes pointers lead somewhere, so that templates can be tried.
func fill(v reflect.Value, depth int) {
	if depth > 5 || !v.CanSet() {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), depth+1)
		}
	}
}

// render never fails: what goes wrong stands in the text.
func (t *text) render(data any) (string, error) {
	if t.tmpl == nil {
		return t.fixed, nil
	}
	var b strings.Builder
	if err := t.tmpl.Execute(&b, data); err != nil {
		b.WriteString(" (" + err.Error() + ")")
		return b.String(), err
	}
	return b.String(), nil
}

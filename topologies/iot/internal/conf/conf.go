// Package conf fills a configuration struct from a YAML file and the environment, strictly: an unknown key, a value of the
// wrong kind or out of range is an error that names the key, its place and what is allowed. Nothing is silently ignored.
//
// Fields carry tags: yaml (the key, snake_case), min and max (inclusive bounds of numbers, durations and sizes), oneof (allowed
// words, separated by commas), required ("true": not empty), doc (one line for the printed configuration). Fields without a yaml tag
// are left alone. A field may be a
// string, bool, int, int64, uint64, float64, time.Duration, Size, Secret, []string, or a struct of these.
package conf

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Error is one thing that is wrong with a configuration.
type Error struct {
	// Key is the full name of the key, "mqtt.broker".
	Key string
	// Place says where the value stands: "iot.yaml:3:11", or "environment variable MILLRACE_IOT_MQTT_BROKER".
	Place string
	// What is wrong, and what is allowed.
	What string
}

// Error puts the parts in one line.
func (e *Error) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s: %s", e.Place, e.What)
	}
	return fmt.Sprintf("%s: %s: %s", e.Place, e.Key, e.What)
}

// Origins tells for each key that was set where that was.
type Origins map[string]string

// Of returns where key was set, "default" if nowhere.
func (o Origins) Of(key string) string {
	if p, ok := o[key]; ok {
		return p
	}
	return "default"
}

// Input is where a configuration comes from.
type Input struct {
	// File is the name of Text, for errors.
	File string
	// Text is the YAML.
	Text []byte
	// Environ are entries "NAME=value"; those whose name starts with Prefix count, and override the file.
	Prefix  string
	Environ []string
	// Flags override both.
	Flags []Flag
}

// Flag is a setting from the command line: "-rate 100" is {"simulate.rate", "100", "flag -rate"}.
type Flag struct{ Key, Value, Place string }

// Load fills the struct that cfg points to, which holds the defaults. All problems are reported, joined.
func Load(cfg any, in Input) (Origins, error) {
	l := &loader{file: in.File, origins: Origins{}}
	root := reflect.ValueOf(cfg).Elem()
	l.yaml(root, in.Text)
	l.env(root, in.Prefix, in.Environ)
	keys := Keys(root.Type())
	for _, f := range in.Flags {
		if !slices.Contains(keys, f.Key) {
			l.fail(f.Place, f.Key, "unknown key%s; allowed are %s", suggest(f.Key, keys), strings.Join(keys, ", "))
			continue
		}
		l.setText(root, f.Key, f.Value, f.Place)
	}
	l.required(root, "")
	return l.origins, errors.Join(l.errs...)
}

type loader struct {
	file    string
	origins Origins
	errs    []error
}

func (l *loader) fail(place, key, format string, args ...any) {
	l.errs = append(l.errs, &Error{Key: key, Place: place, What: fmt.Sprintf(format, args...)})
}

func (l *loader) at(n ast.Node) string {
	p := n.GetToken().Position
	return fmt.Sprintf("%s:%d:%d", l.file, p.Line, p.Column)
}

func (l *loader) yaml(root reflect.Value, text []byte) {
	if len(strings.TrimSpace(string(text))) == 0 {
		return
	}
	doc, err := parser.ParseBytes(text, 0)
	if err != nil {
		l.errs = append(l.errs, syntaxError(l.file, err))
		return
	}
	if len(doc.Docs) > 1 {
		l.fail(l.at(doc.Docs[1].Body), "", "a second YAML document: only one is allowed")
		return
	}
	if body := doc.Docs[0].Body; body != nil {
		l.node(root, "", body, "")
	}
}

// node sets v, the field of key, from n.
func (l *loader) node(v reflect.Value, tag reflect.StructTag, n ast.Node, key string) {
	switch n := n.(type) {
	case *ast.NullNode, *ast.CommentGroupNode:
		return // a key without a value keeps its default
	case *ast.AnchorNode, *ast.AliasNode:
		l.fail(l.at(n), key, "anchors and aliases are not supported: write the value")
		return
	}
	if v.Kind() == reflect.Struct {
		l.mapping(v, n, key)
		return
	}
	place := l.at(n)
	if v.Kind() == reflect.Slice {
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			l.fail(place, key, "%s is not a list: write %s: [a, b]", describe(n), last(key))
			return
		}
		list := make([]string, 0, len(seq.Values))
		for i, e := range seq.Values {
			text, ok := scalar(e)
			if !ok {
				l.fail(l.at(e), fmt.Sprintf("%s[%d]", key, i), "%s is not a text", describe(e))
				return
			}
			list = append(list, text)
		}
		v.Set(reflect.ValueOf(list))
		l.origins[key] = place
		return
	}
	text, ok := scalar(n)
	if !ok {
		l.fail(place, key, "%s is not %s", describe(n), kindOf(v))
		return
	}
	l.set(v, tag, text, place, key)
}

func (l *loader) mapping(v reflect.Value, n ast.Node, key string) {
	var entries []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	default:
		l.fail(l.at(n), key, "%s is not a section: its keys are %s", describe(n), strings.Join(keysOf(v.Type()), ", "))
		return
	}
	for _, e := range entries {
		name := e.Key.GetToken().Value
		f, tag, ok := field(v, name)
		if !ok {
			l.fail(l.at(e.Key), join(key, name), "unknown key%s; allowed here: %s", suggest(name, keysOf(v.Type())), strings.Join(keysOf(v.Type()), ", "))
			continue
		}
		l.node(f, tag, e.Value, join(key, name))
	}
}

func (l *loader) set(v reflect.Value, tag reflect.StructTag, text, place, key string) {
	if what := parse(v, tag, text); what != "" {
		l.fail(place, key, "%s", what)
		return
	}
	l.origins[key] = place
}

// env sets the fields that environment entries name: prefix, then the key in capitals with "_" for ".". Lists are separated by commas.
func (l *loader) env(root reflect.Value, prefix string, environ []string) {
	byName := map[string]string{}
	var names []string
	for _, key := range Keys(root.Type()) {
		name := EnvName(prefix, key)
		byName[name] = key
		names = append(names, name)
	}
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		place := "environment variable " + name
		key, ok := byName[name]
		if !ok {
			l.fail(place, "", "no such setting%s; names are %s and the key in capitals, for instance %s", suggest(name, names), prefix, names[0])
			continue
		}
		l.setText(root, key, text, place)
	}
}

// setText sets a setting from a text outside of YAML: lists are separated by commas.
func (l *loader) setText(root reflect.Value, key, text, place string) {
	v, tag := lookup(root, key)
	if v.Kind() != reflect.Slice {
		l.set(v, tag, text, place, key)
		return
	}
	var list []string
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, s)
		}
	}
	v.Set(reflect.ValueOf(list))
	l.origins[key] = place
}

func (l *loader) required(root reflect.Value, prefix string) {
	for i := range root.NumField() {
		f, v := root.Type().Field(i), root.Field(i)
		if f.Tag.Get("yaml") == "" {
			continue
		}
		key := join(prefix, f.Tag.Get("yaml"))
		if v.Kind() == reflect.Struct {
			l.required(v, key)
			continue
		}
		if f.Tag.Get("required") == "true" && (v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0) {
			place := l.file
			if p, ok := l.origins[key]; ok {
				place = p
			}
			l.fail(place, key, "must not be empty")
		}
	}
}

// Keys lists the full names of all settings of a configuration type, in order of its fields.
func Keys(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		if name == "" {
			continue
		}
		if f.Type.Kind() == reflect.Struct {
			for _, k := range Keys(f.Type) {
				keys = append(keys, name+"."+k)
			}
			continue
		}
		keys = append(keys, name)
	}
	return keys
}

// EnvName is the name of the environment variable for a key.
func EnvName(prefix, key string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func lookup(root reflect.Value, key string) (v reflect.Value, tag reflect.StructTag) {
	v = root
	for part := range strings.SplitSeq(key, ".") {
		v, tag, _ = field(v, part)
	}
	return v, tag
}

func field(v reflect.Value, name string) (reflect.Value, reflect.StructTag, bool) {
	if name == "" {
		return reflect.Value{}, "", false
	}
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Tag.Get("yaml") == name {
			return v.Field(i), f.Tag, true
		}
	}
	return reflect.Value{}, "", false
}

func keysOf(t reflect.Type) []string {
	keys := make([]string, 0, t.NumField())
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func join(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}

func last(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }

func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a section"
	case *ast.SequenceNode:
		return "a list"
	}
	if text, ok := scalar(n); ok {
		return fmt.Sprintf("%q", text)
	}
	return n.Type().String()
}

// syntaxError takes line and column out of the parser's error, so that the place leads the line as everywhere else.
func syntaxError(file string, err error) error {
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil {
		p := y.GetToken().Position
		return &Error{Place: fmt.Sprintf("%s:%d:%d", file, p.Line, p.Column), What: "not valid YAML: " + y.GetMessage()}
	}
	return &Error{Place: file, What: "not valid YAML: " + strings.SplitN(err.Error(), "\n", 2)[0]}
}

// suggest names the closest allowed key, if one is close enough to be meant.
func suggest(name string, allowed []string) string {
	best, found := 3, ""
	for _, a := range allowed {
		if d := distance(name, a); d < best {
			best, found = d, a
		}
	}
	if found == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", found)
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

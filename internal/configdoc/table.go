// Package configdoc writes the tables of configuration in the documentation, from the structs themselves: key, type, default and
// meaning of every field with a yaml tag.
package configdoc

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
)

// Module is this module's path, by which imports are found in its folders.
const Module = "github.com/millrace-stream/millrace"

// Field is a row of a table.
type Field struct{ Key, Type, Default, Doc string }

// Loader reads structs out of the packages of a module's folder. It is not safe for concurrent use.
type Loader struct {
	root string
	pkgs map[string]*pkg
}

type pkg struct {
	types   map[string]*ast.TypeSpec
	imports map[*ast.TypeSpec]map[string]string // name of an import to its folder
}

// NewLoader reads below root, the module's folder.
func NewLoader(root string) *Loader { return &Loader{root, map[string]*pkg{}} }

// Fields are the fields of a struct, given as folder.Type ("sources/kafka.Config"), those of embedded and nested structs included, in order.
func (l *Loader) Fields(name string) ([]Field, error) {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return nil, fmt.Errorf("%q is not of the form folder.Type", name)
	}
	return l.fields(name[:dot], name[dot+1:], "")
}

func (l *Loader) load(dir string) (*pkg, error) {
	if p := l.pkgs[dir]; p != nil {
		return p, nil
	}
	files, err := filepath.Glob(filepath.Join(l.root, dir, "*.go"))
	if err != nil {
		return nil, err
	}
	p := &pkg{types: map[string]*ast.TypeSpec{}, imports: map[*ast.TypeSpec]map[string]string{}}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		imports := map[string]string{}
		for _, i := range f.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			if rest, ok := strings.CutPrefix(path, Module+"/"); ok {
				name := filepath.Base(rest)
				if i.Name != nil {
					name = i.Name.Name
				}
				imports[name] = rest
			}
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				if t, ok := s.(*ast.TypeSpec); ok {
					p.types[t.Name.Name], p.imports[t] = t, imports
				}
			}
		}
	}
	l.pkgs[dir] = p
	return p, nil
}

// find follows aliases and selectors to a struct; nil when the type is none of this module's structs.
func (l *Loader) find(dir string, e ast.Expr, imports map[string]string) (string, *ast.TypeSpec, error) {
	switch e := e.(type) {
	case *ast.StarExpr:
		return l.find(dir, e.X, imports)
	case *ast.Ident:
		p, err := l.load(dir)
		if err != nil {
			return "", nil, err
		}
		t := p.types[e.Name]
		if t == nil {
			return "", nil, nil
		}
		if _, ok := t.Type.(*ast.StructType); ok {
			return dir, t, nil
		}
		return l.find(dir, t.Type, p.imports[t])
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			if to := imports[x.Name]; to != "" {
				return l.find(to, e.Sel, nil)
			}
		}
	}
	return "", nil, nil
}

func (l *Loader) fields(dir, name, prefix string) ([]Field, error) {
	dir, t, err := l.find(dir, ast.NewIdent(name), nil)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, fmt.Errorf("%s: no struct %s", dir, name)
	}
	imports := l.pkgs[dir].imports[t]
	var rows []Field
	for _, f := range t.Type.(*ast.StructType).Fields.List {
		if f.Tag == nil {
			continue
		}
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml")
		key, rest, _ := strings.Cut(tag, ",")
		if tag == "" || key == "-" {
			continue
		}
		inDir, in, err := l.find(dir, f.Type, imports)
		if err != nil {
			return nil, err
		}
		if in != nil && hasYAML(in) {
			sub := prefix + key + "."
			if strings.Contains(rest, "inline") {
				sub = prefix
			} else if text := words(f.Doc); text != "" {
				rows = append(rows, Field{prefix + key, "section", "", text})
			}
			more, err := l.fields(inDir, in.Name.Name, sub)
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
			continue
		}
		doc, def := split(plain(f, words(f.Doc)))
		if doc == "" {
			if len(rows) == 0 {
				return nil, fmt.Errorf("%s.%s: the field %s has no comment", dir, name, key)
			}
			doc = fmt.Sprintf("See `%s`.", rows[len(rows)-1].Key) // a comment for several fields
		}
		rows = append(rows, Field{prefix + key, typeOf(f.Type), def, doc})
	}
	return rows, nil
}

func hasYAML(t *ast.TypeSpec) bool {
	for _, f := range t.Type.(*ast.StructType).Fields.List {
		if f.Tag != nil && strings.Contains(f.Tag.Value, "yaml:") {
			return true
		}
	}
	return false
}

// plain takes the field's name from the front of its comment: "Topic is read whole" stays a sentence without it.
func plain(f *ast.Field, doc string) string {
	if len(f.Names) == 0 {
		return doc
	}
	for _, verb := range []string{" is ", " are ", " says ", " tells ", " "} {
		if rest, ok := strings.CutPrefix(doc, f.Names[0].Name+verb); ok && rest != "" {
			return strings.ToUpper(rest[:1]) + rest[1:]
		}
	}
	return doc
}

func words(g *ast.CommentGroup) string { return strings.Join(strings.Fields(g.Text()), " ") }

var defaults = regexp.MustCompile(`\s*Defaults to ((?:[^.]|\.\S)+)\.`)

// split takes the sentence with the default out of a comment.
func split(doc string) (rest, def string) {
	if strings.HasSuffix(doc, " Required.") || doc == "Required." {
		return strings.TrimSpace(strings.TrimSuffix(doc, "Required.")), "required"
	}
	m := defaults.FindStringSubmatch(doc)
	if m == nil {
		return doc, ""
	}
	return strings.TrimSpace(strings.Replace(doc, m[0], "", 1)), m[1]
}

func typeOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return strings.ToLower(e.Name)
	case *ast.StarExpr:
		return typeOf(e.X)
	case *ast.SelectorExpr:
		return strings.ToLower(e.Sel.Name)
	case *ast.ArrayType:
		return "list of " + typeOf(e.Elt)
	case *ast.MapType:
		return "map of " + typeOf(e.Value)
	}
	return ""
}

// Table is the fields as a Markdown table.
func Table(fields []Field) string {
	var b strings.Builder
	b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
	escape := strings.NewReplacer("|", `\|`, "\n", " ")
	for _, f := range fields {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Key, f.Type, escape.Replace(f.Default), escape.Replace(f.Doc))
	}
	return b.String()
}

var marker = regexp.MustCompile(`(?s)(<!-- config: (\S+) -->\n).*?(<!-- /config -->)`)

// Fill returns a page with the table between each pair of marks "<!-- config: folder.Type -->" and "<!-- /config -->" written anew.
func (l *Loader) Fill(page string) (string, error) {
	var failed error
	out := marker.ReplaceAllStringFunc(page, func(s string) string {
		m := marker.FindStringSubmatch(s)
		fields, err := l.Fields(m[2])
		if err != nil {
			failed = err
			return s
		}
		return m[1] + Table(fields) + m[3]
	})
	return out, failed
}

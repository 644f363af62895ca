package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"unicode"
)

// shape is what a type looks like in JSON.
type shape int

const (
	shapeString shape = iota
	shapeBool
	shapeInt
	shapeUint
	shapeFloat
	shapeTime
	shapeBytes
	shapeRaw
	shapeStruct
	shapePointer
	shapeSlice
	shapeArray
)

// typ is a type to write code for.
type typ struct {
	shape shape
	// text is the type as it stands in Go; base is set where that is a predeclared one.
	text string
	base bool
	// name is what its functions are called by: decodeNAME, appendNAME.
	name string
	// elem is what a pointer, slice or array is of.
	elem *typ
	// fields of a struct.
	fields []field
	// unit of a time: "" for RFC 3339.
	unit string
}

type field struct {
	goName    string
	name      string
	typ       *typ
	omitEmpty bool
	omitZero  bool
}

// source is a parsed package.
type source struct {
	pkg     string
	fset    *token.FileSet
	decls   map[string]*ast.TypeSpec
	of      map[string]*ast.File // the file that declares a type
	methods map[string]string    // a method that makes the type marshal itself
	structs map[string]*typ
	order   []*typ // structs, pointers, slices and arrays: those with functions of their own
}

// load parses the files of file's package in its folder; test files only when it is one. skip is not read.
func load(file, skip string) (*source, error) {
	s := &source{fset: token.NewFileSet(), decls: map[string]*ast.TypeSpec{}, of: map[string]*ast.File{},
		methods: map[string]string{}, structs: map[string]*typ{}}
	head, err := parser.ParseFile(s.fset, file, nil, parser.PackageClauseOnly)
	if err != nil {
		return nil, err
	}
	s.pkg = head.Name.Name
	paths, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*.go"))
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		if sameFile(p, skip) || strings.HasSuffix(p, "_test.go") && !strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(s.fset, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		if f.Name.Name == s.pkg {
			s.read(f)
		}
	}
	return s, nil
}

func sameFile(a, b string) bool {
	x, err1 := filepath.Abs(a)
	y, err2 := filepath.Abs(b)
	return err1 == nil && err2 == nil && x == y
}

func (s *source) read(f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if t, ok := spec.(*ast.TypeSpec); ok {
					s.decls[t.Name.Name] = t
					s.of[t.Name.Name] = f
				}
			}
		case *ast.FuncDecl:
			switch d.Name.Name {
			case "MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText":
				if d.Recv != nil {
					s.methods[receiver(d.Recv.List[0].Type)] = d.Name.Name
				}
			}
		}
	}
}

func receiver(e ast.Expr) string {
	if p, ok := e.(*ast.StarExpr); ok {
		e = p.X
	}
	if id, ok := e.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

// root finds a struct by name.
func (s *source) root(name string) (*typ, error) {
	spec := s.decls[name]
	if spec == nil {
		return nil, fmt.Errorf("package %s has no type %s in the folder of the file: check the name", s.pkg, name)
	}
	t, err := s.resolve(spec.Name, s.of[name], name, "")
	if err != nil {
		return nil, err
	}
	if t.shape != shapeStruct {
		return nil, fmt.Errorf("%s is not a struct: name a struct, or use codec.JSON", name)
	}
	return t, nil
}

var predeclared = map[string]shape{
	"string": shapeString, "bool": shapeBool, "int": shapeInt, "int8": shapeInt, "int16": shapeInt, "int32": shapeInt,
	"int64": shapeInt, "rune": shapeInt, "uint": shapeUint, "uint8": shapeUint, "uint16": shapeUint, "uint32": shapeUint, "uint64": shapeUint,
	"uintptr": shapeUint, "byte": shapeUint, "float32": shapeFloat, "float64": shapeFloat,
}

// resolve makes a typ of an expression in file f. name is for its functions, unit is its field's tag.
func (s *source) resolve(e ast.Expr, f *ast.File, name, unit string) (*typ, error) {
	t := &typ{text: s.text(e), name: name}
	switch e := e.(type) {
	case *ast.ParenExpr:
		return s.resolve(e.X, f, name, unit)
	case *ast.Ident:
		if spec := s.decls[e.Name]; spec != nil {
			return s.named(spec, name, unit)
		}
		sh, ok := predeclared[e.Name]
		if !ok {
			return nil, fmt.Errorf("the type %s is not supported: use a concrete one, tag the field `json:\"-\"`, or use codec.JSON", e.Name)
		}
		t.shape, t.base = sh, true
		return t, nil
	case *ast.SelectorExpr:
		switch s.imported(e, f) {
		case "time.Time":
			t.shape, t.unit, t.text = shapeTime, unit, "time.Time"
			return t, nil
		case "encoding/json.RawMessage":
			t.shape, t.text = shapeRaw, "json.RawMessage"
			return t, nil
		}
		return nil, fmt.Errorf("the type %s of another package is not supported: only time.Time and json.RawMessage are; declare a type of this package, or use codec.JSON", t.text)
	case *ast.StarExpr:
		t.shape = shapePointer
		return t, s.of1(t, e.X, f, unit)
	case *ast.ArrayType:
		t.shape = shapeArray
		if e.Len == nil {
			t.shape = shapeSlice
			if id, ok := e.Elt.(*ast.Ident); ok && (id.Name == "byte" || id.Name == "uint8") && s.decls[id.Name] == nil {
				t.shape = shapeBytes
				return t, nil
			}
		}
		return t, s.of1(t, e.Elt, f, unit)
	case *ast.StructType:
		t.shape = shapeStruct
		return t, s.fill(t, e, f)
	}
	return nil, fmt.Errorf("the type %s is not supported: maps, interfaces, channels and functions have no known fields; use codec.JSON", t.text)
}

// of1 resolves what t is made of.
func (s *source) of1(t *typ, e ast.Expr, f *ast.File, unit string) (err error) {
	t.elem, err = s.resolve(e, f, t.name+"Element", unit)
	if err == nil && t.shape == shapeSlice && t.elem.shape == shapeUint && (t.elem.text == "byte" || t.elem.text == "uint8") {
		err = fmt.Errorf("the type %s is not supported: use []byte", t.text)
	}
	if err == nil {
		// Spelled anew: the source's file may know packages by other names.
		switch t.shape {
		case shapePointer:
			t.text = "*" + t.elem.text
		case shapeSlice:
			t.text = "[]" + t.elem.text
		case shapeArray:
			t.text = t.text[:strings.Index(t.text, "]")+1] + t.elem.text
		}
	}
	s.order = append(s.order, t)
	return err
}

func (s *source) named(spec *ast.TypeSpec, name, unit string) (*typ, error) {
	n := spec.Name.Name
	if m := s.methods[n]; m != "" {
		return nil, fmt.Errorf("%s has a method %s of its own, which generated code would not call: use codec.JSON", n, m)
	}
	if spec.TypeParams != nil {
		return nil, fmt.Errorf("the type %s has type parameters: name a type without", n)
	}
	if t := s.structs[n]; t != nil {
		return t, nil
	}
	if st, ok := spec.Type.(*ast.StructType); ok {
		t := &typ{shape: shapeStruct, text: n, name: upper(n)}
		s.structs[n] = t
		return t, s.fill(t, st, s.of[n])
	}
	under, err := s.resolve(spec.Type, s.of[n], name, unit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n, err)
	}
	if under.shape == shapeTime && !spec.Assign.IsValid() {
		return nil, fmt.Errorf("%s is a type of its own made of time.Time, which encoding/json does not read as a time: use time.Time", n)
	}
	if spec.Assign.IsValid() || under.shape == shapeStruct {
		return under, nil
	}
	if under.shape == shapeBytes || under.shape == shapeRaw || under.shape == shapePointer {
		return nil, fmt.Errorf("%s is a named %s, which is not supported: use that itself", n, under.text)
	}
	if under.elem == nil {
		own := *under
		own.text, own.base = n, false
		return &own, nil
	}
	under.text = n // its functions take the named type
	return under, nil
}

func (s *source) fill(t *typ, st *ast.StructType, f *ast.File) error {
	taken := map[string]bool{}
	for _, fd := range st.Fields.List {
		tag := reflect.StructTag("")
		if fd.Tag != nil {
			raw, err := strconv.Unquote(fd.Tag.Value)
			if err != nil {
				return err
			}
			tag = reflect.StructTag(raw)
		}
		name, opts, _ := strings.Cut(tag.Get("json"), ",")
		if name == "-" && opts == "" && !strings.HasSuffix(tag.Get("json"), ",") {
			continue
		}
		if len(fd.Names) == 0 {
			return fmt.Errorf("%s embeds %s, which is not supported: give the field a name, or tag it `json:\"-\"`", t.text, s.text(fd.Type))
		}
		for _, id := range fd.Names {
			if !id.IsExported() {
				continue
			}
			fl := field{goName: id.Name, name: name}
			if name == "" {
				fl.name = id.Name
			}
			if err := fl.options(opts, tag.Get("codec")); err != nil {
				return fmt.Errorf("%s.%s: %w", t.text, id.Name, err)
			}
			if taken[fl.name] {
				return fmt.Errorf("%s has two fields of the name %q: rename one by its tag", t.text, fl.name)
			}
			taken[fl.name] = true
			ft, err := s.resolve(fd.Type, f, t.name+id.Name, tag.Get("codec"))
			if err != nil {
				return fmt.Errorf("%s.%s: %w", t.text, id.Name, err)
			}
			fl.typ = ft
			if err := fl.check(tag.Get("codec")); err != nil {
				return fmt.Errorf("%s.%s: %w", t.text, id.Name, err)
			}
			t.fields = append(t.fields, fl)
		}
	}
	s.order = append(s.order, t)
	return nil
}

func (f *field) options(json, unit string) error {
	for o := range strings.SplitSeq(json, ",") {
		switch o {
		case "":
		case "omitempty":
			f.omitEmpty = true
		case "omitzero":
			f.omitZero = true
		default:
			return fmt.Errorf("the option %q of the tag json is not supported: leave it out, or use codec.JSON", o)
		}
	}
	switch unit {
	case "", "s", "ms", "us", "ns", "rfc3339":
	default:
		return fmt.Errorf("the tag codec:%q is not known: take s, ms, us, ns or rfc3339", unit)
	}
	for _, c := range f.name {
		if c < ' ' || c == '"' || c == '\\' || c == unicode.ReplacementChar || c == '\u2028' || c == '\u2029' {
			return fmt.Errorf("the name %q would need escapes: take another one", f.name)
		}
	}
	return nil
}

// check looks for tags that do not fit the type.
func (f *field) check(unit string) error {
	at := f.typ
	for at.elem != nil {
		at = at.elem
	}
	if unit != "" && at.shape != shapeTime {
		return fmt.Errorf("the tag codec:%q is for times: the type is %s", unit, f.typ.text)
	}
	if f.omitZero && (f.typ.shape == shapeStruct || f.typ.shape == shapeArray) {
		return errors.New("omitzero of structs and arrays is not supported: use a pointer and omitempty")
	}
	return nil
}

// imported is a selector with its import path.
func (s *source) imported(e *ast.SelectorExpr, f *ast.File) string {
	x, ok := e.X.(*ast.Ident)
	if !ok {
		return ""
	}
	for _, im := range f.Imports {
		p, err := strconv.Unquote(im.Path.Value)
		if err != nil {
			continue
		}
		n := p[strings.LastIndex(p, "/")+1:]
		if im.Name != nil {
			n = im.Name.Name
		}
		if n == x.Name {
			return p + "." + e.Sel.Name
		}
	}
	return ""
}

func (s *source) text(e ast.Expr) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, s.fset, e); err != nil {
		return fmt.Sprintf("%T", e)
	}
	return b.String()
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

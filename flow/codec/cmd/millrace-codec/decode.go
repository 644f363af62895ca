package main

import (
	"fmt"
	"strconv"
)

// read is the call that decodes a t at position i into what p points to.
func (t *typ) read(i, p string) string {
	var f string
	switch t.shape {
	case shapeString:
		f = "fields.StringOf"
		if t.base {
			f = "fields.String"
		}
	case shapeBool:
		f = "fields.Bool"
	case shapeInt:
		f = "fields.Int"
		if t.base && t.text == "int64" {
			f = "fields.Int64"
		}
	case shapeUint:
		f = "fields.Uint"
	case shapeFloat:
		f = "fields.Float"
		if t.base && t.text == "float64" {
			f = "fields.Float64"
		}
	case shapeTime:
		f = map[string]string{"": "fields.Time", "rfc3339": "fields.Time", "s": "fields.UnixSeconds", "ms": "fields.UnixMillis",
			"us": "fields.UnixMicros", "ns": "fields.UnixNanos"}[t.unit]
	case shapeBytes:
		f = "fields.Base64"
	case shapeRaw:
		f = "fields.Raw"
	default:
		f = "decode" + t.name
	}
	return fmt.Sprintf("%s(r, %s, %s)", f, i, p)
}

// decoder writes the function that decodes a struct, pointer, slice or array.
func (w *writer) decoder(t *typ) {
	w.line("")
	w.line("func decode%s(r *fields.Reader, i int, v *%s) int {", t.name, t.text)
	switch t.shape {
	case shapeStruct:
		w.decodeStruct(t)
	case shapePointer:
		w.line("i, null := r.Null(i)")
		w.line("if null {")
		w.line("*v = nil")
		w.line("return i")
		w.line("}")
		w.line("if *v == nil {")
		w.line("*v = new(%s)", t.elem.text)
		w.line("}")
		w.line("return %s", t.elem.read("i", "*v"))
	case shapeSlice:
		w.line("i, more := r.OpenArray(i)")
		w.line("if i < 0 {")
		w.line("return -1")
		w.line("}")
		w.line("if !more {")
		w.line("*v = %s{}", t.text)
		w.line("if r.EndedNull(i) {")
		w.line("*v = nil")
		w.line("}")
		w.line("return i")
		w.line("}")
		w.line("s := (*v)[:0]")
		w.line("for more {")
		w.line("s = append(s, *new(%s))", t.elem.text)
		w.line("if i = %s; i < 0 {", t.elem.read("i", "&s[len(s)-1]"))
		w.line("return -1")
		w.line("}")
		w.line("if i, more = r.NextElement(i); i < 0 {")
		w.line("return -1")
		w.line("}")
		w.line("}")
		w.line("*v = s")
		w.line("return i")
	case shapeArray:
		w.line("i, more := r.OpenArray(i)")
		w.line("if i < 0 || !more && r.EndedNull(i) {")
		w.line("return i")
		w.line("}")
		w.line("n := 0")
		w.line("for ; more; n++ {")
		w.line("if n < len(v) {")
		w.line("v[n] = *new(%s)", t.elem.text)
		w.line("i = %s", t.elem.read("i", "&v[n]"))
		w.line("} else {")
		w.line("i = r.Skip(i)")
		w.line("}")
		w.line("if i < 0 {")
		w.line("return -1")
		w.line("}")
		w.line("if i, more = r.NextElement(i); i < 0 {")
		w.line("return -1")
		w.line("}")
		w.line("}")
		w.line("clear(v[min(n, len(v)):])")
		w.line("return i")
	}
	w.line("}")
}

func (w *writer) decodeStruct(t *typ) {
	w.line("i, ok := r.Open(i, %q)", structName(t))
	w.line("if !ok {")
	w.line("return i")
	w.line("}")
	w.line("b := r.Bytes()")
	w.line("first := i")
	w.line("var key string")
	w.line("var more bool")
	if len(t.fields) > 0 {
		w.line("// The names in the order of the struct.")
	}
	for _, f := range t.fields {
		lit := `"` + f.name + `":`
		w.line("if n := i + %d; n < len(b) && string(b[i:n]) == %s {", len(lit), quote(lit))
		w.line("if i = %s; i < 0 {", f.typ.read("n", "&v."+f.goName))
		w.line("return r.In(%q)", f.name)
		w.line("}")
		w.line("if i >= len(b) || b[i] != ',' {")
		w.line("goto next")
		w.line("}")
		w.line("if i++; i < len(b) && b[i] == ' ' {")
		w.line("i++")
		w.line("}")
		w.line("}")
	}
	w.line("goto name")
	w.line("next:")
	w.line("if i < len(b) && b[i] == '}' {")
	w.line("return r.Close(i+1)")
	w.line("}")
	w.line("if i, more = r.Next(i); !more {")
	w.line("return r.Close(i)")
	w.line("}")
	w.line("name:")
	w.line("if key, i, more = r.Key(i, i == first); !more {")
	w.line("return r.Close(i)")
	w.line("}")
	if len(t.fields) > 0 {
		w.line("known:")
		w.line("switch key {")
		for _, f := range t.fields {
			w.line("case %q:", f.name)
			w.line("if i = %s; i < 0 {", f.typ.read("i", "&v."+f.goName))
			w.line("return r.In(%q)", f.name)
			w.line("}")
		}
		w.line("default:")
		w.line("if n, ok := fields.Fold(key, namesOf%s[:]); ok {", t.name)
		w.line("key = n")
		w.line("goto known")
		w.line("}")
	}
	w.line("if i = r.Skip(i); i < 0 {")
	w.line("return r.In(key)")
	w.line("}")
	if len(t.fields) > 0 {
		w.line("}")
	}
	w.line("goto next")
	if len(t.fields) > 0 {
		w.line("}")
		w.line("")
		w.line("var namesOf%s = [...]string{", t.name)
		for _, f := range t.fields {
			w.line("%q,", f.name)
		}
	}
}

// structName names a struct in errors.
func structName(t *typ) string {
	if len(t.text) > 40 || t.text != t.name {
		return t.name
	}
	return t.text
}

// quote writes s as a Go string, raw where that reads better.
func quote(s string) string {
	if strconv.CanBackquote(s) {
		return "`" + s + "`"
	}
	return strconv.Quote(s)
}

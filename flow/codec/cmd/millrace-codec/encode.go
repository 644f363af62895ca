package main

import "fmt"

// write is the call that appends what p points to to b.
func (t *typ) write(p string) string {
	var f string
	switch t.shape {
	case shapeString:
		f = "fields.AppendString"
	case shapeBool:
		f = "fields.AppendBool"
	case shapeInt:
		f = "fields.AppendInt"
	case shapeUint:
		f = "fields.AppendUint"
	case shapeFloat:
		f = "fields.AppendFloat"
	case shapeTime:
		f = map[string]string{"": "fields.AppendTime", "rfc3339": "fields.AppendTime", "s": "fields.AppendUnixSeconds",
			"ms": "fields.AppendUnixMillis", "us": "fields.AppendUnixMicros", "ns": "fields.AppendUnixNanos"}[t.unit]
	case shapeBytes:
		f = "fields.AppendBase64"
	case shapeRaw:
		f = "fields.AppendRaw"
	default:
		f = "append" + t.name
	}
	return fmt.Sprintf("%s(b, %s, err)", f, p)
}

// fails tells whether a t may have no encoding.
func (t *typ) fails(seen map[*typ]bool) bool {
	switch t.shape {
	case shapeFloat, shapeRaw:
		return true
	case shapeTime:
		return t.unit == "" || t.unit == "rfc3339" || t.unit == "ns"
	case shapePointer, shapeSlice, shapeArray:
		return t.elem.fails(seen)
	case shapeStruct:
		if seen[t] {
			return false
		}
		seen[t] = true
		for _, f := range t.fields {
			if f.typ.fails(seen) {
				return true
			}
		}
	}
	return false
}

// appender writes the function that encodes a struct, pointer, slice or array.
func (w *writer) appender(t *typ) {
	w.line("")
	w.line("func append%s(b []byte, v *%s, err *error) []byte {", t.name, t.text)
	switch t.shape {
	case shapeStruct:
		w.appendStruct(t)
	case shapePointer:
		w.line("if *v == nil {")
		w.line(`return append(b, "null"...)`)
		w.line("}")
		w.line("return %s", t.elem.write("*v"))
	case shapeSlice, shapeArray:
		if t.shape == shapeSlice {
			w.line("if *v == nil {")
			w.line(`return append(b, "null"...)`)
			w.line("}")
		}
		w.line("b = append(b, '[')")
		w.line("for i := range *v {")
		w.line("if i > 0 {")
		w.line("b = append(b, ',')")
		w.line("}")
		w.line("b = %s", t.elem.write("&(*v)[i]"))
		w.line("}")
		w.line("return append(b, ']')")
	}
	w.line("}")
}

func (w *writer) appendStruct(t *typ) {
	// What stands before a name: the brace, a comma, or a comma when anything was written.
	before, maybe := "{", false
	for _, f := range t.fields {
		when := f.present()
		if when != "" && before == "{" {
			w.line("b = append(b, '{')")
			w.line("n := len(b)")
			before, maybe = "", true
		}
		if when != "" {
			w.line("if %s {", when)
		}
		if maybe {
			w.line("if len(b) > n {")
			w.line("b = append(b, ',')")
			w.line("}")
		}
		w.line("b = append(b, %s...)", quote(before+`"`+f.name+`":`))
		w.line("b = %s", f.typ.write("&v."+f.goName))
		if f.typ.fails(map[*typ]bool{}) {
			w.line("if *err != nil {")
			w.line("return fields.Within(b, %q, err)", f.name)
			w.line("}")
		}
		if when != "" {
			w.line("}")
		} else {
			before, maybe = ",", false
		}
	}
	if before == "{" {
		w.line("return append(b, \"{}\"...)")
		return
	}
	w.line("return append(b, '}')")
}

// present is the condition under which an optional field is written, "" if it always is.
func (f *field) present() string {
	v, t := "v."+f.goName, f.typ
	if f.omitEmpty {
		switch t.shape {
		case shapeString:
			return v + ` != ""`
		case shapeBool:
			return v
		case shapeInt, shapeUint, shapeFloat:
			return v + " != 0"
		case shapePointer:
			return v + " != nil"
		case shapeSlice, shapeBytes, shapeRaw, shapeArray:
			return "len(" + v + ") > 0"
		}
	}
	if f.omitZero {
		switch t.shape {
		case shapeString:
			return v + ` != ""`
		case shapeBool:
			return v
		case shapeInt, shapeUint, shapeFloat:
			return v + " != 0"
		case shapeTime:
			return "!" + v + ".IsZero()"
		case shapePointer, shapeSlice, shapeBytes, shapeRaw:
			return v + " != nil"
		}
	}
	return ""
}

package conf

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// Print writes the configuration as YAML that Load reads back, secrets hidden, each key with its doc line, where its value was
// set and how the environment calls it.
func Print(w io.Writer, cfg any, origins Origins, prefix string) error {
	p := &printer{w: w, origins: origins, prefix: prefix}
	p.section(reflect.Indirect(reflect.ValueOf(cfg)), "", "")
	return p.err
}

type printer struct {
	w       io.Writer
	origins Origins
	prefix  string
	err     error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) section(v reflect.Value, section, indent string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("yaml")
		if name == "" {
			continue
		}
		key := join(section, name)
		if doc := f.Tag.Get("doc"); doc != "" {
			p.line("%s# %s", indent, doc)
		}
		if v.Field(i).Kind() == reflect.Struct {
			p.line("%s%s:", indent, name)
			p.section(v.Field(i), key, indent+"  ")
			continue
		}
		p.line("%s%s: %s  # %s; %s", indent, name, text(v.Field(i)), p.origins.Of(key), EnvName(p.prefix, key))
	}
}

func text(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case []string:
		quoted := make([]string, len(x))
		for i, s := range x {
			quoted[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case string:
		return strconv.Quote(x)
	case Secret:
		return strconv.Quote(x.String())
	}
	return fmt.Sprint(v.Interface())
}

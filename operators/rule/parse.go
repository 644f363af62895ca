package rule

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Parse reads rules from YAML: a mapping with the sequence rules, or that sequence by itself. name stands in errors, which are Problems
// with line and column. It checks the form; Compile checks what the rules say.
func Parse(name string, data []byte) ([]Rule, error) {
	d, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	return d.rules, nil
}

// document is a parsed file with the places of its parts.
type document struct {
	name  string
	lines []string
	rules []Rule
	// at are the places of each rule's fields; "" is the rule's own.
	at []map[string]place
}

type place struct {
	line, col int
	// block says that the value is a block scalar, which begins in the line behind.
	block bool
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{}
	}
	p := place{line: t.Position.Line, col: t.Position.Column}
	if t.Type == token.DoubleQuoteType || t.Type == token.SingleQuoteType {
		p.col++
	}
	return p
}

func parse(name string, data []byte) (d *document, err error) {
	defer func() {
		if p := recover(); p != nil { // the YAML library gives up on some texts
			d, err = nil, Problems{{File: name, Line: 1, Column: 1, What: fmt.Sprintf("it cannot be read: %v", p), Cure: "write it in plain YAML"}}
		}
	}()
	d = &document{name: name, lines: strings.Split(string(data), "\n")}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, Problems{d.syntax(err, place{1, 1, false})}
	}
	if len(tree.Docs) == 0 || tree.Docs[0].Body == nil {
		return nil, Problems{{File: name, Line: 1, Column: 1, What: "it is empty", Cure: `begin it with "rules:", and write "rules: []" for none`}}
	}
	if len(tree.Docs) > 1 {
		at := placeOf(tree.Docs[1].Body.GetToken())
		return nil, Problems{{File: name, Line: at.line, Column: at.col, What: "there is a second document", Cure: "put all rules into one"}}
	}
	list, problem := d.list(tree.Docs[0].Body)
	if problem != nil {
		return nil, Problems{problem}
	}
	var ps Problems
	decoder := yaml.NewDecoder(strings.NewReader(""), yaml.Strict(), yaml.AllowDuplicateMapKey()) // one for all, so that aliases find their anchors
	for _, n := range list.Values {
		// What is merged in is set first, so that the rule's own fields win.
		slices.SortStableFunc(mappings(n), func(a, b *ast.MappingValueNode) int { return cmp.Compare(own(a), own(b)) })
		at := map[string]place{"": placeOf(n.GetToken())}
		d.places(at, "", n)
		var r Rule
		if err := decoder.DecodeFromNode(n, &r); err != nil {
			p := d.syntax(err, at[""])
			p.Rule = r.ID
			ps = append(ps, p)
			continue
		}
		d.rules, d.at = append(d.rules, r), append(d.at, at)
	}
	return d, ps.err()
}

// list finds the sequence of rules.
func (d *document) list(body ast.Node) (*ast.SequenceNode, *Problem) {
	bad := func(n ast.Node, what, cure string) (*ast.SequenceNode, *Problem) {
		at := placeOf(n.GetToken())
		return nil, &Problem{File: d.name, Line: at.line, Column: at.col, What: what, Cure: cure}
	}
	if s, ok := body.(*ast.SequenceNode); ok {
		return s, nil
	}
	var rules ast.Node
	for _, v := range mappings(body) {
		if key := v.Key.String(); key != "rules" {
			return bad(v.Key, fmt.Sprintf("unknown field %q", key), `the file has one field, "rules"`)
		}
		rules = v.Value
	}
	switch n := rules.(type) {
	case nil:
		return bad(body, "there are no rules", `begin it with "rules:"`)
	case *ast.SequenceNode:
		return n, nil
	case *ast.NullNode:
		return &ast.SequenceNode{}, nil
	default:
		return bad(n, "rules is not a sequence", `write each rule as an item: "- id: …"`)
	}
}

func mappings(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	case *ast.AnchorNode:
		return mappings(n.Value)
	}
	return nil
}

// own is 0 for what is merged in by "<<", and 1 for a mapping's own fields.
func own(v *ast.MappingValueNode) int {
	if v.Key.IsMergeKey() {
		return 0
	}
	return 1
}

// places notes where the fields of a rule stand.
func (d *document) places(at map[string]place, prefix string, n ast.Node) {
	for _, v := range mappings(n) {
		name := prefix + strings.Trim(v.Key.String(), `"'`)
		of := v.Value
		if a, ok := of.(*ast.AnchorNode); ok {
			of = a.Value
		}
		switch value := of.(type) {
		case *ast.LiteralNode:
			p := placeOf(value.Start)
			p.block = true
			at[name] = p
		case *ast.SequenceNode:
			at[name] = placeOf(v.Key.GetToken())
			for i, item := range value.Values {
				at[fmt.Sprintf("%s[%d]", name, i)] = placeOf(item.GetToken())
				d.places(at, fmt.Sprintf("%s[%d].", name, i), item)
			}
		case *ast.MappingNode, *ast.MappingValueNode:
			at[name] = placeOf(v.Key.GetToken())
			d.places(at, name+".", value)
		default:
			at[name] = placeOf(of.GetToken())
		}
	}
}

// syntax is an error of the YAML library as a Problem.
func (d *document) syntax(err error, at place) *Problem {
	p := &Problem{File: d.name, Line: at.line, Column: at.col, Cure: "mend the line"}
	var ye yaml.Error
	if errors.As(err, &ye) {
		p.What = ye.GetMessage()
		if t := ye.GetToken(); t != nil && t.Position != nil {
			p.Line, p.Column = t.Position.Line, t.Position.Column
		}
	} else {
		p.What = err.Error()
	}
	switch {
	case strings.Contains(p.What, "unknown field"):
		p.Cure = "a rule has id, description, version, off, select, when, clear, for, count, cooldown, flapping, parent, severity, levels, update, labels, message"
	case strings.Contains(p.What, "time.Duration") || strings.Contains(p.What, "duration"):
		p.Cure = "write a duration with its unit, like 30s or 5m"
	}
	return p
}

// locate gives problems their places in the file.
func (d *document) locate(err error) error {
	var ps Problems
	if !errors.As(err, &ps) {
		return err
	}
	of := map[string][]map[string]place{}
	for i := range d.rules {
		of[d.rules[i].ID] = append(of[d.rules[i].ID], d.at[i])
	}
	located := make(Problems, len(ps))
	for i, p := range ps {
		q := *p
		located[i] = &q
		q.File = d.name
		if ats := of[p.Rule]; len(ats) > 0 {
			at, ok := ats[len(ats)-1][p.Field]
			if !ok {
				at = ats[len(ats)-1][""]
				at.block = false
			}
			q.Line, q.Column = at.line, at.col
			if ok && p.line > 0 {
				q.Line, q.Column = d.inside(at, p.line, p.col)
			}
		}
		*located[i] = q
	}
	return located
}

// inside is where a place within a scalar is in the file.
func (d *document) inside(at place, line, col int) (int, int) {
	if at.block {
		if at.line < len(d.lines) { // all lines are indented as the first one
			first := d.lines[at.line]
			col += len(first) - len(strings.TrimLeft(first, " "))
		}
		return at.line + line, col
	}
	if line > 1 { // lines of a flow scalar are folded: its beginning is near enough
		return at.line, at.col
	}
	return at.line, at.col + col - 1
}

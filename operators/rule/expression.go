package rule

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

// maxNodes bounds the size of an expression.
const maxNodes = 2000

// renamer gives the fields of the record the names that the expression library knows them by.
type renamer struct{ s *shape }

// Visit implements ast.Visitor.
func (r renamer) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		if f, ok := r.s.lookup(r.s.t, n.Value); ok {
			n.Value = exprName(&f)
			unname(node, f.Type)
		}
	case *ast.MemberNode:
		if of := named(n.Node); of != nil { // a method of the named type
			n.Node = of
			return
		}
		if p, ok := n.Property.(*ast.StringNode); ok {
			if f, ok := r.s.lookup(r.typeOf(n.Node), p.Value); ok {
				p.Value = exprName(&f)
				unname(node, f.Type)
			}
		}
	}
}

// The expression library compares a named type (type Celsius float64) with nothing else, so fields of such types are turned into what they are
// made of, by these functions.
const (
	asFloat  = "_float"
	asInt    = "_int"
	asString = "_string"
	asBool   = "_bool"
)

func unname(node *ast.Node, t reflect.Type) {
	if t.PkgPath() == "" || t == reflect.TypeFor[time.Duration]() {
		return
	}
	var to string
	switch k := t.Kind(); {
	case k == reflect.Float32 || k == reflect.Float64:
		to = asFloat
	case k >= reflect.Int && k <= reflect.Int64, k >= reflect.Uint && k <= reflect.Uint64:
		to = asInt
	case k == reflect.String:
		to = asString
	case k == reflect.Bool:
		to = asBool
	default:
		return
	}
	ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: to}, Arguments: []ast.Node{*node}})
}

// named is the field that unname has wrapped, nil if n is none.
func named(n ast.Node) ast.Node {
	c, ok := n.(*ast.CallNode)
	if !ok || len(c.Arguments) != 1 {
		return nil
	}
	if f, ok := c.Callee.(*ast.IdentifierNode); ok && (f.Value == asFloat || f.Value == asInt || f.Value == asString || f.Value == asBool) {
		return c.Arguments[0]
	}
	return nil
}

func unnamers() []expr.Option {
	return []expr.Option{
		expr.Function(asFloat, func(a ...any) (any, error) { return reflect.ValueOf(a[0]).Float(), nil }, new(func(any) float64)),
		expr.Function(asInt, func(a ...any) (any, error) {
			if v := reflect.ValueOf(a[0]); v.CanUint() {
				return int(v.Uint()), nil
			}
			return int(reflect.ValueOf(a[0]).Int()), nil
		}, new(func(any) int)),
		expr.Function(asString, func(a ...any) (any, error) { return reflect.ValueOf(a[0]).String(), nil }, new(func(any) string)),
		expr.Function(asBool, func(a ...any) (any, error) { return reflect.ValueOf(a[0]).Bool(), nil }, new(func(any) bool)),
	}
}

// typeOf is the type of a path of fields, nil for anything else.
func (r renamer) typeOf(n ast.Node) reflect.Type {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		if f, ok := r.s.lookup(r.s.t, n.Value); ok {
			return f.Type
		}
	case *ast.MemberNode:
		if p, ok := n.Property.(*ast.StringNode); ok {
			if f, ok := r.s.lookup(r.typeOf(n.Node), p.Value); ok {
				return f.Type
			}
		}
	case *ast.ChainNode:
		return r.typeOf(n.Node)
	}
	return nil
}

// expression is a compiled expression.
type expression struct {
	program *vm.Program
	// fast is a condition over plain fields, nil where the expression is more than that.
	fast condition
	// guards are comparisons without which it cannot be true; exact: with which it is true.
	guards []guard
	exact  bool
}

// compileExpr compiles an expression against a record type.
func compileExpr(s *shape, text string, boolean bool) (*expression, *Problem) {
	opts := []expr.Option{
		expr.Env(reflect.New(s.t).Interface()), expr.Patch(renamer{s}), expr.MaxNodes(maxNodes),
		// The record's time counts, not when it is looked at: a replay must come to the same.
		expr.DisableBuiltin("now"),
	}
	opts = append(opts, unnamers()...)
	if boolean {
		opts = append(opts, expr.AsBool())
	}
	p, err := expr.Compile(text, opts...)
	if err != nil {
		return nil, s.explain(err, boolean)
	}
	e := &expression{program: p}
	if boolean {
		e.fast = compileFast(s, p.Node())
		e.guards, e.exact = s.guardsOf(p.Node(), nil)
	}
	return e, nil
}

// explain is an error of the expression library as a Problem.
func (s *shape) explain(err error, boolean bool) *Problem {
	var fe *file.Error
	if !errors.As(err, &fe) {
		what, _, _ := strings.Cut(err.Error(), "\n")
		p := &Problem{What: what, Cure: "mend the expression"}
		if boolean && strings.HasPrefix(what, "expected bool") {
			p.Cure = "make it true or false, by comparing it with something"
		}
		return p
	}
	p := &Problem{What: fe.Message, Cure: "mend the expression", line: fe.Line, col: fe.Column + 1}
	name, isName := strings.CutPrefix(fe.Message, "unknown name ")
	switch {
	case isName && name == "now":
		p.Cure = `compare fields with each other; for how long something holds there is "for"`
	case isName:
		p.Cure = s.unknown(s.t, name)
	case boolean && strings.HasPrefix(fe.Message, "expected bool"):
		p.Cure = "make it true or false, by comparing it with something"
	case strings.Contains(fe.Message, "mismatched types"):
		p.Cure = "compare values of one type: text in quotes, numbers without"
	}
	return p
}

// holds evaluates a condition.
func (e *expression) holds(m *vm.VM, at record) (bool, error) {
	if e.fast != nil {
		return e.fast(at.p), nil
	}
	v, err := m.Run(e.program, at.env)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("the condition is %v (%T), not true or false", v, v)
	}
	return b, nil
}

package rule

import (
	"reflect"
	"time"
	"unsafe"

	"github.com/expr-lang/expr/ast"
)

// condition is a condition over fields that lie within the record itself: comparisons of numbers, strings and bools, joined by and, or, not.
// Most conditions are, and are evaluated without the expression library's machine. It must say what that would say; a test compares them.
type condition func(p unsafe.Pointer) bool

// plain is a field that lies at an offset of the record.
type plain struct {
	offset uintptr
	t      reflect.Type
}

// plainField finds a field that no pointer leads to.
func (s *shape) plainField(n ast.Node) (plain, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return s.plainIn(plain{0, s.t}, n.Value)
	case *ast.MemberNode:
		p, ok := n.Property.(*ast.StringNode)
		if !ok || n.Optional || n.Method {
			return plain{}, false
		}
		in, ok := s.plainField(n.Node)
		if !ok {
			return plain{}, false
		}
		return s.plainIn(in, p.Value)
	}
	return plain{}, false
}

func (s *shape) plainIn(in plain, name string) (plain, bool) {
	if in.t.Kind() != reflect.Struct {
		return plain{}, false
	}
	f, ok := s.lookup(in.t, name)
	if !ok {
		return plain{}, false
	}
	t, offset := in.t, in.offset
	for _, i := range f.Index {
		if t.Kind() != reflect.Struct {
			return plain{}, false
		}
		offset += t.Field(i).Offset
		t = t.Field(i).Type
	}
	return plain{offset, t}, true
}

// operand is a value within a condition; one of the functions is set.
type operand struct {
	i func(unsafe.Pointer) int64
	f func(unsafe.Pointer) float64
	s func(unsafe.Pointer) string
	b condition
}

func (o operand) number() func(unsafe.Pointer) float64 {
	if o.i != nil {
		i := o.i
		return func(p unsafe.Pointer) float64 { return float64(i(p)) }
	}
	return o.f
}

// compileFast gives the condition of an expression, nil where it is more than such a condition.
func compileFast(s *shape, n ast.Node) condition {
	return s.operand(n).b
}

func (s *shape) operand(n ast.Node) operand {
	switch n := n.(type) {
	case *ast.BoolNode:
		v := n.Value
		return operand{b: func(unsafe.Pointer) bool { return v }}
	case *ast.IntegerNode:
		v := int64(n.Value)
		return operand{i: func(unsafe.Pointer) int64 { return v }}
	case *ast.FloatNode:
		v := n.Value
		return operand{f: func(unsafe.Pointer) float64 { return v }}
	case *ast.StringNode:
		v := n.Value
		return operand{s: func(unsafe.Pointer) string { return v }}
	case *ast.IdentifierNode, *ast.MemberNode:
		if f, ok := s.plainField(n); ok {
			return f.operand()
		}
	case *ast.CallNode:
		if of := named(n); of != nil {
			return s.operand(of)
		}
	case *ast.UnaryNode:
		o := s.operand(n.Node)
		switch {
		case (n.Operator == "!" || n.Operator == "not") && o.b != nil:
			return operand{b: func(p unsafe.Pointer) bool { return !o.b(p) }}
		case n.Operator == "-" && o.i != nil:
			return operand{i: func(p unsafe.Pointer) int64 { return -o.i(p) }}
		case n.Operator == "-" && o.f != nil:
			return operand{f: func(p unsafe.Pointer) float64 { return -o.f(p) }}
		}
	case *ast.BinaryNode:
		if n.Operator == "in" {
			return s.member(n)
		}
		return combine(n.Operator, s.operand(n.Left), s.operand(n.Right))
	}
	return operand{}
}

// operand reads the field.
func (f plain) operand() operand {
	o := f.offset
	if f.t == reflect.TypeFor[time.Duration]() {
		return operand{}
	}
	switch f.t.Kind() {
	case reflect.Float64:
		return operand{f: func(p unsafe.Pointer) float64 { return *(*float64)(unsafe.Add(p, o)) }}
	case reflect.Float32:
		return operand{f: func(p unsafe.Pointer) float64 { return float64(*(*float32)(unsafe.Add(p, o))) }}
	case reflect.Int:
		return operand{i: func(p unsafe.Pointer) int64 { return int64(*(*int)(unsafe.Add(p, o))) }}
	case reflect.Int64:
		return operand{i: func(p unsafe.Pointer) int64 { return *(*int64)(unsafe.Add(p, o)) }}
	case reflect.Int32:
		return operand{i: func(p unsafe.Pointer) int64 { return int64(*(*int32)(unsafe.Add(p, o))) }}
	case reflect.Int16:
		return operand{i: func(p unsafe.Pointer) int64 { return int64(*(*int16)(unsafe.Add(p, o))) }}
	case reflect.Int8:
		return operand{i: func(p unsafe.Pointer) int64 { return int64(*(*int8)(unsafe.Add(p, o))) }}
	case reflect.Uint32:
		return operand{i: func(p unsafe.Pointer) int64 { return int64(*(*uint32)(unsafe.Add(p, o))) }}
	case reflect.Uint16:
		return operand{i: func(p unsafe.Pointer) int64 { return int64(*(*uint16)(unsafe.Add(p, o))) }}
	case reflect.Uint8:
		return operand{i: func(p unsafe.Pointer) int64 { return int64(*(*uint8)(unsafe.Add(p, o))) }}
	case reflect.String:
		return operand{s: func(p unsafe.Pointer) string { return *(*string)(unsafe.Add(p, o)) }}
	case reflect.Bool:
		return operand{b: func(p unsafe.Pointer) bool { return *(*bool)(unsafe.Add(p, o)) }}
	}
	return operand{} // unsigned numbers of 64 bits are left to the library
}

// member is `field in [constants]`, which the library has turned into a set.
func (s *shape) member(n *ast.BinaryNode) operand {
	c, ok := n.Right.(*ast.ConstantNode)
	if !ok {
		return operand{}
	}
	o := s.operand(n.Left)
	switch set := c.Value.(type) {
	case map[string]struct{}:
		if o.s != nil {
			return operand{b: func(p unsafe.Pointer) bool { _, ok := set[o.s(p)]; return ok }}
		}
	case map[int]struct{}:
		if o.i != nil {
			if f, ok := s.plainField(n.Left); ok && f.t == reflect.TypeFor[int]() {
				return operand{b: func(p unsafe.Pointer) bool { _, ok := set[int(o.i(p))]; return ok }}
			}
		}
	}
	return operand{}
}

func combine(op string, l, r operand) operand {
	switch {
	case l.b != nil && r.b != nil:
		return operand{b: logic(op, l.b, r.b)}
	case l.s != nil && r.s != nil:
		return operand{b: compare(op, l.s, r.s)}
	case l.i != nil && r.i != nil:
		switch op {
		case "+":
			return operand{i: func(p unsafe.Pointer) int64 { return l.i(p) + r.i(p) }}
		case "-":
			return operand{i: func(p unsafe.Pointer) int64 { return l.i(p) - r.i(p) }}
		case "*":
			return operand{i: func(p unsafe.Pointer) int64 { return l.i(p) * r.i(p) }}
		case "/":
			return arithmetic(op, l.number(), r.number())
		}
		return operand{b: compare(op, l.i, r.i)}
	case (l.i != nil || l.f != nil) && (r.i != nil || r.f != nil):
		if a := arithmetic(op, l.number(), r.number()); a.f != nil {
			return a
		}
		return operand{b: compare(op, l.number(), r.number())}
	}
	return operand{}
}

func logic(op string, l, r condition) condition {
	switch op {
	case "&&", "and":
		return func(p unsafe.Pointer) bool { return l(p) && r(p) }
	case "||", "or":
		return func(p unsafe.Pointer) bool { return l(p) || r(p) }
	case "==":
		return func(p unsafe.Pointer) bool { return l(p) == r(p) }
	case "!=":
		return func(p unsafe.Pointer) bool { return l(p) != r(p) }
	}
	return nil
}

func compare[V int64 | float64 | string](op string, l, r func(unsafe.Pointer) V) condition {
	switch op {
	case "<":
		return func(p unsafe.Pointer) bool { return l(p) < r(p) }
	case "<=":
		return func(p unsafe.Pointer) bool { return l(p) <= r(p) }
	case ">":
		return func(p unsafe.Pointer) bool { return l(p) > r(p) }
	case ">=":
		return func(p unsafe.Pointer) bool { return l(p) >= r(p) }
	case "==":
		return func(p unsafe.Pointer) bool { return l(p) == r(p) }
	case "!=":
		return func(p unsafe.Pointer) bool { return l(p) != r(p) }
	}
	return nil
}

func arithmetic(op string, l, r func(unsafe.Pointer) float64) operand {
	switch op {
	case "+":
		return operand{f: func(p unsafe.Pointer) float64 { return l(p) + r(p) }}
	case "-":
		return operand{f: func(p unsafe.Pointer) float64 { return l(p) - r(p) }}
	case "*":
		return operand{f: func(p unsafe.Pointer) float64 { return l(p) * r(p) }}
	case "/":
		return operand{f: func(p unsafe.Pointer) float64 { return l(p) / r(p) }}
	}
	return operand{}
}

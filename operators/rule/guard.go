package rule

import (
	"math"
	"reflect"
	"slices"
	"time"
	"unsafe"

	"github.com/expr-lang/expr/ast"
)

// guard is a comparison of a number or a bool of the record with a constant. A condition that is a conjunction can be true only where its guards
// are; those of all rules of a list lie one behind the other in memory, so that going through thousands of rules that are not true reads
// little and in order.
type guard struct {
	offset uintptr
	// value is the constant: the bits of a float64, or an int64.
	value uint64
	kind  reflect.Kind
	op    comparison
	// float: compared as float64.
	float bool
}

type comparison uint8

const (
	less comparison = iota + 1
	lessOrEqual
	greater
	greaterOrEqual
	equal
	notEqual
)

var comparisons = map[string]comparison{"<": less, "<=": lessOrEqual, ">": greater, ">=": greaterOrEqual, "==": equal, "!=": notEqual}

// turned is the comparison with its sides changed.
func (c comparison) turned() comparison {
	switch c {
	case less:
		return greater
	case lessOrEqual:
		return greaterOrEqual
	case greater:
		return less
	case greaterOrEqual:
		return lessOrEqual
	}
	return c
}

func (g *guard) holds(p unsafe.Pointer) bool {
	at := unsafe.Add(p, g.offset)
	if g.kind == reflect.Float64 { // most are
		return compares(g.op, *(*float64)(at), math.Float64frombits(g.value))
	}
	var n int64
	switch g.kind {
	case reflect.Float32:
		return compares(g.op, float64(*(*float32)(at)), math.Float64frombits(g.value))
	case reflect.Bool:
		n = int64(*(*uint8)(at))
	case reflect.Int:
		n = int64(*(*int)(at))
	case reflect.Int8:
		n = int64(*(*int8)(at))
	case reflect.Int16:
		n = int64(*(*int16)(at))
	case reflect.Int32:
		n = int64(*(*int32)(at))
	case reflect.Int64:
		n = *(*int64)(at)
	case reflect.Uint8:
		n = int64(*(*uint8)(at))
	case reflect.Uint16:
		n = int64(*(*uint16)(at))
	case reflect.Uint32:
		n = int64(*(*uint32)(at))
	}
	if g.float {
		return compares(g.op, float64(n), math.Float64frombits(g.value))
	}
	return compares(g.op, n, int64(g.value))
}

func compares[V int64 | float64](op comparison, a, b V) bool {
	switch op {
	case less:
		return a < b
	case lessOrEqual:
		return a <= b
	case greater:
		return a > b
	case greaterOrEqual:
		return a >= b
	case equal:
		return a == b
	default:
		return a != b
	}
}

// guardsOf appends the guards of a condition. exact says that they are all of it.
func (s *shape) guardsOf(n ast.Node, to []guard) (_ []guard, exact bool) {
	b, ok := n.(*ast.BinaryNode)
	if ok && (b.Operator == "&&" || b.Operator == "and") {
		to, left := s.guardsOf(b.Left, to)
		to, right := s.guardsOf(b.Right, to)
		return to, left && right
	}
	if g, ok := s.guard(n); ok {
		return append(to, g), true
	}
	return to, false
}

func (s *shape) guard(n ast.Node) (guard, bool) {
	switch n := n.(type) {
	case *ast.BinaryNode:
		op := comparisons[n.Operator]
		if op == 0 {
			return guard{}, false
		}
		if f, ok := s.guardField(n.Left); ok {
			return f.against(op, n.Right)
		}
		if f, ok := s.guardField(n.Right); ok {
			return f.against(op.turned(), n.Left)
		}
	case *ast.UnaryNode:
		if f, ok := s.guardField(n.Node); ok && f.t.Kind() == reflect.Bool && (n.Operator == "!" || n.Operator == "not") {
			return guard{offset: f.offset, kind: reflect.Bool, op: equal}, true
		}
	default:
		if f, ok := s.guardField(n); ok && f.t.Kind() == reflect.Bool {
			return guard{offset: f.offset, kind: reflect.Bool, op: equal, value: 1}, true
		}
	}
	return guard{}, false
}

// guardField is a plain field that guards can compare.
func (s *shape) guardField(n ast.Node) (plain, bool) {
	if of := named(n); of != nil {
		n = of
	}
	f, ok := s.plainField(n)
	if !ok || f.t == reflect.TypeFor[time.Duration]() {
		return plain{}, false
	}
	return f, slices.Contains([]reflect.Kind{
		reflect.Float64, reflect.Float32, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint8, reflect.Uint16, reflect.Uint32,
	}, f.t.Kind())
}

// against makes the guard of a field and a constant.
func (f plain) against(op comparison, n ast.Node) (guard, bool) {
	minus := false
	if u, ok := n.(*ast.UnaryNode); ok && u.Operator == "-" {
		minus, n = true, u.Node
	}
	g := guard{offset: f.offset, kind: f.t.Kind(), op: op}
	fraction := g.kind == reflect.Float64 || g.kind == reflect.Float32
	switch n := n.(type) {
	case *ast.IntegerNode:
		v := int64(n.Value)
		if minus {
			v = -v
		}
		g.value = uint64(v)
		if fraction {
			g.value = math.Float64bits(float64(v))
		}
		return g, g.kind != reflect.Bool
	case *ast.FloatNode:
		v := n.Value
		if minus {
			v = -v
		}
		g.value, g.float = math.Float64bits(v), true
		return g, g.kind != reflect.Bool
	case *ast.BoolNode:
		g.value = boolBits(n.Value)
		return g, g.kind == reflect.Bool && !minus && (op == equal || op == notEqual)
	}
	return guard{}, false
}

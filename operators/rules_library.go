package operators

import (
	"sync"

	"github.com/millrace-stream/millrace/operators/rule"
)

// ruleLibrary is what the tasks of a Rules share: the compiled sets, and the rules to begin with.
type ruleLibrary[T any] struct {
	compiler *rule.Compiler[T]
	from     rule.Source

	mu    sync.Mutex
	asked bool
	rules []rule.Rule
	err   error
}

// initial asks the source once for the rules to begin with, so that all tasks begin with the same.
func (l *ruleLibrary[T]) initial() ([]rule.Rule, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.asked {
		l.asked = true
		l.rules, l.err = l.from.Initial(l.compiler.Check)
	}
	return l.rules, l.err
}

// tell tells a source that wants to know what is in force.
func (l *ruleLibrary[T]) tell(rules []rule.Rule) {
	if o, ok := l.from.(rule.Observer); ok {
		o.InForce(rules)
	}
}

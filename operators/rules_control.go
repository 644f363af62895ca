package operators

import (
	"cmp"
	"context"
	"slices"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/operators/rule"
)

// rulesControlled is a task of Rules whose set changes: the rules are shared state, which a control stream changes. A change comes in force
// in all tasks when the epoch ends that it came in.
type rulesControlled[K comparable, T any] struct {
	rules[K, T]
	set  flow.Shared[string, rule.Rule]
	last *rule.Set[T] // that of the shared rules
}

// Open implements flow.Opener.
func (o *rulesControlled[K, T]) Open(_ context.Context, rt flow.Runtime) error {
	if err := o.open(rt); err != nil {
		return err
	}
	if err := flow.OpenShared(rt, "rules", &o.set); err != nil {
		return err
	}
	rt.AtEpoch(func() { o.due = o.next != nil })
	if o.set.Len() == 0 {
		initial, err := o.lib.initial()
		if err != nil {
			return err
		}
		for i := range initial {
			o.set.Put(initial[i].ID, initial[i])
		}
	}
	if err := o.begin(o.all()); err != nil {
		return err
	}
	o.last = o.next
	return nil
}

// all are the shared rules in order.
func (o *rulesControlled[K, T]) all() []rule.Rule {
	all := make([]rule.Rule, 0, o.set.Len())
	for _, r := range o.set.All() {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b rule.Rule) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// ProcessBroadcast implements flow.BroadcastOperator.
func (o *rulesControlled[K, T]) ProcessBroadcast(_ context.Context, r *flow.Record[rule.Change], out *flow.Output[rule.Alarm[K, T]]) error {
	change := &r.Value
	rules := change.Apply(o.all())
	set, err := o.lib.compiler.Set(rules)
	if err != nil {
		return err
	}
	if set == o.last {
		return nil
	}
	o.turn(out)
	keep := make(map[string]bool, len(rules))
	for i := range rules {
		id := rules[i].ID
		keep[id] = true
		if had, ok := o.set.Get(id); !ok || !had.Equal(&rules[i]) {
			o.set.Put(id, rules[i])
		}
	}
	for id := range o.set.All() {
		if !keep[id] {
			o.set.Delete(id)
		}
	}
	o.last, o.next = set, set
	if o.rt.Task() == 0 {
		o.lib.inForce(rules)
	}
	return nil
}
